"""DESIGN section 7's table, row by row, over real HTTP: what is repeated, who goes on, and what the caller reads."""

import asyncio
from typing import Any

import grpc
import pytest
from llm_worker.continuation import INSTRUCTION
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2

from .harness import Caller, Heard, Refused, open_worker

CLAUDE, GROK, GPT = ("anthropic", "claude-sonnet-4-5"), ("grok", "grok-4"), ("openai", "gpt-4o")
TEXT = "The quick brown fox jumps over the lazy dog; then it sleeps in the sun for a whole day, and dreams of hens."
FIRST_MODEL = dict([CLAUDE, GPT])
FINE = {"text": "fine"}
QUICK = {"SWITCHBOARD__WORKER__TTFT_TIMEOUT_S": "0.3", "SWITCHBOARD__WORKER__IDLE_TIMEOUT_S": "0.3"}
ALONE = {"OPENAI_API_KEY": "", "GROK_API_KEY": ""}
PASSING: tuple[dict[str, Any], ...] = (
    {"status": 500},
    {"status": 502},
    {"status": 503},
    {"status": 504},
    {"status": 529},
    {"reset_before_headers": True},
)
CUTS: tuple[dict[str, Any], ...] = (
    {"cut_after": 5},
    {"reset_after": 5},
    {"error_after": 5},
    {"stall_after": 5},
    {"stall_after": 5, "pings_while_stalled": True},
)

wires = pytest.mark.parametrize(
    ("model", "first", "second"),
    [("claude", "anthropic", "grok"), ("gpt", "openai", "anthropic")],
    ids=["anthropic", "openai"],
)
"""Both wire formats, each as the one that breaks and as the one that goes on."""


async def fail(caller: Caller, heard: Heard | None = None, **fields: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await caller.generate(heard=heard, **fields)
    return caught.value


def failures(answer: chat_pb2.Answer) -> list[bool]:
    return [attempt.HasField("failure") for attempt in answer.attempts]


@pytest.mark.parametrize("fault", PASSING, ids=str)
@wires
async def test_what_may_pass_is_asked_once_more_of_the_same_target(
    sim: Simulator, fault: dict[str, Any], model: str, first: str, second: str
) -> None:
    sim.set_plans(first, fault, then=FINE)
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model)
        assert (heard.text, heard.tried, failures(heard.answer)) == ("fine", [first, first], [True, False])
        status = await caller.ask("GetProviderStatus", llm_pb2.GetProviderStatusRequest())
        assert all(one.failures == 0 for one in status.targets)


@pytest.mark.parametrize("fault", PASSING, ids=str)
@wires
async def test_what_does_not_pass_is_asked_twice_counts_twice_and_the_next_target_answers(
    sim: Simulator, fault: dict[str, Any], model: str, first: str, second: str
) -> None:
    sim.set_plans(first, then=fault)
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model)
        assert (heard.text != "", heard.tried) == (True, [first, first, second])
        assert (await caller.status(first, FIRST_MODEL[first])).failures == 2
    assert len(sim.requests(first)) == 2


async def test_a_breaker_that_opens_in_between_ends_the_retries(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"status": 503})
    async with open_worker(sim, SWITCHBOARD__BREAKER__FAILURE_THRESHOLD="1") as caller:
        assert (await caller.generate()).tried == ["anthropic", "grok"]


async def test_attempts_are_bounded_and_every_target_has_its_own(sim: Simulator) -> None:
    for provider in ("anthropic", "grok", "openai"):
        sim.set_plans(provider, then={"status": 503})
    async with open_worker(sim, SWITCHBOARD__RETRIES__MAX_ATTEMPTS="4") as caller:
        refused = await fail(caller)
    assert (refused.status, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    assert [one.provider for one in sim.requests()] == ["anthropic", "anthropic", "grok", "openai"]


@wires
async def test_a_short_retry_after_is_waited_out_and_is_no_failure(
    sim: Simulator, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, {"status": 429, "retry_after": 0.2}, then=FINE)
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model)
    assert (heard.text, heard.tried) == ("fine", [first, first])
    asked, again = sim.requests(first)
    assert again.arrived_ns - asked.arrived_ns >= 0.2 * 1e9


