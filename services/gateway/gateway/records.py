"""What the gateway needs to know beside chats: users' profiles and keys, limits, usage, how the other replicas stand.

Ports, in the kernel's words, as in `ports.py`: every method may raise SwitchboardError UNAVAILABLE or
DEADLINE_EXCEEDED. `clients/records.py` and `clients/usage.py` hold the adapters. See the protos user, limit, usage and
report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from chat.messages import JsonObject, Usage

from gateway.ports import RateLimit


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """That a user has a key for a provider, without the key. `version` counts from 1."""

    provider: str
    version: int
    updated_at_us: int


class Users(Protocol):
    """What is kept of a user."""

    async def put_profile(self, user_id: str, dialect: str, attributes: JsonObject) -> None:
        """Stores a user's profile in place of the one before. Raises: INVALID_ARGUMENT: over 16 KiB."""
        ...

    async def get_profile(self, user_id: str, dialect: str) -> JsonObject:
        """A user's profile. Raises: NOT_FOUND."""
        ...

    async def delete_profile(self, user_id: str, dialect: str) -> None:
        """Deletes a profile; nothing happens when there is none."""
        ...

    async def put_provider_key(self, user_id: str, provider: str, key: str) -> ProviderKey:
        """Stores a user's own key for a provider, encrypted. Raises: INVALID_ARGUMENT, NO_API_KEY (nothing can be
        encrypted here)."""
        ...

    async def list_provider_keys(self, user_id: str) -> tuple[ProviderKey, ...]:
        """Which providers a user has a key for, by provider."""
        ...

    async def delete_provider_key(self, user_id: str, provider: str) -> None:
        """Deletes a user's key; nothing happens when there is none."""
        ...


class Limits(Protocol):
    """Rate limits for answers without a chat; a turn's are looked at where it begins."""

    async def acquire(self, *, user_id: str, key_id: str, answer_id: str, lasts_s: float) -> RateLimit | None:
        """Counts a message and an answer under way; None: limits are off. Raises: RATE_LIMITED."""
        ...

    async def release(self, *, user_id: str, key_id: str, answer_id: str) -> None:
        """The answer is over."""
        ...


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model of one provider was used for. `own_key`: with the user's own key. `attempts`: calls made to it."""

    provider: str
    model: str
    own_key: bool
    attempts: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class DayUsage:
    """One user's day, of UTC."""

    day: str
    """As `2026-11-20`."""
    answers: int
    """That were made, whole or not."""
    usage: Usage
    """Over all models."""
    budget_tokens: int
    """Those that count against the day's budget: the platform's keys paid for them."""
    models: tuple[ModelUsage, ...]


@dataclass(frozen=True, slots=True)
class UserUsage:
    """A user's days on which something was used, the oldest first. `tokens_a_day` may be used; None: any number."""

    days: tuple[DayUsage, ...]
    tokens_a_day: int | None


class Usages(Protocol):
    """What answers have cost."""

    async def read(self, user_id: str, first_day: str, last_day: str, *, acting_id: str) -> UserUsage:
        """A user's usage, at most 366 days of it; without a user that of answers that nobody known asked for.
        `acting_id` may read its own alone; empty: the dialect has made sure. Raises: PERMISSION_DENIED."""
        ...


class Circuit(IntEnum):
    """How a breaker stands."""

    CLOSED = 1
    OPEN = 2
    HALF_OPEN = 3


@dataclass(frozen=True, slots=True)
class TargetReport:
    """One model of one provider, as one worker finds it."""

    provider: str
    model: str
    circuit: Circuit
    failures: int
    failure_threshold: int
    reset_timeout_s: float
    last_failure_at_us: int | None
    configured: bool
    cooling_until_us: int | None = None
    """It is left alone until then, because its provider asked for it or refused the key."""


@dataclass(frozen=True, slots=True)
class Connections:
    """One dialect's open WebSockets: in one gateway, or in all of them."""

    total: int
    by_chat: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the live replicas say of themselves."""

    connections: Mapping[str, Connections]
    """By dialect, over all gateways."""
    workers: Sequence[Sequence[TargetReport]]
    """Each live worker's targets."""


class Replicas(Protocol):
    """The live replicas' reports; one that dies is gone within 30 s."""

    async def report(self, replica_id: str, connections: Mapping[str, Connections]) -> None:
        """Says how this gateway stands, by dialect."""
        ...

    async def retire(self, replica_id: str) -> None:
        """This gateway is going."""
        ...

    async def deployment(self) -> Deployment:
        """How all live replicas stand."""
        ...
