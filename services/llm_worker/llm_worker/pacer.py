"""Paced reads: under load, all streams wait for a common tick before their sockets are read again.

One wake-up then takes several deltas, and many streams' deltas fall into the same tick and leave as one batch. While a
socket waits it is not read at all: the kernel gathers. With few streams at work there is no tick, and a delta leaves at
once. Measured (docs/subsystems/performance.md): it lowers the cost of a delta and, under load, its lag too.
"""

import asyncio
from math import sqrt

UNPACED_STREAMS = 8
"""Up to so many streams, every delta leaves at once: they don't fill a tenth of a core."""

LONGEST_TICK_S = 0.040
"""A person does not see 40 ms between two pieces of a text; a delta waits for half of it on average."""

LONGEST_AT_STREAMS = 200


def tick_s(streams: int) -> float:
    """The time between two reads of a socket when so many streams are at work: 0 up to 8, 19 ms at 50, 40 ms from 200.

    It grows as a square root: the first streams over the limit already save a good part of the wake-ups.
    """
    over = streams - UNPACED_STREAMS
    if over <= 0:
        return 0.0
    return LONGEST_TICK_S * sqrt(min(1.0, over / (LONGEST_AT_STREAMS - UNPACED_STREAMS)))


class Pacer:
    """Holds sockets until the next tick. One a process; every stream enters it, reads, holds, and leaves."""

    def __init__(self) -> None:
        self._streams = 0
        self._held: set[asyncio.ReadTransport] = set()
        self._ticking = False

    @property
    def streams(self) -> int:
        """Streams at work."""
        return self._streams

    def enter(self) -> None:
        """A stream begins; it must `leave`."""
        self._streams += 1

    def leave(self, transport: asyncio.ReadTransport | None) -> None:
        """A stream ends, and whatever held its socket."""
        self._streams -= 1
        if transport in self._held:
            self._held.discard(transport)
            _resume(transport)

    def hold(self, transport: asyncio.ReadTransport) -> None:
        """The stream has read: its socket is not read again before the next tick."""
        if self._streams <= UNPACED_STREAMS:
            return
        transport.pause_reading()
        self._held.add(transport)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(tick_s(self._streams), self._tick)

    def _tick(self) -> None:
        self._ticking = False
        held, self._held = self._held, set()
        for transport in held:
            _resume(transport)


def _resume(transport: asyncio.ReadTransport) -> None:
    if not transport.is_closing():
        transport.resume_reading()
