"""One answer: attempts along a route until one has made it whole, within one deadline.

Which target is asked next, how, and after what wait, is decided here (with `retry`), and nowhere else in the system.
What was said before an attempt broke is continued by the next one; where that can't be, the answer restarts, or fails
with its text kept: a part is never called the whole. See docs/subsystems/providers.md.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from chat.errors import ErrorCode, Failure
from chat.messages import Answer, AnswerState, Attempt, FinishReason, Usage

from llm_worker.attempt import Order, RunningAttempt, Teller
from llm_worker.breaker import Permit
from llm_worker.context import Question
from llm_worker.continuation import Manner, compose, hidden
from llm_worker.outcome import Again, Outcome, ProviderError
from llm_worker.own_target import AnyTarget
from llm_worker.retry import Retries
from llm_worker.seam import Seam
from llm_worker.settings import RetrySettings, Timeouts
from llm_worker.sink import Sink

log = logging.getLogger(__name__)

NO_KEY = Failure(ErrorCode.NO_API_KEY, "No provider key is configured for this model; ask the operator to set one.")
TOO_LATE = Failure(ErrorCode.DEADLINE_EXCEEDED, "The answer took longer than its deadline; try again.")
LEAST_WAIT_S = 1.0
"""A retry sooner than that meets the same state."""

REFUSALS = frozenset({Outcome.NOT_UNDERSTOOD, Outcome.CONTENT_REFUSED, Outcome.CONTEXT_TOO_LONG})
"""Of a request to go on, they may be meant for its form: the target is asked in another."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How answers are made in this process."""

    timeouts: Timeouts
    retries: RetrySettings
    max_output_tokens: int
    clock: Callable[[], float]
    """Seconds that never go back: the running loop's."""
    random: Callable[[], float]
    """Numbers from 0 to 1, for jitter."""


async def answer(
    question: Question,
    targets: tuple[AnyTarget, ...],
    sink: Sink,
    asking: Asking,
    *,
    started_at: float,
    deadline: float,
) -> Answer:
    """Asks the targets until the answer is whole; one that the sink has a part of already is continued. It is COMPLETED
    or FAILED, never raised.

    `started_at`, `deadline`: by `asking.clock`. Cancelling it ends the provider's call. What the sink raises goes
    through.
    """
    retries = Retries(asking.retries, len(targets), deadline=deadline, clock=asking.clock, random=asking.random)
    answering = _Answering(question, targets, sink, asking, retries)
    try:
        async with asyncio.timeout_at(deadline):
            made = await answering.run()
    except TimeoutError:
        made = answering.failed(TOO_LATE)
    return replace(made, duration_s=asking.clock() - started_at)


@dataclass(frozen=True, slots=True)
class _Step:
    """The next attempt: the target's place in the route, the permit for it, and how it is asked to go on."""

    at: int
    permit: Permit
    manner: Manner


