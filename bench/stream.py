"""One stream of a run: what its reader sees, and when.

A stream ends once: with its answer whole, or not.
"""

import time
from array import array
from collections import Counter
from collections.abc import Callable

from bench.direct import DirectClient
from bench.timestamps import TimestampReader
from bench.websocket_client import WebSocketClient

STOP_FRAME = b'{"type":"message_stop"'
ERROR_FRAME = b'{"type":"error"'
MAX_ERROR_CHARS = 200


class Tally:
    """What all streams of a run count together. `on_end` is called at a stream's end: whether its answer is whole."""

    def __init__(self, on_end: Callable[[bool], None]) -> None:
        self.lags: array[int] = array("q")
        self.last_ns = 0
        """Connections that end from now on, we ended."""
        self.close_codes: Counter[str] = Counter()
        self.on_end = on_end


class Stream:
    """One reader of one chat's answer. `sends`: whether it also asks."""

    __slots__ = ("_tally", "client", "ended", "first_ns", "frames", "last_ns", "reader", "sends", "sent_ns")

    def __init__(self, tally: "Tally", *, sends: bool) -> None:
        self._tally = tally
        self.sends = sends
        self.reader = TimestampReader(tally.lags)
        self.frames = 0
        self.sent_ns = 0
        self.first_ns = 0
        self.last_ns = 0
        self.ended = False
        self.client: WebSocketClient | DirectClient | None = None

    def take_octets(self, octets: bytes) -> None:
        """Bytes of the simulator's own stream."""
        now_ns = time.monotonic_ns()
        before = self.reader.count
        self.reader.read(octets, now_ns)
        if self.reader.count > before:
            self.frames += 1
            self._note(now_ns)

    def take_message(self, message: bytes) -> None:
        """A frame of Faye's."""
        now_ns = time.monotonic_ns()
        if message.startswith(STOP_FRAME):
            self.end(complete=True)
        elif message.startswith(ERROR_FRAME):
            self._tally.close_codes[message[:MAX_ERROR_CHARS].decode(errors="replace")] += 1
            self.end(complete=False)
        else:
            self.frames += 1
            # Only the content's digits count, and they may go on in the next frame: without the closing `"}`.
            self.reader.read(message[:-2], now_ns)
            if self.reader.count:
                self._note(now_ns)

    def take_close(self, code: int) -> None:
        if not self.ended:
            self._tally.close_codes[str(code)] += 1
        self.end(complete=False)

    def end(self, *, complete: bool) -> None:
        if not self.ended:
            self.ended = True
            self._tally.on_end(complete)

    def _note(self, now_ns: int) -> None:
        if not self.first_ns:
            self.first_ns = now_ns
        self.last_ns = now_ns
        self._tally.last_ns = now_ns
