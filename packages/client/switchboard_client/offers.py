"""What can be asked for, and how the providers behind it stand."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Model:
    """A model or a route that can be asked for by its id."""

    id: str
    provider: str
    """Who is asked first."""
    context_tokens: int
    """0: unknown."""


class BreakerState(StrEnum):
    """Whether calls to a target are made."""

    CLOSED = "closed"
    OPEN = "open"
    """They are not."""
    HALF_OPEN = "half_open"
    """One is, as a probe."""
    UNKNOWN = "unknown"
    """A state that is newer than this client."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One model of one provider, as the worker that was asked sees it; each worker has its own breakers."""

    provider: str
    model: str
    configured: bool
    """Whether the platform has a key for it."""
    breaker: BreakerState
    failures: int
    """In a row."""
    failure_threshold: int
    """Failures in a row that open the breaker."""
    reset_timeout_s: float
    last_failure_at: datetime | None
    cooling_down_until: datetime | None
    """Left alone until then because its provider asked for it; None: it is not."""
