"""What the client makes again and what it does not, against real workers that are away, full or without a provider."""

import asyncio
import logging

import pytest
from launcher.ports import HeldPort
from simulator.process import Simulator
from switchboard_client import ErrorCode, Retries, SwitchboardClient, SwitchboardError
from switchboard_client.retries import Tries

from .worker import NOWHERE, TOKEN, asking, open_worker

FINE = {"text": "fine"}
DOWN = {"status": 503}
QUICK = Retries(base_s=0.001, reach_s=0.001)
PATIENT = Retries(max_attempts=1_000, base_s=0.1, cap_s=0.1)
"""Outlasts whatever a test does meanwhile."""
FULL = {"SWITCHBOARD__WORKER__MAX_TURNS": "1"}
CALLS_OF_ONE_ANSWER = 6
"""What the worker makes of one answer that nobody gives: two for each of three targets ([retries])."""


async def repeated(caplog: pytest.LogCaptureFixture, code: ErrorCode) -> None:
    """Waits until a call is about to be made again for that reason."""
    async with asyncio.timeout(20):
        while not any(getattr(record, "code", None) is code for record in caplog.records):
            await asyncio.sleep(0.01)


def repetitions(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.name == "switchboard_client" for record in caplog.records)


@pytest.fixture(autouse=True)
def _hear(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="switchboard_client")


@pytest.mark.parametrize("call", ["complete", "list_models"])
async def test_a_worker_that_is_away_is_asked_again_until_it_is_there(
    sim: Simulator, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    port = HeldPort()
    async with SwitchboardClient(port.address, token=TOKEN, retries=PATIENT) as client:
        task = asyncio.ensure_future(client.complete(asking(FINE)) if call == "complete" else client.list_models())
        await repeated(caplog, ErrorCode.UNAVAILABLE)
        async with open_worker(sim, port=port.number):
            assert await task
    port.release()
    assert len(sim.requests()) == (call == "complete")


async def test_a_worker_that_stays_away_is_asked_three_times(caplog: pytest.LogCaptureFixture) -> None:
    async with SwitchboardClient(NOWHERE, token=TOKEN, retries=QUICK) as client:
        for call in (client.complete(asking(FINE)), client.list_models(), client.provider_status()):
            caplog.clear()
            with pytest.raises(SwitchboardError, match="address") as caught:
                await call
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.UNAVAILABLE, True)
            assert repetitions(caplog) == 2


async def test_closing_the_client_ends_the_waiting_for_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    async with SwitchboardClient(NOWHERE, token=TOKEN, retries=PATIENT) as client:
        tasks = [asyncio.create_task(client.complete(asking(FINE))), asyncio.create_task(client.list_models())]
        await repeated(caplog, ErrorCode.UNAVAILABLE)
    for task in tasks:
        with pytest.raises(SwitchboardError) as caught:
            await task
        assert caught.value.code is ErrorCode.CANCELLED


