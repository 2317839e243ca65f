"""How the workers stand, in the words that Arketic has for its "LangChain service".

Its breaker is the worst of the live workers': of all targets that the operator has a key for, the one that stands worst
in any worker. Without a live worker it is OPEN: nobody would answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chat.errors import SwitchboardError

from gateway.dialects.arketic.wire import NAME, milliseconds, timestamp
from gateway.ports import Models
from gateway.records import Circuit, Deployment, Replicas, TargetReport

SERVICE_URL = "grpc://llm_worker"
"""A name for people: where the workers are is nobody's business outside."""
_SEVERITY = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}
_USUAL_THRESHOLD, _USUAL_TIMEOUT_S = 5, 25.0
"""Of a deployment without a live worker; see [breaker] in the configuration."""
_DIRECT = "openai"
_ANSWER_S = 2.0
"""A worker that takes longer to say which models it has is not well."""


@dataclass(frozen=True, slots=True)
class Health:
    """The workers, and the gateways' connections."""

    deployment: Deployment
    response_time_ms: int | None
    """How long a worker took to answer just now; None: none did, or none was asked."""
    asked: bool

    @property
    def targets(self) -> list[TargetReport]:
        """Of all live workers, those that the operator has a key for."""
        return [target for worker in self.deployment.workers for target in worker if target.configured]

    @property
    def worst(self) -> TargetReport | None:
        """The target that stands worst; None: there is none."""
        return max(
            self.targets,
            key=lambda target: (_SEVERITY[target.circuit], target.failures, target.last_failure_at_us or 0),
            default=None,
        )

    @property
    def state(self) -> str:
        """CLOSED, OPEN or HALF_OPEN."""
        if not self.deployment.workers:
            return Circuit.OPEN.name
        worst = self.worst
        return worst.circuit.name if worst else Circuit.CLOSED.name

    @property
    def is_healthy(self) -> bool:
        """Whether every breaker is closed, and a worker answers."""
        return self.state == Circuit.CLOSED.name and not (self.asked and self.response_time_ms is None)

    @property
    def word(self) -> str:
        """The document's word for it."""
        return "healthy" if self.is_healthy else "unhealthy"

    @property
    def can_answer(self) -> bool:
        """Whether any target may be called; without a key of the operator's, by users' own."""
        targets = self.targets or [target for worker in self.deployment.workers for target in worker]
        return any(target.circuit is not Circuit.OPEN for target in targets)

    @property
    def has_fallback(self) -> bool:
        """Whether another provider stands in for one that is down."""
        ready = {target.provider for target in self.targets if target.circuit is not Circuit.OPEN}
        return len(ready) > (1 if self.is_healthy else 0)

    @property
    def has_direct(self) -> bool:
        """Whether OpenAI itself can be called."""
        return any(target.provider == _DIRECT and target.circuit is not Circuit.OPEN for target in self.targets)

    def service_object(self) -> dict[str, Any]:
        """The document's `service_health`."""
        worst = self.worst
        service: dict[str, Any] = {"status": self.word}
        if self.response_time_ms is not None and self.is_healthy:
            service["response_time_ms"] = self.response_time_ms
        service |= {
            "circuit_breaker_state": self.state,
            "failure_count": worst.failures if worst else 0,
            "service_url": SERVICE_URL,
        }
        return service if self.is_healthy else service | {"error": "Service unavailable"}

    def breaker_object(self) -> dict[str, Any]:
        """The document's `circuit_breaker`."""
        worst = self.worst
        return {
            "state": self.state,
            "failure_count": worst.failures if worst else 0,
            "failure_threshold": worst.failure_threshold if worst else _USUAL_THRESHOLD,
            "timeout_seconds": round(worst.reset_timeout_s if worst else _USUAL_TIMEOUT_S),
            "last_failure_time": _time(worst.last_failure_at_us if worst else None),
        }

    def targets_object(self) -> list[dict[str, Any]]:
        """Each target as each worker finds it."""
        return [
            {
                "worker": number,
                "provider": target.provider,
                "model": target.model,
                "state": target.circuit.name,
                "failure_count": target.failures,
                "last_failure_time": _time(target.last_failure_at_us),
                "cooling_down_until": _time(target.cooling_until_us),
            }
            for number, worker in enumerate(self.deployment.workers, 1)
            for target in worker
            if target.configured
        ]

    def brief_object(self) -> dict[str, Any]:
        """What goes with an answer."""
        return {"circuit_breaker_state": self.state, "service_health": self.word}

    def connections_object(self) -> dict[str, Any]:
        """This dialect's open WebSockets, over all gateways."""
        open_now = self.deployment.connections.get(NAME)
        by_chat = dict(open_now.by_chat) if open_now else {}
        return {
            "total_connections": open_now.total if open_now else 0,
            "active_chats": len(by_chat),
            "connections_per_chat": by_chat,
        }


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else timestamp(at_us)


async def look(replicas: Replicas) -> Health:
    """How things stand by the replicas' own reports. Raises: UNAVAILABLE."""
    return Health(await replicas.deployment(), None, asked=False)


async def examine(replicas: Replicas, models: Models, now_s: Callable[[], float]) -> Health:
    """As `look`, with a call to a worker. Raises: UNAVAILABLE: the reports can't be read."""
    deployment = await replicas.deployment()
    before_s = now_s()
    try:
        async with asyncio.timeout(_ANSWER_S):
            await models.list_models()
    except (SwitchboardError, TimeoutError):
        return Health(deployment, None, asked=True)
    return Health(deployment, max(0, milliseconds(now_s() - before_s)), asked=True)
