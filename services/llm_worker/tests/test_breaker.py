"""The breaker: fed by finished calls alone, by a clock in the test's hand."""

import pytest
from llm_worker.breaker import Breaker, BreakerState, Permit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failure_threshold=3, reset_timeout_s=25, clock=clock)


def permit(breaker: Breaker) -> Permit:
    given = breaker.admit()
    assert given is not None, "refused"
    return given


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        permit(breaker).fail()


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 2)
    fail(breaker, 1)
    assert breaker.state is BreakerState.OPEN
    assert breaker.admit() is None
    assert breaker.wait_s() == 25


def test_a_success_between_them_starts_the_count_again(breaker: Breaker) -> None:
    fail(breaker, 2)
    permit(breaker).succeed()
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED


def test_cancelled_calls_say_nothing(breaker: Breaker) -> None:
    fail(breaker, 2)
    for _ in range(10):
        permit(breaker).drop()
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 2)


def test_half_open_lets_one_of_fifty_through(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 24.9
    assert breaker.admit() is None
    clock.now += 0.1
    assert breaker.state is BreakerState.HALF_OPEN
    assert sum(breaker.admit() is not None for _ in range(50)) == 1


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 25
    permit(breaker).succeed()
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 0)


def test_a_probe_that_fails_opens_it_for_the_whole_time_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 30
    permit(breaker).fail()
    assert breaker.state is BreakerState.OPEN
    assert breaker.wait_s() == 25


def test_a_cancelled_probe_makes_room_for_the_next_and_decides_nothing(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 25
    permit(breaker).drop()
    assert breaker.state is BreakerState.HALF_OPEN
    permit(breaker).succeed()
    assert breaker.state is BreakerState.CLOSED


def test_a_call_from_before_it_opened_neither_closes_nor_prolongs_it(breaker: Breaker, clock: Clock) -> None:
    early = [permit(breaker) for _ in range(3)]
    fail(breaker, 3)
    early[0].succeed()
    assert breaker.state is BreakerState.OPEN
    clock.now += 25
    early[1].succeed()
    assert breaker.state is BreakerState.HALF_OPEN
    probe = permit(breaker)
    early[2].fail()
    assert breaker.state is BreakerState.HALF_OPEN
    probe.succeed()
    assert breaker.state is BreakerState.CLOSED


def test_a_permit_is_heard_once(breaker: Breaker) -> None:
    given = permit(breaker)
    for _ in range(5):
        given.fail()
    assert breaker.failures == 1


def test_each_change_of_its_state_is_told_once_and_nothing_else_is(clock: Clock) -> None:
    told: list[BreakerState] = []
    breaker = Breaker(failure_threshold=3, reset_timeout_s=25, clock=clock, changed=lambda: told.append(breaker.state))
    permit(breaker).succeed()
    fail(breaker, 3)
    assert told == [BreakerState.OPEN]
    clock.now += 25
    permit(breaker).fail()
    assert told[1:] == [BreakerState.HALF_OPEN, BreakerState.OPEN]
    clock.now += 25
    permit(breaker).drop()
    permit(breaker).succeed()
    assert told[3:] == [BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_a_permit_without_a_breaker_may_be_told_anything() -> None:
    Permit().fail()
    Permit().succeed()
    Permit().drop()
