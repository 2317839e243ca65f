"""The system as it runs: real processes, real sockets. Started once for all tests that ask for it."""

from collections.abc import AsyncIterator

import pytest_asyncio
from launcher.log_line import LogLine
from launcher.stack import Stack

from .worker import Worker


class System:
    """Two gateways before one session service; answers come from `worker`, as the test scripts them."""

    def __init__(self, stack: Stack, worker: Worker, lines: list[LogLine]) -> None:
        self.stack = stack
        self.worker = worker
        self.lines = lines
        self.key = stack.secrets.api_key

    @property
    def urls(self) -> list[str]:
        return self.stack.gateway_urls


NOBODY = {"LLM_WORKER_ADDR": "127.0.0.1:1"}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system() -> AsyncIterator[System]:
    lines: list[LogLine] = []
    environment = {**NOBODY, "LOG_LEVEL": "debug", "CORS_ORIGINS": "https://ok.example", "RATE_LIMITS": "off"}
    async with Stack(workers=0, gateways=2, simulator=False, environment=environment, listener=lines.append) as stack:
        await stack.wait_serving()
        async with Worker(stack.session_target, stack.secrets.internal_token) as worker:
            yield System(stack, worker, lines)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole() -> AsyncIterator[Stack]:
    """Everything, with the real worker and simulated providers."""
    async with Stack(environment={"RATE_LIMITS": "off"}) as stack:
        await stack.wait_serving()
        yield stack
