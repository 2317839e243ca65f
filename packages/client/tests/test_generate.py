"""Answers through the client: real gRPC to a real worker, whose providers are the simulator."""

import asyncio

import pytest
from simulator.process import Simulator
from switchboard_client import (
    BreakerState,
    ErrorCode,
    Finished,
    FinishReason,
    Message,
    Options,
    Started,
    SwitchboardClient,
    SwitchboardError,
    Text,
    assistant,
    system,
    user,
)

from .worker import NOWHERE, TOKEN, asking, open_client, open_worker

FINE = {"text": "All is fine.", "usage": {"input_tokens": 3, "output_tokens": 2}}
ENDLESS = {"deltas": 100_000}


async def test_an_answer_comes_in_pieces_that_its_end_follows(sim: Simulator) -> None:
    async with open_client(sim) as client, client.generate(asking(FINE), model="claude", timeout_s=60) as answer:
        pieces = [piece async for piece in answer]
    first, *middle, last = pieces
    assert isinstance(first, Started)
    assert (first.provider, answer.started) == ("anthropic", first)
    assert "".join(piece.text for piece in middle if isinstance(piece, Text)) == answer.text == "All is fine."
    assert isinstance(last, Finished)
    assert answer.finished is last
    assert (last.finish_reason, last.provider) == (FinishReason.STOP, "anthropic")
    assert (last.usage.input_tokens, last.usage.output_tokens, last.usage.estimated) == (3, 2, False)
    assert [(one.provider, one.failure, one.billed) for one in last.attempts] == [("anthropic", "", True)]
    assert answer.as_message() == assistant("All is fine.")


async def test_the_text_alone_and_the_whole_of_it_are_a_line_each(sim: Simulator) -> None:
    async with open_client(sim) as client:
        async with client.generate(asking(FINE)) as answer:
            assert "".join([text async for text in answer.texts()]) == "All is fine."
            assert answer.finished is not None
        assert await client.complete(asking(FINE)) == "All is fine."


async def test_what_another_provider_ended_says_who_was_asked(sim: Simulator) -> None:
    plan = {"anthropic": {"status": 401}, "*": FINE}
    async with open_client(sim) as client, client.generate(asking(plan), model="claude") as answer:
        finished = await answer.finish()
    assert [(one.provider, one.failure) for one in finished.attempts] == [
        ("anthropic", "PROVIDER_UNAVAILABLE"),
        ("grok", ""),
    ]


async def test_a_conversation_and_its_settings_reach_the_provider(sim: Simulator) -> None:
    messages = [system("Be brief."), user("One?"), assistant("Two."), user("Three", " and four?")]
    options: Options = {"model": "gpt", "temperature": 0.5, "max_output_tokens": 7, "stop": ["END"]}
    await sim.aset_plans("openai", FINE)
    async with open_client(sim) as client:
        await client.complete(messages, **options)
    (asked,) = await sim.arequests("openai")
    assert [(one["role"], one["content"]) for one in asked.messages] == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "Two."),
        ("user", "Three and four?"),
    ]
    assert (asked.parameters["temperature"], asked.parameters["stop"]) == (0.5, ["END"])


async def test_leaving_the_block_ends_the_providers_call(sim: Simulator) -> None:
    async with open_client(sim) as client:
        async with client.generate(asking(ENDLESS)) as answer:
            async for _ in answer.texts():
                break
        await sim.await_request("anthropic", outcome="client_closed")
        assert answer.finished is None
        with pytest.raises(RuntimeError):
            await anext(answer)
        with pytest.raises(ValueError, match="not whole"):
            answer.as_message()


async def test_cancelling_the_reader_ends_the_providers_call_and_stays_a_cancellation(sim: Simulator) -> None:
    async with open_client(sim) as client:
        task = asyncio.create_task(client.complete(asking(ENDLESS)))
        await sim.await_request("anthropic", outcome="open", least_deltas=1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sim.await_request("anthropic", outcome="client_closed")


async def test_closing_the_client_ends_what_others_read_with_an_error(sim: Simulator) -> None:
    async with open_worker(sim) as address:
        async with SwitchboardClient(address, token=TOKEN) as client:
            task = asyncio.create_task(client.complete(asking(ENDLESS)))
            await sim.await_request("anthropic", outcome="open", least_deltas=1)
        with pytest.raises(SwitchboardError) as caught:
            await task
        assert caught.value.code is ErrorCode.CANCELLED
        await sim.await_request("anthropic", outcome="client_closed")
        with pytest.raises(RuntimeError):
            await client.list_models()


async def test_the_deadline_ends_the_answer_and_the_providers_call(sim: Simulator) -> None:
    async with open_client(sim) as client:
        with pytest.raises(SwitchboardError) as caught:
            await client.complete(asking(ENDLESS), timeout_s=0.5)
        await sim.await_request("anthropic", outcome="client_closed")
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.DEADLINE_EXCEEDED, True)


