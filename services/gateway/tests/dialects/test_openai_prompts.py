"""What OpenAI's clients send beside text, without I/O: tools, calls and results, pictures; each refusal by name."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Role
from fastapi.exceptions import RequestValidationError
from gateway.dialects.openai_compat.conversation import read_messages
from gateway.dialects.openai_compat.failures import shape
from gateway.dialects.openai_compat.forms import CompletionRequest, ContentPart
from gateway.dialects.openai_compat.reading import read_request
from gateway.prompts import (
    IMAGE_BYTES,
    NO_TOOLS,
    Image,
    Prompt,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from pydantic import ValidationError

HI = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "How it is.", "parameters": SCHEMA}}
TIME = {"type": "function", "function": {"name": "time"}}
TOOLS = (Tool("weather", "How it is.", SCHEMA), Tool("time"))
PNG = b"\x89PNG\r\n"


def call(call_id: str, name: str = "weather", arguments: str = '{"city":"Oslo"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, content: Any = "rain") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def data_url(content: bytes = PNG, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def picture(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def asking(*messages: Any, **fields: Any) -> Any:
    return read_request(CompletionRequest.model_validate({"model": "m", "messages": list(messages), **fields}))


def param_of(*messages: Any, **fields: Any) -> Any:
    """What OpenAI's clients are told to be wrong, wherever we found it."""
    try:
        asking(*messages, **fields)
    except ValidationError as exc:
        errors = [{**error, "loc": ("body", *error["loc"])} for error in exc.errors()]
        return _body(RequestValidationError(errors))["param"]
    except SwitchboardError as exc:
        assert exc.code is ErrorCode.INVALID_ARGUMENT
        assert _body(exc)["message"] == exc.failure.message
        return _body(exc)["param"]
    return "nothing is wrong"


def _body(error: Any) -> Any:
    return orjson.loads(shape(error).body)["error"]


def test_a_round_trip_with_tools_is_read_into_prompts() -> None:
    asked = {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b", "time", "")]}
    parts = [{"type": "text", "text": "it "}, {"type": "text", "text": "is noon"}]
    request = asking(HI, asked, result("b", parts), result("a"), {"role": "user", "content": "And?"}, tools=[WEATHER])
    assert request.messages == (
        Prompt(Role.USER, ("Hi",)),
        Prompt(Role.ASSISTANT, (ToolCall("a", "weather", '{"city":"Oslo"}'), ToolCall("b", "time", ""))),
        Prompt(Role.USER, (ToolResult("b", "it \nis noon"), ToolResult("a", "rain"))),
        Prompt(Role.USER, ("And?",)),
    )


def test_text_beside_a_call_comes_before_it_and_an_empty_result_is_one() -> None:
    asked = {"role": "assistant", "content": "Let me see.", "tool_calls": [call("a")]}
    request = asking(HI, asked, result("a", ""))
    assert request.messages[1].parts[0] == "Let me see."
    assert request.messages[2] == Prompt(Role.USER, (ToolResult("a", ""),))


def test_ids_may_come_again_in_a_later_answer() -> None:
    asked = {"role": "assistant", "tool_calls": [call("a")]}
    assert len(asking(HI, asked, result("a"), asked, result("a")).messages) == 5


def test_what_an_sdk_sends_back_of_an_answer_is_taken_as_it_is() -> None:
    echoed = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning_content": "Hm.",
        "tool_calls": [{**call("a"), "index": 0}],
    }
    assert asking(HI, echoed, result("a")).messages[1].parts == (ToolCall("a", "weather", '{"city":"Oslo"}'),)
    said = {**echoed, "content": "Hello", "tool_calls": None}
    assert asking(HI, said, HI).messages[1].parts == ("Hello",)


@pytest.mark.parametrize(
    ("fields", "use"),
    [
        ({}, ToolUse(TOOLS)),
        ({"tool_choice": None, "parallel_tool_calls": None}, ToolUse(TOOLS)),
        ({"tool_choice": "auto", "parallel_tool_calls": True}, ToolUse(TOOLS)),
        ({"tool_choice": "none"}, ToolUse(TOOLS, ToolChoice.NONE)),
        ({"tool_choice": "required"}, ToolUse(TOOLS, ToolChoice.REQUIRED)),
        ({"tool_choice": {"type": "function", "function": {"name": "time"}}}, ToolUse(TOOLS, name="time")),
        ({"parallel_tool_calls": False}, ToolUse(TOOLS, one_call=True)),
    ],
)
def test_tools_and_their_choice_are_read(fields: dict[str, Any], use: ToolUse) -> None:
    assert asking(HI, tools=[WEATHER, TIME], **fields).tool_use == use


