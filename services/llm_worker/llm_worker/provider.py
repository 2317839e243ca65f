"""The port to a provider. Its adapters are the files of `providers/`, strangers to one another.

A new provider is a new file there with a function `open_provider(settings, http_client)`; nothing else changes. The
conformance suite is tests/test_providers.py.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import httpx2
from chat.messages import FinishReason, Usage

from llm_worker.conversation import Line, Tool
from llm_worker.settings import ProviderSettings

MOST_TOKENS = 10**12
"""That a provider may say to have counted. No answer comes near it; the sums and costs of many still fit 64 bits."""

MODEL_BYTES = 200
"""Of a model's name, in UTF-8: the session service refuses the records of an answer whose names are longer."""


class ToolChoice(Enum):
    """Whether the model must ask for a tool."""

    AUTO = auto()
    NONE = auto()
    REQUIRED = auto()


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What the model may ask for, and must."""

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice.AUTO
    name: str = ""
    """The one tool that it must ask for; "": `choice` says."""
    one_call: bool = False
    """It may ask for one at the most."""


NO_TOOLS = ToolUse()


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One question in no provider's words. `lines` alternate, and end with the user's unless they prefill."""

    model: str
    """In the provider's words."""
    lines: tuple[Line, ...]
    system_prompt: str
    temperature: float | None
    """0 to 2; None: the provider's default."""
    max_output_tokens: int
    stop: tuple[str, ...] = ()
    tool_use: ToolUse = NO_TOOLS


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. `id` and `name` stand in the call's first piece alone."""

    index: int
    """Which of the answer's calls, from 0."""
    id: str = ""
    name: str = ""
    arguments: str = ""
    """A piece of the arguments' JSON."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one read of the provider's socket gave, all its events together; fields that say nothing are empty."""

    text: str = ""
    model: str = ""
    """As the provider reports it."""
    finish_reason: FinishReason = FinishReason.UNKNOWN
    """Set in the last piece of a whole answer, and in no other. UNKNOWN: more is to come."""
    usage: Usage | None = None
    """With the last piece, when the provider counted."""
    reasoning: str = ""
    """Of the model, where it shows it; no part of the answer."""
    tool_calls: tuple[ToolCallDelta, ...] = ()


def read_count(value: object) -> int | None:
    """What a provider says to be a number of tokens; None: it is none, and nothing was counted."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def read_model(value: object) -> str:
    """What a provider says to be its model's name, cut to what a record takes; "": it is none."""
    return value.encode()[:MODEL_BYTES].decode(errors="ignore") if isinstance(value, str) else ""


class Provider(Protocol):
    """One provider of models. Holds connections, never a conversation."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    def stream(self, request: ProviderRequest, key: str | None = None) -> AsyncGenerator[Piece, None]:
        """Asks and streams the answer; the request is made at the first step.

        `key` replaces the platform's for this call. The last piece has a finish reason; a stream that ends without one
        raises. A malformed event is skipped. Closing the generator, or cancelling the task in it, ends the provider's
        call. It retries nothing and knows no time-outs but that of connecting.
        Raises: ProviderError.
        """
        ...

    async def count_tokens(self, request: ProviderRequest, key: str | None = None) -> int | None:
        """The request's input tokens as the provider counts them; None: it offers no such count.

        Raises: ProviderError.
        """
        ...


class OpenProvider(Protocol):
    """What each adapter's module offers as `open_provider`."""

    def __call__(self, settings: ProviderSettings, http_client: httpx2.AsyncClient) -> Provider: ...
