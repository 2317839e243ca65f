"""What a WebSocket endpoint tells about itself for the AsyncAPI document: its frames, its path, its query.

Stands next to the code that reads and writes those frames, and is not called by it: a frame is a dict there. That both
say the same is for the tests, which hold every frame that they get against these forms.
Subsystem: docs/subsystems/gateway.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gateway.credential import Credential

Flag = Literal["true", "false"]
"""A query's yes or no."""


def told(*examples: Any) -> ConfigDict:
    """Of a frame that we send: it has these fields and no others. Built when somebody asks for the document."""
    return ConfigDict(extra="forbid", defer_build=True, json_schema_extra={"examples": list(examples)})


def heard(*examples: Any) -> ConfigDict:
    """Of a frame that a client sends: other fields are ignored."""
    return ConfigDict(defer_build=True, json_schema_extra={"examples": list(examples)})


class NoQuery(BaseModel):
    """No parameters beside the core's."""

    model_config = ConfigDict(defer_build=True)


@dataclass(frozen=True, slots=True)
class Channel:
    """One WebSocket endpoint. A frame's docstring says when it is sent; its class's name is the message's."""

    name: str
    """In the document, unlike all others'."""
    title: str
    summary: str
    hears: tuple[type[BaseModel], ...]
    """What clients send."""
    tells: tuple[type[BaseModel], ...]
    """What they get; positions, and the core's `reset`, are added for all."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The path's variables, each with what it is."""
    query: type[BaseModel] = NoQuery
    """The query's parameters, without the core's and without credentials."""
    credentials: tuple[Credential, ...] = ()
    """Any one of them; none: what the path names is the credential."""
    idle_s: float | None = None
    """See `Visit.idle_s`."""
