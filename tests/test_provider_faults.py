"""Sixteen ways in which a provider fails, each before the eyes of a live reader, over the whole system.

Whatever fails, the reader has the right text once, an end that is true, and the name of the model that finished it; no
target is asked more often than it should be; what a chat keeps is what was read. Each fault meets both wire formats,
and both kinds of reader (`provider_faults`). What the worker alone makes of faults: llm_worker's `test_failover`.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import accumulate
from typing import Any, NamedTuple

import httpx2
import pytest
from launcher.stack import Stack
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2

from .conftest import GENEROUS
from .provider_faults import FINE, MODELS, TEXT, Read, Readers, Reading, asked, first_words, set_well

SHORT = {
    "SWITCHBOARD__WORKER__TTFT_TIMEOUT_S": "0.5",
    "SWITCHBOARD__WORKER__IDLE_TIMEOUT_S": "0.5",
    "SWITCHBOARD__RETRIES__BACKOFF_BASE_S": "0.02",
}
NO_MEMORY = {
    "SWITCHBOARD__BREAKER__FAILURE_THRESHOLD": "1000000",
    "SWITCHBOARD__BREAKER__MAX_COOLDOWN_S": "0.001",
}
"""What one test does to a target is forgotten in the next."""
OUTAGE = {
    "SWITCHBOARD__BREAKER__RESET_TIMEOUT_S": "1",
    "SWITCHBOARD__MODELS__CLAUDE-SONNET-4-5__PREFILL": "true",
    "SWITCHBOARD__MODELS__GROK-4__PREFILL": "true",
}
FOR_EVER_MS = 10_000_000


class Wire(NamedTuple):
    """Who fails, and who answers instead, when `model` is asked for."""

    model: str
    first: str
    second: str


wires = pytest.mark.parametrize(
    "wire", [Wire("claude", "anthropic", "grok"), Wire("gpt", "openai", "anthropic")], ids=["anthropic", "openai"]
)
readers = pytest.mark.parametrize("read", [Readers.over_completions, Readers.over_arketic], ids=["sse", "websocket"])


@pytest.fixture(scope="module")
async def opened() -> AsyncIterator[Readers]:
    async with Stack(environment=GENEROUS | SHORT | NO_MEMORY) as stack, open_client(stack) as client:
        yield Readers(stack, client)


@pytest.fixture
def live(opened: Readers) -> Readers:
    """Of a stack whose breakers never open. All providers are well, and nothing was asked."""
    set_well(opened.simulator)
    return opened


@pytest.fixture(scope="module")
async def opened_with_breakers() -> AsyncIterator[Readers]:
    async with Stack(environment=GENEROUS | SHORT | OUTAGE) as stack, open_client(stack) as client:
        yield Readers(stack, client)


@pytest.fixture
def guarded(opened_with_breakers: Readers) -> Readers:
    """Of a stack whose breakers open by five failures, for a second, and whose models go on with their own text."""
    set_well(opened_with_breakers.simulator)
    return opened_with_breakers


def open_client(stack: Stack) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=stack.gateway_urls[0], timeout=20)


def assert_whole(reading: Reading, provider: str, text: str = TEXT) -> None:
    """The answer ended well, with this text, and names this provider's model."""
    assert reading.error == ""
    assert reading.text == text
    assert reading.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert reading.restarts == 0
    assert min(reading.usage) > 0
    assert reading.model == MODELS[provider]


def fail_once(sim: Simulator, provider: str, **fault: Any) -> None:
    sim.set_plans(provider, FINE | fault, then=FINE)


def fail_always(sim: Simulator, provider: str, **fault: Any) -> None:
    sim.set_plans(provider, then=FINE | fault)


@wires
@readers
async def test_a_rate_limit_for_two_seconds_is_waited_out(live: Readers, read: Read, wire: Wire) -> None:
    fail_once(live.simulator, wire.first, status=429, retry_after=2)
    assert_whole(await read(live, wire.model), wire.first)
    limited, again = live.simulator.requests()
    assert (limited.provider, again.provider) == (wire.first, wire.first)
    assert again.arrived_ns - limited.arrived_ns >= 2e9


@pytest.mark.parametrize("retry_after", [None, 30], ids="retry_after={}".format)
@wires
@readers
async def test_a_rate_limit_for_ever_sends_the_call_to_the_next_target_at_once(
    live: Readers, read: Read, wire: Wire, retry_after: int | None
) -> None:
    fail_always(live.simulator, wire.first, status=429, retry_after=retry_after)
    assert_whole(await read(live, wire.model), wire.second)
    assert asked(live.simulator) == [wire.first, wire.second]


@wires
@readers
async def test_a_single_500_is_retried_on_the_same_target(live: Readers, read: Read, wire: Wire) -> None:
    fail_once(live.simulator, wire.first, status=500)
    assert_whole(await read(live, wire.model), wire.first)
    assert asked(live.simulator) == [wire.first, wire.first]


