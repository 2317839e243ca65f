"""One client's WebSocket as a state machine without I/O: messages in, text to act on out; frames in, bytes out.

`ws.py` moves the bytes. What is refused here is refused in the dialect's form; what it means is the dialect's.
"""

import struct
from collections.abc import Sequence
from enum import Enum

from chat.errors import ErrorCode, Failure, SwitchboardError

from gateway import close_codes
from gateway.close_codes import Close
from gateway.dialect import Socket, Visit
from gateway.frame import Frame
from gateway.limits import check_message
from gateway.outbox import Outbox
from gateway.settings import Limits

_BINARY = Failure(ErrorCode.INVALID_ARGUMENT, "Binary messages are not understood: send text.")


class State(Enum):
    """Where a connection stands."""

    OPEN = 1
    CLOSING = 2
    """`close` says how; what `next` still gives goes before it."""


def text_message(payload: bytes) -> bytes:
    """A whole text message as it goes over the wire from a server: unmasked, in one frame (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return b"\x81" + length.to_bytes(1, "big") + payload
    if length < 65536:
        return struct.pack("!BBH", 0x81, 126, length) + payload
    return struct.pack("!BBQ", 0x81, 127, length) + payload


class Connection:
    """One client's connection. Whoever calls a method moves what `next` gives to the wire, then closes if `close`."""

    __slots__ = ("_limits", "_outbox", "_socket", "close", "positions", "visit")

    def __init__(self, socket: Socket, limits: Limits, *, positions: bool = False) -> None:
        self._socket = socket
        self._limits = limits
        self._outbox: Outbox | None = None
        self.positions = positions
        self.close: Close | None = None
        self.visit: Visit | None = None
        """The client's stay, once its dialect has let it in."""

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return State.OPEN if self.close is None else State.CLOSING

    def receive(self, text: str | None) -> str | None:
        """A client's message; None: it was a binary one. Returns what is to be read by the dialect, if anything is."""
        if self.close is not None:
            return None
        if text is None:
            self.fail(_BINARY, stays=True)
            return None
        try:
            check_message(text, self._limits.message_bytes)
        except SwitchboardError as error:
            self.fail(error.failure, stays=False)
            return None
        return text

    def send(self, frames: Sequence[Frame]) -> None:
        """Frames for the client; too many waiting closes the connection."""
        if self.close is not None:
            return
        outbox = self._outbox
        if outbox is None:
            outbox = self._outbox = Outbox(self._limits.outbox_bytes, self._socket.merge, self._measure)
        for frame in frames:
            if not outbox.put(frame):
                outbox.clear()
                self.close = close_codes.TOO_SLOW
                return

    def fail(self, failure: Failure, *, stays: bool) -> None:
        """Tells the client of a failure, and closes the connection unless it `stays`."""
        if self.close is not None:
            return
        close = close_codes.close_of(failure.code)
        if stays or close.explained:
            self.send([self.explain(failure)])
        if not stays:
            self.end(close)

    def explain(self, failure: Failure) -> Frame:
        """The error frame that tells this client of a failure."""
        return self._socket.failure(failure, self.visit)

    def end(self, close: Close) -> None:
        """Closes the connection, behind what already waits; the first reason stands."""
        if self.close is None:
            self.close = close

    def next(self) -> bytes | None:
        """The next bytes for the wire; None: nothing waits."""
        if self._outbox is None:
            return None
        frame = self._outbox.take()
        if frame is None:
            self._outbox = None  # an idle connection keeps none
            return None
        return self.encode(frame)

    def encode(self, frame: Frame) -> bytes:
        """A frame as this client gets it; shared with every client that gets it alike."""
        return frame.encoded(self.positions, text_message)

    @property
    def waiting(self) -> bool:
        """Whether anything waits for the wire."""
        return self._outbox is not None

    def _measure(self, frame: Frame) -> int:
        return len(self.encode(frame))
