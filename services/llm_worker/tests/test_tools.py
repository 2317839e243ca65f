"""More than text through Generate: pictures, tools, reasoning, on both wires, and what breaking off means for them."""

import json
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from llm_worker import attempt
from llm_worker.conversation import ToolCall, ToolResult
from llm_worker.generate_request import read_question
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2

from .harness import Caller, Heard, Refused, open_worker, user

PNG = b"\x89PNG\r\n\x1a\n"
CITIES = [{"name": "look", "arguments": {"city": "Zürich"}}, {"name": "look", "arguments": {"city": "Bern"}}]
wires = pytest.mark.parametrize(
    ("model", "first", "second"),
    [("claude", "anthropic", "grok"), ("gpt", "openai", "anthropic")],
    ids=["anthropic", "openai"],
)


def schema() -> Struct:
    made = Struct()
    made.update({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
    return made


LOOK = llm_pb2.Tool(name="look", description="Looks out of the window.", parameters=schema())


def calls_of(heard: Heard) -> list[tuple[str, str, Any]]:
    """The calls put together from their pieces: id, name, arguments."""
    calls: dict[int, list[str]] = {}
    for delta in heard.tool_calls:
        call = calls.setdefault(delta.index, [delta.id, delta.name, ""])
        assert delta.id in ("", call[0])
        call[2] += delta.arguments
    assert list(calls) == list(range(len(calls)))
    return [(call_id, name, json.loads(arguments)) for call_id, name, arguments in calls.values()]


@wires
async def test_tools_are_asked_for_in_pieces_and_their_results_answered(
    sim: Simulator, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, {"text": "Let me see.", "tool_calls": CITIES}, then={"text": "Both are sunny."})
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model, tools=[LOOK])
        calls = calls_of(heard)
        assert heard.text == "Let me see."
        assert [(name, arguments["city"]) for _, name, arguments in calls] == [("look", "Zürich"), ("look", "Bern")]
        assert heard.answer.finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS
        asked = [
            llm_pb2.Part(tool_call=llm_pb2.ToolCall(id=call_id, name=name, arguments=json.dumps(arguments)))
            for call_id, name, arguments in calls
        ]
        found = [
            llm_pb2.Part(tool_result=llm_pb2.ToolResult(tool_call_id=call_id, text="sunny", is_error=at == 1))
            for at, (call_id, _, _) in enumerate(calls)
        ]
        conversation = [
            user("How is it there?"),
            llm_pb2.InputMessage(role=chat_pb2.ROLE_ASSISTANT, parts=[llm_pb2.Part(text="Let me see."), *asked]),
            llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=[*found, llm_pb2.Part(text="And?")]),
        ]
        heard = await caller.generate(model=model, tools=[LOOK], messages=conversation)
        assert (heard.text, heard.tried) == ("Both are sunny.", [first])


@wires
async def test_calls_of_the_same_id_in_two_answers_are_told_apart(
    sim: Simulator, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, then={"text": "fine"})

    def call(arguments: str) -> llm_pb2.InputMessage:
        asked = llm_pb2.ToolCall(id="call_0", name="look", arguments=arguments)
        return llm_pb2.InputMessage(role=chat_pb2.ROLE_ASSISTANT, parts=[llm_pb2.Part(tool_call=asked)])

    def result(text: str) -> llm_pb2.InputMessage:
        found = llm_pb2.ToolResult(tool_call_id="call_0", text=text)
        return llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=[llm_pb2.Part(tool_result=found)])

    deep = '{"a":' * 100 + "1" + "}" * 100
    conversation = [user("hi"), call("{}"), result("one"), call(deep), result("two")]
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model, tools=[LOOK], messages=conversation)
    assert (heard.text, heard.tried) == ("fine", [first])
    sent = json.dumps(sim.requests(first)[0].messages)
    assert sent.count('"call_0"') == sent.count('"call_0-2"') == 2


@wires
async def test_a_picture_goes_to_whichever_target_answers(sim: Simulator, model: str, first: str, second: str) -> None:
    pictures = [
        llm_pb2.Part(text="What is this?"),
        llm_pb2.Part(image=llm_pb2.Image(url="https://pictures.test/a.png")),
        llm_pb2.Part(image=llm_pb2.Image(content=PNG, media_type="image/png")),
    ]
    sim.set_plans(first, then={"status": 401})
    sim.set_plans(second, then={"text": "A picture."})
    async with open_worker(sim) as caller:
        message = llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=pictures)
        heard = await caller.generate(model=model, messages=[message])
    assert (heard.text, heard.tried) == ("A picture.", [first, second])
    for asked in sim.requests():
        sent = json.dumps(asked.messages)
        assert "https://pictures.test/a.png" in sent
        assert "iVBORw0KGgo=" in sent


