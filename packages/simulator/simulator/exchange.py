"""An exchange: one script played to one connection, woken by the ticker, slowed by the client.

Late steps are sent together in one write, each still its own event. It refuses to buffer: while the transport is
full it parks, and what fell due meanwhile follows when the client reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from simulator.record import Entry, Outcome
from simulator.script import Step, Way
from simulator.ticker import NEVER, Ticker

BURST_BYTES = 64 * 1024
"""The most one wake writes: a stream far behind, or without interval, lets the others have their turn."""


class Connection(Protocol):
    """Where an exchange writes. `finish` ends the exchange's hold on it."""

    full: bool

    def send(self, octets: bytes) -> None: ...

    def finish(self, way: Way) -> None: ...


class Exchange:
    """Plays from `start` on; waits add up from there, so lateness never accumulates."""

    __slots__ = ("_clock_ns", "_connection", "_due_ns", "_entry", "_parked", "_script", "_ticker", "done")

    def __init__(
        self,
        script: Iterator[Step],
        connection: Connection,
        ticker: Ticker,
        entry: Entry,
        clock_ns: Callable[[], int],
    ) -> None:
        self.done = False
        self._script = script
        self._connection = connection
        self._ticker = ticker
        self._entry = entry
        self._clock_ns = clock_ns
        self._due_ns = 0
        self._parked = False

    def start(self) -> None:
        """Must be called once, when the connection can already be written to and finished."""
        self._due_ns = self._clock_ns()
        self._go_on(self._due_ns)

    def _go_on(self, now_ns: int) -> None:
        due_ns = self.wake(now_ns)
        if due_ns != NEVER:
            self._ticker.schedule(due_ns, self)

    def wake(self, now_ns: int) -> int:
        """Sends what is due by `now_ns`; returns when the next step is due."""
        connection = self._connection
        if connection.full:
            self._parked = True
            return NEVER
        batch = b""
        due_ns = self._due_ns
        for step in self._script:
            if isinstance(step, bytes):
                batch = batch + step if batch else step
                if len(batch) > BURST_BYTES:
                    break
            elif isinstance(step, int):
                due_ns += step
                if due_ns > now_ns:
                    break
            else:
                self.done = True
                if batch:
                    connection.send(batch)
                if step.way is not Way.HOLD:
                    self._entry.end(step.outcome, self._clock_ns())
                connection.finish(step.way)
                return NEVER
        if batch:
            connection.send(batch)
        self._due_ns = due_ns
        return due_ns

    def resume(self) -> None:
        """The client reads again."""
        if self._parked:
            self._parked = False
            self._go_on(self._clock_ns())

    def cancel(self) -> None:
        """The client went away."""
        self._entry.end(Outcome.CLIENT_CLOSED, self._clock_ns())
        if not self.done:
            self.done = True
            if not self._parked:
                self._ticker.forget_one()
