"""What comes of an answer, piece by piece, and tool calls put together from their pieces."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from switchboard_client.messages import ToolCall


class FinishReason(StrEnum):
    """Why the model ended a whole answer."""

    STOP = "stop"
    """It had said all it wanted, or met a stop sequence."""
    LENGTH = "length"
    """The limit on output tokens cut it."""
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    """It asks for tools to be called."""
    UNKNOWN = "unknown"
    """A reason that is newer than this client."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens over all attempts, and what they cost."""

    input_tokens: int
    output_tokens: int
    estimated: bool
    """The provider reported nothing (all of it)."""
    cost_nano_usd: int
    """In billionths of a US dollar; 0: nothing, a user's own key paid, or the price is not known."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to a provider that the worker made for the answer."""

    provider: str
    model: str
    failure: str
    """An `ErrorCode`'s name; empty: it succeeded."""
    billed: bool
    own_key: bool


@dataclass(frozen=True, slots=True)
class Started:
    """A provider has begun to answer. Comes once, first."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text to add."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The model's reasoning, where it shows it; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call; `assemble` puts them together."""

    index: int
    """Which of the answer's calls, from 0."""
    id: str
    """Set in the call's first piece, as the name is."""
    name: str
    arguments: str
    """A piece of the arguments' JSON."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last piece of a whole answer, and of no other."""

    finish_reason: FinishReason
    provider: str
    """Who finished it; not who began it, where another went on."""
    model: str
    usage: Usage
    duration_s: float
    attempts: tuple[Attempt, ...]


Piece = Started | Text | Reasoning | ToolCallDelta | Finished


def assemble(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """The calls that these pieces make, in the answer's order. Arguments are whole only once the answer is."""
    named: dict[int, tuple[str, str]] = {}
    arguments: dict[int, list[str]] = {}
    for delta in deltas:
        named.setdefault(delta.index, (delta.id, delta.name))
        arguments.setdefault(delta.index, []).append(delta.arguments)
    return tuple(ToolCall(*named[index], "".join(arguments[index]) or "{}") for index in sorted(named))