async def test_what_was_read_before_a_failure_is_no_whole_answer(sim: Simulator) -> None:
    plan = {"text": "one two three four", "cut_after": 2}
    once = {"SWITCHBOARD__RETRIES__MAX_ATTEMPTS": "1"}
    async with open_client(sim, **once) as client, client.generate(asking(plan)) as answer:
        with pytest.raises(SwitchboardError) as caught:
            await answer.finish()
    assert caught.value.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert (answer.text, answer.finished) == ("one two ", None)
    assert len(await sim.arequests()) == 1, "an answer of which text was read was asked for again"


@pytest.mark.parametrize(
    ("messages", "options", "code", "field", "says"),
    [
        ([user("hi")], {"model": "nonsense"}, ErrorCode.NOT_FOUND, "", "ListModels"),
        ([user("hi")], {"temperature": 3.0}, ErrorCode.INVALID_ARGUMENT, "temperature", "2.0"),
        ([user("")], {}, ErrorCode.INVALID_ARGUMENT, "messages[0].parts[0]", "empty"),
        ([], {}, ErrorCode.INVALID_ARGUMENT, "messages", "at least one"),
        (asking({"code": "content_policy"}), {}, ErrorCode.PROVIDER_REFUSED, "", "rephrase"),
        ([user("x" * 9_000_000)], {}, ErrorCode.TOO_LARGE, "", "8 MiB"),
    ],
    ids=lambda value: value if isinstance(value, ErrorCode) else "",
)
async def test_a_request_that_would_fail_again_says_what_to_do_and_is_made_once(
    sim: Simulator, messages: list[Message], options: Options, code: ErrorCode, field: str, says: str
) -> None:
    async with open_client(sim) as client:
        with pytest.raises(SwitchboardError) as caught:
            await client.complete(messages, **options)
    error = caught.value
    assert (error.code, error.field, error.retryable) == (code, field, False)
    assert says in error.message
    assert str(error).startswith(f"{code.value}: ")
    assert len(await sim.arequests()) <= 1


async def test_a_wrong_token_is_refused(sim: Simulator) -> None:
    async with open_worker(sim) as address, SwitchboardClient(address, token="wrong") as client:
        for call in (client.complete([user("hi")]), client.list_models()):
            with pytest.raises(SwitchboardError, match="token") as caught:
                await call
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.UNAUTHENTICATED, False)


async def test_without_any_provider_key_the_caller_is_told_so(sim: Simulator) -> None:
    none = {"ANTHROPIC_API_KEY": "", "GROK_API_KEY": "", "OPENAI_API_KEY": ""}
    async with open_client(sim, **none) as client:
        with pytest.raises(SwitchboardError) as caught:
            await client.complete([user("hi")])
        assert caught.value.code is ErrorCode.NO_API_KEY


async def test_models_and_providers_are_listed(sim: Simulator) -> None:
    async with open_client(sim) as client:
        models = {model.id: model for model in await client.list_models()}
        assert (models["gpt-4o"].provider, models["gpt-4o"].context_tokens) == ("openai", 128_000)
        await client.complete(asking({"anthropic": {"status": 500}, "*": FINE}), model="claude-sonnet-4-5")
        targets = {(one.provider, one.model): one for one in await client.provider_status()}
    unwell = targets["anthropic", "claude-sonnet-4-5"]
    assert (unwell.configured, unwell.breaker, unwell.failure_threshold) == (True, BreakerState.CLOSED, 5)
    assert unwell.failures > 0
    assert unwell.last_failure_at is not None
    assert unwell.cooling_down_until is None


async def test_one_dead_address_of_two_is_passed_over(sim: Simulator) -> None:
    async with open_worker(sim) as address, SwitchboardClient([NOWHERE, address], token=TOKEN) as client:
        for _ in range(4):
            assert await client.complete(asking(FINE)) == "All is fine."


async def test_calls_go_round_over_all_addresses(sim: Simulator) -> None:
    claude = {"GROK_API_KEY": "", "OPENAI_API_KEY": ""}
    grok = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": ""}
    async with (
        open_worker(sim, **claude) as one,
        open_worker(sim, **grok) as other,
        SwitchboardClient([one, other], token=TOKEN) as client,
    ):
        seen: set[str] = set()
        # The first calls may find but one of the two connected.
        async with asyncio.timeout(10):
            while len(seen) < 2:
                seen.add((await client.list_models())[0].provider)
        turns = [(await client.list_models())[0].provider for _ in range(4)]
    assert turns in (["anthropic", "grok"] * 2, ["grok", "anthropic"] * 2)
