"""A real session service (two replicas) on a real Redis, in a loop of its own, for tests of any thread."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from launcher.stack import Stack

from .client import SessionClient

Result = TypeVar("Result")


class Running:
    """The stack and one client for each replica; `wait` runs a coroutine in their loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.stack = Stack(sessions=2, workers=0, gateways=0, simulator=False)
        self.wait(self.stack.__aenter__())
        token = self.stack.secrets.internal_token
        self.clients = [self.wait(SessionClient.open(address, token)) for address in self.stack.session_addresses]

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        for client in self.clients:
            self.wait(client.close())
        self.wait(self.stack.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.close()


@pytest.fixture
def alone() -> Iterator[Running]:
    """As `running`, with no turns that other tests left due."""
    running = Running()
    yield running
    running.close()
