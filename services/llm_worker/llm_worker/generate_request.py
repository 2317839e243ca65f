"""A caller's `GenerateRequest`, checked and turned into a question. What is refused names its field."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, NoReturn

import orjson
from chat import codec
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Role
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2

from llm_worker.context import Question, join_systems
from llm_worker.conversation import Image, Line, Part, Tool, ToolCall, ToolResult, join_texts, merge
from llm_worker.provider import ToolChoice, ToolUse

MAX_OUTPUT_TOKENS = 128_000
MAX_STOPS = 4
MAX_PARTS = 10_000
"""In all messages together. What fits into a request, millions, would hold up every other stream for seconds."""
MAX_TOOLS = 128
MAX_ID = 200
MAX_URL = 2048
MAX_ARGUMENTS = 512 * 1024
"""More than a model can write, in characters."""
MAX_SCHEMA_BYTES = 512 * 1024
"""Of all tools' parameters together, as they come: each of their values costs a microsecond, and everybody waits."""
MAX_DEPTH = 100
"""Of a call's arguments; encoders give up at some 250."""
MAX_IMAGE_BYTES = 3 * 1024 * 1024
MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""Those that every provider takes."""

NO_PARAMETERS = {"type": "object", "properties": {}}

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME_FORM = "1 to 64 characters of A-Z a-z 0-9 _ -"
_ROLES = {chat_pb2.ROLE_USER: Role.USER, chat_pb2.ROLE_ASSISTANT: Role.ASSISTANT}
_CHOICES = {
    llm_pb2.TOOL_CHOICE_UNSPECIFIED: ToolChoice.AUTO,
    llm_pb2.TOOL_CHOICE_NONE: ToolChoice.NONE,
    llm_pb2.TOOL_CHOICE_REQUIRED: ToolChoice.REQUIRED,
}


def read_question(request: llm_pb2.GenerateRequest) -> Question:
    """What a caller asks. Raises: SwitchboardError (INVALID_ARGUMENT, with the field)."""
    if max(len(request.messages), sum(len(message.parts) for message in request.messages)) > MAX_PARTS:
        refuse("messages", f"may hold {MAX_PARTS} parts at the most, all together")
    systems: list[str] = []
    lines: list[Line] = []
    for at, message in enumerate(request.messages):
        field = f"messages[{at}]"
        if message.role == chat_pb2.ROLE_SYSTEM:
            systems.append("".join(map(str, _read_parts(message, field, None))))
        elif message.role in _ROLES:
            role = _ROLES[message.role]
            lines.append(Line(role, _read_parts(message, field, role)))
        else:
            refuse(f"{field}.role", "must be ROLE_USER, ROLE_ASSISTANT or ROLE_SYSTEM")
    if not lines:
        refuse("messages", "must hold at least one message that is not ROLE_SYSTEM")
    if lines[-1].role is not Role.USER:
        refuse("messages", "must end with a message of ROLE_USER: models refuse to go on with an answer of their own")
    merged = _pair(merge(lines))
    temperature = request.temperature if request.HasField("temperature") else None
    if temperature is not None and not (math.isfinite(temperature) and 0 <= temperature <= 2):
        refuse("temperature", "must be a number from 0.0 to 2.0")
    if request.max_output_tokens > MAX_OUTPUT_TOKENS:
        refuse("max_output_tokens", f"must be at most {MAX_OUTPUT_TOKENS}")
    if len(request.stop) > MAX_STOPS:
        refuse("stop", f"may hold {MAX_STOPS} texts at the most")
    for at, stop in enumerate(request.stop):
        if not stop:
            refuse(f"stop[{at}]", "must not be empty")
    return Question(
        lines=merged,
        system_prompt=join_systems(systems),
        temperature=temperature,
        max_output_tokens=request.max_output_tokens,
        stop=tuple(request.stop),
        tool_use=_read_tools(request),
    )


def refuse(field: str, problem: str) -> NoReturn:
    """Raises: SwitchboardError (INVALID_ARGUMENT)."""
    raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, f"{field} {problem}", field=field)


def _read_parts(message: llm_pb2.InputMessage, field: str, role: Role | None) -> tuple[Part, ...]:
    """At least one; texts that follow one another are one. `role`: None is the system's."""
    if not message.parts:
        refuse(f"{field}.parts", "must hold at least one part")
    parts: list[Part] = []
    for at, given in enumerate(message.parts):
        place = f"{field}.parts[{at}]"
        match given.WhichOneof("kind"):
            case "text" if given.text:
                parts.append(given.text)
            case "image" if role is Role.USER:
                parts.append(_read_image(given.image, f"{place}.image"))
            case "tool_call" if role is Role.ASSISTANT:
                parts.append(_read_call(given.tool_call, f"{place}.tool_call"))
            case "tool_result" if role is Role.USER:
                result = given.tool_result
                parts.append(ToolResult(result.tool_call_id, result.text, result.is_error))
            case "text" | None:
                refuse(place, "must not be empty")
            case kind:
                whose = "ROLE_ASSISTANT" if kind == "tool_call" else "ROLE_USER"
                refuse(f"{place}.{kind}", f"belongs into a message of {whose}")
    return join_texts(parts, between="")


