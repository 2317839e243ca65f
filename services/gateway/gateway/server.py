"""uvicorn as we run it: its WebSocket protocol with a `ws_client.Pipe`, its server without its own ideas of signals.

What is changed and why: sending needs no task and no coroutine; a peer that does not answer our close is aborted, since
a transport that only `close`s waits for it for ever; paths are not logged, since query strings hold tokens; whoever
leaves us waiting, in a request or with its answer, is waited for so long and no longer.
"""

import contextlib
import logging
from asyncio import TimerHandle, Transport
from collections.abc import Callable, Generator
from typing import Any

import httptools
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.protocol import State

from gateway.settings import Limits
from gateway.ws import PIPE

_CLOSE_TIMEOUT_S = 5.0
"""For the client to answer our close frame, and to take what was written before it."""

_HEAD_BYTES = 64 * 1024
"""The usual bound of proxies is 8 to 32 KiB."""
_PIPELINED = 16
"""Requests that may wait behind the one that is answered: hardly any client sends a second."""
SPARE_CONNECTIONS = 100
"""Above the bound on WebSockets: for probes and other HTTP, and for WebSockets that are told to come later. One more is
closed without being read."""
_CLOSING = "HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

_quiet = logging.getLogger("gateway.websocket_protocol")
# What a client breaks is told to the client; at error it would fill the log with tracebacks at anybody's wish.
_quiet.setLevel(logging.CRITICAL)
# Its lines at info tell of WebSockets by path, and of its own start and end, which we tell ourselves; at warning, of
# requests that are none, as often as anybody wishes.
logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class PipedProtocol(WebSocketsSansIOProtocol):
    """A client's WebSocket. Adapter of `ws_client.Pipe`, which it offers to the application in the ASGI scope."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Both would write the path with its query string, uvicorn's at info, websockets' at debug.
        self.logger = self.conn.logger = _quiet
        self.on_room: Callable[[], None] | None = None
        self.on_oversize: Callable[[], bytes] | None = None

    def answer_unread(self) -> None:
        """Called once, behind the handshake's bytes. uvicorn answers none that websockets could not read: a line over
        8 KiB, more than 128 headers, a body."""
        if not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()) or _CLOSING.format("400 Bad Request").encode())
            self.transport.close()

    async def run_asgi(self) -> None:
        """As uvicorn's, with the pipe in the scope."""
        extensions: dict[str, Any] = {**(self.scope.get("extensions") or {}), PIPE: self}
        self.scope["extensions"] = extensions
        await super().run_asgi()

    @property
    def has_room(self) -> bool:
        """Whether the transport's buffer is below its high-water mark."""
        return self.writable.is_set()

    def write(self, data: bytes) -> None:
        """Writes whole messages as they go over the wire."""
        if self.conn.state is State.OPEN and not self.disconnected:
            self.transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame; aborts the connection when the client has not answered in time."""
        if self.close_sent or self.disconnected or self.conn.state is not State.OPEN:
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.stop_keepalive()
        self.close_timer = self.loop.call_later(_CLOSE_TIMEOUT_S, self.transport.abort)

    def handle_ping(self) -> None:
        """The client pings; while it takes nothing, its pongs would only gather (RFC 6455 lets the latest do)."""
        pong = b"".join(self.conn.data_to_send())
        if self.has_room:
            self.transport.write(pong)

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        super().resume_writing()
        if self.on_room is not None:
            room, self.on_room = self.on_room, None
            room()

    def keepalive_timeout(self) -> None:
        """A client that leaves a ping unanswered is gone, and so is what it was to get."""
        super().keepalive_timeout()
        self.close_timer = self.loop.call_later(_CLOSE_TIMEOUT_S, self.transport.abort)

    def handle_close(self, event: Any) -> None:
        """The client closes; if it does not take the answer, it is aborted."""
        super().handle_close(event)
        if self.close_timer is None and not self.disconnected:
            self.close_timer = self.loop.call_later(_CLOSE_TIMEOUT_S, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """The client broke the protocol or the size limit; websockets has made the close frame already."""
        close = self.conn.close_sent
        if close is not None and close.code == CloseCode.MESSAGE_TOO_BIG and self.on_oversize is not None:
            self.transport.write(self.on_oversize())
        super().handle_parser_exception()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.on_room = self.on_oversize = None
        super().connection_lost(exc)


class BoundedHttpProtocol(HttpToolsProtocol):
    """A client's connection, until it becomes a WebSocket. uvicorn bounds neither how many there are, nor a request's
    head, nor the time that a request takes to come and its answer to go, nor the requests that wait behind one."""

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._head_bytes = 0
        self._in_head = False
        self._request_timer: TimerHandle | None = None
        self._answer_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """A client has connected, and has said nothing yet."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections + SPARE_CONNECTIONS:
            self._refuse("503 Service Unavailable")
            return
        self._expect_within(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._expect_within(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuses a head that does not end."""
        if self._request_timer is None and (self.cycle is None or self.cycle.response_complete):
            # The next request begins; with whatever it does, uvicorn stops waiting for it.
            self._expect_within(self._limits.head_s)
        super().data_received(data)
        if self._in_head:
            # Of a chunk in which a head begins, all: clients send no second request before the first is answered.
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
                self._refuse("431 Request Header Fields Too Large")

    def handle_websocket_upgrade(self) -> None:
        """Hands the connection over."""
        self._expect_within(None)
        if self.flow.write_paused or not (self.cycle is None or self.cycle.response_complete):
            # The rest of that answer would come between the frames.
            self.transport.close()
            return
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if isinstance(protocol, PipedProtocol):
            protocol.answer_unread()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._in_head = False
        self._expect_within(self._limits.stall_s)
        super().on_headers_complete()
        if len(self.pipeline) > _PIPELINED:
            # Ends the parsing of what is read already; uvicorn answers 400 and closes.
            raise httptools.HttpParserError("too many pipelined requests")

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._expect_within(None)
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not take its answer."""
        super().pause_writing()
        self._answer_timer = self.loop.call_later(self._limits.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _expect_within(self, seconds: float | None) -> None:
        """More of the request has to come within this time; None: nothing has to."""
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._request_timer = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self._in_head:
            self._refuse("408 Request Timeout")
        else:
            # Browsers connect before they have anything to ask, and would show the answer to nothing.
            self.transport.close()

    def _refuse(self, status: str) -> None:
        self.transport.write(_CLOSING.format(status).encode())
        self.transport.close()


class QuietServer(Server):
    """uvicorn's server; signals are `main`'s, which drains before it sets `should_exit`."""

    def __init__(self, config: Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves signals alone."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """As uvicorn's, and says when it is done."""
        await super().startup(sockets)
        self._on_started()
