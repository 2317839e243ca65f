"""What clients send to `/v1/chat/completions`: fields' types and ranges; fields that are not here are ignored.

What depends on more than one field is looked at in `reading.py`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from gateway.openapi import example

MAX_TOOLS = 128
_MAX_PARTS = 10_000
"""As the worker takes them, in all messages together: more would only be refused later. Empty ones are read, too."""
_TEXT, _LIST, _WORD, _FUNCTION = "(text)", "(list)", "(word)", "(function)"
"""Tell a union's members apart. In parentheses, so that they are not taken for fields' names."""


def is_tag(part: object) -> bool:
    """Whether this part of an error's place names no field, but which of several forms was taken for what was sent."""
    return isinstance(part, str) and part.startswith("(")


def _text_or_list(value: object) -> str:
    return _LIST if isinstance(value, list) else _TEXT


def _bounded(messages: object) -> object:
    """Before any of them is read, which is what takes long."""
    if isinstance(messages, list) and sum(map(_parts_of, messages)) > _MAX_PARTS:
        raise PydanticCustomError("too_many_parts", f"All messages together may hold {_MAX_PARTS:,} parts")
    return messages


def _parts_of(message: object) -> int:
    if not isinstance(message, dict):
        return 1
    content, calls = message.get("content"), message.get("tool_calls")
    return (len(content) if isinstance(content, list) else 1) + (len(calls) if isinstance(calls, list) else 0)


def _word_or_function(value: object) -> str:
    return _FUNCTION if isinstance(value, dict | NamedTool) else _WORD


FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, Field(min_length=1, max_length=200)]


class ImageUrl(BaseModel):
    """Where a picture is: an https URL, or a data URL with a PNG, JPEG, GIF or WebP in base64, at most 3 MiB."""

    url: str


class ContentPart(BaseModel):
    """One piece of a message: `text`, or, from a user, `image_url`."""

    type: str
    text: str = ""
    image_url: ImageUrl | None = None


class CalledFunction(BaseModel):
    """What an earlier answer asked for. `arguments` is a JSON object as text."""

    name: FunctionName
    arguments: str = ""


class ToolCallForm(BaseModel):
    """A tool call of an earlier answer."""

    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction


Content = (
    Annotated[
        Annotated[str, Tag(_TEXT)] | Annotated[list[ContentPart], Field(max_length=_MAX_PARTS), Tag(_LIST)],
        Discriminator(_text_or_list),
    ]
    | None
)


class ChatMessage(BaseModel):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None
    tool_calls: list[ToolCallForm] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None


class FunctionForm(BaseModel):
    """A function that the model may ask for. `parameters` is a JSON Schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolForm(BaseModel):
    """A tool that the model may ask for."""

    type: Literal["function"]
    function: FunctionForm


class ChosenFunction(BaseModel):
    """One of the tools, by its name."""

    name: str


class NamedTool(BaseModel):
    """The tool that the model must ask for."""

    type: Literal["function"]
    function: ChosenFunction


class StreamOptions(BaseModel):
    """How a stream is to be."""

    include_usage: bool = False


class CompletionRequest(BaseModel):
    """What is asked for; fields that are not here are ignored."""

    model_config = example({"model": "claude", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100})

    model: Annotated[str, Field(max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=_MAX_PARTS), BeforeValidator(_bounded)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=128_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=128_000)] | None = None
    stop: (
        Annotated[
            Annotated[str, Tag(_TEXT)] | Annotated[list[str], Field(max_length=4), Tag(_LIST)],
            Discriminator(_text_or_list),
        ]
        | None
    ) = None
    tools: Annotated[list[ToolForm], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], Tag(_WORD)] | Annotated[NamedTool, Tag(_FUNCTION)],
            Discriminator(_word_or_function),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    n: int | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    logit_bias: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