class _Answering:
    def __init__(
        self, question: Question, targets: tuple[AnyTarget, ...], sink: Sink, asking: Asking, retries: Retries
    ) -> None:
        self._question = question
        self._targets = targets
        self._sink = sink
        self._asking = asking
        self._retries = retries
        self._teller = Teller(sink)
        self._attempts: list[Attempt] = []
        self._continuations = 0

    async def run(self) -> Answer:
        if not self._targets:
            return self.failed(NO_KEY)
        step = self._choose(range(len(self._targets)))
        while step is not None:
            attempt = self._prepare(step)
            try:
                error = await attempt.run()
            finally:
                self._attempts.append(attempt.record())
            if error is None:
                return self._ended(AnswerState.COMPLETED, finish_reason=attempt.finish_reason)
            target = self._targets[step.at]
            self._log(target, error)
            step = await self._after(step, attempt, error)
            if step is None and (self._sink.text or not target.rule(error).next):
                return self.failed(self._failure(target, error))
        return self.failed(_none_left(self._targets))

    def _prepare(self, step: _Step) -> RunningAttempt:
        target, said, manner = self._targets[step.at], self._sink.text, step.manner
        self._retries.note(step.at)
        self._continuations += bool(said)
        anew = manner is Manner.AFRESH
        order = Order(
            target=target,
            permit=step.permit,
            request=compose(
                self._question, target.model, said, manner, max_output_tokens=self._asking.max_output_tokens
            ),
            seam=Seam(said, hidden=hidden(said, manner)) if said and not anew else None,
            anew=anew,
        )
        return RunningAttempt(order, self._teller, self._asking.timeouts, self._asking.clock)

    async def _after(self, step: _Step, attempt: RunningAttempt, error: ProviderError) -> _Step | None:
        """The step behind a failed one, after the wait that it takes."""
        target, at = self._targets[step.at], step.at
        other = self._other_manner(step.manner, attempt, error)
        if other is not None and self._retries.left > 0 and (permit := target.admit()) is not None:
            return _Step(at, permit, other)
        rule = target.rule(error)
        if rule.again in {Again.FIRST, Again.WHEN_TOLD}:
            found = await self._again(at, rule.again, error)
            if found is not None:
                return found
        if rule.next and (found := self._choose(self._others(at))) is not None:
            return found
        return await self._again(at, rule.again, error) if rule.again is Again.LAST else None

    def _other_manner(self, manner: Manner, attempt: RunningAttempt, error: ProviderError) -> Manner | None:
        """How a target that refuses to go on so may be asked instead."""
        if error.outcome not in REFUSALS or attempt.begun or not self._sink.text:
            return None
        if manner is Manner.PREFILLED:
            return Manner.INSTRUCTED
        return Manner.AFRESH if manner is Manner.INSTRUCTED and self._sink.restartable else None

    async def _again(self, at: int, again: Again, error: ProviderError) -> _Step | None:
        wait_s = self._retries.wait_s(at, again, error.retry_after_s)
        if wait_s is None:
            return None
        await asyncio.sleep(wait_s)
        return self._choose((at,))

    def _others(self, at: int) -> Iterable[int]:
        """The places to go on to: those behind, and for what was begun those before too."""
        yield from range(at + 1, len(self._targets))
        if self._sink.text:
            yield from range(at)

    def _choose(self, places: Iterable[int]) -> _Step | None:
        """The first place whose target may be asked now."""
        if self._sink.text and self._continuations >= self._asking.retries.max_continuations:
            return None
        for at in places:
            target = self._targets[at]
            if self._retries.may_ask(at) and (permit := target.admit()) is not None:
                return _Step(at, permit, Manner.PREFILLED if target.model.prefill else Manner.INSTRUCTED)
        return None

    def _log(self, target: AnyTarget, error: ProviderError) -> None:
        log.log(
            logging.ERROR if target.rule(error).loud else logging.WARNING,
            "attempt failed",
            extra={
                "provider": target.provider.name,
                "model": target.model.id,
                "outcome": error.outcome.name.lower(),
                "status": error.status,
                "own_key": target.own_key,
                "begun": bool(self._sink.text),
            },
        )

    def _failure(self, target: AnyTarget, error: ProviderError) -> Failure:
        failure = target.failure(error)
        if failure.code is ErrorCode.PROVIDER_UNAVAILABLE:
            return replace(failure, retry_after_s=_wait_s(self._targets))
        return failure

    def failed(self, failure: Failure) -> Answer:
        """The end of an answer that no attempt made whole."""
        return self._ended(AnswerState.FAILED, failure=failure)

    def _ended(
        self,
        state: AnswerState,
        *,
        finish_reason: FinishReason = FinishReason.UNKNOWN,
        failure: Failure | None = None,
    ) -> Answer:
        return Answer(
            state=state,
            finish_reason=finish_reason,
            provider=self._teller.provider,
            model=self._teller.model,
            usage=_total([attempt.usage for attempt in self._attempts if attempt.usage is not None]),
            failure=failure,
            attempts=tuple(self._attempts),
        )


def _total(counted: list[Usage]) -> Usage | None:
    if not counted:
        return None
    return Usage(
        sum(one.input_tokens for one in counted),
        sum(one.output_tokens for one in counted),
        estimated=any(one.estimated for one in counted),
    )


def _wait_s(targets: tuple[AnyTarget, ...]) -> float:
    return max(LEAST_WAIT_S, min(target.wait_s() for target in targets))


def _none_left(targets: tuple[AnyTarget, ...]) -> Failure:
    whose = "that your own keys open " if all(target.own_key for target in targets) else ""
    sentence = f"No provider {whose}could answer; try again later."
    return Failure(ErrorCode.PROVIDER_UNAVAILABLE, sentence, retry_after_s=_wait_s(targets))
