"""The admin endpoints, as bytes and through `Simulator`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulator.process import Simulator, SimulatorError
from simulator.record import RING, fingerprint


async def test_each_request_takes_the_next_plan_and_then_the_last_for_ever(speaker: Any, sim: Simulator) -> None:
    sim.set_plans(speaker.provider, {"text": "one"}, {"text": "two"}, then={"text": "more"})
    assert [(await speaker.listen()).text for _ in range(4)] == ["one", "two", "more", "more"]


async def test_a_queue_beats_a_directive_and_without_then_gives_way_to_it(speaker: Any, sim: Simulator) -> None:
    sim.set_plans(speaker.provider, {"text": "queued"})
    directive = '[[sim {"text": "directed"}]]'
    assert [(await speaker.listen(directive)).text for _ in range(2)] == ["queued", "directed"]
    assert [each.plan_source for each in sim.requests()] == ["queue", "directive"]


async def test_a_queue_is_one_providers_own(speaker: Any, sim: Simulator) -> None:
    sim.set_plans("someone-else", {"status": 500})
    assert "simulator" in (await speaker.listen()).text
    assert sim.remaining_plans("someone-else") == 1


async def test_plans_can_be_cleared(speaker: Any, sim: Simulator) -> None:
    await sim.aset_plans(speaker.provider, then={"status": 500})
    await sim.aclear_plans()
    assert "simulator" in (await speaker.listen()).text


def test_a_refused_request_does_not_use_up_a_plan(wire: Any, sim: Simulator, provider: str) -> None:
    sim.set_plans(provider, {"text": "kept"})
    wire.ask(provider, {"model": "m"})
    assert wire.answer()[0] == 400
    assert sim.remaining_plans(provider) == 1


def test_a_wrong_directive_is_the_providers_400_with_the_reason(wire: Any, body: Any, provider: str) -> None:
    wire.ask(provider, body(provider, '[[sim {"txt": 1}]]'))
    status, _, error = wire.answer()
    assert status == 400
    assert "simulator: unknown plan field 'txt'" in error["error"]["message"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"plans": [{"txt": 1}]}, "unknown plan field 'txt'"),
        ({"plans": [], "then": {"text": 1}}, "text: expected a string"),
        ({"plans": {}}, 'expected {"plans"'),
        ([], 'expected {"plans"'),
        ({"plans": [], "than": None}, "unknown field 'than'"),
    ],
)
def test_wrong_plans_are_refused_and_change_nothing(wire: Any, given: Any, told: str) -> None:
    wire.send("PUT", "/sim/plans/openai", json.dumps(given).encode())
    status, _, error = wire.answer()
    assert status == 400
    assert told in error["error"]


def test_the_python_side_tells_the_reason(sim: Simulator) -> None:
    with pytest.raises(SimulatorError, match="unknown plan field 'txt'"):
        sim.set_plans("openai", {"txt": 1})


def test_a_recorded_request_tells_what_was_asked_and_never_a_key(wire: Any, body: Any, sim: Simulator) -> None:
    asked = body("anthropic", '[[sim {"text": "a b c"}]]', system="Be brief.")
    wire.ask("anthropic", asked, x_api_key="sk-secret-key")
    wire.read_head()
    wire.read_chunks()
    seen = sim.wait_for_request("anthropic", outcome="completed")
    assert (seen.path, seen.model, seen.stream) == ("/anthropic/v1/messages", "claude-opus-5-5", True)
    assert seen.messages == asked["messages"]
    assert seen.parameters == {"max_tokens": 64, "stream": True, "system": "Be brief."}
    assert (seen.status, seen.deltas_sent, seen.plan_source) == (200, 3, "directive")
    assert seen.key_fingerprint == fingerprint("sk-secret-key")
    wire.send("GET", "/sim/requests")
    told = json.dumps(wire.answer()[2])
    assert "sk-secret" not in told and "sk-test" not in told


async def test_requests_can_be_asked_for_by_provider_and_cleared(sim: Simulator, speaker: Any) -> None:
    await speaker.listen()
    assert [each.provider for each in await sim.arequests(speaker.provider)] == [speaker.provider]
    assert await sim.arequests("nobody") == []
    await sim.aclear_requests()
    assert sim.requests() == []


def test_the_record_is_bounded(wire: Any, sim: Simulator, body: Any) -> None:
    sim.set_plans("openai", then={"status": 500})
    for _ in range(RING + 5):
        wire.ask("openai", body("openai"))
        wire.answer()
    assert len(sim.requests()) == RING


def test_waiting_for_a_request_that_does_not_come_tells_what_came(sim: Simulator) -> None:
    with pytest.raises(TimeoutError, match="recorded: nothing"):
        sim.wait_for_request("openai", timeout_s=0.05)
