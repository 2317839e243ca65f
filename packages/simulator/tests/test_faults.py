"""Every fault of a plan on every wire: as the exception an official SDK makes of it, and as bytes on a socket."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from simulator.process import Simulator

FOREVER = 1e18


@pytest.mark.parametrize(
    ("status", "error", "name"),
    [
        (400, "BadRequestError", "invalid_request_error"),
        (401, "AuthenticationError", "authentication_error"),
        (403, "PermissionDeniedError", "permission_error"),
        (404, "NotFoundError", "not_found_error"),
        (429, "RateLimitError", "rate_limit_error"),
        (500, "InternalServerError", "api_error"),
        (502, "InternalServerError", "api_error"),
        (503, "InternalServerError", "api_error"),
        (504, "InternalServerError", "timeout_error"),
        (529, "InternalServerError", "overloaded_error"),
    ],
)
async def test_a_status_is_the_providers_error(
    speaker: Any, sim: Simulator, status: int, error: str, name: str
) -> None:
    sim.set_plans(speaker.provider, {"status": status}, {"status": status})
    for call in (speaker.listen, speaker.ask):
        with pytest.raises(getattr(speaker.errors, error)) as caught:
            await call()
        assert caught.value.status_code == status
        assert caught.value.request_id.startswith("req_")
        if speaker.provider == "anthropic":
            assert caught.value.type == name
            assert caught.value.body["type"] == "error"
    seen = sim.requests(speaker.provider)[-1]
    assert (seen.status, seen.outcome, seen.deltas_sent) == (status, "faulted", 0)


@pytest.mark.parametrize(
    ("code", "status", "openai_code"),
    [
        ("context_length_exceeded", 400, "context_length_exceeded"),
        ("content_policy", 400, "invalid_prompt"),
        ("invalid_api_key", 401, "invalid_api_key"),
        ("insufficient_quota", 429, "insufficient_quota"),
        ("rate_limit_exceeded", 429, "rate_limit_exceeded"),
        ("model_not_found", 404, "model_not_found"),
        ("something_new", 400, "something_new"),
    ],
)
async def test_a_code_implies_status_and_words(speaker: Any, code: str, status: int, openai_code: str) -> None:
    with pytest.raises(speaker.errors.APIStatusError) as caught:
        await speaker.listen(f'[[sim {{"code": "{code}"}}]]')
    assert caught.value.status_code == status
    if speaker.provider != "anthropic":
        assert caught.value.code == openai_code


async def test_error_type_code_and_message_can_be_overridden(speaker: Any) -> None:
    plan = '[[sim {"status": 503, "error_type": "odd_error", "code": "odd", "message": "So odd"}]]'
    with pytest.raises(speaker.errors.InternalServerError, match="So odd") as caught:
        await speaker.listen(plan)
    assert caught.value.type == "odd_error"
    assert (caught.value.error_code if speaker.provider == "anthropic" else caught.value.code) == "odd"


async def test_an_anthropic_spend_cap_is_a_429_with_its_code_and_nothing_to_wait_for(claude: Any) -> None:
    with pytest.raises(Exception, match="usage limits") as caught:
        await claude.messages.create(
            model="claude-opus-5-5",
            max_tokens=1,
            messages=[{"role": "user", "content": '[[sim {"code": "insufficient_quota"}]]'}],
        )
    response = getattr(caught.value, "response")  # noqa: B009  (the class depends on the error code)
    assert type(caught.value).__name__ == "EnforcedSpendLimitReachedError"
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers


async def test_retry_after_is_a_header_in_seconds(speaker: Any) -> None:
    for given, told in (("7", "7"), ("0.25", "0.25")):
        with pytest.raises(speaker.errors.RateLimitError) as caught:
            await speaker.listen(f'[[sim {{"status": 429, "retry_after": {given}}}]]')
        assert caught.value.response.headers["retry-after"] == told


async def test_a_reset_before_headers_is_a_connection_error(speaker: Any, sim: Simulator) -> None:
    for call in (speaker.listen, speaker.ask):
        with pytest.raises(speaker.errors.APIConnectionError):
            await call('[[sim {"reset_before_headers": true}]]')
    seen = sim.requests(speaker.provider)[-1]
    assert (seen.status, seen.outcome) == (None, "faulted")


@pytest.mark.parametrize("fault", ["cut_after", "reset_after", "error_after"])
@pytest.mark.parametrize("after", [0, 3, 5])
async def test_a_broken_off_stream_has_exactly_the_deltas_before_and_fails(
    speaker: Any, sim: Simulator, fault: str, after: int, heard: Any
) -> None:
    with pytest.raises(Exception) as caught:
        await speaker.listen(f'[[sim {{"deltas": 5, "{fault}": {after}}}]]', heard)
    assert not isinstance(caught.value, AssertionError)
    assert [delta.split()[0] for delta in heard.deltas] == [f"d{n}" for n in range(after)]
    assert heard.finish is None
    seen = sim.requests(speaker.provider)[-1]
    assert (seen.outcome, seen.deltas_sent) == ("faulted", after)


@pytest.mark.parametrize("fault", ["cut_after", "reset_after"])
async def test_a_broken_off_answer_that_is_not_streamed_is_a_connection_error(speaker: Any, fault: str) -> None:
    with pytest.raises(speaker.errors.APIConnectionError):
        await speaker.ask(f'[[sim {{"deltas": 5, "{fault}": 2}}]]')


async def test_an_in_band_error_is_shaped_like_the_providers(speaker: Any) -> None:
    with pytest.raises(speaker.errors.APIError) as caught:
        await speaker.listen('[[sim {"deltas": 5, "error_after": 2, "error_type": "odd_error", "message": "So odd"}]]')
    assert "So odd" in str(caught.value)
    assert caught.value.type == "odd_error"


async def test_an_in_band_error_of_an_answer_that_is_not_streamed_is_its_status(speaker: Any) -> None:
    with pytest.raises(speaker.errors.InternalServerError):
        await speaker.ask('[[sim {"deltas": 5, "error_after": 2}]]')


async def test_a_fault_later_than_the_answer_never_comes(speaker: Any) -> None:
    heard = await speaker.listen('[[sim {"deltas": 3, "cut_after": 4, "error_after": 9, "stall_after": 7}]]')
    assert (len(heard.deltas), heard.finish) == (3, speaker.stop)
    assert (await speaker.ask('[[sim {"deltas": 3, "cut_after": 4, "error_after": 9, "stall_after": 7}]]')).ended


async def test_the_earliest_of_two_faults_comes(speaker: Any, sim: Simulator, heard: Any) -> None:
    with pytest.raises(speaker.errors.APIError):
        await speaker.listen('[[sim {"deltas": 9, "cut_after": 6, "error_after": 2}]]', heard)
    assert len(heard.deltas) == 2


async def test_a_stall_waits_and_goes_on(speaker: Any) -> None:
    begun = time.monotonic_ns()
    heard = await speaker.listen('[[sim {"deltas": 4, "stall_after": 2, "stall_ms": 60}]]')
    assert time.monotonic_ns() - begun >= 60_000_000
    assert (len(heard.deltas), heard.finish) == (4, speaker.stop)


async def test_a_stream_without_finish_ends_cleanly_and_says_nothing(speaker: Any, sim: Simulator) -> None:
    heard = await speaker.listen('[[sim {"deltas": 4, "no_finish": true}]]')
    assert (len(heard.deltas), heard.finish) == (4, None)
    assert sim.requests(speaker.provider)[-1].outcome == "faulted"
    assert (await speaker.ask('[[sim {"deltas": 4, "no_finish": true}]]')).finish is None


def read_until(wire: Any, mark: bytes) -> list[bytes]:
    chunks = []
    while not chunks or mark not in chunks[-1]:
        chunks.append(wire.read_chunk())
    return chunks


def test_a_malformed_event_is_broken_json_and_the_stream_goes_on(wire: Any, body: Any, provider: str) -> None:
    wire.ask(provider, body(provider, '[[sim {"deltas": 5, "malformed_at": 2}]]'))
    wire.read_head()
    events = wire.read_chunks()
    broken = [event for event in events if not parses(event)]
    assert len(broken) == 1
    told = b"".join(events)
    assert [f"d{n} ".encode() in told for n in range(5)] == [True, False, True, True, True]
    assert events[-1] == (b"data: [DONE]\n\n" if provider != "anthropic" else events[-1])


def parses(event: bytes) -> bool:
    data = event.split(b"data: ", 1)[1].strip()
    if data == b"[DONE]":
        return True
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def test_without_done_the_connection_stays_open_until_the_client_closes(
    sim: Simulator, connect: Any, body: Any, provider: str
) -> None:
    with connect() as wire:
        wire.ask(provider, body(provider, '[[sim {"text": "a b", "no_done": true}]]'))
        wire.read_head()
        read_until(wire, b'"stop_reason":"end_turn"' if provider == "anthropic" else b'"finish_reason":"stop"')
        wire.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            wire.read_chunk()
        assert sim.requests(provider)[-1].outcome == "open"
    seen = sim.wait_for_request(provider, outcome="client_closed")
    assert seen.deltas_sent == 2


def test_pings_go_on_while_a_stream_is_stalled(wire: Any, body: Any, provider: str) -> None:
    plan = '[[sim {"text": "a b", "stall_after": 1, "pings_while_stalled": true}]]'
    wire.ask(provider, body(provider, plan))
    wire.read_head()
    read_until(wire, b'"a "')
    ping = b'event: ping\ndata: {"type": "ping"}\n\n' if provider == "anthropic" else b": keep-alive\n\n"
    assert [wire.read_chunk() for _ in range(3)] == [ping] * 3


def test_without_pings_a_stalled_stream_is_silent(wire: Any, body: Any, provider: str) -> None:
    wire.ask(provider, body(provider, '[[sim {"text": "a b", "stall_after": 1}]]'))
    wire.read_head()
    read_until(wire, b'"a "')
    wire.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        wire.read_chunk()


def test_headers_that_never_come_never_come(wire: Any, body: Any, provider: str) -> None:
    wire.ask(provider, body(provider, f'[[sim {{"headers_ms": {FOREVER}}}]]'))
    wire.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        wire.read_head()


def test_a_cut_is_a_fin_and_a_reset_is_a_rst(connect: Any, body: Any, provider: str) -> None:
    for fault in ("cut_after", "reset_after"):
        with connect() as wire:
            wire.ask(provider, body(provider, f'[[sim {{"deltas": 5, "{fault}": 1}}]]'))
            wire.read_head()
            read_until(wire, b"d0 ")
            if fault == "cut_after":
                assert wire.file.read() == b""
            else:
                with pytest.raises(ConnectionResetError):
                    wire.file.read()


def test_a_reset_after_nothing_comes_after_the_headers(wire: Any, body: Any, provider: str) -> None:
    wire.ask(provider, body(provider, '[[sim {"deltas": 5, "reset_after": 0}]]'))
    status, _ = wire.read_head()
    assert status == 200
    with pytest.raises(ConnectionResetError):
        wire.file.read()


def test_a_prefill_is_refused_as_the_provider_or_the_plan_says(
    sim: Simulator, connect: Any, body: Any, provider: str
) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "He"}]

    def status(**more: Any) -> int:
        with connect() as wire:
            wire.ask(provider, body(provider, messages=messages, stream=False, **more))
            return int(wire.answer()[0])

    assert status() == (400 if provider == "anthropic" else 200)
    sim.set_plans(provider, {"refuse_prefill": True}, {"refuse_prefill": False})
    assert status() == 400
    assert status() == 200
    if provider == "anthropic":
        assert status(model="claude-sonnet-4-5") == 200
        assert status(model="claude-opus-4-5-20251101") == 200
        assert status(model="claude-opus-4-6") == 400
        assert status(model="claude-haiku-5-5") == 400
