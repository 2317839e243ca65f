"""The conformance suite of the provider port, on pictures, tools, reasoning and counts: every adapter, over real HTTP.

What the simulator was asked is also read with the official SDKs' own types, so that its form is right to the letter.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from anthropic.types import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from chat.messages import FinishReason, Role
from llm_worker.conversation import Image, Line, Part, Tool, ToolCall, ToolResult, line
from llm_worker.outcome import Outcome, ProviderError
from llm_worker.provider import NO_TOOLS, Piece, ToolChoice, ToolUse
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter
from simulator.process import Simulator
from simulator.record import RecordedRequest, fingerprint

from .harness import directive
from .speakers import ADAPTERS, Speaker, break_off, calls_of, listen, open_speaker, request, text_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("get_weather", "The weather now.", SCHEMA)
CLOCK = Tool("clock", "", {})
WEATHER_CALL = {"name": "get_weather", "arguments": {"city": "Zürich ☀"}, "id": "call_1"}

ANTHROPIC: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)
ANTHROPIC_COUNT: TypeAdapter[Any] = TypeAdapter(MessageCountTokensParams)
OPENAI: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsStreaming)


@pytest.fixture(params=[*ADAPTERS, "gemini", "ollama", "openrouter"])
async def speaker(sim: Simulator, request: pytest.FixtureRequest) -> AsyncIterator[Speaker]:
    async with open_speaker(sim, request.param) as speaker:
        yield speaker


def speaks_anthropic(speaker: Speaker) -> bool:
    return speaker.settings.kind == "anthropic"


def user(*parts: Part) -> Line:
    return Line(Role.USER, parts)


def assistant(*parts: Part) -> Line:
    return Line(Role.ASSISTANT, parts)


async def ask(sim: Simulator, speaker: Speaker, *lines: Line, tool_use: ToolUse = NO_TOOLS) -> RecordedRequest:
    """Asks, and gives what arrived, in the form of the provider's own types."""
    await listen(speaker.provider, request(lines=lines, tool_use=tool_use))
    asked = sim.requests(speaker.provider.name)[-1]
    assert asked.outcome == "completed"
    assert_form(ANTHROPIC if speaks_anthropic(speaker) else OPENAI, asked)
    return asked


def assert_form(adapter: TypeAdapter[Any], asked: RecordedRequest) -> None:
    """The request is of the type, and has no field that the type does not know."""
    body = {"model": asked.model, "messages": asked.messages, **asked.parameters}
    assert read_all(adapter.validate_python(body)) == body


def read_all(value: Any) -> Any:
    """With the lists that pydantic would check later."""
    if isinstance(value, dict):
        return {name: read_all(each) for name, each in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    return [read_all(each) for each in value]


def reasoning_of(pieces: list[Piece]) -> str:
    return "".join(piece.reasoning for piece in pieces)


async def test_pictures_arrive_in_the_providers_form(sim: Simulator, speaker: Speaker) -> None:
    there, here = Image(url="https://example.org/a.png"), Image(content=PNG, media_type="image/png")
    asked = await ask(sim, speaker, user("What are ", there, here, "these?"))
    content, encoded = asked.messages[-1]["content"], b64encode(PNG).decode()
    first, *pictures, last = content
    assert (first, last) == ({"type": "text", "text": "What are "}, {"type": "text", "text": "these?"})
    if speaks_anthropic(speaker):
        assert pictures == [
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded}},
        ]
    else:
        assert pictures == [
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
        ]


async def test_text_alone_stays_a_string(sim: Simulator, speaker: Speaker) -> None:
    asked = await ask(sim, speaker, user("one"), assistant("two ", "three"), user("four ", "five"))
    assert [message["content"] for message in asked.messages][-3:] == ["one", "two three", "four five"]


async def test_a_picture_alone_is_a_message(sim: Simulator, speaker: Speaker) -> None:
    asked = await ask(sim, speaker, user(Image(url="https://example.org/a.png")))
    assert len(asked.messages[-1]["content"]) == 1


