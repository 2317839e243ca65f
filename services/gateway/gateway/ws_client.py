"""One client that is connected: the shell around its `Connection`, which moves bytes and watches the clock.

Writing waits for nothing: it is a plain call into the server's protocol (`Pipe`, see `server.py`). A client costs one
timer at the most, and none where its dialect bounds neither its stay nor its silence.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from chat.errors import ErrorCode, Failure

from gateway import close_codes
from gateway.close_codes import Close
from gateway.connection import Connection
from gateway.dialect import Socket, Visit
from gateway.frame import Frame
from gateway.limits import too_large
from gateway.settings import Limits

_EXPIRED = Failure(ErrorCode.UNAUTHENTICATED, "The token has expired; connect again with a new one.")
_REMOVED = Failure(ErrorCode.PERMISSION_DENIED, "You take part in this chat no longer.")


class Pipe(Protocol):
    """A client's WebSocket, for writing without waiting."""

    @property
    def has_room(self) -> bool:
        """Whether the client takes what is written; else `on_room` will be called."""
        ...

    on_room: Callable[[], None] | None
    """Called once when there is room again."""
    on_oversize: Callable[[], bytes] | None
    """Asked for last words when a message is over the server's own limit, which ends the connection with 1009."""

    def write(self, data: bytes) -> None:
        """Writes whole messages as they go over the wire. Does nothing when the connection is closed."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame behind what was written, and ends the connection soon, whatever the client does."""
        ...


class Client:
    """One client that is connected: the shell around its `Connection`. Adapter of `feed.Reader`."""

    __slots__ = (
        "_connection",
        "_heard_s",
        "_limits",
        "_now_s",
        "_pipe",
        "_timer",
        "chats",
        "dialect",
        "key",
        "refused",
        "resumes",
        "said",
        "socket",
    )

    def __init__(self, dialect: str, socket: Socket, pipe: Pipe, limits: Limits, now_s: Callable[[], float]) -> None:
        self._pipe = pipe
        pipe.on_oversize = self._oversize
        self._limits = limits
        self._now_s = now_s
        self._connection = Connection(socket, limits)
        self._timer: asyncio.TimerHandle | None = None
        self._heard_s = 0.0
        self.dialect = dialect
        self.socket = socket
        self.chats: tuple[str, ...] = ()
        self.key = ""
        self.said = 0
        self.refused = 0
        self.resumes = False

    @property
    def visit(self) -> Visit | None:
        """Its stay, once its dialect has let it in."""
        return self._connection.visit

    def enter(self, visit: Visit) -> None:
        """Its dialect has let it in. `leave` must be called in the end."""
        self._connection.visit = visit
        if visit.idle_s is not None or visit.expires_at_s is not None:
            self._heard_s = asyncio.get_running_loop().time()
            self._look()

    def leave(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def show_positions(self) -> None:
        """Frames carry their positions from now on."""
        self._connection.positions = True

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Frames for the client: at once when it keeps up, else through its outbox."""
        connection, pipe = self._connection, self._pipe
        if pipe.has_room and not connection.waiting and connection.close is None:
            for frame in frames:
                pipe.write(connection.encode(frame))
        else:
            connection.send(frames)
            self._flush()

    def receive(self, text: str | None) -> str | None:
        """A client's message; what of it the dialect is to read."""
        visit = self._connection.visit
        if visit is not None:
            if visit.expires_at_s is not None and visit.expires_at_s <= self._now_s():
                self.fail(_EXPIRED, stays=False)
            if visit.idle_s is not None:
                self._heard_s = asyncio.get_running_loop().time()
        wanted = self._connection.receive(text)
        self._flush()
        return wanted

    def fail(self, failure: Failure, *, stays: bool) -> None:
        """Shows a failure, and closes unless the connection `stays`."""
        self._connection.fail(failure, stays=stays)
        self._flush()

    def end(self, close: Close) -> None:
        """Closes the connection."""
        self._connection.end(close)
        self._flush()

    def ended(self) -> None:
        """The chat is gone."""
        self.end(close_codes.SESSION_ENDED)

    def failed(self, failure: Failure) -> None:
        """The hub can't go on."""
        self.fail(failure, stays=False)

    def removed(self, user_id: str) -> None:
        """Somebody takes part in the chat no longer."""
        if self.visit is not None and self.visit.user_id == user_id:
            self.fail(_REMOVED, stays=False)

    def _look(self) -> None:
        """Closes a client whose time is over, or looks again when it may be: one timer, however many frames come."""
        visit, loop = self._connection.visit, asyncio.get_running_loop()
        if visit is None or self._connection.close is not None:
            return
        left_s = math.inf
        if visit.expires_at_s is not None:
            left_s = min(left_s, visit.expires_at_s - self._now_s())
            if left_s <= 0:
                self.fail(_EXPIRED, stays=False)
                return
        if visit.idle_s is not None:
            left_s = min(left_s, self._heard_s + visit.idle_s - loop.time())
            if left_s <= 0:
                self.end(close_codes.SILENT)
                return
        self._timer = loop.call_later(left_s, self._look)

    def _oversize(self) -> bytes:
        return self._connection.encode(self._connection.explain(too_large(self._limits.message_bytes).failure))

    def _flush(self) -> None:
        connection, pipe = self._connection, self._pipe
        close = connection.close
        # What waits goes out before a close frame whether there is room or not; it is bounded.
        while pipe.has_room or close is not None:
            data = connection.next()
            if data is None:
                break
            pipe.write(data)
        if close is not None:
            pipe.on_room = None
            pipe.close(close.code, close.reason)
        elif connection.waiting:
            pipe.on_room = self._flush
