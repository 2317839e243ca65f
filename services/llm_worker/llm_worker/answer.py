"""One answer: attempts along a route until one has made it whole, within one deadline.

Which target is asked next, how, and after what wait, is decided here (with `retry`), and nowhere else in the system.
What was said before an attempt broke is continued by the next one; where that can't be, the answer restarts, or fails
with its text kept: a part is never called the whole. See docs/subsystems/providers.md.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chat.errors import ErrorCode, Failure
from chat.messages import Answer, AnswerState, Attempt, FinishReason, Usage

from llm_worker.attempt import Order, RunningAttempt, Teller
from llm_worker.breaker import Permit
from llm_worker.context import Question
from llm_worker.continuation import Manner, hidden
from llm_worker.fitting import Fitting
from llm_worker.hedging import Hedging
from llm_worker.outcome import Again, Outcome, ProviderError
from llm_worker.own_target import AnyTarget
from llm_worker.race import Race
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
    hedging: Hedging
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
    spent: Callable[[tuple[Attempt, ...]], None],
) -> Answer:
    """Asks the targets until the answer is whole; one that the sink has a part of already is continued. It is COMPLETED
    or FAILED, never raised.

    `started_at`, `deadline`: by `asking.clock`. Cancelling it ends the provider's call. What the sink raises goes
    through. `spent` is told the attempts once, however it ends.
    """
    retries = Retries(asking.retries, len(targets), deadline=deadline, clock=asking.clock, random=asking.random)
    answering = _Answering(question, targets, sink, asking, retries)
    try:
        async with asyncio.timeout_at(deadline):
            made = await answering.run()
    except TimeoutError:
        made = answering.failed(TOO_LATE)
    finally:
        spent(answering.attempts)
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
        self._targets = targets
        self._sink = sink
        self._asking = asking
        self._retries = retries
        self._teller = Teller(sink)
        self._runs: list[RunningAttempt] = []
        self._continuations = 0
        self._refused: dict[int, int] = {}
        """Places that are not to be asked the same again, and how much was said when they were asked."""
        self._fitting = Fitting(question, targets, sink.text, asking.max_output_tokens)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Those made, in the order in which they began."""
        return tuple(run.record() for run in self._runs)

    async def run(self) -> Answer:
        if not self._targets:
            return self.failed(NO_KEY)
        step = self._choose(range(len(self._targets)))
        while step is not None:
            step, attempt, error = await self._ask(step)
            if error is None:
                return self._ended(AnswerState.COMPLETED, finish_reason=attempt.finish_reason)
            target = self._targets[step.at]
            step = await self._after(step, attempt, error)
            if step is None and (self._sink.text or self._teller.called or not target.rule(error).next):
                return self.failed(self._failure(target, error))
        return self.failed(_none_left(self._targets))

    async def _ask(self, step: _Step) -> tuple[_Step, RunningAttempt, ProviderError | None]:
        """One attempt, or two in a race; the step that counts, and how it failed."""
        target = self._targets[step.at]
        delay_s = None
        if not self._runs and not self._sink.text and not target.own_key:
            delay_s = self._asking.hedging.delay_s(target.first_tokens)
        if delay_s is not None:
            return await self._ask_two(step, delay_s)
        attempt = await self._prepare(step)
        return step, attempt, self._noted(step, await attempt.run())

    async def _ask_two(self, step: _Step, delay_s: float) -> tuple[_Step, RunningAttempt, ProviderError | None]:
        """A second target is asked when the first has not begun by then; whoever begins first makes the answer."""
        race = Race()
        first = await self._prepare(step, race)
        runs: dict[asyncio.Future[Any], tuple[_Step, RunningAttempt]] = {}
        runs[asyncio.create_task(first.run())] = (step, first)
        other = None
        try:
            ended, _ = await asyncio.wait({*runs, race.won}, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
            other = self._choose(self._others(step.at)) if not ended and self._asking.hedging.spend() else None
            if other is not None:
                second = await self._prepare(other, race)
                if race.won.done() or any(task.done() for task in runs):
                    # While it was counted.
                    self._runs.remove(second)
                else:
                    runs[asyncio.create_task(second.run())] = (other, second)
            ends = None
            while not race.won.done() and ends is None and (under_way := {task for task in runs if not task.done()}):
                await asyncio.wait({race.won, *under_way}, return_when=asyncio.FIRST_COMPLETED)
                ends = self._refusal(runs)
            counts = race.winner or ends or first
            for task, (_, run) in runs.items():
                if run is not counts:
                    task.cancel()
            await asyncio.wait(runs)
        finally:
            for task in runs:
                task.cancel()
            await asyncio.wait(runs)
            if other is not None:
                # For the case that it never ran.
                other.permit.drop()
        errors = {run: self._noted(its, task.result()) for task, (its, run) in runs.items() if not task.cancelled()}
        its_step, run = next(each for each in runs.values() if each[1] is counts)
        return its_step, run, errors[run]

    def _refusal(self, runs: Mapping[asyncio.Future[Any], tuple[_Step, RunningAttempt]]) -> RunningAttempt | None:
        """Of a race, who was told what no other target may be asked to answer either."""
        for task, (step, run) in runs.items():
            error = task.result() if task.done() else None
            if error is not None and not self._targets[step.at].rule(error).next:
                return run
        return None

    async def _prepare(self, step: _Step, race: Race | None = None) -> RunningAttempt:
        target, said, manner = self._targets[step.at], self._sink.text, step.manner
        self._retries.note(step.at)
        self._continuations += bool(said)
        try:
            request, weight = await self._fitting.fit(target, said, manner)
        except BaseException:
            # Stopped: a probe's permit that nobody gives back would keep its breaker open for ever.
            step.permit.drop()
            raise
        anew = manner is Manner.AFRESH
        order = Order(
            target=target,
            permit=step.permit,
            request=request,
            weight=weight,
            seam=Seam(said, hidden=hidden(said, manner)) if said and not anew else None,
            anew=anew,
            race=race,
        )
        attempt = RunningAttempt(order, self._teller, self._asking.timeouts, self._asking.clock)
        self._runs.append(attempt)
        return attempt

    async def _after(self, step: _Step, attempt: RunningAttempt, error: ProviderError) -> _Step | None:
        """The step behind a failed one, after the wait that it takes."""
        target, at = self._targets[step.at], step.at
        other = self._other_manner(step.manner, attempt, error)
        if other is not None and self._retries.left > 0 and (permit := target.admit()) is not None:
            return _Step(at, permit, other)
        rule = target.rule(error)
        if rule.larger:
            return self._choose(self._fitting.larger(at))
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
        if self._teller.called or (self._sink.text and self._continuations >= self._asking.retries.max_continuations):
            return None
        said = len(self._sink.text)
        for at in places:
            target = self._targets[at]
            if self._refused.get(at) == said:
                continue
            if at in self._fitting.places and self._retries.may_ask(at) and (permit := target.admit()) is not None:
                return _Step(at, permit, Manner.PREFILLED if target.model.prefill else Manner.INSTRUCTED)
        return None

    def _noted(self, step: _Step, error: ProviderError | None) -> ProviderError | None:
        """The same, logged."""
        if error is None:
            return None
        target = self._targets[step.at]
        if target.rule(error).again is Again.NEVER:
            self._refused[step.at] = len(self._sink.text)
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
        return error

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
        attempts = self.attempts
        return Answer(
            state=state,
            finish_reason=finish_reason,
            provider=self._teller.provider,
            model=self._teller.model,
            usage=_total([attempt.usage for attempt in attempts if attempt.usage is not None]),
            failure=failure,
            attempts=attempts,
        )


def _total(counted: list[Usage]) -> Usage | None:
    if not counted:
        return None
    return Usage(
        sum(one.input_tokens for one in counted),
        sum(one.output_tokens for one in counted),
        estimated=any(one.estimated for one in counted),
        cost_nano_usd=sum(one.cost_nano_usd for one in counted),
    )


def _wait_s(targets: tuple[AnyTarget, ...]) -> float:
    return max(LEAST_WAIT_S, min(target.wait_s() for target in targets))


def _none_left(targets: tuple[AnyTarget, ...]) -> Failure:
    whose = "that your own keys open " if all(target.own_key for target in targets) else ""
    sentence = f"No provider {whose}could answer; try again later."
    return Failure(ErrorCode.PROVIDER_UNAVAILABLE, sentence, retry_after_s=_wait_s(targets))
