"""What a request on OpenAI's wire may hold: messages of content parts, tools, and the choice among them.

Documents: https://platform.openai.com/docs/api-reference/chat, /guides/images-vision, /guides/function-calling, and the
types of the `openai` SDK 3.51. Messages of a user, the assistant and a tool:

    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}]}
    {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": ...}]}
    {"role": "tool", "tool_call_id": "call_1", "content": "..."}

Every fault is a 400 that names the place. Deviations: imitators are as strict; sound, files, the older `functions`,
custom tools and lists of allowed ones are taken unread, JSON Schemas but for their beginning too, and no picture is
looked at.
"""

from __future__ import annotations

import re
from typing import Any

from simulator.wire import ProviderError, Refused, is_base64, join_text

ROLES = ("developer", "system", "user", "assistant", "tool", "function")

PARTS = {"user": ("text", "image_url", "input_audio", "file"), "assistant": ("text", "refusal")}
"""Of the other roles, text alone."""

IMAGE_URL = re.compile(r"https?://\S+|data:image/(?:png|jpeg|gif|webp);base64,(.+)", re.DOTALL)
DETAILS = ("auto", "low", "high", "original")

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MAX_TOOLS = 128
MAX_ID_CHARS = 40


def check_messages(messages: list[Any]) -> None:
    """Raises: Refused."""
    for at, message in enumerate(messages):
        place = f"messages[{at}]"
        if not isinstance(message, dict):
            raise _refuse(f"Invalid type for '{place}': expected an object.", place, "invalid_type")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            text = f"Invalid value: {role!r}. Supported values are: 'system', 'assistant', 'user', 'tool'."
            raise _refuse(text, f"{place}.role", "invalid_value")
        calls = message.get("tool_calls") if role == "assistant" else None
        if content is None and not (calls or message.get("function_call") or message.get("refusal")):
            text = f"Invalid value for 'content': expected a string, got null. (param: {place}.content)"
            raise _refuse(text, f"{place}.content", "invalid_value")
        if content is not None and not isinstance(content, str | list):
            text = f"Invalid type for '{place}.content': expected one of a string or array of objects."
            raise _refuse(text, f"{place}.content", "invalid_type")
        if isinstance(content, list):
            for part_at, part in enumerate(content):
                _check_part(part, f"{place}.content[{part_at}]", role)
        if calls is not None:
            _check_calls(calls, f"{place}.tool_calls")
    _check_results(messages)


def _check_part(part: Any, place: str, role: str) -> None:
    if not isinstance(part, dict):
        raise _refuse(f"Invalid type for '{place}': expected an object.", place, "invalid_type")
    kind, known = part.get("type"), PARTS.get(role, ("text",))
    if kind not in known:
        text = f"Invalid value: {kind!r}. Supported values with role {role!r} are: {', '.join(known)}."
        raise _refuse(text, f"{place}.type", "invalid_value")
    if kind == "text" and not isinstance(part.get("text"), str):
        raise _refuse(f"Missing required parameter: '{place}.text'.", f"{place}.text", "missing_required_parameter")
    if kind == "image_url":
        _check_image(part.get("image_url"), f"{place}.image_url")


def _check_image(image: Any, place: str) -> None:
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        raise _refuse(f"Invalid type for '{place}': expected an object with an url.", place, "invalid_type")
    found = IMAGE_URL.fullmatch(url)
    if found is None:
        text = f"Invalid '{place}.url': expected an HTTP URL, or base64 of a png, jpeg, gif or webp as a data URL."
        raise _refuse(text, f"{place}.url", "invalid_image_url")
    if found[1] is not None and not is_base64(found[1]):
        raise _refuse(f"Invalid '{place}.url': expected base64-encoded data.", f"{place}.url", "invalid_base64")
    if image.get("detail", "auto") not in DETAILS:
        raise _refuse(f"Invalid value: {image['detail']!r}.", f"{place}.detail", "invalid_value")


def _check_calls(calls: Any, place: str) -> None:
    if not isinstance(calls, list) or not calls:
        raise _refuse(f"Invalid '{place}': expected an array with minimum length 1.", place, "empty_array")
    for at, call in enumerate(calls):
        param = f"{place}[{at}]"
        call_id = call.get("id") if isinstance(call, dict) else None
        if not isinstance(call_id, str):
            raise _refuse(f"Missing required parameter: '{param}.id'.", f"{param}.id", "missing_required_parameter")
        if len(call_id) > MAX_ID_CHARS:
            text = f"Invalid '{param}.id': string too long. Expected a string with maximum length {MAX_ID_CHARS}."
            raise _refuse(text, f"{param}.id", "string_above_max_length")
        if call.get("type") == "custom":
            continue
        if call.get("type") != "function":
            text = f"Invalid value: {call.get('type')!r}. Supported values are: 'function' and 'custom'."
            raise _refuse(text, f"{param}.type", "invalid_value")
        function = call.get("function")
        for field in ("name", "arguments"):
            if not isinstance(function, dict) or not isinstance(function.get(field), str):
                text = f"Missing required parameter: '{param}.function.{field}'."
                raise _refuse(text, f"{param}.function.{field}", "missing_required_parameter")
        _check_name(function["name"], f"{param}.function.name")


