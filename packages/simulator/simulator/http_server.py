"""HTTP/1.1 as the simulator serves it: requests with bodies of known length or chunked, keep-alive, no pipelining.

It refuses what no provider's client sends: upgrades, a second request before the first is answered, bodies over 32 MiB.
Responses are written as complete bytes by whoever handles the request; this module only parses and ends connections.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from simulator.exchange import Exchange
from simulator.script import Way

BODY_LIMIT = 32 * 1024 * 1024
"""Anthropic's documented limit for a request."""

BUFFER_HIGH = 64 * 1024
"""Unsent bytes of one connection at which its exchange parks."""

LINGER_S = 1.0
"""How long a refused body is still read and thrown away: closing at once would reset the refusal away."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on with zero seconds: close sends RST."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A whole request; header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


class Handler(Protocol):
    """What answers requests, through `HttpConnection.begin` or `respond`, now or later."""

    def handle(self, request: HttpRequest, connection: HttpConnection) -> None: ...

    def refuse_body(self, path: str, connection: HttpConnection) -> None: ...


class HttpConnection(asyncio.Protocol):
    """One client's connection. It is the parser's callback object as well."""

    def __init__(self, handler: Handler, connections: set[HttpConnection]) -> None:
        self._handler = handler
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._backlog = False
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._busy = False
        self._keep_alive = True
        self._discarding = False
        self.full = False
        self.on_message_begin()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # uvloop's own class: no subclass of it, all of its methods
        stream.set_write_buffer_limits(high=BUFFER_HIGH)
        self._transport = stream
        # Our own descriptor of the same socket: it can't be closed and given to another connection behind our back.
        self._socket = socket.socket(fileno=os.dup(stream.get_extra_info("socket").fileno()))
        self._socket.setblocking(False)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._busy:
                self.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._hang_up()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._exchange is not None:
            self._exchange.resume()

    # httptools

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > BODY_LIMIT:
            self._refuse_body()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_LIMIT:
            self._refuse_body()
        if not self._discarding:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._discarding:
            return
        if self._busy:
            self._hang_up()
            return
        self._busy = True
        self._keep_alive = self._parser.should_keep_alive()
        body = b"".join(self._body)
        self._body.clear()
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode("latin-1")
        self._handler.handle(HttpRequest(method, path, query, self._headers, body, self._keep_alive), self)

    # for handlers and exchanges

    def begin(self, exchange: Exchange) -> None:
        """Lets an exchange answer the request at hand."""
        self._exchange = exchange
        exchange.start()

    def respond(self, response: bytes) -> None:
        """Answers the request at hand at once."""
        self.send(response)
        self.finish(Way.KEEP)

    def send(self, octets: bytes) -> None:
        """Sends now what the socket takes and leaves the rest to the transport.

        uvloop would collect the writes of one wake and send them after its last; a timestamp in the first delta would
        then be older than its sending.
        """
        transport = self._transport
        if transport is None or self._socket is None:
            return
        if not self._backlog or transport.get_write_buffer_size() == 0:
            self._backlog = False
            try:
                sent = self._socket.send(octets)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # The client is gone; the transport finds that out by reading.
            if sent == len(octets):
                return
            octets = octets[sent:]
        self._backlog = True
        transport.write(octets)

    def finish(self, way: Way) -> None:
        """Ends the answer at hand."""
        if way is Way.HOLD:
            return
        self._exchange = None
        self._busy = False
        if self._transport is None or self._socket is None:
            return
        if way is Way.RESET:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()
        elif way is Way.CLOSE or not self._keep_alive:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection with the process."""
        if self._transport is not None:
            self._transport.abort()

    def _hang_up(self) -> None:
        """Closes on a client that broke the rules, in the middle of an answer or not."""
        self._discarding = True
        if self._exchange is not None:
            self._exchange.cancel()
        self.finish(Way.CLOSE)

    def _refuse_body(self) -> None:
        if self._discarding:
            return
        self._discarding = True
        self._busy = True
        self._body.clear()
        self._handler.refuse_body(self._url.decode("latin-1").partition("?")[0], self)
        if self._transport is not None:
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)
