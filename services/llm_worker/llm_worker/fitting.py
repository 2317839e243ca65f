"""Which targets of a route have room for a question, and what of it each of them is sent.

By estimate, which the provider's own count replaces where it comes near (`window`, `tokens`). An estimate refuses
nobody: the provider does. See docs/subsystems/providers.md, "What fits".
"""

import asyncio
from collections.abc import Iterable
from itertools import chain

from llm_worker.context import Question
from llm_worker.continuation import Manner, compose
from llm_worker.outcome import ProviderError
from llm_worker.own_target import AnyTarget
from llm_worker.provider import ProviderRequest
from llm_worker.tokens import weigh_text
from llm_worker.window import NEAR, Weighed, room_of, window_of

COUNT_S = 1.0
"""For a provider's own count of a request's tokens; without it the estimate stands."""


class Fitting:
    """One question along one route. `said`: what there is of the answer already. `max_output_tokens` where the question
    does not say."""

    def __init__(self, question: Question, targets: tuple[AnyTarget, ...], said: str, max_output_tokens: int) -> None:
        self._weighed = Weighed(question)
        self._targets = targets
        self._max_output_tokens = question.max_output_tokens or max_output_tokens
        self._enlarged = False
        least = self._weighed.least + weigh_text(said)
        self.places = frozenset(chain.from_iterable(self._roomy(least, own_key) for own_key in (True, False)))
        """Where the targets have room; of a purse of which none has, those with the largest window: whether a question
        is too long for a user's own key is for its provider to say, before ours is asked."""

    def _roomy(self, least: float, own_key: bool) -> Iterable[int]:
        """Of one purse."""
        rooms = {
            at: room_of(target.model, self._max_output_tokens)
            for at, target in enumerate(self._targets)
            if target.own_key is own_key
        }
        fitting = [at for at, room in rooms.items() if self._targets[at].meter.tokens(least) <= room]
        return fitting or (at for at, room in rooms.items() if room == max(rooms.values()))

    def larger(self, at: int) -> Iterable[int]:
        """A target's window was too small: the places with a larger one, of the same purse, in order. None the second
        time."""
        if self._enlarged:
            return ()
        self._enlarged = True
        small = self._targets[at]
        self.places = frozenset(
            other
            for other, target in enumerate(self._targets)
            if window_of(target.model) > window_of(small.model) and target.own_key == small.own_key
        )
        return sorted(self.places)

    async def fit(self, target: AnyTarget, said: str, manner: Manner) -> tuple[ProviderRequest, float]:
        """The request to this target, and its weight."""
        request, weight = self._compose(target, said, manner)
        near = room_of(target.model, self._max_output_tokens) * NEAR
        if target.meter.tokens(weight) > near and (counted := await _count(target, request)) is not None:
            target.meter.set(weight, counted)
            return self._compose(target, said, manner)
        return request, weight

    def _compose(self, target: AnyTarget, said: str, manner: Manner) -> tuple[ProviderRequest, float]:
        extra = weigh_text(said)
        room = room_of(target.model, self._max_output_tokens) - target.meter.tokens(extra)
        lines, weight = self._weighed.fit(room, target.meter)
        question = self._weighed.question
        request = compose(question, lines, target.model, said, manner, max_output_tokens=self._max_output_tokens)
        return request, weight + extra


async def _count(target: AnyTarget, request: ProviderRequest) -> int | None:
    """The request as its provider counts it; None: it does not, or not now."""
    try:
        async with asyncio.timeout(COUNT_S):
            return await target.count_tokens(request)
    except (ProviderError, TimeoutError):
        return None