@wires
@readers
async def test_a_503_for_ever_is_retried_once_and_then_another_answers(live: Readers, read: Read, wire: Wire) -> None:
    fail_always(live.simulator, wire.first, status=503)
    assert_whole(await read(live, wire.model), wire.second)
    assert asked(live.simulator) == [wire.first, wire.first, wire.second]


@wires
@readers
async def test_a_reset_before_the_headers_is_retried_once_and_then_another_answers(
    live: Readers, read: Read, wire: Wire
) -> None:
    fail_always(live.simulator, wire.first, reset_before_headers=True)
    assert_whole(await read(live, wire.model), wire.second)
    assert asked(live.simulator) == [wire.first, wire.first, wire.second]


@pytest.mark.parametrize(
    "fault", [{"headers_ms": FOR_EVER_MS}, {"first_token_ms": 20_000}], ids=lambda fault: next(iter(fault))
)
@wires
@readers
async def test_who_sends_no_headers_or_no_first_token_is_left_for_another(
    live: Readers, read: Read, wire: Wire, fault: dict[str, int]
) -> None:
    fail_always(live.simulator, wire.first, **fault)
    assert_whole(await read(live, wire.model), wire.second)
    assert asked(live.simulator) == [wire.first, wire.second]
    # Nobody pays for what nobody reads.
    await live.simulator.await_request(wire.first, outcome="client_closed")


@pytest.mark.parametrize("end", ["cut_after", "reset_after"])
@wires
@readers
async def test_an_answer_cut_after_40_of_60_words_is_gone_on_with(
    live: Readers, read: Read, wire: Wire, end: str
) -> None:
    fail_always(live.simulator, wire.first, **{end: 40})
    assert_whole(await read(live, wire.model), wire.second)
    assert asked(live.simulator) == [wire.first, wire.second]
    _, gone_on = live.simulator.requests()
    assert {"role": "assistant", "content": first_words(40)} in gone_on.messages


@pytest.mark.parametrize("pings", [False, True], ids=["silent", "with keep-alives"])
@wires
@readers
async def test_an_answer_that_falls_silent_after_20_words_is_gone_on_with(
    live: Readers, read: Read, wire: Wire, pings: bool
) -> None:
    fail_always(live.simulator, wire.first, stall_after=20, stall_ms=30_000, pings_while_stalled=pings)
    reading = await read(live, wire.model)
    assert_whole(reading, wire.second)
    assert first_words(20) in accumulate(reading.pieces), "the reader had what there was when the silence began"
    assert asked(live.simulator) == [wire.first, wire.second]
    await live.simulator.await_request(wire.first, outcome="client_closed")


@wires
@readers
async def test_a_malformed_tenth_event_costs_its_own_text_and_nothing_else(
    live: Readers, read: Read, wire: Wire
) -> None:
    fail_always(live.simulator, wire.first, malformed_at=10)
    left = TEXT.replace(f"{TEXT.split(' ')[9]} ", "")
    assert_whole(await read(live, wire.model), wire.first, text=left)
    assert asked(live.simulator) == [wire.first]


@wires
@readers
async def test_an_answer_whose_last_event_is_missing_ends_with_its_finish_reason(
    live: Readers, read: Read, wire: Wire
) -> None:
    fail_always(live.simulator, wire.first, no_done=True)
    assert_whole(await read(live, wire.model), wire.first)
    assert asked(live.simulator) == [wire.first]


@wires
@readers
async def test_what_is_too_long_for_a_model_goes_to_the_routes_larger_one(
    live: Readers, read: Read, wire: Wire
) -> None:
    fail_always(live.simulator, wire.first, code="context_length_exceeded")
    assert_whole(await read(live, wire.model), wire.second)
    assert asked(live.simulator) == [wire.first, wire.second]


@pytest.mark.parametrize(("model", "provider"), [("gpt-4.1", "openai"), ("grok", "grok")])
@readers
async def test_what_is_too_long_for_the_routes_largest_model_is_said_to_be_so(
    live: Readers, read: Read, model: str, provider: str
) -> None:
    fail_always(live.simulator, provider, code="context_length_exceeded")
    assert await read(live, model) == Reading("", error="CONTEXT_TOO_LONG")
    assert asked(live.simulator) == [provider]


@wires
@readers
async def test_a_refusal_for_its_content_is_told_and_not_routed_around(live: Readers, read: Read, wire: Wire) -> None:
    fail_always(live.simulator, wire.first, code="content_policy")
    assert await read(live, wire.model) == Reading("", error="PROVIDER_REFUSED")
    assert asked(live.simulator) == [wire.first]


