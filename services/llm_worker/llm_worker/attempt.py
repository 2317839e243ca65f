"""One attempt: one call to one target, its text to the sink, its outcome to the breaker, its record kept.

It repeats nothing and chooses nothing; `answer` does.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from chat.errors import ErrorCode, Failure
from chat.messages import Attempt, FinishReason, Usage

from llm_worker.breaker import Permit
from llm_worker.content_watch import ContentWatch
from llm_worker.outcome import Outcome, ProviderError
from llm_worker.own_target import AnyTarget
from llm_worker.provider import Piece, ProviderRequest
from llm_worker.seam import Seam
from llm_worker.settings import Timeouts
from llm_worker.sink import Sink

STOPPED = Failure(ErrorCode.CANCELLED, "The answer was stopped before its end.")

MAX_ANSWER_CHARS = 1024 * 1024
"""Twice what 128,000 tokens, the most that may be asked for, come to. A provider that goes on for ever is ended here: a
history with an answer of over 8 MiB could not be read any more."""

CHARS_A_TOKEN = 4
"""The usual rule of thumb, for attempts that broke off before the provider counted."""


class Teller:
    """What the answer's reader knows: that it has begun, and by whom the last of it was made."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.provider = ""
        self.model = ""
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
    """What an attempt is to do. `seam`: how its text joins what was written, None: it does not have to. `anew`: it
    takes the place of what was written."""

    target: AnyTarget
    permit: Permit
    request: ProviderRequest
    seam: Seam | None
    anew: bool


class RunningAttempt:
    """Runs once. `clock` gives seconds that never go back."""

    def __init__(self, order: Order, teller: Teller, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._order = order
        self._teller = teller
        self._timeouts = timeouts
        self._clock = clock
        self._started_at = clock()
        self._first_token_at: float | None = None
        self._chars_before = len(teller.sink.text)
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
        try:
            async with asyncio.timeout(None) as limit:
                watch = ContentWatch(limit, self._timeouts)
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
            # Stopped, the turn's deadline, or the sink's own failure: none says anything of the provider.
            order.permit.drop()
            self._failure = STOPPED
            raise
        order.target.record(order.permit, error)
        if error is not None:
            self._failure = order.target.failure(error)
            self._billed = self._billed or order.target.rule(error).billed
        return error

    async def _stream(self, watch: ContentWatch) -> None:
        sink, chars = self._teller.sink, self._chars_before
        async with aclosing(self._order.target.stream(self._order.request)) as pieces:
            if self._order.seam is not None and await self._cross(self._order.seam, pieces, watch):
                return
            async for piece in pieces:
                watch.seen()
                if self._first_token_at is None:
                    self._note_first()
                    with watch.held():
                        await self._begin(piece)
                if piece.text:
                    room = sink.write(piece.text)
                    if room is not None:
                        with watch.held():
                            await room
                if piece.finish_reason:
                    self._finish(piece)
                    return
                chars += len(piece.text)
                if chars > MAX_ANSWER_CHARS:
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
                self._note_first()
            text = seam.feed(piece.text) if piece.text else None
            if text is None:
                if not piece.finish_reason:
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
            if piece.finish_reason:
                self._finish(piece)
                return True
            return False
        return False

    def _note_first(self) -> None:
        self._first_token_at = self._clock()
        self._billed = True

    async def _begin(self, piece: Piece) -> None:
        target = self._order.target
        await self._teller.begin(target.provider.name, piece.model or target.model.name, anew=self._anew)

    def _finish(self, piece: Piece) -> None:
        self.finish_reason = piece.finish_reason
        self._usage = piece.usage

    def record(self) -> Attempt:
        """What is kept of it."""
        first, target = self._first_token_at, self._order.target
        return Attempt(
            provider=target.provider.name,
            model=target.model.name,
            duration_s=self._clock() - self._started_at,
            failure=self._failure,
            time_to_first_token_s=None if first is None else first - self._started_at,
            usage=self._estimate() if self._usage is None and self._failure is not None and self.begun else self._usage,
            billed=self._billed,
            own_key=target.own_key,
        )

    def _estimate(self) -> Usage:
        """Providers count at the end of an answer; of one that has none, this is what it comes to."""
        request = self._order.request
        given = len(request.system_prompt) + sum(len(line.text) for line in request.lines)
        before = 0 if self._anew else self._chars_before
        made = max(0, len(self._teller.sink.text) - before)
        return Usage(-(-given // CHARS_A_TOKEN), -(-made // CHARS_A_TOKEN), estimated=True)
