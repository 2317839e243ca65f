"""One simulator for the whole run, emptied between tests; and one system of processes, likewise."""

from collections.abc import AsyncIterator, Iterator

import pytest
from launcher.stack import Stack
from simulator.process import Simulator, start_simulator

from .worker import Running


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    with start_simulator(delta_interval_ms=1) as simulator:
        yield simulator


@pytest.fixture
def sim(simulator: Simulator) -> Simulator:
    simulator.reset()
    return simulator


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(gateways=0) as stack:
        yield stack


@pytest.fixture
async def running(stack: Stack) -> Running:
    assert stack.simulator is not None
    sim = Simulator(stack.simulator_url, stack.simulator.pid)
    await sim.areset()
    return Running(stack, sim, stack.worker_addresses[0], stack.secrets.internal_token)
