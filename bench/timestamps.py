"""Finds the simulator's timestamps in a stream of bytes, however its deltas were cut or merged on the way.

Each delta begins with sixteen digits and a space: CLOCK_MONOTONIC in nanoseconds at its sending. Bytes in,
lags out; no decoding.
"""

import re
from array import array

DIGITS = 16
_STAMP = re.compile(rb"([0-9]{16}) ")
_CUT_STAMP = re.compile(rb"[0-9]{1,16}$")


class TimestampReader:
    """The lags of one stream's deltas, in nanoseconds, appended to `lags`."""

    __slots__ = ("_lags", "_tail", "count")

    def __init__(self, lags: "array[int]") -> None:
        self._lags = lags
        self._tail = b""
        self.count = 0

    def read(self, octets: bytes, now_ns: int) -> None:
        """The next bytes of text. A timestamp that is cut at their end is found with the next ones."""
        if self._tail:
            octets = self._tail + octets
        stamps = _STAMP.findall(octets)
        for stamp in stamps:
            self._lags.append(now_ns - int(stamp))
        self.count += len(stamps)
        cut = _CUT_STAMP.search(octets, max(0, len(octets) - DIGITS))
        self._tail = cut[0] if cut is not None else b""
