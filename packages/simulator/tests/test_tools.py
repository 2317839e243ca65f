"""Tool calls: as the official SDKs put them together, as bytes on a socket, and with faults in their middle."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from simulator.process import Simulator

PLAN = {
    "text": "I look.",
    "tool_calls": [
        {"name": "get_weather", "arguments": {"city": 'Zürich "☀"'}, "id": "call_1"},
        {"name": "clock", "arguments": ""},
    ],
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ANTHROPIC_TOOLS = [{"name": name, "input_schema": SCHEMA} for name in ("get_weather", "clock")]
OPENAI_TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("get_weather", "clock")
]


def tools_of(provider: str) -> Any:
    return ANTHROPIC_TOOLS if provider == "anthropic" else OPENAI_TOOLS


async def test_anthropics_sdk_puts_a_streamed_call_together(claude: anthropic.AsyncAnthropic, sim: Simulator) -> None:
    sim.set_plans("anthropic", {"reasoning": "hm", **PLAN})
    async with claude.messages.stream(
        model="claude-opus-5-5", max_tokens=9, messages=[{"role": "user", "content": "x"}]
    ) as stream:
        message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.stop_reason == "tool_use"
    first, second = (block for block in message.content if block.type == "tool_use")
    assert (first.id, first.name, first.input) == ("call_1", "get_weather", {"city": 'Zürich "☀"'})
    assert second.id.startswith("toolu_")
    assert (second.name, second.input) == ("clock", {})


async def test_openais_sdk_puts_a_streamed_call_together(gpt: openai.AsyncOpenAI, sim: Simulator) -> None:
    sim.set_plans("openai", PLAN)
    async with gpt.chat.completions.stream(model="gpt-4.1", messages=[{"role": "user", "content": "x"}]) as stream:
        (choice,) = (await stream.get_final_completion()).choices
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")
    first, second = choice.message.tool_calls or []
    assert (first.id, first.type, first.function.name) == ("call_1", "function", "get_weather")
    assert json.loads(first.function.arguments) == {"city": 'Zürich "☀"'}
    assert second.id.startswith("call_")
    assert (second.function.name, second.function.arguments) == ("clock", "")


async def test_a_call_that_is_not_streamed_is_whole(
    claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI, sim: Simulator
) -> None:
    plan = {"tool_calls": PLAN["tool_calls"]}
    sim.set_plans("anthropic", plan)
    sim.set_plans("openai", plan)
    asked: Any = [{"role": "user", "content": "x"}]
    message = await claude.messages.create(model="claude-opus-5-5", max_tokens=9, messages=asked)
    assert [(block.type, getattr(block, "input", None)) for block in message.content] == [
        ("tool_use", {"city": 'Zürich "☀"'}),
        ("tool_use", {}),
    ]
    (choice,) = (await gpt.chat.completions.create(model="gpt-4.1", messages=asked)).choices
    assert choice.message.content is None
    assert [call.function.name for call in choice.message.tool_calls or ()] == ["get_weather", "clock"]
    assert (message.stop_reason, choice.finish_reason) == ("tool_use", "tool_calls")


def told(wire: Any, provider: str) -> list[Any]:
    wire.read_head()
    events = [chunk.split(b"data: ", 1)[1].strip() for chunk in wire.read_chunks()]
    return [json.loads(event) for event in events if event != b"[DONE]"]


def test_on_anthropics_wire_a_call_is_a_block_of_its_own(wire: Any, body: Any, sim: Simulator) -> None:
    sim.set_plans("anthropic", {"text": "a", "tool_calls": [{"name": "clock", "arguments": '{"zone":1}', "id": "t"}]})
    wire.ask("anthropic", body("anthropic"))
    events = [event for event in told(wire, "anthropic") if event.get("index") == 1]
    assert events == [
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "clock", "input": {}},
        },
        *(
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}}
            for piece in ("", '{"zone":', "1}")
        ),
        {"type": "content_block_stop", "index": 1},
    ]


def test_on_openais_wire_a_calls_first_piece_has_its_id_and_name(wire: Any, body: Any, sim: Simulator) -> None:
    sim.set_plans("openai", {"tool_calls": [{"name": "clock", "arguments": '{"zone":1}', "id": "t"}]})
    wire.ask("openai", body("openai"))
    first, *deltas, last = (chunk["choices"][0] for chunk in told(wire, "openai"))
    assert first["delta"] == {"role": "assistant", "content": None, "refusal": None}
    assert [choice["delta"]["tool_calls"] for choice in deltas] == [
        [{"index": 0, "id": "t", "type": "function", "function": {"name": "clock", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"zone":'}}],
        [{"index": 0, "function": {"arguments": "1}"}}],
    ]
    assert last["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(("after", "pieces"), [(0, 0), (1, 0), (2, 1), (4, 3), (6, 5)])
@pytest.mark.parametrize("fault", ["cut_after", "error_after"])
def test_a_fault_may_come_in_the_middle_of_a_call(
    wire: Any, body: Any, provider: str, sim: Simulator, fault: str, after: int, pieces: int
) -> None:
    sim.set_plans(provider, {"text": "a", "tool_calls": [{"name": "clock", "arguments": "x" * 40}], fault: after})
    wire.ask(provider, body(provider))
    wire.read_head()
    octets = wire.file.read() if fault == "cut_after" else b"".join(wire.read_chunks())
    begun = b'"name":"clock"' in octets
    arguments = octets.count(b"xxxxxxxx")
    assert (begun, arguments + begun) == (pieces > 0, pieces)
    assert (sim.requests(provider)[-1].outcome, sim.requests(provider)[-1].deltas_sent) == ("faulted", after)


def test_a_tool_that_must_be_called_is_called_unless_a_plan_says_what_to_do(
    connect: Any, body: Any, provider: str, sim: Simulator
) -> None:
    def answer(choice: Any, content: str = "hi") -> str:
        with connect() as wire:
            more = {"tools": tools_of(provider), "tool_choice": choice, "stream": False}
            wire.ask(provider, body(provider, content, **more))
            status, _, answer = wire.answer()
            assert status == 200
        return json.dumps(answer)

    if provider == "anthropic":
        choices: list[Any] = [{"type": "any"}, {"type": "tool", "name": "clock"}, {"type": "auto"}, {"type": "none"}]
    else:
        choices = ["required", {"type": "function", "function": {"name": "clock"}}, "auto", "none"]
    of_any, of_clock, of_auto, of_none = (answer(choice) for choice in choices)
    assert '"name": "get_weather"' in of_any
    assert '"name": "clock"' in of_clock
    assert "simulator" in of_auto and "simulator" in of_none
    assert "said so" in answer(choices[0], '[[sim {"text": "said so"}]]')


def test_what_is_spent_on_a_call_is_counted(wire: Any, body: Any, sim: Simulator) -> None:
    sim.set_plans("openai", {"text": "a b", "tool_calls": [{"name": "clock", "arguments": "x" * 40}]})
    wire.ask("openai", body("openai", stream=False))
    assert wire.answer()[2]["usage"]["completion_tokens"] == 2 + 1 + 5


def test_a_directive_in_a_tools_result_steers_the_answer_to_it(connect: Any, body: Any, provider: str) -> None:
    result, before = '[[sim {"text": "noon"}]]', '[[sim {"tool_calls": [{"name": "clock"}]}]]'
    if provider == "anthropic":
        call = {"type": "tool_use", "id": "c", "name": "clock", "input": {}}
        turn: list[Any] = [
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": result}]},
        ]
    else:
        function = {"name": "clock", "arguments": "{}"}
        turn = [
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": "c", "content": result},
        ]
    for messages, expected in (([], "clock"), (turn, "noon")):
        with connect() as wire:
            asked = [{"role": "user", "content": before}, *messages]
            wire.ask(provider, body(provider, messages=asked, stream=False))
            status, _, answer = wire.answer()
            assert status == 200
            assert expected in json.dumps(answer["content" if provider == "anthropic" else "choices"])


def test_imitators_have_their_own_ways(connect: Any, body: Any, sim: Simulator) -> None:
    plan = {
        "reasoning": "a b c",
        "text": "x",
        "tool_calls": [{"name": "clock"}, {"name": "clock"}],
        "usage": {"input_tokens": 7},
    }

    def listen(provider: str) -> tuple[list[Any], Any]:
        sim.set_plans(provider, plan)
        with connect() as wire:
            wire.ask(provider, body(provider, stream_options={"include_usage": True}))
            *chunks, usage = told(wire, provider)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        return deltas, usage["usage"]

    for provider, field, expected in (
        ("openai", "reasoning_content", {0, 1}),
        ("openrouter", "reasoning", {0, 1}),
        ("ollama", "reasoning", {0}),
        ("gemini", "reasoning_content", {None}),
    ):
        deltas, usage = listen(provider)
        assert "".join(delta.get(field, "") for delta in deltas) == "a b c"
        assert {call.get("index") for delta in deltas for call in delta.get("tool_calls", ())} == expected
        assert usage["total_tokens"] == 15
    for provider, made in (("openai", 8), ("grok", 5), ("gemini", 5)):
        _, usage = listen(provider)
        assert (usage["completion_tokens"], usage["total_tokens"]) == (made, 15)
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 3
