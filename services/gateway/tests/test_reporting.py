"""What this gateway tells the others of itself, to a service that remembers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from chat.errors import ErrorCode, SwitchboardError
from gateway.clients.records import ReplicaClient
from gateway.headcount import Headcount
from gateway.records import Connections, Deployment
from gateway.reporting import Reporter
from launcher.stack import Stack
from runtime.rpc_channel import open_channel
from websockets.asyncio.client import connect

from .client import TIMEOUT_S, http


class FakeReplicas:
    """Remembers each report as it was when it came."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[tuple[str, dict[str, tuple[int, dict[str, int]]]]] = asyncio.Queue()
        self.retired: list[str] = []
        self.down = False

    async def report(self, replica_id: str, connections: Mapping[str, Connections]) -> None:
        found = {name: (each.total, dict(each.by_chat)) for name, each in connections.items()}
        self.reports.put_nowait((replica_id, found))
        self._fail()

    async def retire(self, replica_id: str) -> None:
        self._fail()
        self.retired.append(replica_id)

    async def deployment(self) -> Deployment:
        raise NotImplementedError

    def _fail(self) -> None:
        if self.down:
            raise SwitchboardError(ErrorCode.UNAVAILABLE, "down")

    async def heard(self) -> dict[str, tuple[int, dict[str, int]]]:
        async with asyncio.timeout(20):
            replica_id, found = await self.reports.get()
        assert replica_id == "gateway-1"
        return found


@asynccontextmanager
async def reporting(
    replicas: FakeReplicas, headcount: Headcount, *, every_s: float, soon_s: float = 0.0
) -> AsyncIterator[Reporter]:
    reporter = Reporter(replicas, headcount, "gateway-1", every_s=every_s, soon_s=soon_s)
    running = asyncio.create_task(reporter.run())
    try:
        yield reporter
    finally:
        running.cancel()
        await asyncio.wait([running])
        await reporter.retire()


async def test_it_tells_at_once_and_whenever_something_has_changed() -> None:
    replicas, headcount = FakeReplicas(), Headcount(["faye", "arketic"])
    async with reporting(replicas, headcount, every_s=3600):
        assert await replicas.heard() == {"faye": (0, {}), "arketic": (0, {})}
        headcount.enter("faye")
        headcount.show("faye", "c")
        assert await replicas.heard() == {"faye": (1, {"c": 1}), "arketic": (0, {})}
        headcount.leave("faye", ["c"])
        assert await replicas.heard() == {"faye": (0, {}), "arketic": (0, {})}
        for _ in range(50):
            await asyncio.sleep(0)
        assert replicas.reports.empty()
    assert replicas.retired == ["gateway-1"]


async def test_it_tells_again_when_nothing_has_changed_so_as_not_to_be_taken_for_dead() -> None:
    replicas = FakeReplicas()
    async with reporting(replicas, Headcount(["faye"]), every_s=0.01):
        for _ in range(3):
            assert await replicas.heard() == {"faye": (0, {})}


async def test_changes_that_come_together_are_told_together() -> None:
    replicas, headcount = FakeReplicas(), Headcount(["faye"])
    async with reporting(replicas, headcount, every_s=3600, soon_s=0.2):
        await replicas.heard()
        for _ in range(100):
            headcount.enter("faye")
            await asyncio.sleep(0)
        assert await replicas.heard() == {"faye": (100, {})}


async def test_an_outage_is_logged_once_and_ended_by_the_next_report(caplog: pytest.LogCaptureFixture) -> None:
    replicas = FakeReplicas()
    replicas.down = True
    async with reporting(replicas, Headcount(["faye"]), every_s=0.001):
        for _ in range(5):
            await replicas.heard()
        replicas.down = False
        for _ in range(3):
            await replicas.heard()
        replicas.down = True
        for _ in range(3):
            await replicas.heard()
    assert [record.message for record in caplog.records].count("report_failed") == 2
    assert replicas.retired == []


async def test_every_replica_knows_of_the_others_clients_until_they_go() -> None:
    async with Stack(workers=0, gateways=2, simulator=False, environment={"LLM_WORKER_ADDR": "127.0.0.1:1"}) as stack:
        await stack.wait_serving()
        for url in stack.gateway_urls:
            body = {"unique_token": "reported"}
            started = await http("POST", f"{url}/faye/chat/start_session", body, key=stack.secrets.api_key)
            assert started.status == 200
        async with open_channel(stack.session_target) as channel:
            replicas = ReplicaClient(channel, stack.secrets.internal_token)

            async def faye(total: int) -> None:
                """Returns once so many are here, all of them in one chat."""
                async with asyncio.timeout(TIMEOUT_S):
                    while True:
                        known = (await replicas.deployment()).connections.get("faye", Connections(0, {}))
                        if (known.total, sum(known.by_chat.values()), len(known.by_chat)) == (total, total, total > 0):
                            return
                        await asyncio.sleep(0.05)

            first, second = (f"ws{url[4:]}/ws/faye/reported" for url in stack.gateway_urls)
            async with connect(first), connect(second):
                await faye(2)
                await stack.gateways[1].stop()
                await faye(1)
            await faye(0)