async def test_calls_and_results_arrive_in_the_providers_form(sim: Simulator, speaker: Speaker) -> None:
    lines = (
        user("Weather?"),
        assistant("I look.", ToolCall("call_1", "get_weather", '{"city": "Bern"}'), ToolCall("call_2", "clock", "")),
        user("So?", ToolResult("call_1", "no such city", is_error=True), ToolResult("call_2", "")),
    )
    asked = await ask(sim, speaker, *lines, tool_use=ToolUse((WEATHER, CLOCK)))
    if speaks_anthropic(speaker):
        assert asked.messages[1:] == [
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Bern"}},
                    {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "no such city", "is_error": True},
                    {"type": "tool_result", "tool_use_id": "call_2"},
                    {"type": "text", "text": "So?"},
                ],
            },
        ]
    else:
        functions = [{"name": "get_weather", "arguments": '{"city": "Bern"}'}, {"name": "clock", "arguments": "{}"}]
        assert asked.messages[2:] == [
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [
                    {"id": f"call_{n}", "type": "function", "function": function}
                    for n, function in enumerate(functions, 1)
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "no such city"},
            {"role": "tool", "tool_call_id": "call_2", "content": ""},
            {"role": "user", "content": "So?"},
        ]


async def test_a_call_without_a_word_and_its_result_alone_are_understood(sim: Simulator, speaker: Speaker) -> None:
    lines = (user("Time?"), assistant(ToolCall("c", "clock", "{}")), user(ToolResult("c", "noon")))
    asked = await ask(sim, speaker, *lines)
    roles = [message["role"] for message in asked.messages]
    assert roles[-2:] == ["assistant", "user" if speaks_anthropic(speaker) else "tool"]


@pytest.mark.parametrize(
    "call_id", ["functions.clock:0", "call_" + "x" * 80, "toolu_01A09q90qw90lq917835lq9", "ü", "with space"]
)
async def test_an_id_of_another_provider_is_taken_and_stays_the_calls_and_the_results(
    sim: Simulator, speaker: Speaker, call_id: str
) -> None:
    lines = (user("?"), assistant(ToolCall(call_id, "clock", "{}")), user(ToolResult(call_id, "noon")))
    asked = await ask(sim, speaker, *lines)
    called, result = asked.messages[-2:]
    if speaks_anthropic(speaker):
        sent = [called["content"][0]["id"], result["content"][0]["tool_use_id"]]
    else:
        sent = [called["tool_calls"][0]["id"], result["tool_call_id"]]
    assert sent[0] == sent[1]
    if call_id.startswith("toolu_"):
        assert sent[0] == call_id


async def test_arguments_that_are_no_object_are_not_sent_where_only_objects_are_taken(sim: Simulator) -> None:
    async with open_speaker(sim, "anthropic") as speaker:
        for arguments in ("{", "[1]", "3"):
            lines = (user("?"), assistant(ToolCall("c", "clock", arguments)), user(ToolResult("c", "noon")))
            _, error = await break_off(speaker.provider, request(lines=lines))
            assert error.outcome is Outcome.NOT_UNDERSTOOD
            assert error.__cause__ is None or isinstance(error.__cause__, ValueError)
    assert sim.requests() == []