def _read_image(image: llm_pb2.Image, field: str) -> Image:
    if image.WhichOneof("source") == "url":
        if not image.url.startswith("https://") or not 8 < len(image.url) <= MAX_URL:
            refuse(f"{field}.url", f"must begin with https:// and have at most {MAX_URL} characters")
        if image.media_type:
            refuse(f"{field}.media_type", "must be empty with a url: the provider sees what it fetches")
        return Image(url=image.url)
    if not 0 < len(image.content) <= MAX_IMAGE_BYTES:
        refuse(field, f"must have a url, or content of 1 to {MAX_IMAGE_BYTES} bytes")
    if image.media_type not in MEDIA_TYPES:
        refuse(f"{field}.media_type", f"must be one of {', '.join(MEDIA_TYPES)}")
    return Image(content=image.content, media_type=image.media_type)


def _read_call(call: llm_pb2.ToolCall, field: str) -> ToolCall:
    if not 1 <= len(call.id) <= MAX_ID:
        refuse(f"{field}.id", f"must have 1 to {MAX_ID} characters")
    if not _NAME.fullmatch(call.name):
        refuse(f"{field}.name", f"must be {_NAME_FORM}")
    arguments = call.arguments or "{}"
    if len(arguments) > MAX_ARGUMENTS:
        refuse(f"{field}.arguments", f"may have {MAX_ARGUMENTS} characters at the most")
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        refuse(f"{field}.arguments", "must be a JSON object")
    if _depth(value) > MAX_DEPTH:
        refuse(f"{field}.arguments", f"may be nested {MAX_DEPTH} deep")
    return ToolCall(call.id, call.name, arguments)


def _depth(value: object) -> int:
    """How many objects and lists stand in one another."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _pair(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """The same, each call with an id of its own: some models count theirs anew in each answer, and others refuse that.

    Every call has its result in the line behind it, and every result its call in the one before: providers refuse
    anything else, and what they say of it names no field.
    """
    paired: list[Line] = []
    names: dict[str, str] = {}
    used: set[str] = set()
    for line in lines:
        results = [part.call_id for part in line.parts if isinstance(part, ToolResult)]
        if sorted(results) != sorted(names):
            refuse("messages", "must hold one tool_result for each tool_call, in the message behind it")
        calls = [part.id for part in line.parts if isinstance(part, ToolCall)]
        if len(set(calls)) != len(calls):
            refuse("messages", "must not hold two tool_calls of one id in a message")
        renamed = {call: _unused(call, used, calls) for call in calls}
        used.update(renamed.values())
        parts = tuple(_rename(part, names, renamed) for part in line.parts) if results or calls else line.parts
        paired.append(Line(line.role, parts))
        names = renamed
    return tuple(paired)


def _unused(call_id: str, used: set[str], others: Sequence[str]) -> str:
    """An id that stands in no earlier line, and for no other call of this one."""
    if call_id not in used:
        return call_id
    return next(name for number in count(2) if (name := f"{call_id}-{number}") not in used and name not in others)


def _rename(part: Part, results: Mapping[str, str], calls: Mapping[str, str]) -> Part:
    match part:
        case ToolResult():
            return replace(part, call_id=results[part.call_id])
        case ToolCall():
            return replace(part, id=calls[part.id])
        case _:
            return part


def _read_tools(request: llm_pb2.GenerateRequest) -> ToolUse:
    if len(request.tools) > MAX_TOOLS:
        refuse("tools", f"may hold {MAX_TOOLS} tools at the most")
    if sum(tool.parameters.ByteSize() for tool in request.tools) > MAX_SCHEMA_BYTES:
        refuse("tools", f"may have parameters of {MAX_SCHEMA_BYTES} bytes at the most, all together")
    names: set[str] = set()
    for at, tool in enumerate(request.tools):
        if not _NAME.fullmatch(tool.name) or tool.name in names:
            refuse(f"tools[{at}].name", f"must be {_NAME_FORM}, and no other tool's")
        names.add(tool.name)
    if request.tool_choice not in _CHOICES:
        refuse("tool_choice", "must be a ToolChoice")
    if request.tool_choice and not names:
        refuse("tool_choice", "says nothing without tools")
    if request.tool_choice_name and request.tool_choice_name not in names:
        refuse("tool_choice_name", "must be the name of one of the tools")
    return ToolUse(
        tools=tuple(
            Tool(tool.name, tool.description, _read_parameters(tool, f"tools[{at}].parameters"))
            for at, tool in enumerate(request.tools)
        ),
        choice=_CHOICES[request.tool_choice],
        name=request.tool_choice_name,
        one_call=request.one_tool_call,
    )


def _read_parameters(tool: llm_pb2.Tool, field: str) -> Mapping[str, Any]:
    if not tool.HasField("parameters"):
        return NO_PARAMETERS
    try:
        return codec.json_object(tool.parameters)
    except ValueError:
        refuse(field, "must be JSON: it holds a number that is none")
