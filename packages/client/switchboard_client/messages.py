"""What a model is asked: messages, pictures, tools. Values alone; what of them is allowed, the worker says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class ToolChoice(StrEnum):
    """Whether the model must ask for a tool. One particular tool is asked for by itself: `tool_choice=tool`."""

    AUTO = "auto"
    """It decides by itself."""
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Image:
    """A picture for the model to see: `url` (https, the provider fetches it), or `content` with its `media_type`."""

    url: str = ""
    content: bytes = b""
    """At most 3 MiB."""
    media_type: str = ""
    """image/jpeg, image/png, image/gif or image/webp; empty with `url`."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool."""

    id: str
    name: str
    arguments: str = "{}"
    """A JSON object as text, as the model wrote it."""

    def parse(self) -> dict[str, Any]:
        """The arguments. Raises: ValueError, for models can write broken JSON, or something that is no object."""
        value = json.loads(self.arguments or "{}")
        if not isinstance(value, dict):
            raise ValueError(f"the arguments of {self.name} are no JSON object")  # noqa: TRY004  (the text is wrong, not its type)
        return value


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave, for the message behind the one that asked for it. Every call of that message needs one."""

    tool_call_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may ask for."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    """JSON Schema of its arguments; None: it takes none."""


Part = str | Image | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation; `user`, `assistant` and `system` make one."""

    role: Role
    parts: tuple[Part, ...]


def user(*parts: str | Image | ToolResult) -> Message:
    """What a person says or shows, or what tools gave."""
    return Message(Role.USER, parts)


def assistant(*parts: str | ToolCall) -> Message:
    """An earlier answer; `Answer.as_message` makes it of one that has just come."""
    return Message(Role.ASSISTANT, parts)


def system(text: str) -> Message:
    """An instruction; it is put where the provider wants it."""
    return Message(Role.SYSTEM, (text,))
