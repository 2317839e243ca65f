"""An answer that is late is asked of a second target: who begins first makes it, and the other's cost is known."""

import asyncio
import random
from typing import Any

import pytest
from llm_worker.hedging import MOST_SAVED, SAMPLES, FirstTokens, Hedging
from llm_worker.settings import HedgeSettings
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2

from .harness import Caller, Heard, Refused, open_worker
from .test_fitting import NARROW, long

CLAUDE = ("anthropic", "claude-sonnet-4-5")
TEXT = "The quick brown fox jumps over the lazy dog."
LATE = {"first_token_ms": 60_000, "text": "too late"}
FINE = {"text": TEXT}
HEDGED = {
    "SWITCHBOARD__HEDGING__ENABLED": "true",
    "SWITCHBOARD__HEDGING__MAX_SHARE": "1.0",
    "SWITCHBOARD__HEDGING__MIN_SAMPLES": "3",
}


async def learn(caller: Caller, times: int = 3) -> None:
    """So many quick first tokens of the first target."""
    for _ in range(times):
        assert (await caller.generate()).tried == ["anthropic"]


async def test_a_late_target_is_overtaken_by_the_next_and_its_cost_is_recorded(sim: Simulator) -> None:
    async with open_worker(sim, **HEDGED) as caller:
        await learn(caller)
        sim.set_plans("anthropic", then=LATE)
        sim.set_plans("grok", then=FINE)
        heard = await caller.generate()
        assert (heard.text, heard.provider, heard.tried) == (TEXT, "grok", ["anthropic", "grok"])
        loser, winner = heard.answer.attempts
        assert loser.failure.code == chat_pb2.ERROR_CODE_CANCELLED
        assert loser.billed
        assert (loser.usage.estimated, loser.usage.input_tokens > 0, loser.usage.output_tokens) == (True, True, 0)
        assert loser.usage.cost_nano_usd > 0
        assert not winner.HasField("failure")
        assert heard.answer.usage.cost_nano_usd == loser.usage.cost_nano_usd + winner.usage.cost_nano_usd
        assert (await caller.status(*CLAUDE)).failures == 0
    assert sim.requests("anthropic")[-1].outcome == "client_closed"


async def test_the_first_target_may_still_be_the_faster_of_the_two(sim: Simulator) -> None:
    async with open_worker(sim, **HEDGED) as caller:
        await learn(caller)
        sim.set_plans("anthropic", then={"first_token_ms": 300, **FINE})
        sim.set_plans("grok", then=LATE)
        heard = await caller.generate()
        assert (heard.text, heard.provider) == (TEXT, "anthropic")
        assert [one.HasField("failure") for one in heard.answer.attempts] == [False, True]


async def test_a_target_in_time_is_left_alone(sim: Simulator) -> None:
    async with open_worker(sim, **HEDGED) as caller:
        sim.set_plans("anthropic", then={"first_token_ms": 100})
        assert not (await caller.status(*CLAUDE)).HasField("time_to_first_token_p95")
        await learn(caller)
        assert (await caller.status(*CLAUDE)).time_to_first_token_p95.ToTimedelta().total_seconds() >= 0.1
        sim.set_plans("anthropic", then=FINE)
        assert (await caller.generate()).tried == ["anthropic"]
    assert sim.requests("grok") == []


async def test_what_fails_at_once_says_nothing_of_first_tokens(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"status": 400, "code": "content_policy"})
    async with open_worker(sim, **HEDGED) as caller:
        for _ in range(5):
            with pytest.raises(Refused):
                await caller.generate()
        assert not (await caller.status(*CLAUDE)).HasField("time_to_first_token_p95")


@pytest.mark.parametrize(
    ("first", "second", "tried"),
    [
        ({"first_token_ms": 200, "cut_after": 0}, {"first_token_ms": 400, **FINE}, ["anthropic", "grok"]),
        (LATE, {"status": 401}, ["anthropic", "grok", "openai"]),
        ({"first_token_ms": 300, "cut_after": 0}, {"status": 401}, ["anthropic", "grok", "openai"]),
    ],
    ids=["the late one breaks", "the second fails", "both fail"],
)
async def test_one_that_fails_leaves_the_answer_to_the_other_and_then_to_the_next(
    sim: Simulator, first: dict[str, Any], second: dict[str, Any], tried: list[str]
) -> None:
    async with open_worker(sim, **HEDGED, SWITCHBOARD__WORKER__TTFT_TIMEOUT_S="1.0") as caller:
        await learn(caller)
        sim.set_plans("anthropic", then=first)
        sim.set_plans("grok", then=second)
        sim.set_plans("openai", then=FINE)
        heard = await caller.generate()
        assert (heard.text, heard.tried) == (TEXT, tried)


REFUSED = {"status": 400, "code": "content_policy"}


@pytest.mark.parametrize(
    ("first", "second"), [({"headers_ms": 200, **REFUSED}, {"first_token_ms": 600, **FINE}), (LATE, REFUSED)]
)
async def test_a_refusal_ends_the_race_whoever_was_told_it(
    sim: Simulator, first: dict[str, Any], second: dict[str, Any]
) -> None:
    async with open_worker(sim, **HEDGED, SWITCHBOARD__WORKER__TTFT_TIMEOUT_S="5") as caller:
        await learn(caller)
        sim.set_plans("anthropic", then=first)
        sim.set_plans("grok", then=second)
        sim.set_plans("openai", then=FINE)
        with pytest.raises(Refused) as caught:
            await caller.generate()
        assert caught.value.reason == "PROVIDER_REFUSED"
    assert sim.requests("openai") == []


