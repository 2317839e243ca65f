"""Counts of tokens before an answer, which Anthropic alone offers."""

from __future__ import annotations

import json
import time
from typing import Any

import anthropic
import pytest
from simulator.process import Simulator

PATH = "/anthropic/v1/messages/count_tokens"
ASKED: Any = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "hello"}]}


async def test_a_count_grows_with_what_is_counted_and_is_recorded_by_its_path(
    claude: anthropic.AsyncAnthropic, sim: Simulator
) -> None:
    few = (await claude.messages.count_tokens(**ASKED)).input_tokens
    tool: Any = {"name": "clock", "input_schema": {"type": "object"}}
    more = (await claude.messages.count_tokens(**ASKED, system="Be kind.", tools=[tool])).input_tokens
    assert 0 < few < more
    first, second = sim.requests("anthropic")
    assert {first.path, second.path} == {PATH}
    assert (first.model, first.messages, first.stream) == ("claude-opus-5-5", ASKED["messages"], False)
    assert set(second.parameters) == {"system", "tools"}
    assert (first.status, first.outcome, first.plan_source) == (200, "completed", "default")


async def test_a_plan_says_another_number_fails_or_waits(claude: anthropic.AsyncAnthropic, sim: Simulator) -> None:
    sim.set_plans("anthropic", {"usage": {"input_tokens": 77}, "count_ms": 30})
    begun = time.monotonic_ns()
    assert (await claude.messages.count_tokens(**ASKED)).input_tokens == 77
    assert time.monotonic_ns() - begun >= 30_000_000
    sim.set_plans("anthropic", {"count_status": 529, "message": "So full", "status": 401})
    with pytest.raises(anthropic.InternalServerError, match="So full"):
        await claude.messages.count_tokens(**ASKED)
    assert (sim.requests()[-1].status, sim.requests()[-1].outcome) == (529, "faulted")


async def test_a_count_leaves_the_queues_plan_to_the_answer(claude: anthropic.AsyncAnthropic, sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": "one", "usage": {"input_tokens": 5}}, then={"text": "then"})
    assert (await claude.messages.count_tokens(**ASKED)).input_tokens == 5
    for text in ("one", "then"):
        message = await claude.messages.create(**ASKED, max_tokens=9)
        assert [block.text for block in message.content if block.type == "text"] == [text]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_tokens": 9}, "max_tokens: Extra inputs are not permitted"),
        ({"stream": False}, "stream: Extra inputs are not permitted"),
        ({"messages": []}, "at least one message is required"),
        ({"model": None}, "model: Field required"),
    ],
)
def test_a_wrong_count_is_refused(wire: Any, sim: Simulator, change: dict[str, Any], told: str) -> None:
    headers = {"x_api_key": "k", "anthropic_version": "2026-10-21"}
    wire.send("POST", PATH, json.dumps({**ASKED, **change}).encode(), **headers)
    status, _, error = wire.answer()
    assert (status, told in error["error"]["message"]) == (400, True)
    assert sim.requests()[-1].outcome == "refused"


def test_openai_has_no_such_path(wire: Any) -> None:
    wire.send("POST", "/openai/v1/messages/count_tokens", b"{}", authorization="Bearer k")
    assert wire.answer()[0] == 404
