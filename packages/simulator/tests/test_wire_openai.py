"""OpenAI's wire, as bytes on a socket, and where its imitators differ."""

from __future__ import annotations

import json
from typing import Any

import pytest


def read_data(chunk: bytes) -> Any:
    assert chunk.startswith(b"data: ") and chunk.endswith(b"\n\n")
    data = chunk[6:-2]
    return None if data == b"[DONE]" else json.loads(data)


def listen(wire: Any, asked: Any, provider: str = "openai") -> list[Any]:
    wire.ask(provider, asked)
    wire.read_head()
    return [read_data(chunk) for chunk in wire.read_chunks()]


def test_a_stream_is_the_documented_chunks_each_in_its_own_http_chunk(wire: Any, body: Any) -> None:
    wire.ask("openai", body("openai", '[[sim {"text": "Hello you"}]]'))
    status, headers = wire.read_head()
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert headers["x-request-id"].startswith("req_")
    *chunks, done = [read_data(chunk) for chunk in wire.read_chunks()]
    assert done is None
    assert {chunk["id"][:9] for chunk in chunks} == {"chatcmpl-"}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in chunks} == {"m-1"}
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello "},
        {"content": "you"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert "usage" not in chunks[-1]


def test_the_usage_chunk_comes_last_when_asked_for_and_is_null_before(wire: Any, body: Any) -> None:
    asked = body("openai", '[[sim {"text": "a b c"}]]', stream_options={"include_usage": True})
    *chunks, usage, _ = listen(wire, asked)
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + 3


def test_only_openai_pads_its_deltas_and_only_until_told_not_to(connect: Any, body: Any) -> None:
    for provider, more, padded in (
        ("openai", {}, True),
        ("openai", {"stream_options": {"include_obfuscation": False}}, False),
        ("grok", {}, False),
    ):
        with connect() as wire:
            chunks = listen(wire, body(provider, '[[sim {"deltas": 20, "delta_chars": 9}]]', **more), provider)
            assert ["obfuscation" in chunk for chunk in chunks[1:21]] == [padded] * 20


def test_padding_makes_deltas_of_different_text_the_same_length(wire: Any, body: Any) -> None:
    wire.ask("openai", body("openai", '[[sim {"text": "a bbb ccccccc dd"}]]'))
    wire.read_head()
    assert len({len(chunk) for chunk in wire.read_chunks()[1:5]}) == 1


def test_an_in_band_error_is_an_error_object_and_the_end(wire: Any, body: Any) -> None:
    *_, error = listen(wire, body("openai", '[[sim {"deltas": 3, "error_after": 1}]]'))
    assert error["error"]["type"] == "server_error"
    assert set(error["error"]) == {"message", "type", "param", "code"}


def test_an_error_body_names_message_type_param_and_code(wire: Any, body: Any) -> None:
    wire.ask("openai", body("openai", '[[sim {"code": "context_length_exceeded"}]]'))
    status, headers, error = wire.answer()
    assert (status, headers["x-should-retry"]) == (400, "false")
    assert error["error"]["code"] == "context_length_exceeded"
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["param"] == "messages"
    assert "maximum context length" in error["error"]["message"]


@pytest.mark.parametrize(
    ("change", "told", "param"),
    [
        ({"model": None}, "you must provide a model parameter", None),
        ({"model": 3}, "Invalid type for 'model'", "model"),
        ({"messages": None}, "Missing required parameter: 'messages'", "messages"),
        ({"messages": "x"}, "Invalid type for 'messages'", "messages"),
        ({"messages": []}, "empty array", "messages"),
        ({"messages": ["x"]}, "expected an object", "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "Invalid value: 'robot'", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "expected a string, got null", "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "Invalid type", "messages[0].content"),
        ({"temperature": 3}, "between 0 and 2", "temperature"),
        ({"stream": False, "stream_options": {"include_usage": True}}, "only allowed when 'stream'", "stream_options"),
        ({"system": "x"}, "Unrecognized request argument supplied: system", None),
        ({"model": "gpt-5", "max_tokens": 9}, "Use 'max_completion_tokens' instead", "max_tokens"),
    ],
)
def test_a_wrong_request_is_refused_in_the_providers_words(
    wire: Any, body: Any, change: dict[str, Any], told: str, param: str | None
) -> None:
    wire.ask("openai", {**body("openai"), **change})
    status, _, error = wire.answer()
    assert (status, error["error"]["type"], error["error"]["param"]) == (400, "invalid_request_error", param)
    assert told in error["error"]["message"]


def test_imitators_ignore_what_they_do_not_know(wire: Any, body: Any) -> None:
    wire.ask("grok", body("grok", stream=False, search_parameters={"mode": "auto"}, max_tokens=9))
    assert wire.answer()[0] == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, None),
        ({"x_api_key": "k"}, 401, None),
        ({"authorization": "Bearer my-invalid-key"}, 401, "invalid_api_key"),
        ({"authorization": "Bearer my-spent-key"}, 429, "insufficient_quota"),
    ],
)
def test_access_needs_a_bearer_key(wire: Any, body: Any, headers: dict[str, str], status: int, code: str) -> None:
    wire.send("POST", "/openai/v1/chat/completions", json.dumps(body("openai")).encode(), **headers)
    got, _, error = wire.answer()
    assert (got, error["error"]["code"]) == (status, code)


def test_what_is_not_json_is_refused(wire: Any) -> None:
    wire.ask("openai", b"{nope")
    assert "could not parse the JSON" in wire.answer()[2]["error"]["message"]


def test_an_unknown_path_is_not_found_in_the_providers_form(wire: Any) -> None:
    wire.send("POST", "/openai/v1/completions", authorization="Bearer k")
    status, _, error = wire.answer()
    assert (status, error["error"]["message"]) == (404, "Invalid URL (POST /openai/v1/completions)")