@pytest.mark.parametrize("fields", [{}, {"tools": []}, {"tools": None, "tool_choice": "auto"}, {"tool_choice": "none"}])
def test_without_tools_there_is_nothing_to_choose(fields: dict[str, Any]) -> None:
    assert asking(HI, **fields).tool_use is NO_TOOLS


def test_pictures_stand_between_the_texts() -> None:
    content = [
        {"type": "text", "text": "one"},
        picture("https://example.com/a.png?b=c#d", detail="high"),
        {"type": "text", "text": "two"},
        {"type": "text", "text": ""},
        {"type": "text", "text": "three"},
        picture(data_url()),
    ]
    parts = ("one", Image(url="https://example.com/a.png?b=c#d"), "two\nthree", Image("", PNG, "image/png"))
    assert asking({"role": "user", "content": content}).messages == (Prompt(Role.USER, parts),)


def test_runs_of_texts_are_one_each_and_empty_ones_are_none() -> None:
    said = [{"type": "text", "text": text} for text in ("", "a", "", "", "b\n", "c", "")]
    seen = picture("https://example.com/a.png")
    content = [*said, seen, {"type": "text", "text": ""}, seen, *said]
    image = Image(url="https://example.com/a.png")
    assert asking({"role": "user", "content": content}).messages[0].parts == ("a\nb\n\nc", image, image, "a\nb\n\nc")
    assert asking(HI, {"role": "user", "content": [{"type": "text"}] * 9}).messages == (Prompt(Role.USER, ("Hi",)),)


class Costly(str):
    """A text that can't be joined to another but by `str.join`, which needs no more time for many than for few."""

    __slots__ = ()

    def __format__(self, _: str) -> str:
        raise AssertionError("joined one by one")

    def __add__(self, _: object) -> str:
        raise AssertionError("joined one by one")

    __radd__ = __add__


def test_texts_are_joined_at_once() -> None:
    request = CompletionRequest.model_validate({"model": "m", "messages": [HI]})
    texts = [ContentPart.model_construct(type="text", text=Costly("x")) for _ in range(3)]
    message = request.messages[0].model_copy(update={"content": texts})
    assert read_messages([message]) == (Prompt(Role.USER, ("x\nx\nx",)),)


def parts(count: int) -> Any:
    return {"role": "user", "content": [{"type": "text"}] * count}


def test_parts_are_bounded_in_all_messages_together_and_empty_ones_count() -> None:
    assert len(asking(HI, *[parts(3_333)] * 3).messages) == 1
    assert param_of(HI, *[parts(3_333)] * 3, HI) == "messages"
    assert param_of(*[HI] * 10_001) == "messages"
    assert param_of(parts(10_001)) == "messages"
    many = {"role": "assistant", "tool_calls": [call(str(index)) for index in range(9_999)]}
    assert param_of(HI, many) == "messages"
    # Nothing of them is looked at before they are counted.
    assert param_of(HI, *[{"role": 5, "content": [5] * 5_000}] * 3) == "messages"


@pytest.mark.parametrize(
    ("media_type", "read_as"),
    [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/jpg", "image/jpeg"),
        ("IMAGE/GIF", "image/gif"),
        ("image/webp", "image/webp"),
    ],
)
def test_the_picture_itself_may_be_sent(media_type: str, read_as: str) -> None:
    request = asking({"role": "user", "content": [picture(data_url(PNG, media_type))]})
    assert request.messages[0].parts == (Image(content=PNG, media_type=read_as),)


def test_the_largest_picture_is_taken_and_one_byte_more_is_not() -> None:
    largest = {"role": "user", "content": [picture(data_url(bytes(IMAGE_BYTES)))]}
    assert len(asking(largest).messages[0].parts[0].content) == IMAGE_BYTES
    for more in (1, 2, 3, 100):
        larger = {"role": "user", "content": [picture(data_url(bytes(IMAGE_BYTES + more)))]}
        assert param_of(larger) == "messages.0.content.0.image_url"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "http://example.com/a.png",
        "https://example.com/a b.png",
        "https://example.com/\u00e9.png",
        "file:///etc/passwd",
        "https://example.com/" + "a" * 2048,
        "data:",
        "data:image/png,abc",
        "data:image/svg+xml;base64,AAAA",
        "data:text/html;base64,AAAA",
        "data:image/png;base64,",
        "data:image/png;base64,AAA",
        "data:image/png;base64,A AA",
        "data:image/png;base64,AA==AA==",
        "data:image/png;base64,\u00e9AAA",
    ],
)
def test_no_other_url_is_a_picture(url: str) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "See:"}, picture(url)]}
    assert param_of(HI, HI, message) == "messages.2.content.1.image_url"


