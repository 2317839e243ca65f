"""One simulator for the whole run, emptied between tests."""

from collections.abc import Iterator

import pytest
from simulator.process import Simulator, start_simulator


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    with start_simulator(delta_interval_ms=1) as simulator:
        yield simulator


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    running.reset()
    return running
