"""One attempt: one call to one target, its text to the sink, its outcome to the breaker, its record kept.

It repeats nothing and chooses nothing; `answer` does.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from math import ceil

from chat.errors import ErrorCode, Failure
from chat.messages import Attempt, FinishReason, Usage

from llm_worker.breaker import Permit
from llm_worker.content_watch import ContentWatch
from llm_worker.outcome import Outcome, ProviderError
from llm_worker.own_target import AnyTarget
from llm_worker.provider import Piece, ProviderRequest
from llm_worker.race import Race
from llm_worker.seam import Seam
from llm_worker.settings import Timeouts
from llm_worker.sink import Sink
from llm_worker.tokens import weigh_text

STOPPED = Failure(ErrorCode.CANCELLED, "The answer was stopped before its end.")
OVERTAKEN = Failure(ErrorCode.CANCELLED, "Another target began sooner.")

MAX_ANSWER_CHARS = 1024 * 1024
"""Twice what 128,000 tokens, the most that may be asked for, come to. A provider that goes on for ever is ended here: a
history with an answer of over 8 MiB could not be read any more."""

NANO_USD = 1000
"""A token at one dollar a million of them, in billionths of a dollar."""


class Teller:
    """What the answer's reader knows: that it has begun, and by whom the last of it was made.

    `called`: a tool call has begun, of which nothing can be taken back, and with which nobody can go on.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.provider = ""
        self.model = ""
        self.called = False
        self._begun = False

    async def begin(self, provider: str, model: str, *, anew: bool) -> None:
        """A target's text follows; `anew`: in place of all that was written."""
        self.provider, self.model = provider, model
        if not self._begun:
            self._begun = True
            await self.sink.start(provider, model)
        if anew:
            self.sink.restart()


@dataclass(frozen=True, slots=True)
class Order:
    """What an attempt is to do. `weight`: the request's. `seam`: how its text joins what was written, None: it does not
    have to. `anew`: it takes the place of what was written. `race`: with another attempt, None: it is alone."""

    target: AnyTarget
    permit: Permit
    request: ProviderRequest
    weight: float
    seam: Seam | None
    anew: bool
    race: Race | None = None