CALLING = {"role": "assistant", "content": None, "tool_calls": [call("a")]}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([HI, result("a")], "messages.1.tool_call_id"),
        ([HI, CALLING, result("b")], "messages.2.tool_call_id"),
        ([HI, CALLING, {"role": "tool", "content": "x"}], "messages.2.tool_call_id"),
        ([HI, CALLING, result("a"), result("a")], "messages.3.tool_call_id"),
        ([HI, CALLING, {**result("a"), "tool_call_id": ""}], "messages.2.tool_call_id"),
        ([HI, CALLING], "messages.1.tool_calls"),
        ([HI, CALLING, HI, result("a")], "messages.1.tool_calls"),
        ([HI, {**CALLING, "tool_calls": [call("a"), call("a")]}, result("a")], "messages.1.tool_calls"),
        ([HI, {**HI, "tool_calls": [call("a")]}, result("a")], "messages.1.tool_calls"),
        ([HI, CALLING, {**result("a"), "tool_calls": [call("b")]}], "messages.2.tool_calls"),
        ([HI, CALLING, result("a", [picture(data_url())])], "messages.2.content.0"),
        ([{"role": "system", "content": [picture(data_url())]}, HI], "messages.0.content.0"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages.0.content.0.image_url"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "messages.0.content.0.image_url"),
        ([{"role": "user", "content": [picture(5)]}], "messages.0.content.0.image_url.url"),
        ([{"role": "user", "content": 5}], "messages.0.content"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "messages.0.content.0.text"),
        ([HI, {**CALLING, "tool_calls": [{**call("a"), "type": "custom"}]}], "messages.1.tool_calls.0.type"),
        ([HI, {**CALLING, "tool_calls": [call("a" * 201)]}], "messages.1.tool_calls.0.id"),
        ([HI, {**CALLING, "tool_calls": [call("a", "no name")]}], "messages.1.tool_calls.0.function.name"),
        *(
            ([HI, {**CALLING, "tool_calls": [call("a", "f", bad)]}], "messages.1.tool_calls.0.function.arguments")
            for bad in ("[]", "5", "{", '{"a":1', "{'a':1}", '"{}"', "{" * 2000, '{"a":"' + "x" * 512 * 1024 + '"}')
        ),
    ],
)
def test_a_message_that_is_wrong_is_refused_by_its_place(messages: list[Any], param: str) -> None:
    assert param_of(*messages) == param


def nested(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(levels - 1):
        made = {"a": made}
    return made


def with_schema(schema: Any) -> dict[str, Any]:
    return {"tools": [TIME, {"type": "function", "function": {"name": "f", "parameters": schema}}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [TIME, {"type": "function", "function": {"name": "a b"}}]}, "tools.1.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a" * 65}}]}, "tools.0.function.name"),
        ({"tools": [TIME, WEATHER, TIME]}, "tools.2.function.name"),
        ({"tools": [TIME] * 129}, "tools"),
        ({"tools": [TIME], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TIME], "tool_choice": 5}, "tool_choice"),
        ({"tools": [TIME], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tools": [TIME], "tool_choice": {"type": "function", "function": {"name": "date"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": {"type": "function", "function": {"name": "time"}}}, "tool_choice"),
        (with_schema("object"), "tools.1.function.parameters"),
        (with_schema(nested(31)), "tools.1.function.parameters"),
        (with_schema({"a": [1] * 20_000}), "tools.1.function.parameters"),
        (with_schema({"a": "x" * 600_000}), "tools.1.function.parameters"),
        (with_schema({"a": float("nan")}), "tools.1.function.parameters"),
        (with_schema({"a": float("inf")}), "tools.1.function.parameters"),
        (with_schema({"a": 1 << 64}), "tools.1.function.parameters"),
        (with_schema({"a": "\ud800"}), "tools.1.function.parameters"),
        (with_schema({"\ud800": 1}), "tools.1.function.parameters"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
    ],
)
def test_tools_that_are_wrong_are_refused_by_their_place(fields: dict[str, Any], param: str) -> None:
    assert param_of(HI, **fields) == param


def test_a_schema_may_be_as_deep_as_protobuf_takes_it() -> None:
    assert asking(HI, **with_schema(nested(30))).tool_use.tools[1].parameters == nested(30)


def test_schemas_are_bounded_all_together() -> None:
    many = [
        {"type": "function", "function": {"name": f"f{index}", "parameters": {"a": [1] * 200}}} for index in range(128)
    ]
    assert len(asking(HI, tools=many[:90]).tool_use.tools) == 90
    assert param_of(HI, tools=many) == "tools.99.function.parameters"
