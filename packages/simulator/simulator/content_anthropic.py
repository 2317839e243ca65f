"""What a request on Anthropic's wire may hold: messages of content blocks, tools, and the choice among them.

Documents: https://platform.claude.com/docs/en/api/messages, /vision, /tool-use, and the types of the `anthropic` SDK
2.10. One message of each side:

    {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://..."}}]}
    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}]}

Every fault is a 400 that names the place. Deviations: documents, search results, thinking and the provider's own tools
are taken unread, JSON Schemas but for their type too, and no picture is looked at.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from simulator.wire import ProviderError, Refused, is_base64, join_text

MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

UNREAD_BLOCKS = frozenset(
    {
        "bash_code_execution_tool_result",
        "browser_state",
        "code_execution_tool_result",
        "container_upload",
        "document",
        "redacted_thinking",
        "search_result",
        "server_tool_use",
        "text_editor_code_execution_tool_result",
        "thinking",
        "tool_reference",
        "tool_search_tool_result",
        "web_fetch_tool_result",
        "web_search_tool_result",
    }
)

BLOCK_FIELDS = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "image": frozenset({"type", "source", "cache_control", "transformations"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller", "toolset_name"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name"}),
}

TOOL_FIELDS = frozenset(
    {
        "allowed_callers",
        "cache_control",
        "defer_loading",
        "description",
        "eager_input_streaming",
        "input_examples",
        "input_schema",
        "name",
        "strict",
        "type",
    }
)

CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def check_messages(messages: list[Any]) -> None:
    """Raises: Refused."""
    if not messages:
        raise _refuse("messages: at least one message is required")
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _refuse(f"messages.{at}: Input should be an object")
        role, content = message.get("role"), message.get("content")
        if role == "system":
            text = (
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
                'not "system" as an input message role.'
            )
            raise _refuse(text)
        if role not in ("user", "assistant"):
            raise _refuse(f"messages.{at}.role: Input should be 'user' or 'assistant'")
        if not isinstance(content, str | list):
            raise _refuse(f"messages.{at}.content: Field required")
        if not content and not (role == "assistant" and at == len(messages) - 1):
            text = "all messages must have non-empty content except for the optional final assistant message"
            raise _refuse(f"messages.{at}: {text}")
        if isinstance(content, list):
            for block_at, block in enumerate(content):
                _check_block(block, f"messages.{at}.content.{block_at}", role)
    if messages[0]["role"] != "user":
        raise _refuse('messages: first message must use the "user" role')
    _check_results(messages)


def _check_block(block: Any, place: str, role: str) -> None:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise _refuse(f"{place}.type: Field required")
    kind = block["type"]
    if kind in UNREAD_BLOCKS:
        return
    if kind not in BLOCK_FIELDS:
        raise _refuse(f"{place}: Input tag {kind!r} found using 'type' does not match any of the expected tags")
    if (kind == "tool_use" and role != "assistant") or (kind in {"image", "tool_result"} and role != "user"):
        where = "assistant" if kind == "tool_use" else "user"
        raise _refuse(f"{place}: `{kind}` blocks can only be in `{where}` messages")
    for name in block:
        if name not in BLOCK_FIELDS[kind]:
            raise _refuse(f"{place}.{kind}.{name}: Extra inputs are not permitted")
    match kind:
        case "text":
            if not isinstance(block.get("text"), str):
                raise _refuse(f"{place}.text.text: Input should be a valid string")
            if not block["text"]:
                raise _refuse("messages: text content blocks must be non-empty")
        case "image":
            _check_source(block.get("source"), f"{place}.image.source")
        case "tool_use":
            _check_id(block.get("id"), f"{place}.tool_use.id")
            if not isinstance(block.get("name"), str) or not block["name"]:
                raise _refuse(f"{place}.tool_use.name: String should have at least 1 character")
            if not isinstance(block.get("input"), dict):
                raise _refuse(f"{place}.tool_use.input: Input should be a valid dictionary")
        case "tool_result":
            _check_id(block.get("tool_use_id"), f"{place}.tool_result.tool_use_id")
            _check_result(block, f"{place}.tool_result")


def _check_source(source: Any, place: str) -> None:
    kind = source.get("type") if isinstance(source, dict) else None
    match kind:
        case "base64":
            media_type, content = source.get("media_type"), source.get("data")
            if media_type not in MEDIA_TYPES:
                raise _refuse(f"{place}.base64.media_type: Input should be one of {', '.join(MEDIA_TYPES)}")
            if not isinstance(content, str) or not content or not is_base64(content):
                raise _refuse(f"{place}.base64: invalid base64 data")
        case "url":
            url = source.get("url")
            if not isinstance(url, str) or not url.startswith("https://"):
                raise _refuse(f"{place}.url: Only HTTPS URLs are supported.")
        case "file":
            if not isinstance(source.get("file_id"), str):
                raise _refuse(f"{place}.file.file_id: Field required")
        case _:
            raise _refuse(f"{place}: Input should be of type 'base64', 'url' or 'file'")


def _check_id(value: Any, place: str) -> None:
    if not isinstance(value, str):
        raise _refuse(f"{place}: Field required")
    if not CALL_ID.fullmatch(value):
        raise _refuse(f"{place}: String should match pattern '^[a-zA-Z0-9_-]+$' and have at most 64 characters")


def _check_result(block: dict[str, Any], place: str) -> None:
    content = block.get("content", "")
    if not isinstance(content, str | list):
        raise _refuse(f"{place}.content: Input should be a valid string or a valid list")
    for at, inner in enumerate(content if isinstance(content, list) else ()):
        _check_block(inner, f"{place}.content.{at}", "user")
        if inner["type"] == "tool_result":
            raise _refuse(f"{place}.content.{at}: Input tag 'tool_result' does not match any of the expected tags")
    if not isinstance(block.get("is_error", False), bool):
        raise _refuse(f"{place}.is_error: Input should be a valid boolean")


def _check_results(messages: list[dict[str, Any]]) -> None:
    """Every call has its result at the beginning of the next turn, and every result its call in the turn before.
    Messages of the same role that follow one another are one turn."""
    asked: list[str] = []
    seen: set[str] = set()
    for _, same in groupby(enumerate(messages), key=lambda each: each[1]["role"]):
        turn = list(same)
        at, role = turn[0][0], turn[0][1]["role"]
        blocks = [block for _, message in turn for block in _blocks(message["content"])]
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if role == "assistant":
            asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
            if len(set(asked)) < len(asked) or seen.intersection(asked):
                raise _refuse(f"messages.{at}: `tool_use` ids must be unique")
            seen.update(asked)
            continue
        first = [block["tool_use_id"] for block in blocks[: len(answered)] if block["type"] == "tool_result"]
        _match(asked, first, at - 1)
        for call_id in answered:
            if call_id not in asked:
                text = (
                    f"messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. "
                    "Each needs its `tool_use` block in the previous message."
                )
                raise _refuse(text)
        if len(set(answered)) < len(answered):
            raise _refuse(f"messages.{at}: each `tool_use` must have a single result")
        asked = []
    _match(asked, [], len(messages) - 1)


def _match(asked: list[str], answered: list[str], at: int) -> None:
    missing = [call_id for call_id in asked if call_id not in answered]
    if missing:
        text = (
            f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. The next message must begin with them."
        )
        raise _refuse(text)


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def check_tools(tools: Any, choice: Any) -> str:
    """The tool that must be called, "" for none. Raises: Refused."""
    if not isinstance(tools, list):
        raise _refuse("tools: Input should be a valid list")
    names = [_check_tool(tool, f"tools.{at}") for at, tool in enumerate(tools)]
    if len(set(names)) < len(names):
        raise _refuse("tools: Tool names must be unique.")
    if choice is None:
        return ""
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        raise _refuse("tool_choice: Input should be of type 'auto', 'any', 'tool' or 'none'")
    kind = choice["type"]
    known = {"type"} | ({"name"} if kind == "tool" else set())
    known |= {"disable_parallel_tool_use"} if kind != "none" else set()
    for name in choice:
        if name not in known:
            raise _refuse(f"tool_choice.{kind}.{name}: Extra inputs are not permitted")
    if not isinstance(choice.get("disable_parallel_tool_use", False), bool):
        raise _refuse(f"tool_choice.{kind}.disable_parallel_tool_use: Input should be a valid boolean")
    if not names:
        raise _refuse("tool_choice: may only be specified while providing tools")
    if kind == "tool" and choice.get("name") not in names:
        raise _refuse(f"tool_choice.tool.name: Tool {choice.get('name')!r} not found in provided tools")
    return str(choice["name"]) if kind == "tool" else names[0] if kind == "any" else ""


def _check_tool(tool: Any, place: str) -> str:
    if not isinstance(tool, dict):
        raise _refuse(f"{place}: Input should be an object")
    name = tool.get("name")
    if tool.get("type", "custom") not in ("custom", None):
        return str(name)
    for field in tool:
        if field not in TOOL_FIELDS:
            raise _refuse(f"{place}.custom.{field}: Extra inputs are not permitted")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise _refuse(f"{place}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(tool.get("description", ""), str):
        raise _refuse(f"{place}.custom.description: Input should be a valid string")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise _refuse(f"{place}.custom.input_schema: Field required")
    if schema.get("type") != "object":
        raise _refuse(f"{place}.custom.input_schema.type: Input should be 'object'")
    return name


def text_of(content: str | list[dict[str, Any]]) -> str:
    """A message's text, with that of tools' results."""
    if isinstance(content, str):
        return content
    return "".join(join_text(each.get("content") if each["type"] == "tool_result" else [each]) for each in content)


def _refuse(message: str) -> Refused:
    return Refused(ProviderError(400, "invalid_request_error", message))
