"""What requests may hold: pictures, calls, results, tools; and what is refused, in the provider's words."""

from __future__ import annotations

from typing import Any

import pytest

PNG = "iVBORw0KGgo="
USER = {"role": "user", "content": "hi"}


def image(**source: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image", "source": source}]}


def use(call_id: str = "c", **more: Any) -> dict[str, Any]:
    block = {"type": "tool_use", "id": call_id, "name": "clock", "input": {}, **more}
    return {"role": "assistant", "content": [block]}


def result(call_id: str = "c", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "noon", **more}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def call(call_id: str = "c", **more: Any) -> dict[str, Any]:
    function = {"name": "clock", "arguments": "{}"}
    return {"role": "assistant", "tool_calls": [{"id": call_id, "type": "function", "function": function, **more}]}


def told(call_id: str = "c", content: Any = "noon") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def image_url(url: Any, **more: Any) -> dict[str, Any]:
    return user({"type": "image_url", "image_url": {"url": url, **more}})


TEXT = {"type": "text", "text": "x"}
TOOL = {"name": "clock", "description": "x", "input_schema": {"type": "object"}}
FUNCTION = {"name": "clock", "description": "x", "parameters": {"type": "object", "properties": {}}}


def tool(**more: Any) -> dict[str, Any]:
    return {"tools": [{**TOOL, **more}]}


def function(**more: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {**FUNCTION, **more}}]}


def ask(wire: Any, body: Any, provider: str, messages: list[Any], more: dict[str, Any]) -> tuple[int, str]:
    wire.ask(provider, body(provider, stream=False, **({"messages": messages} if messages else {}), **more))
    status, _, answer = wire.answer()
    return status, answer["error"]["message"] if status != 200 else ""


