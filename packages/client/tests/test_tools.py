"""Pictures, tools and reasoning through the client: to the provider's wire and back."""

import json

import pytest
from simulator.process import Simulator
from switchboard_client import (
    ErrorCode,
    FinishReason,
    Image,
    Message,
    Options,
    Reasoning,
    SwitchboardError,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    assistant,
    user,
)

from .worker import asking, open_client

WEATHER = Tool("weather", "Now.", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
CLOCK = Tool("clock")
CALLS = [{"name": "weather", "arguments": '{"city": "Oslo"}', "id": "call-1"}, {"name": "clock", "id": "call-2"}]
FINE = {"text": "fine"}

models = pytest.mark.parametrize("model", ["claude", "gpt"])
"""Both wire formats."""


@models
async def test_tools_are_asked_for_and_their_results_answered(sim: Simulator, model: str) -> None:
    provider = {"claude": "anthropic", "gpt": "openai"}[model]
    await sim.aset_plans(provider, {"text": "Let me see.", "tool_calls": CALLS}, {"text": "Rain."})
    options: Options = {"model": model, "tools": [WEATHER, CLOCK]}
    messages = [user("How is it in Oslo?")]
    async with open_client(sim) as client:
        async with client.generate(messages, **options) as answer:
            finished = await answer.finish()
        assert (finished.finish_reason, answer.text) == (FinishReason.TOOL_CALLS, "Let me see.")
        assert [(call.name, call.parse()) for call in answer.tool_calls] == [
            ("weather", {"city": "Oslo"}),
            ("clock", {}),
        ]
        results = [ToolResult(call.id, "4 degrees") for call in answer.tool_calls]
        messages += [answer.as_message(), user(*results, "So?")]
        assert await client.complete(messages, **options) == "Rain."
    asked = json.dumps((await sim.arequests(provider))[-1].messages)
    assert all(part in asked for part in ("Let me see.", "call-1", "call-2", "Oslo", "4 degrees", "So?"))


@models
@pytest.mark.parametrize(
    ("choice", "called"),
    [(ToolChoice.REQUIRED, ["weather"]), (ToolChoice.NONE, []), (ToolChoice.AUTO, []), (CLOCK, ["clock"])],
)
async def test_whether_a_tool_must_be_asked_for_is_the_callers_to_say(
    sim: Simulator, model: str, choice: ToolChoice | Tool, called: list[str]
) -> None:
    options: Options = {"model": model, "tools": [WEATHER, CLOCK], "tool_choice": choice}
    async with open_client(sim) as client, client.generate([user("hi")], **options) as answer:
        await answer.finish()
    assert [call.name for call in answer.tool_calls] == called


@models
async def test_a_picture_reaches_the_provider(sim: Simulator, model: str) -> None:
    async with open_client(sim) as client:
        picture = Image(content=b"GIF89a", media_type="image/gif")
        await client.complete([user("What is it?", picture, Image(url="https://x.example/y.png"))], model=model)
    (asked,) = await sim.arequests()
    told = json.dumps(asked.messages)
    assert "image/gif" in told
    assert "https://x.example/y.png" in told


@models
async def test_reasoning_is_no_part_of_the_answer(sim: Simulator, model: str) -> None:
    async with (
        open_client(sim) as client,
        client.generate(asking({"reasoning": "Hm hm.", **FINE}), model=model) as answer,
    ):
        pieces = [piece async for piece in answer]
    assert "".join(piece.text for piece in pieces if isinstance(piece, Reasoning)) == answer.reasoning == "Hm hm."
    assert answer.text == "fine"


@pytest.mark.parametrize(
    ("messages", "options", "field"),
    [
        ([user("hi", Image(url="http://x/y.png"))], {}, "messages[0].parts[1].image.url"),
        ([user(Image(content=b"x", media_type="image/bmp"))], {}, "messages[0].parts[0].image.media_type"),
        ([user("hi"), assistant(ToolCall("a", "clock")), user("so?")], {}, "messages"),
        (
            [user("hi"), assistant(ToolCall("a", "clock", "[")), user("x")],
            {},
            "messages[1].parts[0].tool_call.arguments",
        ),
        ([user("hi")], {"tools": [CLOCK, CLOCK]}, "tools[1].name"),
        ([user("hi")], {"tool_choice": ToolChoice.REQUIRED}, "tool_choice"),
        ([user("hi")], {"tools": [CLOCK], "tool_choice": WEATHER}, "tool_choice_name"),
    ],
)
async def test_what_is_wrong_with_them_is_named(
    sim: Simulator, messages: list[Message], options: Options, field: str
) -> None:
    async with open_client(sim) as client:
        with pytest.raises(SwitchboardError) as caught:
            await client.complete(messages, **options)
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_ARGUMENT, field)
    assert field in caught.value.message
