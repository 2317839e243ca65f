"""OpenAI's form without I/O: bodies in, requests out; pieces in, exact chunks out."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Answer, AnswerState, FinishReason, Role, Usage
from gateway.dialects.openai_compat.failures import error_object
from gateway.dialects.openai_compat.forms import CompletionRequest
from gateway.dialects.openai_compat.reading import read_request
from gateway.dialects.openai_compat.writer import Writer
from gateway.ports import Finished, Piece, Reasoning, Started, Text, ToolCallDelta
from gateway.prompts import GenerateRequest, Prompt

HI = [{"role": "user", "content": "Hi"}]
USAGE = Usage(3, 2)
DONE = Finished(Answer(AnswerState.COMPLETED, FinishReason.STOP, usage=USAGE))
BROKEN = SwitchboardError(ErrorCode.PROVIDER_UNAVAILABLE, "No provider could answer.", retry_after_s=2)


def body(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "claude", "messages": HI, **fields})


async def pieces(*given: Piece | SwitchboardError) -> AsyncIterator[Piece]:
    for piece in given:
        if isinstance(piece, SwitchboardError):
            raise piece
        yield piece


async def events(request: CompletionRequest, *given: Piece | SwitchboardError) -> list[Any]:
    writer = Writer("chatcmpl-1", 7, request)
    raw = [event async for event in writer.events(pieces(*given))]
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in raw)
    lines = [event[6:-2] for event in raw]
    return [line.decode() if line == b"[DONE]" else orjson.loads(line) for line in lines]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "created": 7, "model": "claude-x", "object": "chat.completion.chunk"}
    return {**head, "choices": [choice], **more}


async def test_a_stream_is_role_then_text_then_reason_then_done() -> None:
    assert await events(body(stream=True), Started("anthropic", "claude-x"), Text("Hel"), Text("lo"), DONE) == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        "[DONE]",
    ]


async def test_usage_comes_when_it_was_asked_for_in_a_chunk_without_choices() -> None:
    request = body(stream=True, stream_options={"include_usage": True})
    got = await events(request, Started("anthropic", "claude-x"), Text("Hi"), DONE)
    assert [event["usage"] for event in got[:-2]] == [None, None, None]
    assert got[-2]["choices"] == []
    assert got[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_a_stream_that_breaks_ends_in_an_error_and_without_done() -> None:
    got = await events(body(stream=True), Started("anthropic", "claude-x"), Text("Hel"), BROKEN)
    assert got[-1] == {
        "error": {
            "message": "No provider could answer.",
            "type": "server_error",
            "param": None,
            "code": "provider_unavailable",
        }
    }


async def test_a_stream_that_just_ends_is_broken_too() -> None:
    got = await events(body(stream=True), Started("anthropic", "claude-x"), Text("Hel"))
    assert "error" in got[-1]


async def test_a_failure_before_anything_was_said_is_raised_so_that_it_has_a_status() -> None:
    with pytest.raises(SwitchboardError):
        await events(body(stream=True), BROKEN)


async def test_a_whole_answer_is_one_object() -> None:
    writer = Writer("chatcmpl-1", 7, body())
    assert await writer.whole(pieces(Started("anthropic", "claude-x"), Text("Hel"), Text("lo"), DONE)) == {
        "id": "chatcmpl-1",
        "created": 7,
        "model": "claude-x",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


async def test_a_whole_answer_that_was_cut_is_a_failure() -> None:
    with pytest.raises(SwitchboardError):
        await Writer("chatcmpl-1", 7, body()).whole(pieces(Started("anthropic", "claude-x"), Text("Hel")))


ASKED = (
    Started("anthropic", "claude-x"),
    ToolCallDelta(0, "call-a", "weather"),
    ToolCallDelta(0, arguments='{"city"'),
    ToolCallDelta(0, arguments=':"Oslo"}'),
    ToolCallDelta(1, "call-b", "time", "{}"),
    Finished(Answer(AnswerState.COMPLETED, FinishReason.TOOL_CALLS, usage=USAGE)),
)


def called(index: int, call_id: str, name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return chunk({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]})


def more(index: int, arguments: str) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})


async def test_tool_calls_are_streamed_with_their_ids_and_names_in_the_first_piece_alone() -> None:
    assert await events(body(stream=True), *ASKED) == [
        chunk({"role": "assistant", "content": ""}),
        called(0, "call-a", "weather"),
        more(0, '{"city"'),
        more(0, ':"Oslo"}'),
        called(1, "call-b", "time", "{}"),
        chunk({}, "tool_calls"),
        "[DONE]",
    ]


async def whole_message(*given: Piece) -> dict[str, Any]:
    choice = (await Writer("chatcmpl-1", 7, body()).whole(pieces(*given)))["choices"][0]
    message: dict[str, Any] = choice["message"]
    return {**message, "finish_reason": choice["finish_reason"]}


async def test_a_whole_answer_has_its_tool_calls_put_together_and_no_content() -> None:
    assert await whole_message(*ASKED) == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "call-a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
            {"id": "call-b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
        "finish_reason": "tool_calls",
    }


async def test_text_before_a_tool_call_is_the_content_and_an_answer_of_nothing_is_empty() -> None:
    assert (await whole_message(ASKED[0], Text("Let me "), Text("see."), *ASKED[1:]))["content"] == "Let me see."
    empty = await whole_message(Started("anthropic", "claude-x"), DONE)
    assert empty == {"role": "assistant", "content": "", "refusal": None, "finish_reason": "stop"}


async def test_the_model_that_came_to_the_end_is_named_there() -> None:
    ended = Finished(Answer(AnswerState.COMPLETED, FinishReason.STOP, model="grok-x", usage=USAGE))
    given = (Started("anthropic", "claude-x"), Text("Hel"), Text("lo"), ended)
    asked = body(stream=True, stream_options={"include_usage": True})
    models = [each["model"] for each in await events(asked, *given) if each != "[DONE]"]
    assert models == ["claude-x", "claude-x", "claude-x", "grok-x", "grok-x"]
    assert (await Writer("chatcmpl-1", 7, body()).whole(pieces(*given)))["model"] == "grok-x"


async def test_reasoning_is_kept_apart_from_the_answer() -> None:
    thought = (Started("xai", "claude-x"), Reasoning("Hm, "), Reasoning("so."), Text("Hello"), DONE)
    assert (await events(body(stream=True), *thought))[1:4] == [
        chunk({"reasoning_content": "Hm, "}),
        chunk({"reasoning_content": "so."}),
        chunk({"content": "Hello"}),
    ]
    message = await whole_message(*thought)
    assert (message["reasoning_content"], message["content"]) == ("Hm, so.", "Hello")


def test_a_request_is_read_into_our_words() -> None:
    request = body(
        messages=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "c"},
        ],
        temperature=0.5,
        max_tokens=5,
        max_completion_tokens=9,
        stop="END",
    )
    prompts = (Prompt(Role.SYSTEM, ("Be kind.",)), Prompt(Role.USER, ("a\nb",)), Prompt(Role.USER, ("c",)))
    assert read_request(request) == GenerateRequest("claude", prompts, 0.5, 9, ("END",))


@pytest.mark.parametrize(
    "fields",
    [
        {"top_p": 0.5, "presence_penalty": 1, "seed": 7, "user": "u", "store": True, "metadata": {"a": "b"}},
        {"n": 1, "tools": [], "response_format": {"type": "text"}, "logprobs": False, "modalities": ["text"]},
        {"tool_choice": "none", "parallel_tool_calls": True, "service_tier": "auto", "reasoning_effort": "low"},
    ],
)
def test_what_is_harmless_is_ignored(fields: dict[str, Any]) -> None:
    assert read_request(body(**fields)) == GenerateRequest("claude", (Prompt(Role.USER, ("Hi",)),))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"n": 2}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"messages": [*HI, {"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.1.content.0.type"),
        ({"messages": [*HI, {"role": "user", "content": [{"type": "file"}]}]}, "messages.1.content.0.type"),
        ({"messages": [*HI, {"role": "function", "name": "f", "content": "x"}]}, "messages.1.role"),
        ({"messages": [*HI, {"role": "assistant", "function_call": {"name": "f"}}]}, "messages.1.function_call"),
        ({"messages": [{"role": "system", "content": "Be kind."}]}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
    ],
)
def test_what_changes_the_meaning_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(SwitchboardError) as caught:
        read_request(body(**fields))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.field == field


FAILURES: Sequence[tuple[ErrorCode, str, str]] = [
    (ErrorCode.INVALID_ARGUMENT, "invalid_request_error", "invalid_argument"),
    (ErrorCode.UNAUTHENTICATED, "invalid_request_error", "invalid_api_key"),
    (ErrorCode.NOT_FOUND, "invalid_request_error", "model_not_found"),
    (ErrorCode.CONTEXT_TOO_LONG, "invalid_request_error", "context_length_exceeded"),
    (ErrorCode.PROVIDER_REFUSED, "invalid_request_error", "content_policy_violation"),
    (ErrorCode.RATE_LIMITED, "rate_limit_error", "rate_limit_exceeded"),
    (ErrorCode.OVERLOADED, "server_error", "overloaded"),
    (ErrorCode.INTERNAL, "server_error", "internal"),
]


@pytest.mark.parametrize(("code", "kind", "name"), FAILURES)
def test_a_failure_has_openais_words(code: ErrorCode, kind: str, name: str) -> None:
    error = error_object(SwitchboardError(code, "why"))["error"]
    assert (error["message"], error["type"], error["code"]) == ("why", kind, name)