@pytest.mark.parametrize(
    ("messages", "more"),
    [
        ([image(type="base64", media_type="image/webp", data=PNG)], {}),
        ([image(type="url", url="https://example.org/a.png")], {}),
        ([image(type="file", file_id="file_1")], {}),
        ([user({"type": "document", "source": {}})], {}),
        ([USER, use(), user(result(), TEXT)], {}),
        ([USER, use(), user(result(content=[TEXT], is_error=True))], {}),
        ([USER, use(), user({"type": "tool_result", "tool_use_id": "c"})], {}),
        ([USER, use("a"), use("b"), user(result("b")), user(result("a"))], {}),
        ([USER, use("a"), user(result("a")), use("b"), user(result("b"))], {}),
        ([], tool()),
        ([], {"tools": [TOOL, {"type": "web_search_20260209", "name": "web_search"}]}),
        ([], tool() | {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        ([], tool() | {"tool_choice": {"type": "none"}}),
    ],
)
def test_anthropic_takes(wire: Any, body: Any, messages: list[Any], more: dict[str, Any]) -> None:
    assert ask(wire, body, "anthropic", messages, more) == (200, "")


@pytest.mark.parametrize(
    ("messages", "more", "words"),
    [
        ([user({"type": "picture"})], {}, "messages.0.content.0: Input tag 'picture'"),
        ([user(TEXT | {"extra": 1})], {}, "content.0.text.extra: Extra inputs"),
        ([user({"type": "text", "text": 3})], {}, "content.0.text.text: Input should be a valid string"),
        ([image(type="base64", media_type="image/bmp", data=PNG)], {}, "base64.media_type: Input should be"),
        ([image(type="base64", media_type="image/png", data="no base64")], {}, "invalid base64 data"),
        ([image(type="url", url="http://example.org/a.png")], {}, "Only HTTPS URLs"),
        ([image(url="https://example.org/a.png")], {}, "image.source: Input should be of type"),
        (
            [USER, {"role": "assistant", "content": image(type="url", url="https://x")["content"]}],
            {},
            "`user` messages",
        ),
        ([user({"type": "tool_use", "id": "c", "name": "x", "input": {}})], {}, "only be in `assistant` messages"),
        ([USER, use(input="{}"), user(result())], {}, "tool_use.input: Input should be a valid dictionary"),
        ([USER, use("a:b"), user(result("a:b"))], {}, "tool_use.id: String should match pattern"),
        ([USER, use("a" * 65), user(result("a" * 65))], {}, "at most 64 characters"),
        ([USER, use(name=""), user(result())], {}, "tool_use.name"),
        ([USER, use()], {}, "messages.1: `tool_use` ids were found without `tool_result` blocks"),
        ([USER, use(), USER], {}, "messages.1: `tool_use` ids were found without `tool_result` blocks"),
        ([USER, use(), user(TEXT, result())], {}, "messages.1: `tool_use` ids were found without `tool_result` blocks"),
        ([user(result())], {}, "messages.0: unexpected `tool_use_id`"),
        ([USER, use("a"), user(result("a"), result("b"))], {}, "unexpected `tool_use_id` found"),
        ([USER, use("a"), user(result("a"), result("a"))], {}, "single result"),
        ([USER, use("a"), user(result("a")), use("a"), user(result("a"))], {}, "ids must be unique"),
        ([USER, use(), user(result(content=3))], {}, "tool_result.content"),
        ([USER, use(), user(result(content=[{"type": "sound"}]))], {}, "tool_result.content.0: Input tag 'sound'"),
        ([USER, use(), user(result(is_error="yes"))], {}, "is_error"),
        ([], {"tools": {}}, "tools: Input should be a valid list"),
        ([], tool(name="a b"), "tools.0.custom.name"),
        ([], tool(parameters={}), "tools.0.custom.parameters: Extra inputs"),
        ([], tool(input_schema=None), "input_schema: Field required"),
        ([], tool(input_schema={}), "input_schema.type"),
        ([], {"tools": [TOOL, TOOL]}, "names must be unique"),
        ([], {"tool_choice": {"type": "auto"}}, "only be specified while providing tools"),
        ([], tool() | {"tool_choice": "auto"}, "tool_choice: Input should be"),
        ([], tool() | {"tool_choice": {"type": "tool", "name": "x"}}, "not found in provided tools"),
        ([], tool() | {"tool_choice": {"type": "any", "name": "clock"}}, "tool_choice.any.name: Extra inputs"),
        ([], tool() | {"tool_choice": {"type": "none", "disable_parallel_tool_use": True}}, "Extra inputs"),
    ],
)
def test_anthropic_refuses(wire: Any, body: Any, messages: list[Any], more: dict[str, Any], words: str) -> None:
    status, message = ask(wire, body, "anthropic", messages, more)
    assert (status, words in message) == (400, True), message


@pytest.mark.parametrize(
    ("messages", "more"),
    [
        ([image_url("https://example.org/a.png", detail="low")], {}),
        ([image_url(f"data:image/jpeg;base64,{PNG}")], {}),
        ([USER, call(), told(), USER], {}),
        ([USER, {**call(), "content": "I look."}, told(content=[TEXT])], {}),
        (
            [
                USER,
                {**call("a"), "tool_calls": call("a")["tool_calls"] + call("b")["tool_calls"]},
                told("b"),
                told("a"),
            ],
            {},
        ),
        ([], function()),
        ([], {"tools": [{"type": "function", "function": {"name": "clock"}}]}),
        ([], function() | {"tool_choice": "auto", "parallel_tool_calls": False}),
        ([], function() | {"tool_choice": "none"}),
    ],
)
@pytest.mark.parametrize("imitator", ["openai", "grok"])
def test_openai_takes(wire: Any, body: Any, imitator: str, messages: list[Any], more: dict[str, Any]) -> None:
    assert ask(wire, body, imitator, messages, more) == (200, "")


@pytest.mark.parametrize(
    ("messages", "more", "words"),
    [
        ([user({"type": "image"})], {}, "Invalid value: 'image'"),
        ([user({"type": ["text"]})], {}, "Invalid value: ['text']"),
        ([user({"type": "text"})], {}, "Missing required parameter: 'messages[0].content[0].text'"),
        ([{"role": "system", "content": image_url("https://x")["content"]}, USER], {}, "with role 'system' are: text"),
        ([USER, {"role": "assistant", "content": image_url("https://x")["content"]}], {}, "with role 'assistant'"),
        ([user({"type": "image_url", "image_url": "https://x"})], {}, "expected an object with an url"),
        ([image_url("ftp://example.org/a.png")], {}, "expected an HTTP URL"),
        ([image_url(f"data:image/bmp;base64,{PNG}")], {}, "expected an HTTP URL"),
        ([image_url("data:image/png;base64,no base64")], {}, "expected base64-encoded data"),
        ([image_url("https://x", detail="huge")], {}, "Invalid value: 'huge'"),
        ([USER, {"role": "assistant"}], {}, "expected a string, got null"),
        ([USER, call(), USER], {}, "must be followed by tool messages responding to each 'tool_call_id'"),
        ([USER, call()], {}, "must be followed by tool messages"),
        ([USER, call(), told("other")], {}, "'other' not found in 'tool_calls'"),
        ([USER, told()], {}, "must answer a preceding message with 'tool_calls'"),
        (
            [USER, call(), {"role": "tool", "content": "x"}],
            {},
            "Missing required parameter: 'messages[2].tool_call_id'",
        ),
        ([USER, call("c" * 41), told("c" * 41)], {}, "maximum length 40"),
        ([USER, call(type="tool"), told()], {}, "Invalid value: 'tool'"),
        ([USER, call(function={"name": "x", "arguments": {}}), told()], {}, "function.arguments'"),
        ([USER, call(function={"name": "a b", "arguments": ""}), told()], {}, "does not match pattern"),
        ([USER, {"role": "assistant", "content": "x", "tool_calls": []}], {}, "minimum length 1"),
        ([], {"tools": []}, "1 to 128"),
        ([], {"tools": [{"type": "function", "name": "clock"}]}, "Missing required parameter: 'tools[0].function'"),
        ([], function(name="a" * 65), "does not match pattern"),
        ([], function(parameters=[]), "Invalid type for 'tools[0].function.parameters'"),
        ([], function(parameters={"type": "object"}), "object schema missing properties"),
        ([], function(parameters={"properties": {}}), "Invalid schema for function 'clock'"),
        ([], {"tool_choice": "auto"}, "only allowed when 'tools' are specified"),
        ([], {"parallel_tool_calls": False}, "only allowed when 'tools' are specified"),
        ([], function() | {"tool_choice": "any"}, "Invalid value for 'tool_choice'"),
        ([], function() | {"tool_choice": {"type": "function", "function": {"name": "x"}}}, "not in 'tools'"),
        ([], function() | {"parallel_tool_calls": "no"}, "expected a boolean"),
    ],
)
def test_openai_refuses(wire: Any, body: Any, messages: list[Any], more: dict[str, Any], words: str) -> None:
    status, message = ask(wire, body, "openai", messages, more)
    assert (status, words in message) == (400, True), message
