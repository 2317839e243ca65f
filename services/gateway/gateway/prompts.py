"""What a model is asked, in the kernel's words: a conversation of texts, pictures, tool calls and their results.

Each field's range is the contract's (`protos/switchboard/llm/v1/llm.proto`); who makes one of these keeps it.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from chat.messages import JsonObject, Role

IMAGE_BYTES = 3 * 1024 * 1024
"""Of a picture at the most; providers take 5 MB and more, our services 8 MiB a request."""
IMAGE_URL_CHARS = 2_048


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: at `url`, which the provider fetches, or `content` of `media_type`."""

    url: str = ""
    content: bytes = b""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """An earlier answer asked for a tool. `arguments`: a JSON object as text; empty: `{}`."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the tool gave."""

    call_id: str
    text: str


Part: TypeAlias = str | Image | ToolCall | ToolResult
"""A piece of a prompt; text, never empty, is a `str`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One message of a conversation, with at least one part: pictures and results are the user's, calls the
    assistant's. The results of a prompt's calls are in the prompt behind it, all of them."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may ask for. `parameters`: JSON Schema of its arguments; None: it takes none."""

    name: str
    description: str = ""
    parameters: JsonObject | None = None


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
    """The one tool that it must ask for; empty: `choice` says."""
    one_call: bool = False
    """It may ask for one at the most."""


NO_TOOLS = ToolUse()


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What `Models.generate` is asked; empty, zero or None: the route's default."""

    model: str
    messages: tuple[Prompt, ...]
    temperature: float | None = None
    max_output_tokens: int = 0
    stop: tuple[str, ...] = ()
    own_keys: bool = False
    """The acting user's own provider key is used where there is one."""
    tool_use: ToolUse = NO_TOOLS
