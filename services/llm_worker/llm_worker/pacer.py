"""Paced reads: under load, streams wait for a common tick before their sockets are read again.

One wake-up then takes several deltas, and many streams' deltas fall into the same tick and leave as one batch. While a
socket waits it is not read at all: the kernel gathers. With few streams at work there is no tick, and a delta leaves at
once. Many streams are read in groups, whose ticks lie evenly apart: one burst of all of them would make each delta wait
for all the others, in every process on its way. Measured (docs/subsystems/performance.md): it lowers the cost of a
delta and, under load, its lag too.
"""

import asyncio
from math import ceil, sqrt

UNPACED_STREAMS = 8
"""Up to so many streams, every delta leaves at once: they don't fill a tenth of a core."""

LONGEST_TICK_S = 0.040
"""A person does not see 40 ms between two pieces of a text; a delta waits for half of it on average."""

LONGEST_AT_STREAMS = 150

STEP_S = 0.008
"""Ticks come in these steps: each other length is another rhythm, and sockets between two are read too often."""

GROUP_STREAMS = 50
"""A batch of so many costs hardly more a delta than one of all; reading it takes 5 ms."""
MOST_GROUPS = 4


def tick_s(streams: int) -> float:
    """The time between two reads of a socket when so many streams are at work: 0 up to 8, 24 ms at 50, 40 ms from 150.

    It grows as a square root: the first streams over the limit already save a good part of the wake-ups.
    """
    over = streams - UNPACED_STREAMS
    if over <= 0:
        return 0.0
    share = sqrt(min(1.0, over / (LONGEST_AT_STREAMS - UNPACED_STREAMS)))
    return ceil(LONGEST_TICK_S * share / STEP_S) * STEP_S


class Pacer:
    """Holds sockets until their next tick. One a process; every stream enters it, reads, holds, and leaves."""

    def __init__(self) -> None:
        self._streams = 0
        self._seats = 0
        self._held: list[set[asyncio.ReadTransport]] = [set() for _ in range(MOST_GROUPS)]

    @property
    def streams(self) -> int:
        """Streams at work."""
        return self._streams

    def enter(self) -> int:
        """A stream begins; it must `leave`. Returns its seat, for `hold`."""
        self._streams += 1
        self._seats += 1
        return self._seats

    def leave(self, transport: asyncio.ReadTransport | None) -> None:
        """A stream ends, and whatever held its socket."""
        self._streams -= 1
        for held in self._held:
            if transport in held:
                held.discard(transport)
                _resume(transport)

    def hold(self, transport: asyncio.ReadTransport, seat: int) -> None:
        """The stream has read: its socket is not read again before its group's next tick."""
        tick = tick_s(self._streams)
        if not tick:
            return
        groups = min(MOST_GROUPS, max(1, round(self._streams / GROUP_STREAMS)))
        group = seat % groups
        held = self._held[group]
        transport.pause_reading()
        if not held:
            loop = asyncio.get_running_loop()
            lead = tick * group / groups
            # The beat after the next half tick: timers may fire a little early, and the beat at hand is over.
            loop.call_at(ceil((loop.time() - lead) / tick + 0.5) * tick + lead, self._tick, group)
        held.add(transport)

    def _tick(self, group: int) -> None:
        held, self._held[group] = self._held[group], set()
        for transport in held:
            _resume(transport)


def _resume(transport: asyncio.ReadTransport) -> None:
    if not transport.is_closing():
        transport.resume_reading()
