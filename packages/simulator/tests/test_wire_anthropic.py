"""Anthropic's wire, as bytes on a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulator.record import fingerprint

PREFIX = "/anthropic/v1/messages"


def read_event(chunk: bytes) -> tuple[str, dict[str, Any]]:
    head, data, *rest = chunk.decode().split("\n")
    assert rest == ["", ""]
    name = head.removeprefix("event: ")
    value = json.loads(data.removeprefix("data: "))
    assert value["type"] == name
    return name, value


def test_a_stream_is_the_documented_events_each_in_its_own_chunk(wire: Any, body: Any) -> None:
    wire.ask("anthropic", body("anthropic", '[[sim {"text": "Hello you"}]]'))
    status, headers = wire.read_head()
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert headers["transfer-encoding"] == "chunked"
    assert headers["request-id"].startswith("req_")
    first = wire.read_chunk()
    (name, start), *others = [read_event(chunk) for chunk in [first, *wire.read_chunks()]]
    assert name == "message_start"
    message = start["message"]
    assert message["id"].startswith("msg_")
    assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
    assert (message["model"], message["stop_reason"]) == ("claude-opus-5-5", None)
    assert message["usage"]["output_tokens"] == 1
    assert [name for name, _ in others] == [
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    events = [event for _, event in others]
    assert events[0] == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    assert events[2] == {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello "}}
    assert events[4] == {"type": "content_block_stop", "index": 0}
    assert events[5]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}
    assert events[5]["usage"]["output_tokens"] == 2
    assert events[6] == {"type": "message_stop"}


def test_reasoning_is_a_thinking_block_before_the_text_block(wire: Any, body: Any) -> None:
    wire.ask("anthropic", body("anthropic", '[[sim {"reasoning": "hm", "text": "x"}]]'))
    wire.read_head()
    told = [event for _, event in map(read_event, wire.read_chunks()) if "index" in event]
    assert [(event["type"], event["index"]) for event in told] == [
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
    ]
    assert [event["delta"]["type"] for event in told if "delta" in event] == [
        "thinking_delta",
        "signature_delta",
        "text_delta",
    ]


def test_an_in_band_error_is_an_error_event_and_the_end(wire: Any, body: Any) -> None:
    wire.ask("anthropic", body("anthropic", '[[sim {"deltas": 3, "error_after": 1}]]'))
    wire.read_head()
    name, event = read_event(wire.read_chunks()[-1])
    assert name == "error"
    assert event["error"] == {"details": None, "type": "overloaded_error", "message": "Overloaded"}


def test_an_error_body_names_type_message_and_request(wire: Any, body: Any) -> None:
    wire.ask("anthropic", body("anthropic", '[[sim {"status": 529}]]'))
    status, headers, error = wire.answer()
    assert (status, headers["x-should-retry"]) == (529, "true")
    assert error["type"] == "error"
    assert error["error"] == {"details": None, "type": "overloaded_error", "message": "Overloaded"}
    assert error["request_id"] == headers["request-id"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"model": None}, "model: Field required"),
        ({"messages": None}, "messages: Field required"),
        ({"model": ""}, "model: String should have at least 1 character"),
        ({"max_tokens": 0}, "max_tokens: 0 must be greater"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": "hi"}, "messages: Input should be a valid list"),
        ({"messages": [{"role": "system", "content": "x"}]}, 'Unexpected role "system"'),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "must be non-empty"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 'first message must use the "user" role'),
        ({"stream_options": {}}, "stream_options: Extra inputs are not permitted"),
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"top_p": 1.0}, "top_p: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_request_is_refused_in_the_providers_words(
    wire: Any, body: Any, sim: Any, change: dict[str, Any], told: str
) -> None:
    wire.ask("anthropic", {**body("anthropic"), **change})
    status, _, error = wire.answer()
    assert (status, error["error"]["type"]) == (400, "invalid_request_error")
    assert told in error["error"]["message"]
    assert (sim.requests()[-1].outcome, sim.requests()[-1].status) == ("refused", 400)


def test_the_older_api_version_takes_sampling_parameters_within_their_range(connect: Any, body: Any) -> None:
    for temperature, expected in ((0.7, 200), (1.5, 400)):
        with connect() as wire:
            asked = body("anthropic", stream=False, temperature=temperature, top_p=0.9)
            wire.ask("anthropic", asked, anthropic_version="2023-06-01")
            assert wire.answer()[0] == expected


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        ({}, 401, "x-api-key header is required"),
        ({"x_api_key": "k"}, 400, "anthropic-version: header is required"),
        ({"x_api_key": "k", "anthropic_version": "2020-01-01"}, 400, "is not a valid version"),
        ({"x_api_key": "my-invalid-key", "anthropic_version": "2023-06-01"}, 401, "invalid x-api-key"),
        ({"x_api_key": "my-spent-key", "anthropic_version": "2023-06-01"}, 429, "usage limits"),
        ({"authorization": "Basic k", "anthropic_version": "2023-06-01"}, 401, "x-api-key header is required"),
    ],
)
def test_access_needs_a_key_and_a_version(
    wire: Any, body: Any, headers: dict[str, str], status: int, told: str
) -> None:
    wire.send("POST", PREFIX, json.dumps(body("anthropic")).encode(), **headers)
    got, _, error = wire.answer()
    assert got == status
    assert told in error["error"]["message"]


def test_a_key_may_come_as_x_api_key_or_as_bearer_and_the_first_wins(connect: Any, body: Any, sim: Any) -> None:
    for headers in ({"x_api_key": "one"}, {"authorization": "Bearer one"}, {"x_api_key": "one", "authorization": "x"}):
        with connect() as wire:
            asked = json.dumps(body("anthropic", stream=False)).encode()
            wire.send("POST", PREFIX, asked, anthropic_version="2026-10-21", **headers)
            assert wire.answer()[0] == 200
        assert sim.requests()[-1].key_fingerprint == fingerprint("one")


def test_what_is_not_json_is_refused(wire: Any) -> None:
    wire.ask("anthropic", b"{nope")
    assert wire.answer()[2]["error"]["message"] == "The request body is not valid JSON"


def test_an_unknown_path_is_not_found_in_the_providers_form(wire: Any) -> None:
    for method, path in (("POST", "/anthropic/v1/complete"), ("GET", PREFIX), ("GET", "/anthropic")):
        wire.send(method, path, x_api_key="k", anthropic_version="2023-06-01")
        status, _, error = wire.answer()
        assert (status, error["type"], error["error"]["type"]) == (404, "error", "not_found_error")


def test_a_query_does_not_change_the_path(wire: Any, body: Any) -> None:
    asked = json.dumps(body("anthropic", stream=False)).encode()
    wire.send("POST", PREFIX + "?beta=true", asked, x_api_key="k", anthropic_version="2023-06-01")
    assert wire.answer()[0] == 200
