"""The ticker on a loop and a clock of our own: time moves only when the test says so."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

from simulator.ticker import NEVER, SPARE_DEAD, Ticker

MS = 1_000_000


class Timer:
    def __init__(self, due_ns: int, callback: Callable[[], None]) -> None:
        self.due_ns, self.callback, self.cancelled = due_ns, callback, False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: Timer) -> bool:
        return self.due_ns < other.due_ns


class Clockwork:
    """The part of an event loop that the ticker uses."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.timers: list[Timer] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now_ns + round(delay_s * 1e9), callback)
        heapq.heappush(self.timers, timer)
        return timer

    def run_until(self, until_ns: int) -> int:
        """Returns how many timers fired."""
        fired = 0
        while self.timers and self.timers[0].due_ns <= until_ns:
            timer = heapq.heappop(self.timers)
            self.now_ns = max(self.now_ns, timer.due_ns)
            if not timer.cancelled:
                fired += 1
                timer.callback()
        self.now_ns = until_ns
        return fired


class Sleeper:
    def __init__(self, woken: list[Any], name: str, *next_due: int) -> None:
        self.done, self.woken, self.name, self.next_due = False, woken, name, list(next_due)

    def wake(self, now_ns: int) -> int:
        self.woken.append((self.name, now_ns // MS))
        return self.next_due.pop(0) if self.next_due else NEVER


def make_ticker() -> tuple[Clockwork, Ticker]:
    clockwork = Clockwork()
    loop: Any = clockwork
    assert isinstance(loop, Clockwork) and not isinstance(loop, asyncio.AbstractEventLoop)
    return clockwork, Ticker(loop, lambda: clockwork.now_ns)


def test_each_sleeper_is_woken_at_its_own_time() -> None:
    clockwork, ticker = make_ticker()
    woken: list[Any] = []
    ticker.schedule(30 * MS, Sleeper(woken, "late"))
    ticker.schedule(10 * MS, Sleeper(woken, "soon", 20 * MS))
    clockwork.run_until(100 * MS)
    assert woken == [("soon", 10), ("soon", 20), ("late", 30)]


def test_an_earlier_sleeper_brings_the_timer_forward() -> None:
    clockwork, ticker = make_ticker()
    woken: list[Any] = []
    ticker.schedule(5000 * MS, Sleeper(woken, "late"))
    ticker.schedule(5 * MS, Sleeper(woken, "soon"))
    clockwork.run_until(6 * MS)
    assert woken == [("soon", 5)]


def test_sleepers_due_within_a_millisecond_share_a_wake() -> None:
    clockwork, ticker = make_ticker()
    woken: list[Any] = []
    for n in range(10):
        ticker.schedule(MS + n * 50_000, Sleeper(woken, str(n)))
    assert clockwork.run_until(3 * MS) == 1
    assert len(woken) == 10


def test_done_sleepers_are_not_woken_and_those_that_sleep_for_ever_are_swept_out() -> None:
    clockwork, ticker = make_ticker()
    woken: list[Any] = []
    sleepers = [Sleeper(woken, str(n)) for n in range(SPARE_DEAD * 3)]
    for sleeper in sleepers:
        ticker.schedule(10**15, sleeper)
    for sleeper in sleepers[1:]:
        sleeper.done = True
        ticker.forget_one()
    assert len(ticker._heap) <= SPARE_DEAD + 1
    sleepers[0].done = True
    clockwork.run_until(2 * 10**15)
    assert woken == []


def test_a_sleeper_may_schedule_another_while_it_is_awake() -> None:
    clockwork, ticker = make_ticker()
    woken: list[Any] = []

    class Parent(Sleeper):
        def wake(self, now_ns: int) -> int:
            if not woken:
                ticker.schedule(now_ns - 5 * MS, Sleeper(woken, "child"))
            return super().wake(now_ns)

    ticker.schedule(10 * MS, Parent(woken, "parent", 12 * MS))
    clockwork.run_until(20 * MS)
    assert sorted(name for name, _ in woken) == ["child", "parent", "parent"]
