"""HTTP as bytes: what every client relies on, and what is refused."""

from __future__ import annotations

import json
import time
from typing import Any

from simulator.http_server import BODY_LIMIT
from simulator.process import Simulator

MIB = 1024 * 1024


def test_a_connection_serves_many_requests(wire: Any, body: Any, provider: str) -> None:
    for _ in range(3):
        wire.ask(provider, body(provider, '[[sim {"text": "a b"}]]'))
        assert wire.read_head()[0] == 200
        assert b'"a "' in b"".join(wire.read_chunks())
    wire.send("GET", "/livez")
    assert wire.answer()[2] == {"status": "ok"}


def test_a_chunked_request_body_is_read(wire: Any, body: Any) -> None:
    whole = json.dumps(body("openai", stream=False)).encode()
    half = len(whole) // 2
    wire.ask("openai", b"", transfer_encoding="chunked")
    for part in (whole[:half], whole[half:], b""):
        wire.socket.sendall(b"%x\r\n%b\r\n" % (len(part), part))
    assert wire.answer()[0] == 200


def test_a_request_that_arrives_byte_by_byte_is_read(wire: Any) -> None:
    for byte in b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n":
        wire.socket.sendall(bytes([byte]))
    assert wire.answer()[0] == 200


def test_connection_close_is_honoured_by_streams_and_errors(connect: Any, body: Any) -> None:
    for plan in ('[[sim {"text": "x"}]]', '[[sim {"status": 500}]]'):
        with connect() as wire:
            wire.ask("openai", body("openai", plan), connection="close")
            _, headers = wire.read_head()
            assert headers["connection"] == "close"
            assert wire.file.read() != b""


def test_a_body_over_the_limit_is_413_in_the_providers_form(connect: Any, provider: str) -> None:
    with connect() as wire:
        wire.ask(provider, b"", content_length=str(BODY_LIMIT + 1))
        status, headers, error = wire.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert error["error"]["type"] == ("request_too_large" if provider == "anthropic" else "invalid_request_error")


def test_a_chunked_body_over_the_limit_is_413_and_the_client_can_read_it(wire: Any) -> None:
    wire.ask("openai", b"", transfer_encoding="chunked")
    piece = b"100000\r\n" + b"x" * MIB + b"\r\n"
    for _ in range(BODY_LIMIT // MIB + 2):
        wire.socket.sendall(piece)
    assert wire.answer()[0] == 413


def test_a_large_body_within_the_limit_is_taken_and_its_messages_are_not_kept(
    wire: Any, body: Any, sim: Simulator
) -> None:
    wire.ask("openai", body("openai", "x" * (4 * MIB), stream=False))
    assert wire.answer()[0] == 200
    seen = sim.requests()[-1]
    assert seen.messages is None
    assert seen.parameters["omitted_bytes"] > 4 * MIB


def test_what_is_not_http_is_400_and_closed(wire: Any) -> None:
    wire.socket.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert wire.read_head()[0] == 400
    assert wire.file.read() == b""


def test_a_second_request_before_the_answer_closes_the_connection(wire: Any, body: Any, sim: Simulator) -> None:
    wire.ask("openai", body("openai", '[[sim {"deltas": 1000, "interval_ms": 10}]]'))
    sim.wait_for_request("openai", least_deltas=2)
    wire.send("GET", "/livez")
    wire.file.read()
    sim.wait_for_request("openai", outcome="client_closed")


def test_unknown_paths_are_404(wire: Any) -> None:
    for path in ("/", "/sim/nothing", "/sim/plans/a/b", "/UPPER/v1/models"):
        wire.send("GET", path)
        assert wire.answer()[0] == 404


def test_a_client_that_does_not_read_stops_its_stream_and_gets_everything_when_it_does(
    sim: Simulator, connect: Any, body: Any
) -> None:
    count = 40_000
    with connect() as wire:
        wire.ask("grok", body("grok", f'[[sim {{"deltas": {count}, "delta_chars": 400, "interval_ms": 0}}]]'))
        stopped = wait_until_it_stops(sim)
        assert 0 < stopped < count
        with connect() as other:
            other.ask("openai", body("openai", '[[sim {"text": "still here"}]]', stream=False))
            assert other.answer()[0] == 200
        wire.read_head()
        told = wire.read_chunks()
    assert [f'"d{n} '.encode() in chunk for n, chunk in enumerate(told[1:-2])] == [True] * count
    assert sim.wait_for_request("grok", outcome="completed").deltas_sent == count


def wait_until_it_stops(sim: Simulator) -> int:
    """The count of deltas once it has not changed for a while."""
    deadline = time.monotonic() + 10
    last, unchanged_since = -1, time.monotonic()
    while time.monotonic() < deadline:
        seen = sim.requests("grok")
        count = seen[-1].deltas_sent if seen else 0
        if count != last:
            last, unchanged_since = count, time.monotonic()
        elif count and time.monotonic() - unchanged_since > 0.3:
            return count
        time.sleep(0.01)
    raise TimeoutError(f"still sending: {last}")


def test_a_late_stream_catches_up_with_each_delta_its_own_event(sim: Simulator, wire: Any, body: Any) -> None:
    # Without interval everything is always late: one write carries many deltas, and none of them is merged.
    wire.ask("grok", body("grok", '[[sim {"deltas": 500, "interval_ms": 0}]]'))
    wire.read_head()
    told = wire.read_chunks()
    assert [chunk.count(b"data: ") for chunk in told] == [1] * len(told)
    assert len(told) == 500 + 3


def test_streams_keep_their_own_time(sim: Simulator, connect: Any, body: Any) -> None:
    """Two streams that began apart stay apart: their deltas are not rounded to a common beat."""
    stamps: list[list[int]] = []
    plan = '[[sim {"deltas": 6, "interval_ms": 20, "timestamps": true, "delta_chars": 20}]]'
    with connect() as one, connect() as two:
        for wire in (one, two):
            wire.ask("grok", body("grok", plan))
            sim.wait_for_request("grok", least_deltas=1, count=1 if wire is one else 2)
        for wire in (one, two):
            wire.read_head()
            told = [json.loads(chunk[6:]) for chunk in wire.read_chunks()[1:-2]]
            stamps.append([int(each["choices"][0]["delta"]["content"][:16]) for each in told])
    arrived = [each.arrived_ns for each in sim.requests("grok")]
    for begun, sent in zip(arrived, stamps, strict=True):
        # Never early; lateness has no bound on a loaded machine, and does not add up.
        assert all(at - begun >= n * 20_000_000 - 500_000 for n, at in enumerate(sent))
