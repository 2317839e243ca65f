"""The record: what providers were asked, and how each call ended. Tests read it to see that a cancel arrived.

It never holds an API key, only a short fingerprint of it, so that a test can tell *whose* key was used.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

RING = 1000
"""Requests remembered."""

KEPT_BODY_BYTES = 256 * 1024
"""A larger request's messages are not kept: a full ring then holds at most 256 MiB, and in practice a few."""


class Outcome(StrEnum):
    """How a call ended."""

    OPEN = "open"
    COMPLETED = "completed"
    CLIENT_CLOSED = "client_closed"
    FAULTED = "faulted"
    REFUSED = "refused"
    """The request itself was wrong: the provider's own 4xx, not one a plan asked for."""


@dataclass(slots=True)
class Entry:
    """One request, while it lives and after. `*_ns` are CLOCK_MONOTONIC, as in timestamped deltas."""

    id: str
    provider: str
    path: str
    model: str | None
    messages: Any
    parameters: Mapping[str, Any]
    stream: bool
    key_fingerprint: str | None
    plan_source: str
    arrived_ns: int
    ended_ns: int | None = None
    status: int | None = None
    outcome: Outcome = Outcome.OPEN
    deltas_sent: int = 0

    def end(self, outcome: Outcome, now_ns: int) -> None:
        """The first end counts."""
        if self.outcome is Outcome.OPEN:
            self.outcome = outcome
            self.ended_ns = now_ns

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """An entry as `GET /sim/requests` tells it; the fields are `Entry`'s."""

    id: str
    provider: str
    path: str
    model: str | None
    messages: Any
    parameters: Mapping[str, Any]
    stream: bool
    key_fingerprint: str | None
    plan_source: str
    arrived_ns: int
    ended_ns: int | None
    status: int | None
    outcome: str
    deltas_sent: int


def fingerprint(key: str) -> str:
    """Eight hex digits that tell keys apart and give none away."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


class Record:
    """A bounded ring of entries, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=RING)

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)

    def entries(self, provider: str | None = None) -> list[Entry]:
        return [entry for entry in self._entries if provider in {None, entry.provider}]

    def clear(self) -> None:
        self._entries.clear()
