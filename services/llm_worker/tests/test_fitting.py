"""What fits into which model: larger targets for what does not, real counts where they are to be had."""

import asyncio

import grpc
import pytest
from llm_worker.tokens import LINE_WEIGHT, weigh_text
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2

from .harness import Refused, open_worker, user

TEXT = "The quick brown fox jumps over the lazy dog."
FINE = {"text": TEXT}
TOO_LONG = {"code": "context_length_exceeded"}
SMALL_FIRST = {
    "SWITCHBOARD__MODELS__TINY__PROVIDER": "openai",
    "SWITCHBOARD__MODELS__TINY__CONTEXT_TOKENS": "1000",
    "SWITCHBOARD__MODELS__LITTLE__PROVIDER": "grok",
    "SWITCHBOARD__MODELS__LITTLE__CONTEXT_TOKENS": "2000",
    "SWITCHBOARD__ROUTES__GROWING": '["tiny", "little", "claude-sonnet-4-5"]',
}

NARROW = {
    "SWITCHBOARD__MODELS__CLAUDE-SONNET-4-5__CONTEXT_TOKENS": "2000",
    "SWITCHBOARD__ROUTES__ONE": '["claude-sonnet-4-5"]',
}


def long(tokens: int) -> list[llm_pb2.InputMessage]:
    """A question of about so many tokens by our own estimate."""
    return [user("word " * (tokens * 4 // 5))]


@pytest.mark.parametrize(
    ("tokens", "tried"),
    [(100, "openai"), (480, "openai"), (510, "grok"), (980, "grok"), (1100, "anthropic"), (50_000, "anthropic")],
)
async def test_what_does_not_fit_goes_to_the_first_target_of_the_route_that_it_fits(
    sim: Simulator, tokens: int, tried: str
) -> None:
    async with open_worker(sim, **SMALL_FIRST) as caller:
        heard = await caller.generate(model="growing", messages=long(tokens))
    assert heard.tried == [tried]


async def test_one_that_is_too_small_stands_in_for_nobody(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"status": 401})
    async with open_worker(sim, **SMALL_FIRST) as caller:
        with pytest.raises(Refused) as caught:
            await caller.generate(model="growing", messages=long(5000))
        assert caught.value.reason == "PROVIDER_UNAVAILABLE"
    assert [one.provider for one in sim.requests()] == ["anthropic"]


async def test_where_nobody_has_room_the_largest_is_asked_and_decides(sim: Simulator) -> None:
    routes = {**SMALL_FIRST, "SWITCHBOARD__ROUTES__GROWING": '["tiny", "little"]'}
    async with open_worker(sim, **routes) as caller:
        assert (await caller.generate(model="growing", messages=long(5000))).tried == ["grok"]


@pytest.mark.parametrize(("first", "second"), [("gpt", "anthropic"), ("claude", "grok")])
async def test_a_target_that_finds_it_too_long_is_followed_by_a_larger_one_once(
    sim: Simulator, first: str, second: str
) -> None:
    provider = {"gpt": "openai", "claude": "anthropic"}[first]
    sim.set_plans(provider, then=TOO_LONG)
    sim.set_plans(second, then=FINE)
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=first)
        status = await caller.ask("GetProviderStatus", llm_pb2.GetProviderStatusRequest())
    assert (heard.text, heard.tried) == (TEXT, [provider, second])
    assert heard.answer.attempts[0].failure.code == chat_pb2.ERROR_CODE_CONTEXT_TOO_LONG
    assert all(one.failures == 0 for one in status.targets)


async def test_the_larger_one_is_asked_once_and_no_request_twice(sim: Simulator) -> None:
    for provider in ("anthropic", "grok", "openai"):
        sim.set_plans(provider, then=TOO_LONG)
    async with open_worker(sim) as caller:
        with pytest.raises(Refused) as caught:
            await caller.generate(model="gpt")
    assert (caught.value.reason, caught.value.status) == ("CONTEXT_TOO_LONG", grpc.StatusCode.OUT_OF_RANGE)
    assert [one.provider for one in sim.requests()] == ["openai", "anthropic"]


async def test_an_unknown_window_is_larger_than_any(sim: Simulator) -> None:
    unknown = {**SMALL_FIRST, "SWITCHBOARD__MODELS__LITTLE__CONTEXT_TOKENS": "0"}
    unknown["SWITCHBOARD__ROUTES__GROWING"] = '["tiny", "little", "gpt-4"]'
    async with open_worker(sim, **unknown) as caller:
        sim.set_plans("openai", then=TOO_LONG)
        assert (await caller.generate(model="growing")).tried == ["openai", "grok"]
        sim.set_plans("openai", then=FINE)
        sim.set_plans("grok", then=TOO_LONG)
        with pytest.raises(Refused) as caught:
            await caller.generate(model="growing", messages=long(600))
        assert caught.value.reason == "CONTEXT_TOO_LONG"


async def test_a_provider_that_counts_is_asked_to_where_the_estimate_comes_near(sim: Simulator) -> None:
    async with open_worker(sim, **NARROW) as caller:
        await caller.generate(model="one", messages=long(700))
        assert [one.path for one in sim.requests()] == ["/anthropic/v1/messages"]
        await caller.generate(model="one", messages=long(900))
        paths = [one.path for one in sim.requests()]
    assert paths == ["/anthropic/v1/messages", "/anthropic/v1/messages/count_tokens", "/anthropic/v1/messages"]


async def test_its_count_is_believed_at_once(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={**FINE, "usage": {"input_tokens": 2000}})
    async with open_worker(sim, **NARROW) as caller:
        for tokens in (900, 500):
            await caller.generate(model="one", messages=long(tokens))
    assert [one.path.rsplit("/", 1)[1] for one in sim.requests()] == ["count_tokens", "messages"] * 2


async def test_a_probe_that_is_stopped_while_it_is_counted_gives_its_place_back(sim: Simulator) -> None:
    broken = {"SWITCHBOARD__BREAKER__FAILURE_THRESHOLD": "1", "SWITCHBOARD__BREAKER__RESET_TIMEOUT_S": "0.001"}
    async with open_worker(sim, **NARROW, **broken) as caller:
        sim.set_plans("anthropic", then={"status": 503})
        with pytest.raises(Refused):
            await caller.generate(model="one")
        sim.set_plans("anthropic", then={**FINE, "count_ms": 60_000})
        call = caller.call(model="one", messages=long(900))
        reading = asyncio.create_task(call.read())
        async with asyncio.timeout(10):
            while not sim.requests()[-1].path.endswith("count_tokens"):
                await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait({reading})
        async with asyncio.timeout(10):
            while sim.requests()[-1].outcome == "open":
                await asyncio.sleep(0.01)
        assert (await caller.generate(model="one")).text == TEXT


async def test_without_its_count_the_estimate_stands(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={**FINE, "count_status": 529})
    async with open_worker(sim, **NARROW) as caller:
        assert (await caller.generate(model="one", messages=long(900))).text == TEXT


def test_the_long_requests_are_as_long_as_they_say() -> None:
    text = long(500)[0].parts[0].text
    assert weigh_text(text) + LINE_WEIGHT == pytest.approx(500, abs=5)
