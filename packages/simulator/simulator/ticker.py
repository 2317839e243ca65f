"""The ticker: one timer that wakes every stream at its own due time.

A timer a stream would cost each delta a timer object and a trip through the event loop; one heap and one timer cost
20,000 deltas a second about 1,000 wake-ups. It refuses to round due times together: a stream is late by the
event loop's millisecond at most, never early by more than half of one.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

EARLY_NS = 500_000
"""libuv's timers count whole milliseconds and may fire up to one early; what is due within half of one is sent now,
so that the loop does not wake twice for it."""

NEVER = -1

SPARE_DEAD = 64
"""Cancelled sleepers tolerated before they may be swept out: those that sleep for ever would otherwise never leave."""


class Sleeper(Protocol):
    """Something that wants to be woken. `done` sleepers are forgotten."""

    done: bool

    def wake(self, now_ns: int) -> int:
        """Returns when to be woken next, or `NEVER`. Must not call `forget_one`."""
        ...


class Ticker:
    """Wakes sleepers on one event loop. Not for other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock_ns: Callable[[], int]) -> None:
        self._loop = loop
        self._clock_ns = clock_ns
        self._heap: list[tuple[int, int, Sleeper]] = []
        self._arrived: list[tuple[int, int, Sleeper]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ns = 0
        self._ticking = False
        self._dead = 0

    def schedule(self, due_ns: int, sleeper: Sleeper) -> None:
        """Wakes `sleeper` once, at `due_ns` or up to a millisecond later."""
        entry = (due_ns, next(self._order), sleeper)
        if self._ticking:
            self._arrived.append(entry)
        else:
            heapq.heappush(self._heap, entry)
            self._arm()

    def forget_one(self) -> None:
        """Notes that a scheduled sleeper became `done`; sweeps when the dead are the majority."""
        self._dead += 1
        if self._dead > SPARE_DEAD and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].done]
            heapq.heapify(self._heap)
            self._dead = 0

    def _arm(self) -> None:
        if not self._heap:
            return
        due_ns = self._heap[0][0]
        if self._timer is not None:
            if self._timer_due_ns <= due_ns:
                return
            self._timer.cancel()
        self._timer_due_ns = due_ns
        # At least a millisecond: the loop's resolution, and what lets streams that are due close together share a wake.
        # An hour at most: libuv's own limit is far beyond, a float's exactness is not.
        delay_s = min(max((due_ns - self._clock_ns()) / 1e9, 0.001), 3600.0)
        self._timer = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._ticking = True
        heap = self._heap
        try:
            horizon = self._clock_ns() + EARLY_NS
            while heap and heap[0][0] <= horizon:
                _, order, sleeper = heap[0]
                if sleeper.done:
                    heapq.heappop(heap)
                    self._dead = max(0, self._dead - 1)
                    continue
                due_ns = sleeper.wake(horizon)
                # One sift instead of two; nothing is pushed meanwhile, so the first is still the first.
                if due_ns == NEVER:
                    heapq.heappop(heap)
                else:
                    heapq.heapreplace(heap, (due_ns, order, sleeper))
        finally:
            self._ticking = False
            for entry in self._arrived:
                heapq.heappush(heap, entry)
            self._arrived.clear()
            self._arm()
