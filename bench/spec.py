"""What the load generator is told, and what it tells: JSON over its standard input and output."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run. `streams` at a time, `rounds` one after another, each stream on a connection and in a chat of its own.

    target: "faye" (our WebSocket), "anthropic" or "openai" (the simulator itself). url: the gateway's or simulator's.
    readers: connections a chat; only the first one sends. deltas: 0 sends nothing and only holds the connections.
    stagger_s: over which a round's starts are spread; 0: all at once.
    """

    target: str
    url: str
    api_key: str
    name: str
    """Begins the chats' tokens; unique for a stack, so that every chat is new."""
    streams: int
    deltas: int
    interval_ms: float = 10
    rounds: int = 1
    readers: int = 1
    stagger_s: float = 0
    grace_s: float = 20
    """How much longer than it should take a round may take."""

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def decode(text: str) -> "LoadSpec":
        return LoadSpec(**json.loads(text))


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Times in milliseconds unless their name says otherwise; lags: from a delta's sending to its receipt."""

    deltas: int
    expected: int
    frames: int
    wall_s: float
    """From the first start to the last delta, all rounds together."""
    unfinished: int
    """Streams that failed or were not complete in time."""
    close_codes: dict[str, int]
    """How streams failed: by error frame, or by the code with which the other side closed."""
    stretch: float
    """How much longer streams took than their deltas' intervals add up to, from first to last delta; 1 is in time."""
    ttft_p50: float
    ttft_p99: float
    lag_p50: float
    lag_p99: float
    lag_max: float

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def decode(text: str) -> "LoadResult":
        return LoadResult(**json.loads(text))


CONNECTED = "connected"
"""The generator says it when all connections stand; it starts when it is told GO."""
GO = "go"
