"""Good answers, over the official SDKs: what a plan says about text and pace, on every wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import anthropic
import openai
from simulator.process import Simulator


async def test_the_default_answer_says_who_is_speaking_and_streams_word_by_word(speaker: Any) -> None:
    heard = await speaker.listen("how are you?")
    assert f"**simulator** of provider **{speaker.provider}**" in heard.text
    assert "“how are you?”" in heard.text
    assert len(heard.deltas) > 30
    assert (heard.finish, heard.ended) == (speaker.stop, True)


async def test_an_answer_that_is_not_streamed_has_the_same_text(speaker: Any) -> None:
    assert (await speaker.ask("hi")).text == (await speaker.listen("hi")).text


async def test_a_directive_steers_the_answer_and_is_not_echoed(speaker: Any) -> None:
    assert (await speaker.listen('[[sim {"text": "Hello you"}]]')).deltas == ["Hello ", "you"]
    heard = await speaker.listen('what is up? [[sim {"finish_reason": "length"}]]')
    assert "“what is up?”" in heard.text
    assert "sim {" not in heard.text


async def test_a_directive_in_a_list_of_text_parts_is_found(speaker: Any) -> None:
    parts = [{"type": "text", "text": "Look: "}, {"type": "text", "text": '[[sim {"text": "seen"}]]'}]
    assert (await speaker.listen(messages=[{"role": "user", "content": parts}])).text == "seen"


async def test_a_directive_by_provider_reaches_each_its_own(speaker: Any) -> None:
    content = '[[sim {"anthropic": {"text": "A"}, "openai": {"text": "O"}, "grok": {"text": "G"}}]]'
    assert (await speaker.listen(content)).text == speaker.provider[0].upper()


async def test_generated_deltas_arrive_one_by_one_in_order(speaker: Any) -> None:
    heard = await speaker.listen('[[sim {"deltas": 30, "delta_chars": 12}]]')
    assert [delta.split()[0] for delta in heard.deltas] == [f"d{n}" for n in range(30)]
    assert {len(delta) for delta in heard.deltas} == {12}


async def test_timestamps_are_the_time_of_sending(speaker: Any) -> None:
    before = time.monotonic_ns()
    heard = await speaker.listen('[[sim {"deltas": 5, "delta_chars": 40, "timestamps": true, "interval_ms": 3}]]')
    stamps = [int(delta[:16]) for delta in heard.deltas]
    assert {len(delta) for delta in heard.deltas} == {40}
    assert before < stamps[0] and stamps[-1] < time.monotonic_ns()
    # The clock the ticker goes by is the one in the stamps, so this holds on a loaded machine as well: a delta is
    # never sent more than half a millisecond before its time, and times count from the start.
    assert stamps[4] - before >= 4 * 3_000_000 - 500_000


async def test_text_survives_json_and_utf8(speaker: Any) -> None:
    text = 'Grüße “quoted" \\ back\nslash \t tab 🙂\u2028end'
    directive = f'[[sim {{"text": {json.dumps(text)}}}]]'
    assert (await speaker.listen(directive)).text == text
    assert (await speaker.ask(directive)).text == text


async def test_reasoning_comes_before_the_text_and_apart_from_it(speaker: Any) -> None:
    for heard in (
        await speaker.listen('[[sim {"reasoning": "let me think", "text": "done now"}]]'),
        await speaker.ask('[[sim {"reasoning": "let me think", "text": "done now"}]]'),
    ):
        assert "".join(heard.reasoning) == "let me think"
        assert heard.text == "done now"
        assert heard.finish == speaker.stop


async def test_finish_reasons_are_translated_and_unknown_ones_sent_as_they_are(speaker: Any) -> None:
    for given, told in {
        "length": speaker.length,
        "content_filter": speaker.filtered,
        "refusal": speaker.filtered,
        "max_tokens": speaker.length,
        "eos": "eos",
    }.items():
        directive = f'[[sim {{"text": "x", "finish_reason": "{given}"}}]]'
        assert (await speaker.listen(directive)).finish == told
        assert (await speaker.ask(directive)).finish == told


async def test_headers_and_first_token_wait_as_planned(speaker: Any) -> None:
    begun = time.monotonic_ns()
    await speaker.listen('[[sim {"text": "x", "headers_ms": 30, "first_token_ms": 40}]]')
    assert time.monotonic_ns() - begun >= 69_000_000
    begun = time.monotonic_ns()
    await speaker.ask('[[sim {"text": "a b c", "headers_ms": 10, "first_token_ms": 10, "interval_ms": 20}]]')
    assert time.monotonic_ns() - begun >= 59_000_000


async def test_anthropic_counts_tokens_and_a_plan_overrides_them(claude: anthropic.AsyncAnthropic) -> None:
    async def usage(directive: str) -> Any:
        async with claude.messages.stream(
            model="claude-opus-5-5", max_tokens=9, messages=[{"role": "user", "content": directive}]
        ) as stream:
            return (await stream.get_final_message()).usage

    counted = await usage('[[sim {"text": "one two three", "reasoning": "a b"}]]')
    assert counted.output_tokens == 5
    assert counted.output_tokens_details.thinking_tokens == 2
    assert counted.input_tokens > 10
    given = await usage(
        '[[sim {"text": "x", "usage": {"input_tokens": 100, "output_tokens": 7, "cache_read_tokens": 60,'
        ' "cache_write_tokens": 30}}]]'
    )
    assert (given.input_tokens, given.cache_read_input_tokens, given.cache_creation_input_tokens) == (10, 60, 30)
    assert given.output_tokens == 7


async def test_openai_counts_tokens_only_when_asked_and_a_plan_overrides_them(gpt: openai.AsyncOpenAI) -> None:
    async def usages(directive: str, **more: Any) -> list[Any]:
        stream = await gpt.chat.completions.create(
            model="gpt-4.1", stream=True, messages=[{"role": "user", "content": directive}], **more
        )
        return [(chunk.usage, len(chunk.choices)) async for chunk in stream]

    assert all(usage is None for usage, _ in await usages('[[sim {"text": "one two"}]]'))
    asked = await usages(
        '[[sim {"text": "x", "usage": {"input_tokens": 100, "output_tokens": 7, "cache_read_tokens": 60}}]]',
        stream_options={"include_usage": True},
    )
    assert [usage is None for usage, _ in asked] == [True] * (len(asked) - 1) + [False]
    last, choices = asked[-1]
    assert choices == 0
    assert (last.prompt_tokens, last.completion_tokens, last.total_tokens) == (100, 7, 107)
    assert last.prompt_tokens_details.cached_tokens == 60


async def test_models_are_listed(claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI, sim: Simulator) -> None:
    assert "claude-opus-5-5" in [model.id async for model in claude.models.list()]
    assert "gpt-4.1" in [model.id async for model in gpt.models.list()]
    async with openai.AsyncOpenAI(base_url=sim.openai_url("mistral"), api_key="k", max_retries=0) as other:
        assert [model.id async for model in other.models.list()] == ["mistral-1"]


async def test_a_cancel_is_seen_in_the_record(speaker: Any, sim: Simulator) -> None:
    sim.set_plans(speaker.provider, {"deltas": 100_000, "interval_ms": 2})
    if isinstance(speaker.client, anthropic.AsyncAnthropic):
        stream: Any = await speaker.client.messages.create(
            model="claude-opus-5-5", max_tokens=9, stream=True, messages=[{"role": "user", "content": "x"}]
        )
    else:
        stream = await speaker.client.chat.completions.create(
            model="gpt-4.1", stream=True, messages=[{"role": "user", "content": "x"}]
        )
    await sim.await_request(speaker.provider, outcome="open", least_deltas=3)
    await stream.close()
    seen = await sim.await_request(speaker.provider, outcome="client_closed")
    assert 3 <= seen.deltas_sent < 100_000
    assert seen.ended_ns is not None and seen.ended_ns > seen.arrived_ns


async def test_the_simulator_forgets_a_cancelled_stream_that_would_never_have_answered(
    speaker: Any, sim: Simulator
) -> None:
    sim.set_plans(speaker.provider, {"headers_ms": 1e18})
    task = asyncio.ensure_future(speaker.listen())
    await sim.await_request(speaker.provider, outcome="open")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    seen = await sim.await_request(speaker.provider, outcome="client_closed")
    assert (seen.status, seen.deltas_sent) == (None, 0)
