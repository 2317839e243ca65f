"""What answers have cost, as the real session service keeps it: turns, stopped ones, callers of Generate."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from chat.messages import Attempt, Usage
from launcher.stack import Stack
from llm_worker import settings, usage
from llm_worker.main import find_kinds, run
from llm_worker.usage import UsageRecorder
from runtime.rpc_channel import open_channel, service_metadata
from simulator.process import Simulator
from switchboard.session.v1 import usage_pb2, usage_pb2_grpc

from .chats import PATIENCE_S, open_chats
from .harness import NOWHERE, Caller, open_worker, variables

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNTED = {"text": "fine", "usage": {"input_tokens": 100, "output_tokens": 10}}
COST = 100 * 3000 + 10 * 15_000
"""Of that, by Claude's price."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(workers=0, gateways=0, environment={"RATE_LIMITS": "off"}) as stack:
        yield stack


@asynccontextmanager
async def worker_of(stack: Stack, sim: Simulator, **variables: str) -> AsyncIterator[Caller]:
    token = stack.secrets.internal_token
    async with open_worker(sim, INTERNAL_TOKEN=token, SESSION_ADDR=stack.session_target, **variables) as caller:
        caller.metadata = service_metadata(token)
        yield caller


class Book:
    """Reads a user's day, again and again: nobody is told when something is recorded."""

    def __init__(self, stub: Any, token: str) -> None:
        self._stub = stub
        self._metadata = service_metadata(token)

    async def day(self, user_id: str) -> usage_pb2.DayUsage:
        request = usage_pb2.ReadUsageRequest(user_id=user_id)
        response = await self._stub.ReadUsage(request, metadata=self._metadata, timeout=10, wait_for_ready=True)
        return response.days[0] if response.days else usage_pb2.DayUsage()

    async def until(self, user_id: str, true: Callable[[usage_pb2.DayUsage], bool]) -> usage_pb2.DayUsage:
        async with asyncio.timeout(PATIENCE_S):
            while not true(day := await self.day(user_id)):
                await asyncio.sleep(0.02)
        return day


@asynccontextmanager
async def open_book(stack: Stack) -> AsyncIterator[Book]:
    async with open_channel(stack.session_target) as channel:
        yield Book(usage_pb2_grpc.UsageServiceStub(channel), stack.secrets.internal_token)


def acting(caller: Caller, user_id: str) -> Caller:
    caller.metadata = (*caller.metadata, ("x-switchboard-user", user_id))
    return caller


async def test_a_turns_cost_is_its_senders(stack: Stack, sim: Simulator) -> None:
    sim.set_plans("anthropic", {"status": 401}, then=COUNTED)
    sim.set_plans("grok", then={"text": "fine", "usage": {"input_tokens": 7, "output_tokens": 3}})
    async with (
        worker_of(stack, sim),
        open_book(stack) as book,
        open_chats(stack.session_target, stack.secrets.internal_token) as [chat],
    ):
        before = await book.day("ann")
        await chat.say("hello")
        answer = (await chat.answer()).answer
        day = await book.until("ann", lambda day: day.answers > before.answers)
    assert answer is not None and answer.usage is not None
    assert day.answers == before.answers + 1
    assert day.usage.input_tokens - before.usage.input_tokens == answer.usage.input_tokens == 7
    assert day.usage.cost_nano_usd - before.usage.cost_nano_usd == answer.usage.cost_nano_usd > 0
    assert day.budget_tokens - before.budget_tokens == 10
    assert {(one.provider, one.attempts) for one in day.models} >= {("anthropic", 1), ("grok", 1)}


async def test_what_was_stopped_has_cost_something_too(stack: Stack, sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"text": "one two three four", "delta_chars": 4, "stall_after": 2})
    async with (
        worker_of(stack, sim),
        open_book(stack) as book,
        open_chats(stack.session_target, stack.secrets.internal_token) as [chat],
    ):
        before = await book.day("ann")
        await chat.say("hello")
        async with asyncio.timeout(PATIENCE_S):
            while not chat.deltas:
                await asyncio.sleep(0.01)
        await chat.stop()
        day = await book.until("ann", lambda day: day.answers > before.answers)
    assert day.usage.estimated
    assert day.usage.output_tokens > before.usage.output_tokens
    assert day.usage.cost_nano_usd > before.usage.cost_nano_usd


async def test_a_callers_cost_is_the_acting_users_or_nobodys(stack: Stack, sim: Simulator) -> None:
    sim.set_plans("anthropic", then=COUNTED)
    async with worker_of(stack, sim) as caller, open_book(stack) as book:
        before = await book.day("")
        await caller.generate()
        nobody = await book.until("", lambda day: day.answers > before.answers)
        await asyncio.gather(*(acting(caller, "zo%C3%AB").generate() for _ in range(20)))
        zoe = await book.until("zoë", lambda day: day.answers == 20)
    assert nobody.usage.cost_nano_usd - before.usage.cost_nano_usd == COST
    assert (zoe.usage.input_tokens, zoe.usage.cost_nano_usd) == (2000, 20 * COST)