@pytest.mark.parametrize(
    ("retry_after", "deadline_s", "asked"), [(0.1, 20, 2), (30, 20, 1), (None, 20, 1), (2.5, 2.5, 1)]
)
@wires
async def test_a_rate_limit_that_stays_or_is_long_leads_to_the_next_target(
    sim: Simulator, retry_after: float | None, deadline_s: float, asked: int, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, then={"status": 429, "retry_after": retry_after})
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model, timeout_s=deadline_s)
        assert heard.tried == [first] * asked + [second]
        assert (await caller.status(first, FIRST_MODEL[first])).failures == 0


@pytest.mark.parametrize("fault", [{"headers_ms": 60_000}, {"first_token_ms": 60_000}, {"cut_after": 0}], ids=str)
@wires
async def test_a_target_that_gives_no_first_token_is_not_asked_again(
    sim: Simulator, fault: dict[str, Any], model: str, first: str, second: str
) -> None:
    sim.set_plans(first, then=fault)
    async with open_worker(sim, **QUICK) as caller:
        assert (await caller.generate(model=model)).tried == [first, second]
        assert (await caller.status(first, FIRST_MODEL[first])).failures == 1


@pytest.mark.parametrize("fault", CUTS, ids=str)
@pytest.mark.parametrize("repeated", [0, 6, 10, 1000], ids="{} again".format)
@wires
async def test_a_cut_answer_is_gone_on_with_by_the_next_target(
    sim: Simulator, fault: dict[str, Any], repeated: int, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, {"text": TEXT, **fault})
    sim.set_plans(second, {"text": TEXT, "goes_on": repeated, "delta_chars": 7})
    async with open_worker(sim, **QUICK) as caller:
        heard = await caller.generate(model=model)
        failed, whole = heard.answer.attempts
        assert (await caller.status(first, FIRST_MODEL[first])).failures == 1
    assert heard.text == TEXT
    assert (heard.provider, heard.answer.provider, heard.tried) == (first, second, [first, second])
    assert heard.answer.state == chat_pb2.ANSWER_STATE_COMPLETED
    assert (failed.billed, failed.HasField("time_to_first_token"), failed.usage.estimated) == (True, True, True)
    assert not whole.usage.estimated
    usage = heard.answer.usage
    assert usage.output_tokens == failed.usage.output_tokens + whole.usage.output_tokens
    assert usage.estimated


@pytest.mark.parametrize("after", range(1, 22))
async def test_a_cut_behind_any_word_costs_none_and_doubles_none(sim: Simulator, after: int) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": after})
    sim.set_plans("grok", {"text": TEXT, "goes_on": after % 3 * 9})
    async with open_worker(sim) as caller:
        assert (await caller.generate()).text == TEXT