@wires
async def test_reasoning_is_kept_apart_from_the_answer(sim: Simulator, model: str, first: str, second: str) -> None:
    sim.set_plans(first, then={"reasoning": "two and two make four", "text": "Four."})
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model)
    assert ("".join(heard.reasoning), heard.text) == ("two and two make four", "Four.")


@wires
async def test_reasoning_is_a_sign_of_life(sim: Simulator, model: str, first: str, second: str) -> None:
    plan = {"reasoning": "one two three four five six seven eight nine ten", "interval_ms": 100, "text": "Ten."}
    sim.set_plans(first, then=plan)
    quick = {"SWITCHBOARD__WORKER__TTFT_TIMEOUT_S": "0.4", "SWITCHBOARD__WORKER__IDLE_TIMEOUT_S": "0.4"}
    async with open_worker(sim, **quick) as caller:
        heard = await caller.generate(model=model)
    assert (heard.text, heard.tried) == ("Ten.", [first])


@wires
async def test_what_broke_while_it_reasoned_is_asked_of_the_next(
    sim: Simulator, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, then={"reasoning": "let me think", "cut_after": 0, "text": "never"})
    sim.set_plans(second, then={"text": "Four."})
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model)
    assert (heard.text, heard.tried) == ("Four.", [first, second])


@wires
async def test_once_a_call_has_begun_nobody_goes_on_and_the_answer_is_an_error(
    sim: Simulator, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, then={"tool_calls": CITIES, "cut_after": 2})
    async with open_worker(sim) as caller:
        heard = Heard()
        with pytest.raises(Refused) as caught:
            await caller.generate(model=model, tools=[LOOK], heard=heard)
    assert (caught.value.status, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    assert heard.tool_calls
    assert heard.finished is None
    assert sim.requests(second) == []


@wires
async def test_text_before_a_call_that_was_cut_is_gone_on_with(
    sim: Simulator, model: str, first: str, second: str
) -> None:
    sim.set_plans(first, then={"text": "Let me see.", "tool_calls": CITIES, "cut_after": 2})
    sim.set_plans(second, then={"text": "Let me see.", "goes_on": 0, "tool_calls": CITIES[:1]})
    async with open_worker(sim) as caller:
        heard = await caller.generate(model=model, tools=[LOOK])
    assert (heard.text, heard.tried) == ("Let me see.", [first, second])
    assert [name for _, name, _ in calls_of(heard)] == ["look"]


@pytest.mark.parametrize(
    ("fields", "anthropic", "openai"),
    [
        ({}, None, None),
        ({"tool_choice": llm_pb2.TOOL_CHOICE_NONE}, {"type": "none"}, "none"),
        ({"tool_choice": llm_pb2.TOOL_CHOICE_REQUIRED}, {"type": "any"}, "required"),
        (
            {"tool_choice_name": "look"},
            {"type": "tool", "name": "look"},
            {"type": "function", "function": {"name": "look"}},
        ),
    ],
    ids=["auto", "none", "required", "one"],
)
async def test_whether_a_tool_must_be_asked_for_is_said_in_each_wires_words(
    sim: Simulator, fields: dict[str, Any], anthropic: Any, openai: Any
) -> None:
    sim.set_plans("anthropic", then={"text": "fine"})
    sim.set_plans("openai", then={"text": "fine"})
    async with open_worker(sim) as caller:
        for model in ("claude", "gpt"):
            await caller.generate(model=model, tools=[LOOK], **fields)
    asked = {one.provider: one.parameters for one in sim.requests()}
    assert asked["anthropic"].get("tool_choice") == anthropic
    assert asked["openai"].get("tool_choice") == openai
    assert asked["anthropic"]["tools"][0]["input_schema"]["required"] == ["city"]
    assert asked["openai"]["tools"][0]["function"]["parameters"]["properties"] == {"city": {"type": "string"}}


async def test_tools_count_as_tokens_in_what_an_attempt_cost(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"first_token_ms": 60_000})
    async with open_worker(sim, SWITCHBOARD__WORKER__TTFT_TIMEOUT_S="0.3") as caller:
        plain, with_tools = [await estimated(caller, tools) for tools in ([], [LOOK])]
    assert with_tools > plain + 15


async def estimated(caller: Caller, tools: list[llm_pb2.Tool]) -> int:
    return (await caller.generate(tools=tools)).answer.attempts[0].usage.input_tokens


