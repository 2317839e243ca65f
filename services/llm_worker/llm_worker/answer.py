"""One answer: attempts along a route until one is whole, within one deadline.

Before the first token the next target may answer instead. After it, for now, a broken attempt fails the answer, with
the text so far kept; continuing it (DESIGN section 7) has its place in `_Answering._may_go_on`. Text goes to a sink as
it comes; the answer returned says how it ended, with every attempt made.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from chat.errors import ErrorCode, Failure
from chat.messages import Answer, AnswerState, Attempt, FinishReason, Usage

from llm_worker.breaker import Permit
from llm_worker.content_watch import ContentWatch
from llm_worker.context import Question
from llm_worker.outcome import Outcome, ProviderError
from llm_worker.own_target import AnyTarget
from llm_worker.provider import Piece, ProviderRequest
from llm_worker.settings import Timeouts

log = logging.getLogger(__name__)

NO_KEY = Failure(ErrorCode.NO_API_KEY, "No provider key is configured for this model; ask the operator to set one.")
TOO_LATE = Failure(ErrorCode.DEADLINE_EXCEEDED, "The answer took longer than its deadline; try again.")
STOPPED = Failure(ErrorCode.CANCELLED, "The answer was stopped before its end.")
MAX_ANSWER_CHARS = 1024 * 1024
"""Twice what 128,000 tokens, the most that may be asked for, come to. A provider that goes on for ever is ended here: a
history with an answer of over 8 MiB could not be read any more."""
LEAST_WAIT_S = 1.0
"""A retry sooner than that meets the same state."""


class Sink(Protocol):
    """Where an answer's text goes. Called by one task."""

    async def start(self, provider: str, model: str) -> None:
        """A target has begun: called once, before any text."""
        ...

    def write(self, text: str) -> Awaitable[None] | None:
        """Text to add, never empty. What it returns is awaited before more is read from the provider."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """How answers are made in this process."""

    timeouts: Timeouts
    max_output_tokens: int
    clock: Callable[[], float]
    """Seconds that never go back: the running loop's."""


async def answer(
    question: Question,
    targets: tuple[AnyTarget, ...],
    sink: Sink,
    asking: Asking,
    *,
    started_at: float,
    deadline: float,
) -> Answer:
    """Asks the targets in order until one has answered. The answer is COMPLETED or FAILED, never raised.

    `started_at`, `deadline`: by `asking.clock`. Cancelling it ends the provider's call. What the sink raises goes
    through.
    """
    answering = _Answering(question, sink, asking)
    try:
        async with asyncio.timeout_at(deadline):
            made = await answering.run(targets)
    except TimeoutError:
        made = answering.failed(TOO_LATE)
    return replace(made, duration_s=asking.clock() - started_at)


class _Answering:
    def __init__(self, question: Question, sink: Sink, asking: Asking) -> None:
        self._question = question
        self._sink = sink
        self._asking = asking
        self._attempts: list[Attempt] = []
        self._begun = False
        """The client has seen text, or that it begins."""
        self._provider = ""
        self._model = ""

    async def run(self, targets: tuple[AnyTarget, ...]) -> Answer:
        if not targets:
            return self.failed(NO_KEY)
        for target in targets:
            permit = target.admit()
            if permit is None:
                continue
            attempt = _Attempt(self, target, permit)
            try:
                error = await attempt.run()
            finally:
                self._attempts.append(attempt.record())
            if error is None:
                return self._completed(attempt)
            log.log(
                logging.ERROR if target.rule(error).loud else logging.WARNING,
                "attempt failed",
                extra={
                    "provider": target.provider.name,
                    "model": target.model.id,
                    "outcome": error.outcome.name.lower(),
                    "status": error.status,
                    "own_key": target.own_key,
                    "begun": self._begun,
                },
            )
            if not self._may_go_on(target, error):
                return self.failed(self._failure(target, error, targets))
        return self.failed(_none_left(targets))

    def _may_go_on(self, target: AnyTarget, error: ProviderError) -> bool:
        """Whether the next target may answer. Where the client has seen text it would have to continue it."""
        return target.rule(error).next and not self._begun

    def _failure(self, target: AnyTarget, error: ProviderError, targets: tuple[AnyTarget, ...]) -> Failure:
        failure = target.failure(error)
        if failure.code is ErrorCode.PROVIDER_UNAVAILABLE:
            return replace(failure, retry_after_s=_wait_s(targets))
        return failure

    async def begin(self, target: AnyTarget, model: str) -> None:
        """The first token is there."""
        self._begun = True
        self._provider = target.provider.name
        self._model = model or target.model.name
        await self._sink.start(self._provider, self._model)

    def request(self, target: AnyTarget) -> ProviderRequest:
        """The question in this target's terms."""
        question = self._question
        return ProviderRequest(
            model=target.model.name,
            lines=question.lines,
            system_prompt=question.system_prompt,
            temperature=question.temperature if target.model.takes_temperature else None,
            max_output_tokens=question.max_output_tokens or self._asking.max_output_tokens,
            stop=question.stop,
        )

    @property
    def asking(self) -> Asking:
        return self._asking

    @property
    def sink(self) -> Sink:
        return self._sink

    def failed(self, failure: Failure) -> Answer:
        """The end of an answer that no attempt made whole."""
        return self._ended(AnswerState.FAILED, failure=failure)

    def _completed(self, attempt: "_Attempt") -> Answer:
        return self._ended(AnswerState.COMPLETED, finish_reason=attempt.finish_reason)

    def _ended(
        self,
        state: AnswerState,
        *,
        finish_reason: FinishReason = FinishReason.UNKNOWN,
        failure: Failure | None = None,
    ) -> Answer:
        counted = [attempt.usage for attempt in self._attempts if attempt.usage is not None]
        usage = Usage(sum(one.input_tokens for one in counted), sum(one.output_tokens for one in counted))
        return Answer(
            state=state,
            finish_reason=finish_reason,
            provider=self._provider,
            model=self._model,
            usage=usage if counted else None,
            failure=failure,
            attempts=tuple(self._attempts),
        )