async def test_a_worker_that_is_full_is_asked_again_when_it_says(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_worker(sim, **FULL) as address, SwitchboardClient(address, token=TOKEN) as client:
        async with client.generate(asking({"deltas": 100_000})) as first:
            await anext(first)
            second = asyncio.create_task(client.complete(asking(FINE)))
            await repeated(caplog, ErrorCode.OVERLOADED)
        assert await second == "fine"
        assert all(record.wait_s >= 1 for record in caplog.records if record.name == "switchboard_client")  # type: ignore[attr-defined]


async def test_no_wait_is_begun_that_the_deadline_would_end(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        open_worker(sim, **FULL) as address,
        SwitchboardClient(address, token=TOKEN) as client,
        client.generate(asking({"deltas": 100_000})) as first,
    ):
        await anext(first)
        # It asks for a wait of a second.
        with pytest.raises(SwitchboardError) as caught:
            await client.complete(asking(FINE), timeout_s=0.9)
    assert (caught.value.code, caught.value.retry_after_s) == (ErrorCode.OVERLOADED, 1.0)
    assert repetitions(caplog) == 0


async def test_what_providers_would_not_answer_is_not_asked_again(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_worker(sim) as address, SwitchboardClient(address, token=TOKEN, retries=QUICK) as client:
        with pytest.raises(SwitchboardError) as caught:
            await client.complete(asking(DOWN))
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.PROVIDER_UNAVAILABLE, True)
    assert repetitions(caplog) == 0
    assert len(sim.requests()) == CALLS_OF_ONE_ANSWER


async def test_asked_for_it_is_and_the_breakers_still_hold(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    retries = Retries(base_s=0.001, when_providers_fail=True)
    async with open_worker(sim) as address, SwitchboardClient(address, token=TOKEN, retries=retries) as client:
        with pytest.raises(SwitchboardError) as caught:
            await client.complete(asking(DOWN))
    assert caught.value.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert repetitions(caplog) == 2
    # The third time each target's breaker opens at its fifth failure.
    assert len(sim.requests()) == 3 * 5


@pytest.mark.parametrize(
    ("code", "retry_after_s", "left_s", "expected"),
    [
        (ErrorCode.UNAVAILABLE, None, 10.0, 0.25),
        (ErrorCode.OVERLOADED, None, 10.0, 0.25),
        (ErrorCode.OVERLOADED, 2.0, 10.0, 2.25),
        (ErrorCode.OVERLOADED, 2.0, 2.25, None),
        (ErrorCode.UNAVAILABLE, None, 0.0, None),
        (ErrorCode.PROVIDER_UNAVAILABLE, 1.0, 10.0, None),
        (ErrorCode.RATE_LIMITED, 1.0, 10.0, None),
        (ErrorCode.INTERNAL, None, 10.0, None),
        (ErrorCode.DEADLINE_EXCEEDED, None, 10.0, None),
        (ErrorCode.NOT_FOUND, None, 10.0, None),
    ],
)
def test_a_wait_is_random_and_behind_what_the_worker_asks_for(
    code: ErrorCode, retry_after_s: float | None, left_s: float, expected: float | None
) -> None:
    error = SwitchboardError(code, "no", retry_after_s=retry_after_s)
    assert Retries(base_s=0.5).wait_s(error, 1, left_s, 0.5) == expected


def test_waits_double_up_to_their_cap_and_attempts_are_bounded() -> None:
    error = SwitchboardError(ErrorCode.UNAVAILABLE, "no")
    retries = Retries(max_attempts=6, base_s=0.5, cap_s=4.0)
    assert [retries.wait_s(error, made, 60, 1.0) for made in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 4.0, None]
    assert Retries().wait_s(error, 2, 60, 0.0) == 0.0
    assert Retries().wait_s(error, 3, 60, 0.0) is None
    assert Retries(max_attempts=1).wait_s(error, 1, 60, 0.0) is None


@pytest.mark.parametrize("code", [ErrorCode.PROVIDER_UNAVAILABLE, ErrorCode.RATE_LIMITED])
def test_what_providers_ask_for_is_waited_for_when_that_is_asked_for(code: ErrorCode) -> None:
    asked = Retries(when_providers_fail=True)
    error = SwitchboardError(code, "no", retry_after_s=7.0)
    assert asked.wait_s(error, 1, 60, 0.0) == 7.0
    assert asked.wait_s(error, 1, 7, 0.0) is None


async def test_all_attempts_share_one_deadline() -> None:
    async def connected(within_s: float) -> bool:
        return True

    now = 100.0
    tries = Tries(Retries(max_attempts=9), 10.0, connected=connected, clock=lambda: now, random=lambda: 0.0)
    assert tries.left_s == 10
    now = 104.0
    await tries.pause(SwitchboardError(ErrorCode.UNAVAILABLE, "no"))
    assert tries.left_s == 6
    now = 111.0
    assert tries.left_s == 0
    with pytest.raises(SwitchboardError):
        await tries.pause(SwitchboardError(ErrorCode.UNAVAILABLE, "no"))