async def test_reasoning_comes_before_the_text_that_was_read_with_it(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"reasoning": "let me think", "text": "Four.", "interval_ms": 0})
    async with open_worker(sim) as caller:
        kinds = [response.WhichOneof("kind") async for response in caller.call()]
    assert kinds.index("text") > max(at for at, kind in enumerate(kinds) if kind == "reasoning")


async def test_reasoning_of_who_goes_on_is_heard_and_bounded(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.set_plans("anthropic", then={"text": "Two and two make four.", "cut_after": 3})
    sim.set_plans("grok", then={"reasoning": "where was I", "text": "Two and two make four.", "goes_on": 0})
    sim.set_plans("openai", then={"text": "Two and two make four.", "goes_on": 0})
    async with open_worker(sim) as caller:
        heard = await caller.generate()
        assert ("".join(heard.reasoning), heard.text) == ("where was I", "Two and two make four.")
        sim.set_plans("grok", then={"reasoning": "where was I " * 20, "text": "Two and two make four.", "goes_on": 0})
        monkeypatch.setattr(attempt, "MAX_ANSWER_CHARS", 40)
        heard = await caller.generate()
        assert (heard.text, heard.tried) == ("Two and two make four.", ["anthropic", "grok", "openai"])
        assert len("".join(heard.reasoning)) < 60


async def test_calls_without_end_end_with_the_bound_of_an_answer(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "MAX_ANSWER_CHARS", 200)
    sim.set_plans("anthropic", then={"tool_calls": [{"name": "look" * 10, "arguments": {}}] * 20})
    async with open_worker(sim) as caller:
        heard = await caller.generate(tools=[LOOK])
    assert heard.answer.finish_reason == chat_pb2.FINISH_REASON_LENGTH
    assert sum(len(delta.name) for delta in heard.tool_calls) < 300


@pytest.mark.parametrize("number", [1e30, 1.7976931348623157e308, 2.0**53, 5.0])
async def test_a_schema_with_large_numbers_is_one(sim: Simulator, number: float) -> None:
    parameters = Struct()
    parameters.update({"type": "object", "properties": {"n": {"type": "number", "maximum": number}}})
    sim.set_plans("anthropic", then={"text": "fine"})
    async with open_worker(sim) as caller:
        assert (await caller.generate(tools=[llm_pb2.Tool(name="count", parameters=parameters)])).text == "fine"
    sent = sim.requests()[0].parameters["tools"][0]["input_schema"]["properties"]["n"]["maximum"]
    assert sent == number


async def test_a_number_that_is_none_is_refused(sim: Simulator) -> None:
    parameters = Struct()
    parameters.fields["maximum"].number_value = float("nan")
    async with open_worker(sim) as caller:
        with pytest.raises(Refused) as caught:
            await caller.generate(tools=[LOOK, llm_pb2.Tool(name="count", parameters=parameters)])
    assert (caught.value.reason, caught.value.fields) == ("INVALID_ARGUMENT", ["tools[1].parameters"])


async def test_ids_that_are_given_anew_meet_no_others() -> None:
    def asked(*ids: str) -> llm_pb2.InputMessage:
        calls = [llm_pb2.Part(tool_call=llm_pb2.ToolCall(id=each, name="look")) for each in ids]
        return llm_pb2.InputMessage(role=chat_pb2.ROLE_ASSISTANT, parts=calls)

    def found(*ids: str) -> llm_pb2.InputMessage:
        results = [llm_pb2.Part(tool_result=llm_pb2.ToolResult(tool_call_id=each, text=each)) for each in ids]
        return llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=results)

    messages = [user("hi"), asked("a"), found("a"), asked("a", "a-2"), found("a-2", "a"), asked("a"), found("a")]
    question = read_question(llm_pb2.GenerateRequest(messages=messages))
    calls = [part for line in question.lines for part in line.parts if isinstance(part, ToolCall)]
    results = [part for line in question.lines for part in line.parts if isinstance(part, ToolResult)]
    assert [call.id for call in calls] == ["a", "a-3", "a-2", "a-4"]
    assert [(result.call_id, result.text) for result in results] == [
        ("a", "a"),
        ("a-2", "a-2"),
        ("a-3", "a"),
        ("a-4", "a"),
    ]


def test_many_small_texts_are_joined_in_no_time() -> None:
    """Text by text they were copied ten thousand times over: minutes, in which nobody else was answered."""
    text = "x" * 300 + "😀"
    parts = [llm_pb2.Part(text=text)] * 10_000
    request = llm_pb2.GenerateRequest(messages=[llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=parts)])
    assert read_question(request).lines[0].text == text * 10_000
    request = llm_pb2.GenerateRequest(messages=[user(text)] * 10_000)
    assert len(read_question(request).lines[0].text) == (len(text) + 2) * 10_000 - 2