class RunningAttempt:
    """Runs once. `clock` gives seconds that never go back."""

    def __init__(self, order: Order, teller: Teller, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._order = order
        self._teller = teller
        self._timeouts = timeouts
        self._clock = clock
        self._started_at = clock()
        self._ended_at = self._started_at
        self._first_token_at: float | None = None
        self._chars_before = len(teller.sink.text)
        self._chars = self._chars_before
        """What there is of the answer, with all that was made beside it."""
        self._made = 0.0
        """The weight of what it has made, where nobody else counts."""
        self._anew = order.anew
        self._usage: Usage | None = None
        self._failure: Failure | None = None
        self._billed = False
        self.finish_reason = FinishReason.UNKNOWN

    @property
    def begun(self) -> bool:
        """Whether the provider has sent a token."""
        return self._first_token_at is not None

    async def run(self) -> ProviderError | None:
        """Streams to the sink; returns how it failed, None: it is whole. The breaker is told in any case."""
        error: ProviderError | None = None
        order = self._order
        ttft_s = order.target.model.ttft_timeout_s or self._timeouts.ttft_s
        try:
            async with asyncio.timeout(None) as limit:
                watch = ContentWatch(limit, ttft_s=ttft_s, idle_s=self._timeouts.idle_s)
                try:
                    await self._stream(watch)
                finally:
                    watch.stop()
        except ProviderError as exc:
            # Without its frames, of which this one holds it: a circle, and all that was asked with it.
            error = exc.with_traceback(None)
        except TimeoutError:
            error = ProviderError(Outcome.SILENT if self.begun else Outcome.SLOW)
        except BaseException:
            # Stopped, overtaken, the turn's deadline, or the sink's own failure: none says anything of the provider.
            order.permit.drop()
            self._failure = OVERTAKEN if self._overtaken else STOPPED
            # It was asked, and most providers charge for what they were given.
            self._billed = True
            self._end()
            raise
        order.target.record(order.permit, error)
        if error is not None:
            self._failure = order.target.failure(error)
            self._billed = self._billed or order.target.rule(error).billed
        self._end(late=error is not None and error.outcome is Outcome.SLOW)
        return error

    @property
    def _overtaken(self) -> bool:
        race = self._order.race
        return race is not None and race.winner not in (None, self)

    async def _stream(self, watch: ContentWatch) -> None:
        sink = self._teller.sink
        async with aclosing(self._order.target.stream(self._order.request)) as pieces:
            if self._order.seam is not None and await self._cross(self._order.seam, pieces, watch):
                return
            async for piece in pieces:
                watch.seen()
                if self._first_token_at is None:
                    await self._note_first(watch)
                    with watch.held():
                        await self._begin(piece)
                if piece.reasoning:
                    await self._reason(piece, watch)
                if piece.text:
                    room = sink.write(piece.text)
                    if room is not None:
                        with watch.held():
                            await room
                    self._chars += len(piece.text)
                if piece.tool_calls:
                    await self._call_tools(piece, watch)
                if piece.finish_reason:
                    self._finish(piece)
                    return
                if self._chars > MAX_ANSWER_CHARS:
                    self.finish_reason = FinishReason.LENGTH
                    return

    async def _cross(self, seam: Seam, pieces: AsyncGenerator[Piece, None], watch: ContentWatch) -> bool:
        """Reads until the continuation has joined the text so far; whether the answer has ended with that.

        What is held back when the stream breaks was never said, and is left to the next attempt.
        """
        sink = self._teller.sink
        async for piece in pieces:
            watch.seen()
            if self._first_token_at is None:
                await self._note_first(watch)
            if piece.reasoning:
                await self._reason(piece, watch)
                if self._chars > MAX_ANSWER_CHARS:
                    # All of it is reasoning: nothing goes on.
                    raise ProviderError(Outcome.NOT_CONTINUED)
            text = seam.feed(piece.text) if piece.text else None
            if text is None:
                if not piece.finish_reason and not piece.tool_calls:
                    continue
                text = seam.close()
            if seam.anew and not sink.restartable:
                raise ProviderError(Outcome.NOT_CONTINUED)
            self._anew = seam.anew
            with watch.held():
                await self._begin(piece)
                room = sink.write(text) if text else None
                if room is not None:
                    await room
            if piece.tool_calls:
                await self._call_tools(piece, watch)
            if piece.finish_reason:
                self._finish(piece)
                return True
            return False
        return False

    async def _reason(self, piece: Piece, watch: ContentWatch) -> None:
        self._count_beside(piece.reasoning)
        room = self._teller.sink.reason(piece.reasoning)
        if room is not None:
            with watch.held():
                await room

    async def _call_tools(self, piece: Piece, watch: ContentWatch) -> None:
        self._teller.called = True
        for delta in piece.tool_calls:
            self._count_beside(delta.id + delta.name + delta.arguments)
        room = self._teller.sink.call_tools(piece.tool_calls)
        if room is not None:
            with watch.held():
                await room

    def _count_beside(self, text: str) -> None:
        """What is made beside the answer's text is bounded, and paid for, all the same."""
        self._chars += len(text)
        self._made += weigh_text(text)

    async def _note_first(self, watch: ContentWatch) -> None:
        self._first_token_at = self._clock()
        self._billed = True
        if self._order.race is not None:
            with watch.held():
                await self._order.race.begin(self)

    def _end(self, *, late: bool = False) -> None:
        """`late`: its first token had not come, and would have been later than that."""
        self._ended_at = self._clock()
        if self._first_token_at is not None:
            self._order.target.first_tokens.note(self._first_token_at - self._started_at)
        elif late or self._overtaken:
            self._order.target.first_tokens.note(self._ended_at - self._started_at)
        if self._usage is None and self.begun and not self._overtaken:
            self._made += weigh_text(self._teller.sink.text[0 if self._anew else self._chars_before :])

    async def _begin(self, piece: Piece) -> None:
        target = self._order.target
        await self._teller.begin(target.provider.name, piece.model or target.model.name, anew=self._anew)

    def _finish(self, piece: Piece) -> None:
        self.finish_reason = piece.finish_reason
        self._usage = piece.usage
        if piece.usage is not None:
            self._order.target.meter.learn(self._order.weight, piece.usage.input_tokens)

    def record(self) -> Attempt:
        """What is kept of it, once it has ended."""
        first, target = self._first_token_at, self._order.target
        return Attempt(
            provider=target.provider.name,
            model=target.model.name,
            duration_s=self._ended_at - self._started_at,
            failure=self._failure,
            time_to_first_token_s=None if first is None else first - self._started_at,
            usage=self._counted(),
            billed=self._billed,
            own_key=target.own_key,
        )

    def _counted(self) -> Usage | None:
        """As the provider counted. It does so at the end of an answer: of one that has none, what it comes to."""
        usage, target = self._usage, self._order.target
        if usage is None:
            if not self._billed:
                return None
            meter = target.meter
            given, made = ceil(meter.tokens(self._order.weight)), ceil(meter.tokens(self._made))
            usage = Usage(given, made, estimated=True)
        if target.own_key:
            return usage
        # As dear as if nothing had come from the provider's cache.
        price = usage.input_tokens * target.model.input_usd + usage.output_tokens * target.model.output_usd
        return replace(usage, cost_nano_usd=round(price * NANO_USD))
