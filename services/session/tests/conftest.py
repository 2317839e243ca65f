"""A real session service (two replicas) on a real Redis, in a loop of its own, for tests of any thread.

Each test that uses `running` or `alone` runs on one Redis server and on a cluster of three, unless it says otherwise.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import redis
from launcher.stack import Stack
from launcher.valkey_cluster import ValkeyCluster

from .client import SessionClient

Result = TypeVar("Result")


class Loop:
    """An event loop in a thread of its own; `wait` runs a coroutine in it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        async def end_rest() -> None:
            # Streams that tests left open: gRPC's tasks for them would be found pending when the loop has gone.
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self.wait(end_rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Running(Loop):
    """The stack and one client for each replica. `variables`: of the services' environment."""

    def __init__(self, cluster: ValkeyCluster | None, **variables: str) -> None:
        super().__init__()
        self.cluster = cluster
        # "owner" sends more in these tests than a person may.
        self.environment = {"RATE_LIMITS": "off", **(cluster.environment if cluster else {}), **variables}
        self.stack = Stack(
            sessions=2,
            workers=0,
            gateways=0,
            simulator=False,
            redis_url=cluster.url if cluster else "",
            environment=self.environment,
        )
        self.wait(self.stack.__aenter__())
        token = self.stack.secrets.internal_token
        self.clients = [self.wait(SessionClient.open(address, token)) for address in self.stack.session_addresses]

    def close(self) -> None:
        for client in self.clients:
            self.wait(client.close())
        self.wait(self.stack.stop())
        super().close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[ValkeyCluster]:
    """For tests that leave it as they found it."""
    loop, cluster = Loop(), ValkeyCluster()
    loop.wait(cluster.__aenter__())
    yield cluster
    loop.wait(cluster.stop())
    loop.close()


@pytest.fixture(scope="session", params=["server", "cluster"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(request.getfixturevalue("cluster") if request.param == "cluster" else None)
    yield running
    running.close()


@pytest.fixture(params=["server", "cluster"])
def alone(request: pytest.FixtureRequest) -> Iterator[Running]:
    """As `running`, with no turns that other tests left due."""
    cluster = request.getfixturevalue("cluster") if request.param == "cluster" else None
    for url in cluster.urls[:3] if cluster else ():
        with redis.Redis.from_url(url) as master:
            master.flushall()
    running = Running(cluster)
    yield running
    running.close()