async def test_what_was_not_heard_is_told_again_and_counted_once(sim: Simulator) -> None:
    sim.set_plans("anthropic", then=COUNTED)
    async with Stack(workers=0, gateways=0) as stack, worker_of(stack, sim) as caller, open_book(stack) as book:
        acting(caller, "bo")
        await caller.generate()
        await book.until("bo", lambda day: day.answers == 1)
        await stack.sessions[0].kill()
        for _ in range(5):
            await caller.generate()
        await stack.sessions[0].start()
        day = await book.until("bo", lambda day: day.answers >= 6)
    assert (day.answers, day.usage.cost_nano_usd) == (6, 6 * COST)


async def test_a_worker_that_drains_tells_the_rest_at_once(stack: Stack, sim: Simulator) -> None:
    sim.set_plans("anthropic", then=COUNTED)
    token = stack.secrets.internal_token
    chosen = settings.read(variables(sim, INTERNAL_TOKEN=token, SESSION_ADDR=stack.session_target))
    async with open_book(stack) as book, run(chosen, find_kinds()) as worker:
        async with open_channel(f"127.0.0.1:{worker.port}") as channel:
            caller = Caller(channel)
            caller.metadata = service_metadata(token)
            await acting(caller, "di").generate()
        await worker.drain(5)
        assert (await book.day("di")).answers == 1


@pytest.mark.parametrize("kind", ["turn", "call"])
async def test_what_a_drain_gives_up_is_told_too(stack: Stack, sim: Simulator, kind: str) -> None:
    sim.set_plans("anthropic", then={"text": "one two three four", "delta_chars": 4, "stall_after": 2})
    token = stack.secrets.internal_token
    chosen = settings.read(variables(sim, INTERNAL_TOKEN=token, SESSION_ADDR=stack.session_target))
    async with (
        open_book(stack) as book,
        open_chats(stack.session_target, token) as [chat],
        run(chosen, find_kinds()) as worker,
        open_channel(f"127.0.0.1:{worker.port}") as channel,
    ):
        before = await book.day("ann")
        if kind == "turn":
            await chat.say("hello")
            async with asyncio.timeout(PATIENCE_S):
                while not chat.deltas:
                    await asyncio.sleep(0.01)
        else:
            caller = Caller(channel)
            caller.metadata = service_metadata(token)
            call = acting(caller, "ann").call()
            for _ in range(2):
                await call.read()
        await worker.drain(0.1)
        day = await book.until("ann", lambda day: day.answers > before.answers)
    assert day.usage.output_tokens > before.usage.output_tokens


async def test_what_is_refused_does_not_hold_up_the_rest(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    metadata = service_metadata(stack.secrets.internal_token)
    spent = Usage(100, 10, cost_nano_usd=COST)
    async with open_book(stack) as book, open_channel(stack.session_target) as channel, asyncio.TaskGroup() as tasks:
        stub: usage_pb2_grpc.UsageServiceAsyncStub = usage_pb2_grpc.UsageServiceStub(channel)
        recorder = UsageRecorder(stub, metadata, new_id=lambda: str(uuid.uuid4()))
        running = tasks.create_task(recorder.run())
        recorder.add("ed", [Attempt("x" * 300, "model", 1.0, usage=spent)])
        async with asyncio.timeout(PATIENCE_S):
            while "usage refused" not in caplog.messages:
                await asyncio.sleep(0.01)
        recorder.add("ed", [Attempt("openai", "model", 1.0, usage=spent)])
        await book.until("ed", lambda day: day.answers == 1)
        running.cancel()


async def test_a_user_who_can_not_be_is_nobody(stack: Stack, sim: Simulator) -> None:
    sim.set_plans("anthropic", then=COUNTED)
    async with worker_of(stack, sim) as caller, open_book(stack) as book:
        before = await book.day("")
        await acting(caller, "x" * 201).generate()
        await book.until("", lambda day: day.answers > before.answers)


async def test_an_outage_without_end_loses_the_oldest_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(usage, "MAX_WAITING", 3)
    async with open_channel(NOWHERE) as channel:
        stub: usage_pb2_grpc.UsageServiceAsyncStub = usage_pb2_grpc.UsageServiceStub(channel)
        recorder = UsageRecorder(stub, service_metadata("token"), new_id=lambda: str(uuid.uuid4()))
        for _ in range(10):
            recorder.add("ed", [Attempt("openai", "model", 1.0)])
    assert caplog.messages.count("usage lost") == 1