@wires
@readers
async def test_an_answer_that_a_content_filter_ends_keeps_its_text_and_says_so(
    live: Readers, read: Read, wire: Wire
) -> None:
    fail_always(live.simulator, wire.first, text=first_words(12), finish_reason="content_filter")
    reading = await read(live, wire.model)
    assert (reading.text, reading.error) == (first_words(12), "")
    assert reading.finish_reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert reading.model == MODELS[wire.first]
    assert asked(live.simulator) == [wire.first]


@wires
@readers
async def test_who_goes_on_is_not_asked_in_a_way_that_models_refuse(live: Readers, read: Read, wire: Wire) -> None:
    fail_always(live.simulator, wire.first, cut_after=40)
    fail_always(live.simulator, wire.second, refuse_prefill=True)
    assert_whole(await read(live, wire.model), wire.second)
    assert asked(live.simulator) == [wire.first, wire.second]


@wires
@readers
async def test_a_target_that_should_take_a_prefill_and_refuses_it_goes_on_all_the_same(
    guarded: Readers, read: Read, wire: Wire
) -> None:
    fail_always(guarded.simulator, wire.first, cut_after=40)
    fail_always(guarded.simulator, wire.second, refuse_prefill=True)
    assert_whole(await read(guarded, wire.model), wire.second)
    assert asked(guarded.simulator) == [wire.first, wire.second, wire.second]


@wires
async def test_an_outage_costs_five_attempts_and_a_probe_a_while_and_ends_with_the_providers_return(
    guarded: Readers, wire: Wire
) -> None:
    sim = guarded.simulator
    # Whatever was counted before is forgotten with the first good answer.
    assert_whole(await guarded.over_completions(wire.model), wire.first)
    sim.clear_requests()
    fail_always(sim, wire.first, **({"status": 503} if wire.first == "openai" else {"reset_before_headers": True}))
    for _ in range(3):
        assert_whole(await guarded.over_completions(wire.model), wire.second)
    # Twice by each call, until the fifth failure in a row opened the breaker.
    assert len(sim.requests(wire.first)) == 5
    async with asyncio.timeout(20):
        while len(sim.requests(wire.first)) == 5:
            assert_whole(await guarded.over_completions(wire.model), wire.second)
    # The probe has failed; well again, the provider is left alone until the next one.
    fail_always(sim, wire.first)
    async with asyncio.timeout(20):
        while (reading := await guarded.over_completions(wire.model)).model == MODELS[wire.second]:
            assert_whole(reading, wire.second)
    assert_whole(reading, wire.first)
    assert len(sim.requests(wire.first)) == 7
    sim.clear_requests()
    assert_whole(await guarded.over_arketic(wire.model), wire.first)


@wires
@readers
async def test_a_call_that_failed_over_before_its_first_word_names_and_counts_who_answered(
    live: Readers, read: Read, wire: Wire
) -> None:
    fail_always(live.simulator, wire.first, status=503)
    fail_always(live.simulator, wire.second, usage={"input_tokens": 1234, "output_tokens": 77})
    reading = await read(live, wire.model)
    assert_whole(reading, wire.second)
    assert reading.usage == (1234, 77)


@wires
@readers
async def test_a_call_that_was_gone_on_with_names_who_finished_it_and_counts_both(
    live: Readers, read: Read, wire: Wire
) -> None:
    fail_always(live.simulator, wire.first, cut_after=40)
    fail_always(live.simulator, wire.second, usage={"input_tokens": 1234, "output_tokens": 77})
    reading = await read(live, wire.model)
    assert_whole(reading, wire.second)
    given, made = reading.usage
    # Of what broke off, whose provider had not counted yet, there is an estimate.
    assert given > 1234
    assert 77 + 40 < made < 77 + len(first_words(40))


@pytest.mark.parametrize("fault", [{"cut_after": 40}, {"stall_after": 40}], ids=lambda fault: next(iter(fault)))
@wires
@readers
async def test_a_truncated_answer_is_never_called_a_success(
    live: Readers, read: Read, wire: Wire, fault: dict[str, Any]
) -> None:
    for provider in MODELS:
        fail_always(live.simulator, provider, status=503)
    live.simulator.set_plans(wire.first, FINE | fault, then={"status": 503})
    reading = await read(live, wire.model)
    assert (reading.text, reading.error) == (first_words(40), "PROVIDER_UNAVAILABLE")


@wires
async def test_who_begins_anew_is_shown_anew_where_the_reader_can_take_it_back(live: Readers, wire: Wire) -> None:
    anew = "Of hens I know little."
    fail_always(live.simulator, wire.first, cut_after=40)
    live.simulator.set_plans(wire.second, {"status": 400}, then={"text": anew})
    reading = await live.over_arketic(wire.model)
    assert (reading.text, reading.error, reading.restarts) == (anew, "", 1)
    assert asked(live.simulator) == [wire.first, wire.second, wire.second]
