"""What waits for one client that reads more slowly than its chat goes on. Bounded; waiting deltas become fewer frames.

Sans-I/O. It is empty as long as the client keeps up: frames then pass it by.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile

from gateway.frame import Frame, merged

MERGED_BYTES = 64 * 1024
"""A merged frame is closed at this size: one frame of the whole backlog would stall what comes behind it."""
_COMPACT_AT = 64
"""Frames of one run that wait before they are merged: a small frame's object is several times its text."""


class Outbox:
    """Frames in order, at most `limit` bytes of them. `merge` makes one frame of several of the same run."""

    __slots__ = ("_bytes", "_frames", "_limit", "_measure", "_merge", "_tail")

    def __init__(self, limit: int, merge: Callable[[Sequence[Frame]], Frame], measure: Callable[[Frame], int]) -> None:
        self._limit = limit
        self._merge = merge
        self._measure = measure
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._tail = 0  # frames at the end that may be merged and have not been

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, frame: Frame) -> bool:
        """Adds a frame; False: it does not fit, and the client is too slow. An empty outbox takes any frame."""
        size = self._measure(frame)
        mergeable = frame.run and self._frames and self._frames[-1].run == frame.run
        if self._frames and self._bytes + size > self._limit:
            # A frame may repeat what those before it said: merged with them it is no longer than alone.
            if not self._squeeze(frame if mergeable else None, self._limit - (0 if mergeable else size)):
                return False
            if mergeable:
                return True
        self._tail = self._tail + 1 if mergeable else 1
        self._frames.append(frame)
        self._bytes += size
        if self._tail == _COMPACT_AT:
            self._compact()
        return True

    def take(self) -> Frame | None:
        """The next frame: all that wait at the front and are of one run, as one, up to MERGED_BYTES."""
        if not self._frames:
            return None
        first = self._frames.popleft()
        size = self._measure(first)
        self._bytes -= size
        if not first.run:
            return first
        run = [first]
        while self._frames and self._frames[0].run == first.run and size < MERGED_BYTES:
            frame = self._frames.popleft()
            length = self._measure(frame)
            self._bytes -= length
            size += length
            run.append(frame)
        self._tail = min(self._tail, len(self._frames))
        return merged(run, self._merge)

    def clear(self) -> None:
        """Forgets what waits."""
        self._frames.clear()
        self._bytes = self._tail = 0

    def _squeeze(self, frame: Frame | None, limit: int) -> bool:
        """Merges the last run of what waits, with the frame if there is one; whether all then fits into the limit."""
        if frame is not None:
            self._frames.append(frame)
            self._bytes += self._measure(frame)
        run = self._frames[-1].run
        self._tail = sum(1 for _ in takewhile(lambda one: one.run == run, reversed(self._frames))) if run else 1
        if self._tail > 1:
            self._compact()
        return self._bytes <= limit

    def _compact(self) -> None:
        run = [self._frames.pop() for _ in range(self._tail)]
        self._bytes -= sum(map(self._measure, run))
        frame = merged(run[::-1], self._merge)
        size = self._measure(frame)
        # What has grown large is left alone from now on: merging it again and again would cost its square.
        self._tail = 1 if size < MERGED_BYTES else 0
        self._frames.append(frame)
        self._bytes += size