class _Attempt:
    """One call to one target."""

    def __init__(self, answering: _Answering, target: AnyTarget, permit: Permit) -> None:
        self._answering = answering
        self._target = target
        self._permit = permit
        self._clock = answering.asking.clock
        self._started_at = self._clock()
        self._first_token_at: float | None = None
        self._usage: Usage | None = None
        self._failure: Failure | None = None
        self._billed = False
        self._chars = 0
        self.finish_reason = FinishReason.UNKNOWN

    async def run(self) -> ProviderError | None:
        """Streams to the sink; returns how it failed, None: it is whole. The breaker is told in any case."""
        error: ProviderError | None = None
        try:
            async with asyncio.timeout(None) as limit:
                watch = ContentWatch(limit, self._answering.asking.timeouts)
                try:
                    await self._stream(watch)
                finally:
                    watch.stop()
        except ProviderError as exc:
            # Without its frames, of which this one holds it: a circle, and all that was asked with it.
            error = exc.with_traceback(None)
        except TimeoutError:
            error = ProviderError(Outcome.SLOW if self._first_token_at is None else Outcome.SILENT)
        except BaseException:
            # Stopped, the turn's deadline, or the sink's own failure: none says anything of the provider.
            self._permit.drop()
            self._failure = STOPPED
            raise
        self._target.record(self._permit, error)
        if error is not None:
            self._failure = self._target.failure(error)
            self._billed = self._billed or self._target.rule(error).billed
        return error

    async def _stream(self, watch: ContentWatch) -> None:
        answering, sink = self._answering, self._answering.sink
        async with aclosing(self._target.stream(answering.request(self._target))) as pieces:
            async for piece in pieces:
                watch.seen()
                if self._first_token_at is None:
                    self._first_token_at = self._clock()
                    self._billed = True
                    with watch.held():
                        await answering.begin(self._target, piece.model)
                if piece.text:
                    room = sink.write(piece.text)
                    if room is not None:
                        with watch.held():
                            await room
                if piece.finish_reason:
                    self._finish(piece)
                    return
                self._chars += len(piece.text)
                if self._chars > MAX_ANSWER_CHARS:
                    self.finish_reason = FinishReason.LENGTH
                    return

    def _finish(self, piece: Piece) -> None:
        self.finish_reason = piece.finish_reason
        self._usage = piece.usage

    def record(self) -> Attempt:
        """What is kept of it."""
        first = self._first_token_at
        return Attempt(
            provider=self._target.provider.name,
            model=self._target.model.name,
            duration_s=self._clock() - self._started_at,
            failure=self._failure,
            time_to_first_token_s=None if first is None else first - self._started_at,
            usage=self._usage,
            billed=self._billed,
            own_key=self._target.own_key,
        )


def _wait_s(targets: tuple[AnyTarget, ...]) -> float:
    return max(LEAST_WAIT_S, min(target.wait_s() for target in targets))


def _none_left(targets: tuple[AnyTarget, ...]) -> Failure:
    whose = "that your own keys open " if all(target.own_key for target in targets) else ""
    sentence = f"No provider {whose}could answer; try again later."
    return Failure(ErrorCode.PROVIDER_UNAVAILABLE, sentence, retry_after_s=_wait_s(targets))
