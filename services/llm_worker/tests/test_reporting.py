"""The worker's report of its breakers, as any other replica reads it from the real session service."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from launcher.stack import Stack
from llm_worker import reporting
from runtime.rpc_channel import open_channel, service_metadata
from simulator.process import Simulator
from switchboard.session.v1 import report_pb2, report_pb2_grpc

from .chats import PATIENCE_S
from .harness import Caller, open_worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "claude-sonnet-4-5"
NEVER_S = 3600.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(workers=0, gateways=0) as stack:
        yield stack


class Reader:
    """Another replica."""

    def __init__(self, stub: Any, token: str) -> None:
        self._stub = stub
        self._metadata = service_metadata(token)

    async def reports(self) -> list[report_pb2.Replica]:
        request = report_pb2.ListReportsRequest()
        response = await self._stub.ListReports(request, metadata=self._metadata, timeout=10, wait_for_ready=True)
        return list(response.replicas)

    async def until(self, true: Callable[[report_pb2.TargetReport], bool]) -> report_pb2.TargetReport:
        """Claude's report, as soon as it is like this. What another process does can only be looked at again."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for replica in await self.reports():
                    for target in replica.worker.targets:
                        if target.model == MODEL and true(target):
                            return target


@asynccontextmanager
async def open_reader(stack: Stack) -> AsyncIterator[Reader]:
    async with open_channel(stack.session_target) as channel:
        yield Reader(report_pb2_grpc.ReportServiceStub(channel), stack.secrets.internal_token)


@asynccontextmanager
async def open_reported(stack: Stack, **overrides: str) -> AsyncIterator[Caller]:
    assert stack.simulator is not None
    simulator = Simulator(stack.simulator_url, stack.simulator.pid)
    environment = {"SESSION_ADDR": stack.session_target, "INTERNAL_TOKEN": stack.secrets.internal_token}
    async with open_worker(simulator, **environment, **overrides) as caller:
        caller.metadata = service_metadata(stack.secrets.internal_token)
        yield caller


async def fail(caller: Caller, times: int) -> None:
    for _ in range(times):
        await caller.generate({"anthropic": {"cut_after": 0}, "*": {"text": "fine"}}, model=MODEL)


def closed(target: report_pb2.TargetReport) -> bool:
    return target.circuit == report_pb2.CIRCUIT_STATE_CLOSED


def opened(target: report_pb2.TargetReport) -> bool:
    return target.circuit == report_pb2.CIRCUIT_STATE_OPEN


async def test_a_breaker_that_opens_and_one_that_closes_are_told_at_once(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that nothing but the change can be what is told.
    monkeypatch.setattr(reporting, "REPORT_S", NEVER_S)
    limits = {"SWITCHBOARD__BREAKER__FAILURE_THRESHOLD": "2", "SWITCHBOARD__BREAKER__RESET_TIMEOUT_S": "0.05"}
    async with open_reader(stack) as reader, open_reported(stack, **limits) as caller:
        target = await reader.until(closed)
        assert (target.provider, target.configured, target.failures, target.failure_threshold) == (
            "anthropic",
            True,
            0,
            2,
        )
        assert target.reset_timeout.ToMilliseconds() == 50
        assert not target.HasField("last_failure_at")
        await fail(caller, 2)
        target = await reader.until(opened)
        assert target.failures == 2
        assert target.HasField("last_failure_at")
        while (await caller.generate({"text": "fine"}, model=MODEL)).provider != target.provider:
            pass
        await reader.until(closed)


async def test_the_report_is_renewed_though_nothing_happens(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "REPORT_S", 0.02)
    async with open_reader(stack) as reader, open_reported(stack):
        times: defaultdict[str, set[int]] = defaultdict(set)
        while max(map(len, times.values()), default=0) < 3:
            for replica in await reader.reports():
                times[replica.id].add(replica.reported_at.ToMicroseconds())


async def test_an_outage_is_logged_once_and_ended_by_a_report(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seconds in (("REPORT_S", 0.01), ("TIMEOUT_S", 0.05), ("AGAIN_S", 0.01)):
        monkeypatch.setattr(reporting, name, seconds)
    caplog.set_level(logging.WARNING, "llm_worker.reporting")
    async with open_reader(stack) as reader, open_reported(stack) as caller:
        await reader.until(closed)
        await stack.sessions[0].stop()
        await fail(caller, 1)
        await stack.sessions[0].start()
        await reader.until(lambda target: target.failures == 1)
    assert [record.message for record in caplog.records if record.name == reporting.__name__] == ["report failed"]


async def test_a_worker_that_drains_takes_its_report_back() -> None:
    async with Stack(gateways=0) as stack, open_reader(stack) as reader:
        target = await reader.until(closed)
        assert target.configured
        await stack.workers[0].stop()
        assert await reader.reports() == []


async def test_a_worker_starts_and_drains_without_a_session_service() -> None:
    async with Stack(sessions=0, redis=False, gateways=0) as stack:
        assert await stack.workers[0].stop(), "it did not end by itself"