@wires
async def test_an_end_without_a_reason_is_a_cut(sim: Simulator, model: str, first: str, second: str) -> None:
    sim.set_plans(first, {"text": TEXT[:30], "no_finish": True})
    sim.set_plans(second, {"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model)
    assert (heard.text, heard.tried) == (TEXT, [first, second])


async def test_an_answer_that_only_lacked_its_end_is_whole_when_nothing_is_added(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "no_finish": True})
    sim.set_plans("grok", {"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        heard = await caller.generate()
    assert (heard.text, heard.answer.provider) == (TEXT, "grok")


async def test_who_goes_on_is_shown_what_was_said_and_told_to(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 3})
    sim.set_plans("grok", {"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        await caller.generate()
    *_, said, told = sim.requests("grok")[0].messages or []
    assert said == {"role": "assistant", "content": "The quick brown "}
    assert told == {"role": "user", "content": INSTRUCTION}


async def test_a_model_that_takes_its_own_beginning_is_given_it(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 3})
    sim.set_plans("grok", {"text": TEXT, "goes_on": 0, "refuse_prefill": False})
    async with open_worker(sim, **{"SWITCHBOARD__MODELS__GROK-4__PREFILL": "true"}) as caller:
        assert (await caller.generate()).text == TEXT
    *_, last = sim.requests("grok")[0].messages or []
    assert last == {"role": "assistant", "content": "The quick brown"}


async def test_a_model_that_refuses_its_own_beginning_is_told_to_go_on(sim: Simulator) -> None:
    sim.set_plans("grok", {"text": TEXT, "cut_after": 3})
    sim.set_plans("anthropic", {"refuse_prefill": True}, {"text": TEXT, "goes_on": 0})
    prefilled = {"SWITCHBOARD__MODELS__CLAUDE-SONNET-4-5__PREFILL": "true"}
    async with open_worker(sim, **prefilled) as caller:
        heard = await caller.generate(model="grok")
    assert (heard.text, heard.tried) == (TEXT, ["grok", "anthropic", "anthropic"])
    assert [(one.messages or [])[-1]["role"] for one in sim.requests("anthropic")] == ["assistant", "user"]


async def test_two_cuts_in_a_row_make_one_answer_of_three_parts(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 4})
    sim.set_plans("grok", {"text": TEXT, "goes_on": 10, "cut_after": 6})
    sim.set_plans("openai", {"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        heard = await caller.generate()
    assert (heard.text, heard.tried) == (TEXT, ["anthropic", "grok", "openai"])


async def test_what_was_held_back_at_a_second_cut_comes_once(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 8})
    # It breaks off while it still repeats.
    sim.set_plans("grok", {"text": TEXT, "goes_on": 30, "cut_after": 2})
    sim.set_plans("openai", {"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        assert (await caller.generate()).text == TEXT


async def test_where_there_is_no_other_target_the_same_one_goes_on(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 4}, {"text": TEXT, "goes_on": 0})
    async with open_worker(sim, **ALONE) as caller:
        heard = await caller.generate()
        assert (heard.text, heard.tried) == (TEXT, ["anthropic", "anthropic"])
        assert (await caller.status(*CLAUDE)).failures == 0


async def test_who_was_cut_goes_on_itself_when_the_others_can_not(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 4}, {"text": TEXT, "goes_on": 0})
    for provider in ("grok", "openai"):
        sim.set_plans(provider, then={"status": 401})
    async with open_worker(sim) as caller:
        heard = await caller.generate()
    assert (heard.text, heard.tried) == (TEXT, ["anthropic", "grok", "openai", "anthropic"])


@pytest.mark.parametrize("fault", CUTS, ids=str)
async def test_what_nobody_goes_on_with_keeps_its_text_and_is_never_called_whole(
    sim: Simulator, fault: dict[str, Any]
) -> None:
    sim.set_plans("anthropic", {"text": TEXT, **fault}, {"status": 503})
    heard = Heard()
    async with open_worker(sim, **QUICK, **ALONE) as caller:
        refused = await fail(caller, heard)
    assert (refused.status, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    assert heard.text == "The quick brown fox jumps "
    assert heard.finished is None


async def test_continuations_are_bounded(sim: Simulator) -> None:
    for provider in ("anthropic", "grok", "openai"):
        sim.set_plans(provider, then={"text": TEXT, "goes_on": 0, "cut_after": 2})
    heard = Heard()
    async with open_worker(sim, SWITCHBOARD__RETRIES__MAX_CONTINUATIONS="2") as caller:
        await fail(caller, heard)
    assert TEXT.startswith(heard.text)
    assert [one.provider for one in sim.requests()] == ["anthropic", "grok", "openai"]


async def test_the_deadline_holds_over_all_attempts_together(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 4})
    sim.set_plans("grok", {"text": TEXT, "goes_on": 0, "stall_after": 4})
    heard = Heard()
    async with open_worker(sim) as caller:
        refused = await fail(caller, heard, timeout_s=2.0)
        assert refused.status is grpc.StatusCode.DEADLINE_EXCEEDED
        await sim.await_request("grok", outcome="client_closed")
        assert (await caller.status(*GROK)).failures == 0
    assert heard.text == "The quick brown fox jumps over the lazy "


async def test_a_caller_that_goes_away_during_a_continuation_ends_it_and_blames_nobody(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 4})
    sim.set_plans("grok", {"text": TEXT, "goes_on": 0, "stall_after": 2})
    async with open_worker(sim) as caller:
        call = caller.call()
        reading = asyncio.create_task(call.read())
        await sim.await_request("grok", outcome="open", least_deltas=2)
        await reading
        call.cancel()
        await sim.await_request("grok", outcome="client_closed")
        assert (await caller.status(*GROK)).failures == 0


async def test_a_callers_text_is_never_mixed_with_an_answer_begun_anew(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 12})
    sim.set_plans("grok", {"text": TEXT[:30] + "of the hens; both are friends."})
    sim.set_plans("openai", {"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        heard = await caller.generate()
        assert (await caller.status(*GROK)).failures == 0
    assert (heard.text, heard.tried) == (TEXT, ["anthropic", "grok", "openai"])


async def test_where_all_begin_anew_a_caller_is_told_of_the_failure(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 9})
    for provider in ("grok", "openai"):
        sim.set_plans(provider, then={"text": TEXT[:30] + " are friends."})
    heard = Heard()
    async with open_worker(sim) as caller:
        sim.set_plans("anthropic", {"text": TEXT, "cut_after": 9}, then={"status": 401})
        refused = await fail(caller, heard)
        assert (await caller.status(*GROK)).failures == 0
    assert refused.reason == "PROVIDER_UNAVAILABLE"
    assert TEXT.startswith(heard.text)


async def test_who_does_not_understand_the_continuation_leaves_it_to_the_next(sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": TEXT, "cut_after": 4})
    sim.set_plans("grok", {"status": 400})
    sim.set_plans("openai", {"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        heard = await caller.generate()
    assert (heard.text, heard.tried) == (TEXT, ["anthropic", "grok", "openai"])


async def test_a_refusal_of_the_continuation_is_not_routed_around(sim: Simulator) -> None:
    sim.set_plans("grok", {"text": TEXT, "cut_after": 4})
    sim.set_plans("anthropic", then={"code": "content_policy"})
    heard = Heard()
    async with open_worker(sim) as caller:
        refused = await fail(caller, heard, model="grok")
    assert refused.reason == "PROVIDER_REFUSED"
    assert heard.text == "The quick brown fox "
    assert [one.provider for one in sim.requests()] == ["grok", "anthropic"]


async def test_the_breakers_open_by_cuts_and_silences(sim: Simulator) -> None:
    async with open_worker(sim, **QUICK, SWITCHBOARD__BREAKER__FAILURE_THRESHOLD="3") as caller:
        for fault in ({"cut_after": 3}, {"stall_after": 3}, {"first_token_ms": 60_000}):
            sim.set_plans("anthropic", {"text": TEXT, **fault})
            sim.set_plans("grok", {"text": TEXT, "goes_on": 0})
            assert (await caller.generate()).text == TEXT
        assert (await caller.status(*CLAUDE)).breaker == llm_pb2.BREAKER_STATE_OPEN
        assert (await caller.status(*GROK)).failures == 0


@wires
async def test_a_malformed_event_is_passed_over_when_the_stream_goes_on_and_else_is_a_cut(
    sim: Simulator, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, {"text": TEXT, "malformed_at": 10}, {"text": TEXT, "malformed_at": 10, "cut_after": 10})
    sim.set_plans(second, {"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        assert (await caller.generate(model=model)).tried == [first]
        heard = await caller.generate(model=model)
    assert (heard.text, heard.tried) == (TEXT, [first, second])