def _check_name(name: Any, place: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        text = f"Invalid '{place}': string does not match pattern. Expected a string that matches '^[a-zA-Z0-9_-]+$'."
        raise _refuse(text, place, "invalid_value")


def _check_results(messages: list[dict[str, Any]]) -> None:
    """Right behind a message with calls stands the result of each, and a result nowhere else."""
    asked: list[str] = []
    open_ids: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] != "tool":
            _check_answered(open_ids, at)
            asked = [call["id"] for call in message.get("tool_calls") or ()]
            open_ids = list(asked)
            continue
        call_id, param = message.get("tool_call_id"), f"messages[{at}].tool_call_id"
        if not isinstance(call_id, str):
            raise _refuse(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
        if not asked:
            text = "Invalid parameter: messages with role 'tool' must answer a preceding message with 'tool_calls'."
            raise _refuse(text, f"messages[{at}].role", None)
        if call_id not in asked:
            text = f"Invalid parameter: 'tool_call_id' {call_id!r} not found in 'tool_calls' of the previous message."
            raise _refuse(text, param, None)
        open_ids = [each for each in open_ids if each != call_id]
    _check_answered(open_ids, len(messages))


def _check_answered(open_ids: list[str], at: int) -> None:
    if open_ids:
        text = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. Those without one: {', '.join(open_ids)}"
        )
        raise _refuse(text, f"messages[{at}].role", None)


def check_tools(tools: Any, choice: Any, parallel: Any) -> str:
    """The tool that must be called, "" for none. Raises: Refused."""
    if tools is None:
        for name, given in (("tool_choice", choice), ("parallel_tool_calls", parallel)):
            if given is not None:
                raise _refuse(f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.", name)
        return ""
    if not isinstance(tools, list) or not 0 < len(tools) <= MAX_TOOLS:
        raise _refuse(f"Invalid 'tools': expected an array of 1 to {MAX_TOOLS} objects.", "tools", "invalid_type")
    names = [_check_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
    if not isinstance(parallel, bool | None):
        text = "Invalid type for 'parallel_tool_calls': expected a boolean."
        raise _refuse(text, "parallel_tool_calls", "invalid_type")
    match choice:
        case None | "auto" | "none":
            return ""
        case "required":
            return names[0]
        case {"type": "function", "function": {"name": str(name)}}:
            if name not in names:
                text = f"Invalid value for 'tool_choice': the function {name!r} is not in 'tools'."
                raise _refuse(text, "tool_choice")
            return name
        case {"type": "custom" | "allowed_tools"}:
            return ""
    text = "Invalid value for 'tool_choice': supported values are 'none', 'auto', 'required' and an object."
    raise _refuse(text, "tool_choice", "invalid_value")


def _check_tool(tool: Any, place: str) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind == "custom":
        return str(tool.get("custom"))
    function = tool.get("function") if kind == "function" else None
    if not isinstance(function, dict):
        raise _refuse(f"Missing required parameter: '{place}.function'.", f"{place}.function", "invalid_type")
    _check_name(function.get("name"), f"{place}.function.name")
    for field, kinds in (("description", str), ("parameters", dict), ("strict", bool)):
        if not isinstance(function.get(field), kinds | None):
            text = f"Invalid type for '{place}.function.{field}'."
            raise _refuse(text, f"{place}.function.{field}", "invalid_type")
    schema = function.get("parameters")
    if schema is not None and (schema.get("type") != "object" or not isinstance(schema.get("properties"), dict)):
        wrong = "object schema missing properties" if schema.get("type") == "object" else "schema must be of an object"
        text = f"Invalid schema for function {function['name']!r}: In context=(), {wrong}."
        raise _refuse(text, f"{place}.function.parameters", "invalid_function_parameters")
    return str(function["name"])


def user_texts(messages: list[dict[str, Any]]) -> tuple[str, ...]:
    """The texts of the user's turns; the results of tools that stand before a user's message belong to it."""
    texts: list[str] = []
    results: list[str] | None = None
    for message in messages:
        match message["role"]:
            case "tool":
                results = [*(results or ()), join_text(message.get("content"))]
            case "user":
                texts.append("".join([*(results or ()), join_text(message.get("content"))]))
                results = None
            case _ if results is not None:
                texts.append("".join(results))
                results = None
    if results is not None:
        texts.append("".join(results))
    return tuple(texts)


def _refuse(message: str, param: str, code: str | None = None) -> Refused:
    return Refused(ProviderError(400, "invalid_request_error", message, code, param))
