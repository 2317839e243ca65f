"""The plan book: queues of plans by provider, set over the admin endpoint. A queue beats a directive."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulator.plan import Plan


@dataclass(slots=True)
class _Queue:
    plans: deque[Plan]
    then: Plan | None


@dataclass(slots=True)
class PlanBook:
    """Each request takes its provider's next plan, then `then` for ever; None once there is nothing more to say."""

    _queues: dict[str, _Queue] = field(default_factory=dict)

    def set(self, provider: str, plans: Sequence[Plan], then: Plan | None) -> None:
        """Replaces whatever the provider had."""
        self._queues[provider] = _Queue(deque(plans), then)

    def take(self, provider: str) -> Plan | None:
        queue = self._queues.get(provider)
        if queue is None:
            return None
        return queue.plans.popleft() if queue.plans else queue.then

    def peek(self, provider: str) -> Plan | None:
        """The plan that the provider's next request will take."""
        queue = self._queues.get(provider)
        if queue is None:
            return None
        return queue.plans[0] if queue.plans else queue.then

    def remaining(self) -> dict[str, int]:
        """How many plans wait, by provider; `then` not counted."""
        return {provider: len(queue.plans) for provider, queue in self._queues.items()}

    def clear(self) -> None:
        self._queues.clear()
