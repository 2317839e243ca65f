"""When a target is asked again, and when not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_worker.outcome import Again
from llm_worker.retry import LEAST_USEFUL_S, MARGIN_S, Retries
from llm_worker.settings import RetrySettings

SETTINGS = RetrySettings(
    max_attempts=6,
    max_attempts_per_target=3,
    max_continuations=3,
    backoff_base_s=0.25,
    backoff_cap_s=0.5,
    retry_after_max_s=3.0,
)


def made(*asked: int, count: int = 1, deadline: float = 100.0, random: float = 0.5) -> Retries:
    retries = Retries(SETTINGS, count, deadline=deadline, clock=lambda: 0.0, random=lambda: random)
    for at in asked:
        retries.note(at)
    return retries


@pytest.mark.parametrize(("asked", "most"), [([0], 0.25), ([0, 0], 0.5)])
@pytest.mark.parametrize("random", [0.0, 0.5, 1.0])
def test_a_back_off_is_anything_up_to_a_bound_that_doubles(asked: list[int], most: float, random: float) -> None:
    assert made(*asked, random=random).wait_s(0, Again.FIRST, None) == pytest.approx(random * most)


def test_a_target_is_asked_so_often_and_no_more() -> None:
    assert made(0, 0, 0).wait_s(0, Again.FIRST, None) is None
    assert not made(0, 0, 0).may_ask(0)
    assert not made(*[0, 1] * 3, count=3).may_ask(2)


def test_a_retry_leaves_the_attempts_of_those_that_were_not_asked_yet() -> None:
    assert made(0, count=6).wait_s(0, Again.FIRST, None) is None
    assert made(0, count=5).wait_s(0, Again.FIRST, None) is not None


@pytest.mark.parametrize("again", [Again.FIRST, Again.WHEN_TOLD, Again.LAST])
def test_a_short_retry_after_is_waited_out_and_a_long_one_is_not(again: Again) -> None:
    wait_s = made(0).wait_s(0, again, 3.0)
    assert wait_s is not None
    assert wait_s >= 3.0 + MARGIN_S
    assert made(0).wait_s(0, again, 3.1) is None


def test_without_a_word_from_the_provider_a_rate_limit_is_not_waited_for() -> None:
    assert made(0).wait_s(0, Again.WHEN_TOLD, None) is None


def test_what_asks_for_no_retry_gets_none() -> None:
    assert made(0).wait_s(0, Again.NEVER, 1.0) is None


@given(st.floats(0, 5), st.sampled_from(Again), st.one_of(st.none(), st.floats(0, 5)), st.floats(0, 1))
def test_no_wait_takes_what_the_deadline_leaves_useful(
    deadline: float, again: Again, told: float | None, random: float
) -> None:
    wait_s = made(0, deadline=deadline, random=random).wait_s(0, again, told)
    assert wait_s is None or wait_s + LEAST_USEFUL_S <= deadline
