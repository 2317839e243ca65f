"""The whole system, twice over: two gateways, two session services, two workers, one Redis, and the simulator."""

from collections.abc import AsyncIterator

import pytest
from launcher.stack import Stack


@pytest.fixture(scope="session")
async def pair() -> AsyncIterator[Stack]:
    """Shared by tests that leave it as they found it."""
    async with Stack(sessions=2, workers=2, gateways=2) as stack:
        await stack.wait_serving()
        yield stack


@pytest.fixture
async def mortal_pair() -> AsyncIterator[Stack]:
    """For a test that kills parts of it."""
    async with Stack(sessions=2, workers=2, gateways=2) as stack:
        await stack.wait_serving()
        yield stack
