"""What a model is shown: a conversation in no provider's words, and the tools that it may ask for. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, TypeAlias, cast

from chat.messages import Role


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: at `url`, which the provider fetches, or `content` of `media_type`."""

    url: str = ""
    content: bytes = b""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asked for a tool. `arguments`: a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the tool gave."""

    call_id: str
    text: str
    is_error: bool = False


Part: TypeAlias = str | Image | ToolCall | ToolResult
"""A piece of a line; text, never empty, is a `str`."""


@dataclass(frozen=True, slots=True)
class Line:
    """One message of the conversation. `role` is USER or ASSISTANT; pictures and results are the user's, calls the
    assistant's. There is at least one part."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """Its text alone."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may ask for. `parameters`: JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


def line(role: Role, text: str) -> Line:
    """A line of text alone."""
    return Line(role, (text,))


def merge(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines of the same role that follow one another as one: providers want them to alternate. Texts that meet are
    parted by an empty line, so that they stay what they were."""
    return tuple(
        Line(role, join_texts(chain.from_iterable(each.parts for each in same), between="\n\n"))
        for role, same in groupby(lines, key=lambda each: each.role)
    )


def join_texts(parts: Iterable[Part], *, between: str) -> tuple[Part, ...]:
    """The same parts, texts that follow one another as one."""
    made: list[Part] = []
    for are_texts, run in groupby(parts, key=lambda part: isinstance(part, str)):
        if are_texts:
            # Once: text by text, ten thousand of them took minutes.
            made.append(between.join(cast("Iterable[str]", run)))
        else:
            made += run
    return tuple(made)
