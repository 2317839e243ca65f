"""The conformance suite of the provider port: every adapter, over real HTTP, against the simulator's wire."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from chat.messages import FinishReason, Role
from llm_worker.conversation import line
from llm_worker.outcome import Outcome, ProviderError
from simulator.process import Simulator
from simulator.record import fingerprint

from .speakers import ADAPTERS, Speaker, break_off, listen, open_speaker, request, text_of


@pytest.fixture(params=list(ADAPTERS))
async def speaker(sim: Simulator, request: pytest.FixtureRequest) -> AsyncIterator[Speaker]:
    async with open_speaker(sim, request.param) as speaker:
        yield speaker


async def test_a_whole_answer_says_its_text_model_counts_and_why_it_ended(speaker: Speaker) -> None:
    plan = {"text": "Grüße, 世界 🌍!", "delta_chars": 1, "usage": {"input_tokens": 11, "output_tokens": 7}}
    pieces = await listen(speaker.provider, request(plan))
    *before, last = pieces
    assert text_of(pieces) == "Grüße, 世界 🌍!"
    assert all(piece.finish_reason is FinishReason.UNKNOWN and piece.usage is None for piece in before)
    assert last.finish_reason is FinishReason.STOP
    assert last.model == "some-model"
    assert last.usage is not None
    assert (last.usage.input_tokens, last.usage.output_tokens, last.usage.estimated) == (11, 7, False)


async def test_what_is_asked_arrives_in_the_providers_words(sim: Simulator, speaker: Speaker) -> None:
    lines = (line(Role.USER, "one"), line(Role.ASSISTANT, "two"), line(Role.USER, "three"))
    await listen(speaker.provider, request(lines=lines, temperature=0.25, stop=("END",), max_output_tokens=77))
    asked = sim.wait_for_request(speaker.provider.name, outcome="completed")
    said = [(message["role"], message["content"]) for message in asked.messages]
    parameters = asked.parameters
    if speaker.settings.kind == "anthropic":
        assert said == [("user", "one"), ("assistant", "two"), ("user", "three")]
        assert (parameters["system"], parameters["stop_sequences"]) == ("Be kind.", ["END"])
        assert "temperature" not in parameters
    else:
        assert said == [("system", "Be kind."), ("user", "one"), ("assistant", "two"), ("user", "three")]
        assert (parameters["stop"], parameters["temperature"]) == (["END"], 0.25)
    assert parameters["max_tokens"] == 77
    assert asked.stream
    assert asked.key_fingerprint == fingerprint("sk-platform")


async def test_the_limit_goes_in_the_field_that_is_configured(sim: Simulator) -> None:
    async with open_speaker(sim, "openai") as speaker:
        await listen(speaker.again(limit_field="max_completion_tokens"), request())
    assert sim.requests("openai")[0].parameters["max_completion_tokens"] == 64


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("something_new", FinishReason.STOP),
    ],
)
async def test_finish_reasons_are_translated(speaker: Speaker, said: str, meant: FinishReason) -> None:
    plan = {"text": "hi", "finish_reason": said} | ({"tool_calls": [{"name": "clock"}]} if said == "tool_calls" else {})
    pieces = await listen(speaker.provider, request(plan))
    assert pieces[-1].finish_reason is meant


@pytest.mark.parametrize(
    ("plan", "outcome"),
    [
        ({"status": 500}, Outcome.OVERLOADED),
        ({"status": 502}, Outcome.OVERLOADED),
        ({"status": 503}, Outcome.OVERLOADED),
        ({"status": 504}, Outcome.OVERLOADED),
        ({"status": 529}, Outcome.OVERLOADED),
        ({"status": 408}, Outcome.OVERLOADED),
        ({"status": 429}, Outcome.RATE_LIMITED),
        ({"status": 401}, Outcome.KEY_REFUSED),
        ({"status": 402}, Outcome.KEY_REFUSED),
        ({"status": 403}, Outcome.KEY_REFUSED),
        ({"status": 404}, Outcome.MODEL_UNKNOWN),
        ({"status": 413}, Outcome.CONTEXT_TOO_LONG),
        ({"code": "insufficient_quota"}, Outcome.KEY_REFUSED),
        ({"code": "credit_balance_exhausted"}, Outcome.KEY_REFUSED),
        ({"code": "model_not_found"}, Outcome.MODEL_UNKNOWN),
        ({"code": "content_policy"}, Outcome.CONTENT_REFUSED),
        ({"reset_before_headers": True}, Outcome.UNREACHABLE),
    ],
)
async def test_an_error_before_the_answer_is_told_by_its_status_or_code(
    speaker: Speaker, plan: dict[str, object], outcome: Outcome
) -> None:
    text, error = await break_off(speaker.provider, request(plan))
    assert (text, error.outcome) == ("", outcome)


@pytest.mark.parametrize("code", ["project_spend_limit_exceeded", "slow_down"])
async def test_a_429_is_a_spent_balance_by_its_type_whatever_its_code(sim: Simulator, code: str) -> None:
    async with open_speaker(sim, "openai") as speaker:
        for kind, outcome in (("insufficient_quota", Outcome.KEY_REFUSED), ("requests", Outcome.RATE_LIMITED)):
            plan = {"status": 429, "code": code, "error_type": kind}
            _, error = await break_off(speaker.provider, request(plan))
            assert error.outcome is outcome


async def test_a_refusal_that_only_speaks_of_a_balance_stays_a_refusal(sim: Simulator) -> None:
    async with open_speaker(sim, "anthropic") as speaker:
        plan = {"status": 400, "message": "messages.0: Your credit balance is too low"}
        _, error = await break_off(speaker.provider, request(plan))
    assert error.outcome is Outcome.CONTENT_REFUSED


async def test_a_conversation_that_is_too_long_is_told(speaker: Speaker) -> None:
    _, error = await break_off(speaker.provider, request({"code": "context_length_exceeded"}))
    assert error.outcome is Outcome.CONTEXT_TOO_LONG


@pytest.mark.parametrize(
    ("status", "message", "outcome"),
    [
        (400, "prompt is too long: 208310 tokens > 200000 maximum", Outcome.CONTEXT_TOO_LONG),
        (400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000", Outcome.CONTEXT_TOO_LONG),
        (413, "Request exceeds the maximum size", Outcome.CONTEXT_TOO_LONG),
        (400, "messages.0: the prompt is too long", Outcome.CONTENT_REFUSED),
        (529, "prompt is too long", Outcome.OVERLOADED),
    ],
)
async def test_anthropic_says_by_a_texts_beginning_that_a_conversation_is_too_long(
    sim: Simulator, status: int, message: str, outcome: Outcome
) -> None:
    async with open_speaker(sim, "anthropic") as speaker:
        _, error = await break_off(speaker.provider, request({"status": status, "message": message}))
    assert error.outcome is outcome


async def test_retry_after_is_handed_on(speaker: Speaker) -> None:
    _, error = await break_off(speaker.provider, request({"status": 429, "retry_after": 7}))
    assert (error.outcome, error.retry_after_s) == (Outcome.RATE_LIMITED, 7.0)


async def test_a_provider_that_is_not_there_is_unreachable(speaker: Speaker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    _, error = await break_off(speaker.again(base_url=f"http://127.0.0.1:{port}"), request())
    assert error.outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize(
    "fault", [{"cut_after": 3}, {"reset_after": 3}, {"error_after": 3}, {"no_finish": True, "deltas": 3}]
)
async def test_an_answer_that_breaks_off_gives_its_text_and_raises(speaker: Speaker, fault: dict[str, object]) -> None:
    plan = {"deltas": 9, "delta_chars": 4, **fault}
    text, error = await break_off(speaker.provider, request(plan))
    assert len(text) == 12
    assert error.rule.counts
    assert error.rule.code.name == "PROVIDER_UNAVAILABLE"


@pytest.mark.parametrize("fault", [{"cut_after": 3}, {"reset_after": 3}])
async def test_what_came_while_its_reader_was_busy_outlives_the_connection(
    sim: Simulator, speaker: Speaker, fault: dict[str, object]
) -> None:
    asked = request({"deltas": 9, "delta_chars": 4, "interval_ms": 20, **fault})
    texts: list[str] = []
    with pytest.raises(ProviderError) as caught:
        async with aclosing(speaker.provider.stream(asked)) as pieces:
            async for piece in pieces:
                texts.append(piece.text)
                await sim.await_request(speaker.provider.name, outcome="faulted")
    assert len("".join(texts)) == 12
    assert caught.value.outcome is Outcome.CUT


async def test_a_malformed_event_loses_its_text_and_nothing_else(speaker: Speaker) -> None:
    pieces = await listen(speaker.provider, request({"text": "one two three", "malformed_at": 2}))
    assert text_of(pieces) == "one three"
    assert pieces[-1].finish_reason is FinishReason.STOP


async def test_an_answer_whose_end_is_never_sent_is_whole_at_its_finish_reason(speaker: Speaker) -> None:
    async with asyncio.timeout(10):  # the simulator would hold the connection for ever
        pieces = await listen(speaker.provider, request({"text": "one two", "no_done": True}))
    assert text_of(pieces) == "one two"
    assert pieces[-1].finish_reason is FinishReason.STOP
    assert pieces[-1].usage is not None


async def test_keep_alives_are_no_pieces(speaker: Speaker) -> None:
    plan = {"text": "one two", "stall_after": 1, "stall_ms": 200, "pings_while_stalled": True}
    pieces = await listen(speaker.provider, request(plan))
    assert [piece.text for piece in pieces if piece.text] == ["one ", "two"]


async def test_closing_the_stream_ends_the_providers_call(sim: Simulator, speaker: Speaker) -> None:
    async with aclosing(speaker.provider.stream(request({"deltas": 100_000}))) as pieces:
        await anext(pieces)
    await sim.await_request(speaker.provider.name, outcome="client_closed")


async def test_cancelling_the_task_ends_the_providers_call(sim: Simulator, speaker: Speaker) -> None:
    asking = asyncio.create_task(listen(speaker.provider, request({"deltas": 100_000})))
    await sim.await_request(speaker.provider.name, outcome="open", least_deltas=3)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await sim.await_request(speaker.provider.name, outcome="client_closed")


async def test_a_call_may_bring_its_own_key_and_the_next_has_the_platforms_again(
    sim: Simulator, speaker: Speaker
) -> None:
    await listen(speaker.provider, request(), "sk-of-a-user")
    await listen(speaker.provider, request())
    used = [asked.key_fingerprint for asked in sim.requests(speaker.provider.name)]
    assert used == [fingerprint("sk-of-a-user"), fingerprint("sk-platform")]


async def test_many_answers_at_once_stay_apart_and_are_read_in_fewer_pieces_than_events(speaker: Speaker) -> None:
    plans = [{"text": f"<{n}>" * 60, "deltas": 60, "interval_ms": 2} for n in range(60)]
    answers = await asyncio.gather(*(listen(speaker.provider, request(plan)) for plan in plans))
    assert [text_of(pieces) for pieces in answers] == [plan["text"] for plan in plans]
    # Paced: a read takes several of the events that came meanwhile.
    assert sum(len(pieces) for pieces in answers) < 60 * 60 / 2
