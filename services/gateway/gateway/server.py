"""uvicorn as we run it: its WebSocket protocol with a `ws.Pipe`, its server without its own ideas of signals.

What is changed and why: sending needs no task and no coroutine; a peer that does not answer our close is aborted, since
a transport that only `close`s waits for it for ever; paths are not logged, since query strings hold tokens.
"""

import contextlib
import logging
from collections.abc import Callable, Generator
from typing import Any

import httptools
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.protocol import State

from gateway.ws import PIPE

_CLOSE_TIMEOUT_S = 5.0
"""For the client to answer our close frame, and to take what was written before it."""

_HEAD_BYTES = 64 * 1024
"""The usual bound of proxies is 8 to 32 KiB."""
_PIPELINED = 16
"""Requests that may wait behind the one that is answered: hardly any client sends a second."""

_quiet = logging.getLogger("gateway.websocket_protocol")
# What a client breaks is told to the client; at error it would fill the log with tracebacks at anybody's wish.
_quiet.setLevel(logging.CRITICAL)
# Its lines at info tell of WebSockets by path, and of its own start and end, which we tell ourselves.
logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class PipedProtocol(WebSocketsSansIOProtocol):
    """A client's WebSocket. Adapter of `ws.Pipe`, which it offers to the application in the ASGI scope."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Both would write the path with its query string, uvicorn's at info, websockets' at debug.
        self.logger = self.conn.logger = _quiet
        self.on_room: Callable[[], None] | None = None
        self.on_oversize: Callable[[], bytes] | None = None

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
    """A client's HTTP connection. uvicorn bounds neither a request's head nor the requests that wait behind one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True

    def data_received(self, data: bytes) -> None:
        """Refuses a head that does not end."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._in_head = False
        super().on_headers_complete()
        if len(self.pipeline) > _PIPELINED:
            # Ends the parsing of what is read already; uvicorn answers 400 and closes.
            raise httptools.HttpParserError("too many pipelined requests")


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