@pytest.mark.parametrize(
    ("tool_use", "of_anthropic", "of_openai"),
    [
        (ToolUse((WEATHER,)), {}, {}),
        (ToolUse((WEATHER,), ToolChoice.NONE), {"type": "none"}, {"tool_choice": "none"}),
        (ToolUse((WEATHER,), ToolChoice.REQUIRED), {"type": "any"}, {"tool_choice": "required"}),
        (
            ToolUse((WEATHER, CLOCK), name="clock"),
            {"type": "tool", "name": "clock"},
            {"tool_choice": {"type": "function", "function": {"name": "clock"}}},
        ),
        (
            ToolUse((WEATHER,), one_call=True),
            {"type": "auto", "disable_parallel_tool_use": True},
            {"parallel_tool_calls": False},
        ),
        (
            ToolUse((WEATHER,), name="get_weather", one_call=True),
            {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
            {
                "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
                "parallel_tool_calls": False,
            },
        ),
        (
            ToolUse((WEATHER,), ToolChoice.NONE, one_call=True),
            {"type": "none"},
            {"tool_choice": "none", "parallel_tool_calls": False},
        ),
    ],
)
async def test_which_tools_may_and_must_be_called_is_said_in_the_providers_form(
    sim: Simulator, speaker: Speaker, tool_use: ToolUse, of_anthropic: dict[str, Any], of_openai: dict[str, Any]
) -> None:
    asked = await ask(sim, speaker, line(Role.USER, "Weather?"), tool_use=tool_use)
    told = {name: given for name, given in asked.parameters.items() if name in {"tool_choice", "parallel_tool_calls"}}
    weather: dict[str, Any] = {"name": "get_weather", "description": "The weather now."}
    if speaks_anthropic(speaker):
        assert asked.parameters["tools"][0] == weather | {"input_schema": SCHEMA}
        assert told == ({"tool_choice": of_anthropic} if of_anthropic else {})
    else:
        assert asked.parameters["tools"][0] == {"type": "function", "function": weather | {"parameters": SCHEMA}}
        assert told == of_openai


async def test_a_tool_without_parameters_takes_an_empty_object(sim: Simulator, speaker: Speaker) -> None:
    asked = await ask(sim, speaker, line(Role.USER, "Time?"), tool_use=ToolUse((CLOCK,)))
    empty, (tool,) = {"type": "object", "properties": {}}, asked.parameters["tools"]
    if speaks_anthropic(speaker):
        assert tool == {"name": "clock", "input_schema": empty}
    else:
        assert tool["function"] == {"name": "clock", "parameters": empty}


async def test_without_tools_none_are_spoken_of(sim: Simulator, speaker: Speaker) -> None:
    asked = await ask(sim, speaker, line(Role.USER, "Hi"), tool_use=ToolUse((), ToolChoice.REQUIRED, one_call=True))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(asked.parameters)


async def test_calls_come_in_pieces_and_are_whole_together(speaker: Speaker) -> None:
    calls = [WEATHER_CALL, {"name": "clock", "arguments": {}, "id": "call_2"}, {"name": "get_weather", "id": "call_3"}]
    pieces = await listen(speaker.provider, request({"text": "Let me see.", "tool_calls": calls, "interval_ms": 2}))
    *before, last = pieces
    assert text_of(pieces) == "Let me see."
    first, second, third = calls_of(before)
    assert (first.id, first.name, json.loads(first.arguments)) == ("call_1", "get_weather", {"city": "Zürich ☀"})
    assert (second.id, second.name, second.arguments) == ("call_2", "clock", "{}")
    assert (third.id, third.name, third.arguments) == ("call_3", "get_weather", "{}")
    assert sum(bool(piece.tool_calls) for piece in before) > 1
    assert all(piece.finish_reason is FinishReason.UNKNOWN for piece in before)
    assert last.finish_reason is FinishReason.TOOL_CALLS
    assert last.usage is not None and not last.tool_calls


async def test_what_comes_together_is_one_piece_with_one_delta_a_call(sim: Simulator, speaker: Speaker) -> None:
    calls = [{"name": "clock", "id": "c"}, WEATHER_CALL]
    plan = {"reasoning": "hm", "text": "So.", "tool_calls": calls, "interval_ms": 0}
    async with aclosing(speaker.provider.stream(request(plan))) as stream:
        pieces = [await anext(stream)]
        await sim.await_request(speaker.provider.name, outcome="completed")
        pieces += [piece async for piece in stream]
    assert (reasoning_of(pieces), text_of(pieces)) == ("hm", "So.")
    assert [call.id for call in calls_of(pieces)] == ["c", "call_1"]
    for piece in pieces:
        indices = [delta.index for delta in piece.tool_calls]
        assert len(set(indices)) == len(indices)


async def test_an_answer_may_be_calls_alone(speaker: Speaker) -> None:
    pieces = await listen(speaker.provider, request({"tool_calls": [{"name": "clock"}]}))
    assert text_of(pieces) == ""
    assert [call.name for call in calls_of(pieces)] == ["clock"]
    assert pieces[-1].finish_reason is FinishReason.TOOL_CALLS


async def test_a_call_without_arguments_has_an_empty_object(speaker: Speaker) -> None:
    pieces = await listen(speaker.provider, request({"tool_calls": [{"name": "clock", "arguments": "", "id": "c"}]}))
    assert calls_of(pieces) == [ToolCall("c", "clock", "{}")]


async def test_a_tool_that_must_be_called_is_called_and_its_result_can_be_sent_back(
    sim: Simulator, speaker: Speaker
) -> None:
    for tool_use, name in (
        (ToolUse((WEATHER, CLOCK), ToolChoice.REQUIRED), "get_weather"),
        (ToolUse((WEATHER, CLOCK), name="clock"), "clock"),
    ):
        begun = user("Do it.")
        pieces = await listen(speaker.provider, request(lines=(begun,), tool_use=tool_use))
        (call,) = calls_of(pieces)
        assert call.name == name
        result = directive({"text": "It is noon."})
        lines = (begun, assistant(call), user(ToolResult(call.id, result)))
        pieces = await listen(speaker.provider, request(lines=lines, tool_use=ToolUse((WEATHER, CLOCK))))
        assert text_of(pieces) == "It is noon."
        assert pieces[-1].finish_reason is FinishReason.STOP


@pytest.mark.parametrize("choice", [ToolChoice.AUTO, ToolChoice.NONE])
async def test_a_tool_that_need_not_be_called_is_not(speaker: Speaker, choice: ToolChoice) -> None:
    pieces = await listen(speaker.provider, request(tool_use=ToolUse((CLOCK,), choice)))
    assert not any(piece.tool_calls for piece in pieces)
    assert pieces[-1].finish_reason is FinishReason.STOP


@pytest.mark.parametrize("name", ["openai", "grok", "together"])
async def test_an_answer_with_calls_that_ends_with_stop_ends_for_its_calls(sim: Simulator, name: str) -> None:
    async with open_speaker(sim, name) as speaker:
        plan = {"tool_calls": [{"name": "clock"}], "finish_reason": "stop"}
        assert (await listen(speaker.provider, request(plan)))[-1].finish_reason is FinishReason.TOOL_CALLS
        plan = {"tool_calls": [{"name": "clock"}], "finish_reason": "length"}
        assert (await listen(speaker.provider, request(plan)))[-1].finish_reason is FinishReason.LENGTH


async def test_reasoning_is_told_apart_from_the_answer(speaker: Speaker) -> None:
    pieces = await listen(speaker.provider, request({"text": "forty-two", "reasoning": "let me think “hard”"}))
    assert text_of(pieces) == "forty-two"
    assert reasoning_of(pieces) == "let me think “hard”"
    assert not pieces[-1].reasoning


async def test_reasoning_is_a_piece_before_there_is_text(speaker: Speaker) -> None:
    plan = {"text": "never", "reasoning": "let me think", "stall_after": 0}
    async with aclosing(speaker.provider.stream(request(plan))) as pieces:
        reasoning = ""
        async for piece in pieces:
            assert (piece.text, piece.model) == ("", "some-model")
            reasoning += piece.reasoning
            if reasoning == "let me think":
                break


async def test_calls_behind_reasoning_and_text_are_counted_from_0(speaker: Speaker) -> None:
    plan = {"reasoning": "hm", "text": "So.", "tool_calls": [{"name": "clock", "id": "c"}]}
    pieces = await listen(speaker.provider, request(plan))
    assert (reasoning_of(pieces), text_of(pieces)) == ("hm", "So.")
    assert calls_of(pieces) == [ToolCall("c", "clock", "{}")]
    plan = {"reasoning": "hm", "tool_calls": [{"name": "clock", "id": "c"}]}
    assert calls_of(await listen(speaker.provider, request(plan))) == [ToolCall("c", "clock", "{}")]


@pytest.mark.parametrize("fault", [{"cut_after": 3}, {"reset_after": 3}, {"error_after": 3}])
async def test_a_call_that_breaks_off_gives_its_pieces_and_raises(speaker: Speaker, fault: dict[str, object]) -> None:
    plan = {"text": "See:", "tool_calls": [WEATHER_CALL], **fault}
    pieces: list[Piece] = []
    with pytest.raises(ProviderError) as caught:
        async with aclosing(speaker.provider.stream(request(plan))) as stream:
            async for piece in stream:
                pieces.append(piece)  # noqa: PERF401  (what came before the failure is what is asked)
    assert caught.value.outcome is Outcome.CUT
    assert calls_of(pieces) == [ToolCall("call_1", "get_weather", '{"city":')]


async def test_a_call_whose_beginning_is_malformed_is_a_cut(speaker: Speaker) -> None:
    plan = {"text": "See:", "tool_calls": [WEATHER_CALL], "malformed_at": 2}
    text, error = await break_off(speaker.provider, request(plan))
    assert (text, error.outcome) == ("See:", Outcome.CUT)


async def test_reasoning_is_counted_as_output_by_whatever_name(speaker: Speaker) -> None:
    plan = {"text": "a b", "reasoning": "x y z", "usage": {"input_tokens": 5}}
    usage = (await listen(speaker.provider, request(plan)))[-1].usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (5, 5)


@pytest.mark.parametrize(
    "lines",
    [
        (user("?"), assistant(ToolCall("c", "clock", "{}")), user("and?")),
        (user("?"), assistant("no call"), user(ToolResult("c", "noon"))),
        (user(Image(content=PNG, media_type="image/bmp")),),
        (user(Image(url="ftp://example.org/a.png")),),
    ],
)
async def test_what_the_provider_would_not_take_is_its_refusal(speaker: Speaker, lines: tuple[Line, ...]) -> None:
    _, error = await break_off(speaker.provider, request(lines=lines))
    assert error.outcome is (Outcome.CONTENT_REFUSED if speaks_anthropic(speaker) else Outcome.NOT_UNDERSTOOD)
    assert error.status == 400


async def test_tokens_are_counted_by_the_provider_that_counts_them(sim: Simulator, speaker: Speaker) -> None:
    lines = (
        user("Look: ", Image(content=PNG, media_type="image/png")),
        assistant(ToolCall("c", "clock", "")),
        user(ToolResult("c", directive({"usage": {"input_tokens": 4321}}))),
    )
    tool_use = ToolUse((CLOCK,), ToolChoice.REQUIRED)
    asked = request(lines=lines, tool_use=tool_use, stop=("END",), temperature=1.0)
    count = await speaker.provider.count_tokens(asked, "sk-of-a-user")
    if not speaks_anthropic(speaker):
        assert count is None
        assert sim.requests() == []
        return
    assert count == 4321
    (counted,) = sim.requests()
    assert counted.path == "/anthropic/v1/messages/count_tokens"
    assert set(counted.parameters) == {"system", "tools", "tool_choice"}
    assert counted.key_fingerprint == fingerprint("sk-of-a-user")
    assert_form(ANTHROPIC_COUNT, counted)
    await listen(speaker.provider, asked)
    assert sim.requests()[-1].messages == counted.messages


async def test_a_count_without_a_plan_is_the_simulators_own(sim: Simulator) -> None:
    async with open_speaker(sim, "anthropic") as speaker:
        short = await speaker.provider.count_tokens(request())
        long = await speaker.provider.count_tokens(request(lines=(line(Role.USER, "word " * 400),)))
    assert short is not None and long is not None
    assert 0 < short < long


@pytest.mark.parametrize(
    ("plan", "outcome"),
    [
        ({"count_status": 529}, Outcome.OVERLOADED),
        ({"count_status": 429, "retry_after": 3}, Outcome.RATE_LIMITED),
        ({"count_status": 401}, Outcome.KEY_REFUSED),
        ({"count_status": 404}, Outcome.MODEL_UNKNOWN),
        ({"count_status": 400, "message": "prompt is too long: 9 tokens > 8 maximum"}, Outcome.CONTEXT_TOO_LONG),
    ],
)
async def test_a_count_fails_as_an_answer_does(sim: Simulator, plan: dict[str, object], outcome: Outcome) -> None:
    async with open_speaker(sim, "anthropic") as speaker:
        with pytest.raises(ProviderError) as caught:
            await speaker.provider.count_tokens(request(plan))
        assert caught.value.outcome is outcome
        assert caught.value.retry_after_s == plan.get("retry_after")
        with pytest.raises(ProviderError) as caught:
            await speaker.again(base_url="http://127.0.0.1:9").count_tokens(request())
        assert caught.value.outcome is Outcome.UNREACHABLE


async def test_a_count_that_takes_too_long_can_be_given_up(sim: Simulator) -> None:
    async with open_speaker(sim, "anthropic") as speaker:
        counting = asyncio.create_task(speaker.provider.count_tokens(request({"count_ms": 60_000})))
        await sim.await_request("anthropic", outcome="open")
        counting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await counting
        await sim.await_request("anthropic", outcome="client_closed")
