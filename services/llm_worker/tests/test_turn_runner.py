"""Turns from end to end: real session services, a real Redis, real workers, and providers that do as they are told."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from chat.errors import ErrorCode
from chat.events import ResponseCancelled, ResponseDelta, ResponseFailed, ResponseRestarted, ResponseStarted
from chat.messages import AnswerState, Role
from launcher.stack import Stack
from runtime.rpc_channel import open_channel
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2

from .chats import Chat, open_chats
from .harness import Caller, Refused, directive, no_collections, no_question_is_left, open_worker

pytestmark = pytest.mark.asyncio(loop_scope="module")


def simulator_of(stack: Stack) -> Simulator:
    assert stack.simulator is not None
    return Simulator(stack.simulator_url, stack.simulator.pid)


@asynccontextmanager
async def open_stack(*, workers: int = 1, sessions: int = 1, **environment: str) -> AsyncIterator[Stack]:
    limitless = {"RATE_LIMITS": "off", **environment}
    async with Stack(sessions=sessions, workers=workers, gateways=0, environment=limitless) as stack:
        yield stack


@asynccontextmanager
async def chats_of(stack: Stack, count: int = 1, dialect: str = "faye") -> AsyncIterator[list[Chat]]:
    async with open_chats(stack.session_target, stack.secrets.internal_token, count=count, dialect=dialect) as chats:
        yield chats


@asynccontextmanager
async def caller_of(stack: Stack, worker: int = 0) -> AsyncIterator[Caller]:
    async with open_channel(stack.worker_addresses[worker]) as channel:
        caller = Caller(channel)
        caller.metadata = (("authorization", f"Bearer {stack.secrets.internal_token}"),)
        yield caller


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Stack]:
    async with open_stack() as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def stack(shared: Stack) -> Stack:
    """The stack that gentle tests share, with a simulator that has forgotten the others."""
    await simulator_of(shared).areset()
    return shared


async def test_a_message_is_answered_in_its_chat(stack: Stack) -> None:
    async with chats_of(stack) as [chat]:
        begun = await chat.say(directive({"text": "Grüße, 世界!", "usage": {"input_tokens": 5, "output_tokens": 3}}))
        message = await chat.answer()
    assert (message.id, message.role, message.content) == (begun.answer_id, Role.ASSISTANT, "Grüße, 世界!")
    assert (message.turn_id, message.reply_to_id) == (begun.turn_id, begun.message.id)
    answer = message.answer
    assert answer is not None
    assert (answer.state, answer.provider, answer.model) == (AnswerState.COMPLETED, "anthropic", "claude-sonnet-4-5")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 3)
    assert [attempt.provider for attempt in answer.attempts] == ["anthropic"]
    assert chat.events[2].__class__ is ResponseDelta, "the first text comes with the beginning"


async def test_the_model_is_given_the_persona_and_the_conversation(stack: Stack) -> None:
    async with chats_of(stack) as [chat]:
        await chat.say(directive({"text": "first answer"}))
        await chat.answer()
        await chat.say("and more?")
        await chat.answer(2)
    asked = simulator_of(stack).requests("anthropic")[-1]
    assert "Faye" in asked.parameters["system"]
    assert asked.parameters["max_tokens"] == 1024
    assert [message["role"] for message in asked.messages] == ["user", "assistant", "user"]
    assert asked.messages[1:] == [
        {"role": "assistant", "content": "first answer"},
        {"role": "user", "content": "and more?"},
    ]


async def test_the_model_is_told_of_answers_that_were_stopped_and_not_of_those_that_failed(stack: Stack) -> None:
    cut, stalled = {"deltas": 9, "cut_after": 3}, {"text": "half an answer", "stall_after": 2}
    await simulator_of(stack).aset_plans("anthropic", cut, stalled)
    await simulator_of(stack).aset_plans("grok", {"status": 400}, {"code": "content_policy"})
    async with chats_of(stack) as [chat]:
        await chat.say("one")
        await chat.answer()
        await chat.say("two")
        await chat.until(ResponseDelta, count=len(chat.deltas) + 1)
        await chat.stop()
        await chat.until(ResponseCancelled)
        await chat.say("and more?")
        await chat.answer(2)
    asked = simulator_of(stack).requests("anthropic")[-1]
    assert [message["role"] for message in asked.messages] == ["user", "assistant", "user"]
    assert asked.messages[0]["content"] == "one\n\ntwo"
    assert asked.messages[1]["content"].startswith("half ")


async def test_the_turns_own_settings_win_and_an_unknown_model_takes_the_personas_route(stack: Stack) -> None:
    settings = chat_pb2.AnswerSettings(model="gpt-4o", system_prompt="Be brief.", temperature=0.0, max_output_tokens=9)
    async with chats_of(stack) as [chat]:
        await chat.say("hello", answers=settings)
        first = await chat.answer()
        await chat.say("hello", answers=chat_pb2.AnswerSettings(model="gone-9"))
        second = await chat.answer(2)
    assert first.answer is not None
    assert first.answer.provider == "openai"
    asked = simulator_of(stack).requests("openai")[0]
    assert asked.messages[0] == {"role": "system", "content": "Be brief."}
    assert (asked.parameters["temperature"], asked.parameters["max_completion_tokens"]) == (0.0, 9)
    assert second.answer is not None
    assert second.answer.provider == "anthropic"


async def test_the_next_target_answers_and_the_attempts_are_kept(stack: Stack) -> None:
    async with chats_of(stack) as [chat]:
        await chat.say(directive({"anthropic": {"status": 529}, "*": {"text": "fine"}}))
        message = await chat.answer()
    assert message.content == "fine"
    assert message.answer is not None
    assert message.answer.provider == "grok"
    failure = message.answer.attempts[0].failure
    assert failure is not None
    assert failure.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert [one.__class__ for one in chat.events].count(ResponseStarted) == 1


async def test_a_broken_answer_that_nobody_goes_on_with_fails_and_keeps_its_text(stack: Stack) -> None:
    async with chats_of(stack) as [chat]:
        for provider in ("grok", "openai"):
            await simulator_of(stack).aset_plans(provider, then={"headers_ms": 100, "cut_after": 0})
        plan = {"deltas": 9, "delta_chars": 4, "cut_after": 3}
        await simulator_of(stack).aset_plans("anthropic", plan, then={"cut_after": 0})
        await chat.say("hello")
        message = await chat.answer()
    assert len(message.content) == 12
    assert message.answer is not None
    assert message.answer.state is AnswerState.FAILED
    failure = message.answer.failure
    assert failure is not None
    assert (failure.code, failure.retryable) == (ErrorCode.PROVIDER_UNAVAILABLE, True)


async def test_a_refusal_fails_a_turn_that_never_began(stack: Stack) -> None:
    async with chats_of(stack) as [chat]:
        await chat.say(directive({"code": "content_policy"}))
        failed = await chat.until(ResponseFailed)
    assert failed.answer.failure.code is ErrorCode.PROVIDER_REFUSED
    assert failed.text_length == 0
    assert not any(isinstance(event, ResponseStarted) for event in chat.events)


async def test_stopping_an_answer_ends_the_providers_call(stack: Stack) -> None:
    async with chats_of(stack) as [chat]:
        await chat.say(directive({"deltas": 100_000}))
        await chat.until(ResponseDelta, count=3)
        await chat.stop()
        await chat.until(ResponseCancelled)
        await simulator_of(stack).await_request("anthropic", outcome="client_closed")
        # The worker is free for the chat's next turn.
        await chat.say(directive({"text": "next"}))
        assert (await chat.answer()).content == "next"


async def test_stopping_an_answer_whose_provider_says_nothing_ends_its_call_too(stack: Stack) -> None:
    async with chats_of(stack) as [chat]:
        await chat.say(directive({"deltas": 9, "delta_chars": 4, "stall_after": 3}))
        await chat.until(ResponseDelta)
        await simulator_of(stack).await_request("anthropic", outcome="open", least_deltas=3)
        await chat.stop()
        await simulator_of(stack).await_request("anthropic", outcome="client_closed")


async def test_the_context_of_a_stopped_turn_goes_with_it_and_waits_for_no_collection() -> None:
    async with open_stack(workers=0) as stack, chats_of(stack) as [chat]:
        session = {"SESSION_ADDR": stack.session_target, "INTERNAL_TOKEN": stack.secrets.internal_token}
        async with open_worker(simulator_of(stack), **session):
            with no_collections():
                await chat.say(directive({"deltas": 100_000}))
                await chat.until(ResponseDelta)
                await chat.stop()
                await chat.until(ResponseCancelled)
                await no_question_is_left()


async def test_a_turn_past_its_deadline_fails_and_ends_the_providers_call(stack: Stack) -> None:
    async with chats_of(stack) as [chat]:
        request: Any = {"deadline": {"seconds": 1}}
        await chat.say(directive({"deltas": 100_000}), **request)
        failed = await chat.until(ResponseFailed)
        assert failed.answer.failure.code is ErrorCode.DEADLINE_EXCEEDED
        await simulator_of(stack).await_request("anthropic", outcome="client_closed")


async def test_a_hundred_chats_at_once_each_get_their_own_answer_in_fewer_deltas_than_were_sent(stack: Stack) -> None:
    texts = [f"{n:03d} wörd " * 60 for n in range(100)]
    async with chats_of(stack, 100) as chats:
        plans = [{"text": text, "deltas": 120, "interval_ms": 5} for text in texts]
        await asyncio.gather(*(chat.say(directive(plan)) for chat, plan in zip(chats, plans, strict=True)))
        answers = await asyncio.gather(*(chat.answer() for chat in chats))
    assert [message.content for message in answers] == texts
    assert sum(len(chat.deltas) for chat in chats) < 100 * 120 / 2


async def test_starting_a_turn_that_is_not_due_claims_nothing(stack: Stack) -> None:
    async with chats_of(stack) as [chat], caller_of(stack) as caller:
        begun = await chat.say(directive({"text": "mine"}))
        await chat.answer()
        request = llm_pb2.StartTurnRequest(chat_id=chat.id, turn_id=begun.turn_id)
        assert not (await caller.ask("StartTurn", request)).claimed
        with pytest.raises(Refused) as caught:
            await caller.ask("StartTurn", llm_pb2.StartTurnRequest())
        assert (caught.value.reason, caught.value.fields) == ("INVALID_ARGUMENT", ["chat_id"])


async def test_a_full_worker_starts_no_turn_and_answers_it_when_it_has_room() -> None:
    async with (
        open_stack(SWITCHBOARD__WORKER__MAX_TURNS="1") as stack,
        chats_of(stack, 2) as [chat, other],
        caller_of(stack) as caller,
    ):
        await chat.say(directive({"deltas": 100_000}))
        await chat.until(ResponseDelta)
        begun = await other.say(directive({"text": "after you"}))
        with pytest.raises(Refused) as caught:
            await caller.ask("StartTurn", llm_pb2.StartTurnRequest(chat_id=other.id, turn_id=begun.turn_id))
        assert caught.value.reason == "OVERLOADED"
        await chat.stop()
        assert (await other.answer()).content == "after you"


async def test_a_session_service_that_dies_in_the_middle_costs_no_text() -> None:
    async with open_stack() as stack, chats_of(stack) as [chat]:
        text = "wörd " * 400
        await chat.say(directive({"text": text, "deltas": 400, "interval_ms": 5}))
        await chat.until(ResponseDelta, count=20)
        await stack.sessions[0].kill()
        await stack.sessions[0].start()
        message = await chat.answer()
    assert message.content == text
    assert message.answer is not None
    assert message.answer.state is AnswerState.COMPLETED
    assert not any(isinstance(event, ResponseRestarted) for event in chat.events)


TEXT = "".join(f"{n}. Wörd number {n} is about {n * n} beans.\n" for n in range(1, 40))


async def test_a_cut_answer_goes_on_in_its_chat(stack: Stack) -> None:
    await simulator_of(stack).aset_plans("anthropic", {"text": TEXT, "cut_after": 100})
    await simulator_of(stack).aset_plans("grok", {"text": TEXT, "goes_on": 50, "cut_after": 100})
    await simulator_of(stack).aset_plans("openai", {"text": TEXT, "goes_on": 0})
    async with chats_of(stack) as [chat]:
        await chat.say("hello")
        message = await chat.answer()
    assert message.content == TEXT
    assert message.answer is not None
    assert (message.answer.state, message.answer.provider) == (AnswerState.COMPLETED, "openai")
    assert [attempt.provider for attempt in message.answer.attempts] == ["anthropic", "grok", "openai"]
    kinds = [event.__class__ for event in chat.events]
    assert (kinds.count(ResponseStarted), kinds.count(ResponseRestarted)) == (1, 0)


@pytest.mark.parametrize(
    ("refusal", "tries"),
    [({"status": 400}, 2), ({"code": "context_length_exceeded"}, 2), (None, 1)],
    ids=["refused", "too long", "begun anew"],
)
async def test_an_answer_that_can_not_go_on_restarts_in_its_chat(
    stack: Stack, refusal: dict[str, object] | None, tries: int
) -> None:
    other = f"{TEXT[:40]} But there is more to say."
    await simulator_of(stack).aset_plans("anthropic", {"text": TEXT, "cut_after": 100})
    await simulator_of(stack).aset_plans("grok", *([refusal] if refusal else []), {"text": other})
    async with chats_of(stack) as [chat]:
        await chat.say("hello")
        message = await chat.answer()
    assert message.content == other
    assert message.answer is not None
    assert (message.answer.state, message.answer.provider) == (AnswerState.COMPLETED, "grok")
    assert [attempt.provider for attempt in message.answer.attempts] == ["anthropic"] + ["grok"] * tries
    kinds = [event.__class__ for event in chat.events]
    assert (kinds.count(ResponseStarted), kinds.count(ResponseRestarted)) == (1, 1)
    asked = simulator_of(stack).requests("grok")
    assert [one.messages[-1]["content"] == "hello" for one in asked if one.messages] == [False] * (tries - 1) + (
        [True] if refusal else [False]
    )


async def test_the_text_stays_when_the_restart_comes_to_nothing(stack: Stack) -> None:
    await simulator_of(stack).aset_plans("anthropic", {"text": TEXT, "cut_after": 100})
    await simulator_of(stack).aset_plans("grok", {"status": 400}, {"code": "content_policy"})
    async with chats_of(stack) as [chat]:
        await chat.say("hello")
        message = await chat.answer()
    assert TEXT.startswith(message.content)
    assert len(message.content) > 300
    assert message.answer is not None
    assert message.answer.failure is not None
    assert message.answer.failure.code is ErrorCode.PROVIDER_REFUSED
    assert not any(isinstance(event, ResponseRestarted) for event in chat.events)


@pytest.mark.parametrize("repeated", [0, 60, 1_000_000])
async def test_the_turn_of_a_dead_worker_is_gone_on_with_by_another(repeated: int) -> None:
    async with open_stack(workers=2) as stack, chats_of(stack) as [chat]:
        plan = {"text": TEXT, "goes_on": repeated}
        await simulator_of(stack).aset_plans("anthropic", {**plan, "interval_ms": 20}, then={**plan, "interval_ms": 1})
        await chat.say("hello")
        await chat.until(ResponseDelta, count=10)
        for worker in stack.workers:
            await worker.kill()
        said = "".join(chat.deltas)
        await stack.workers[0].start()
        message = await chat.answer()
    assert message.content == TEXT
    assert "".join(chat.deltas) == TEXT
    assert TEXT.startswith(said)
    kinds = [event.__class__ for event in chat.events]
    assert (kinds.count(ResponseStarted), kinds.count(ResponseRestarted)) == (1, 0)
    assert message.answer is not None
    assert message.answer.state is AnswerState.COMPLETED


async def test_the_turn_of_a_dead_worker_that_nobody_goes_on_with_restarts() -> None:
    async with open_stack(workers=2) as stack, chats_of(stack) as [chat]:
        simulator = simulator_of(stack)
        await simulator.aset_plans("anthropic", {"deltas": 100_000}, {"status": 400}, then={"text": "whole"})
        await chat.say("hello")
        await chat.until(ResponseDelta, count=3)
        # Which of them has it shows when a stranger's death changes nothing; both die, and one comes back.
        for worker in stack.workers:
            await worker.kill()
        await stack.workers[0].start()
        message = await chat.answer()
    assert message.content == "whole"
    kinds = [event.__class__ for event in chat.events]
    assert (kinds.count(ResponseStarted), kinds.count(ResponseRestarted)) == (1, 1)


async def test_a_worker_that_is_told_to_stop_ends_its_turns_and_takes_no_more() -> None:
    async with open_stack(DRAIN_SECONDS="20") as stack, chats_of(stack, 2) as [chat, other]:
        worker = stack.workers[0]
        await chat.say(directive({"deltas": 100, "delta_chars": 4, "interval_ms": 10}))
        await chat.until(ResponseDelta)
        # Credit that the session service may still use is gone with the stream that it was given over.
        left = asyncio.create_task(stack.sessions[0].next_event("worker_left"))
        worker.send_signal(signal.SIGTERM)
        await left
        await other.say(directive({"text": "later"}))
        assert await worker.wait_ended() == 0
        assert len((await chat.answer()).content) == 400
        assert not any(isinstance(event, ResponseStarted) for event in other.events)
        await worker.start()
        assert (await other.answer()).content == "later"


async def test_a_worker_that_can_not_drain_in_time_leaves_its_turn_to_another() -> None:
    async with open_stack(DRAIN_SECONDS="0") as stack, chats_of(stack) as [chat]:
        plan = {"text": TEXT, "goes_on": 0}
        await simulator_of(stack).aset_plans("anthropic", {**plan, "interval_ms": 20}, then={**plan, "interval_ms": 1})
        await chat.say("hello")
        await chat.until(ResponseDelta)
        await stack.workers[0].stop()
        assert stack.workers[0].exit_code == 0
        await stack.workers[0].start()
        assert (await chat.answer()).content == TEXT


async def test_a_worker_outlives_the_absence_of_the_session_service() -> None:
    async with open_stack() as stack, caller_of(stack) as caller:
        await stack.sessions[0].kill()
        assert (await caller.generate({"text": "still here"})).text == "still here"
        with pytest.raises(Refused) as caught:
            await caller.ask("StartTurn", llm_pb2.StartTurnRequest(chat_id="c"))
        assert caught.value.reason == "UNAVAILABLE"
        await stack.sessions[0].start()
        async with chats_of(stack) as [chat]:
            await chat.say(directive({"text": "back"}))
            assert (await chat.answer()).content == "back"