@pytest.mark.parametrize("fault", [{"status": 400, "code": "x"}, {"status": 404}])
async def test_who_did_not_understand_is_not_asked_the_same_again(sim: Simulator, fault: dict[str, Any]) -> None:
    async with open_worker(sim, **HEDGED, SWITCHBOARD__WORKER__TTFT_TIMEOUT_S="1.0") as caller:
        await learn(caller)
        sim.set_plans("anthropic", then=LATE)
        sim.set_plans("grok", then=fault)
        sim.set_plans("openai", then=FINE)
        assert (await caller.generate()).tried == ["anthropic", "grok", "openai"]


async def test_a_second_that_is_not_needed_any_more_once_it_was_counted_gives_its_permit_back(sim: Simulator) -> None:
    settings = {
        **HEDGED,
        **NARROW,
        "SWITCHBOARD__BREAKER__FAILURE_THRESHOLD": "1",
        "SWITCHBOARD__BREAKER__RESET_TIMEOUT_S": "0.001",
        "SWITCHBOARD__MODELS__OTHER__PROVIDER": "openai",
        "SWITCHBOARD__ROUTES__TWO": '["other", "claude-sonnet-4-5"]',
    }
    async with open_worker(sim, **settings) as caller:
        for _ in range(4):
            await caller.generate(model="two")
        sim.set_plans("anthropic", then={"status": 503})
        with pytest.raises(Refused):
            await caller.generate(model="one")
        sim.set_plans("anthropic", then={**FINE, "count_ms": 700})
        sim.set_plans("openai", then={**FINE, "first_token_ms": 300})
        heard = await caller.generate(model="two", messages=long(900))
        assert (heard.text, heard.tried) == (TEXT, ["openai"])
        sim.set_plans("anthropic", then=FINE)
        assert (await caller.generate(model="one")).text == TEXT


async def test_the_winner_that_is_cut_is_gone_on_with(sim: Simulator) -> None:
    async with open_worker(sim, **HEDGED) as caller:
        await learn(caller)
        sim.set_plans("anthropic", then=LATE)
        sim.set_plans("grok", then={**FINE, "cut_after": 4})
        sim.set_plans("openai", then={**FINE, "goes_on": 6})
        heard = await caller.generate()
        assert (heard.text, heard.tried) == (TEXT, ["anthropic", "grok", "openai"])


async def test_both_begin_at_nearly_the_same_moment_and_the_text_is_one_ones(sim: Simulator) -> None:
    async with open_worker(sim, **HEDGED) as caller:
        await learn(caller)
        count = 60
        for provider in ("anthropic", "grok"):
            plans = [{"text": f"{provider} {TEXT}", "first_token_ms": 20 + 20 * random.random()} for _ in range(count)]
            sim.set_plans(provider, *plans)
        for each in range(0, count, 10):
            answers = await asyncio.gather(*(caller.generate() for _ in range(each, each + 10)))
            for heard in answers:
                assert heard.text == f"{heard.provider} {TEXT}"
                assert heard.answer.provider == heard.provider
                lost = [one for one in heard.answer.attempts if one.HasField("failure")]
                assert [one.usage.output_tokens for one in lost] == [0] * (len(heard.answer.attempts) - 1)


async def test_stopping_stops_both(sim: Simulator) -> None:
    async with asyncio.timeout(20), open_worker(sim, **HEDGED, SWITCHBOARD__WORKER__TTFT_TIMEOUT_S="300") as caller:
        await learn(caller)
        sim.set_plans("anthropic", then=LATE)
        sim.set_plans("grok", then=LATE)
        call = caller.call()
        reading = asyncio.create_task(call.read())
        await sim_asked(sim, "grok")
        call.cancel()
        await asyncio.wait({reading})
        for provider in ("anthropic", "grok"):
            while sim.requests(provider)[-1].outcome == "open":
                await asyncio.sleep(0.01)
            assert sim.requests(provider)[-1].outcome == "client_closed"


async def sim_asked(sim: Simulator, provider: str) -> None:
    async with asyncio.timeout(10):
        while not sim.requests(provider):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "settings",
    [{}, {**HEDGED, "SWITCHBOARD__HEDGING__MAX_SHARE": "0.1"}, {**HEDGED, "SWITCHBOARD__HEDGING__MIN_SAMPLES": "9"}],
    ids=["by default", "beyond the budget", "without enough to go by"],
)
async def test_a_late_target_is_waited_for(sim: Simulator, settings: dict[str, str]) -> None:
    async with open_worker(sim, **settings) as caller:
        await learn(caller)
        sim.set_plans("anthropic", then={"first_token_ms": 300, **FINE})
        heard: Heard = await caller.generate()
        assert (heard.text, heard.tried) == (TEXT, ["anthropic"])
    assert sim.requests("grok") == []


def test_the_p95_is_of_the_last_first_tokens_and_takes_enough_of_them() -> None:
    tokens = FirstTokens()
    for at in range(SAMPLES):
        assert (tokens.p95_s(SAMPLES) is None) == (at < SAMPLES)
        tokens.note(float(at))
    assert tokens.p95_s(20) == 95
    for _ in range(SAMPLES):
        tokens.note(1.0)
    assert tokens.p95_s(20) == 1


def test_no_more_than_the_share_is_hedged_and_a_quiet_time_saves_little_up() -> None:
    tokens = FirstTokens()
    tokens.note(1.0)
    hedging = Hedging(HedgeSettings(enabled=True, max_share=0.25, min_samples=1))
    hedged = 0
    for _ in range(400):
        assert hedging.delay_s(tokens) == 1.0
        hedged += hedging.spend()
    assert hedged == 100
    for _ in range(1000):
        hedging.delay_s(tokens)
    assert sum(hedging.spend() for _ in range(100)) == MOST_SAVED
