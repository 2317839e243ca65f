"""The whole system, twice over: two gateways, two session services, two workers, one Redis, and the simulator."""

from collections.abc import AsyncIterator

import pytest
from launcher.stack import Stack

# One user of these tests sends more than a person may; that limits are applied is not to be left out, though.
GENEROUS = {
    f"SWITCHBOARD__LIMITS__{kind}__{what}": "100000" for kind in ("USER", "KEY") for what in ("MESSAGES", "ANSWERS")
}


@pytest.fixture(scope="session")
async def pair() -> AsyncIterator[Stack]:
    """Shared by tests that leave it as they found it."""
    async with Stack(sessions=2, workers=2, gateways=2, environment=GENEROUS) as stack:
        await stack.wait_serving()
        yield stack


@pytest.fixture
async def mortal_pair() -> AsyncIterator[Stack]:
    """For a test that kills parts of it."""
    async with Stack(sessions=2, workers=2, gateways=2, environment=GENEROUS) as stack:
        await stack.wait_serving()
        yield stack
