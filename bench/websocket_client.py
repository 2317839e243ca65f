"""A WebSocket client that costs next to nothing: enough of RFC 6455 to hold thousands of a server's streams.

It sends small text messages, reads unmasked frames, answers pings, and refuses the rest: no fragments, no extensions.
Each message goes to `on_message` as bytes, undecoded.
"""

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable
from typing import cast

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
MASK = b"\0\0\0\0"
"""Allowed, and free: loopback has no proxy to protect."""


class WebSocketClient(asyncio.Protocol):
    """One connection. `on_open` is called when the handshake is done, `on_end` once, with the close code or 1006."""

    __slots__ = ("_buffer", "_ended", "_on_end", "_on_message", "_on_open", "_opened", "_request", "_transport")

    def __init__(
        self,
        host: str,
        path: str,
        *,
        on_open: Callable[[], None],
        on_message: Callable[[bytes], None],
        on_end: Callable[[int], None],
    ) -> None:
        key = b64encode(os.urandom(16)).decode()
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self._buffer = b""
        self._opened = False
        self._ended = False
        self._on_open = on_open
        self._on_message = on_message
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by interface, not by class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        octets = self._buffer + data if self._buffer else data
        if not self._opened:
            end = octets.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = octets
                return
            if not octets.startswith(b"HTTP/1.1 101 "):
                self._finish(1006)
                return
            self._opened = True
            octets = octets[end + 4 :]
            self._on_open()
        self._buffer = self._read_frames(octets)

    def _read_frames(self, octets: bytes) -> bytes:
        """Hands on every whole frame; returns the rest."""
        at, size = 0, len(octets)
        while size - at >= 2:
            first, length = octets[at], octets[at + 1]
            start = at + 2
            if length >= 126:
                width = 2 if length == 126 else 8
                if size - start < width:
                    break
                length = int.from_bytes(octets[start : start + width], "big")
                start += width
            if size - start < length:
                break
            payload = octets[start : start + length]
            at = start + length
            if first == 0x80 | TEXT:
                self._on_message(payload)
            else:
                self._control(first, payload)
        return octets[at:] if at else octets

    def _control(self, first: int, payload: bytes) -> None:
        if first == 0x80 | PING:
            self._send(PONG, payload)
        elif first == 0x80 | CLOSE:
            self._send(CLOSE, payload[:2])
            self._finish(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005)
        elif first != 0x80 | PONG:
            self._finish(1002)

    def send(self, text: str) -> None:
        """Sends a message of less than 64 KiB."""
        self._send(TEXT, text.encode())

    def close(self) -> None:
        """Says good-bye and goes."""
        self._send(CLOSE, b"\x03\xe8")
        self._finish(1000)

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._transport is None or self._ended:
            return
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self._transport.write(bytes((0x80 | opcode,)) + length + MASK + payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(1006)

    def _finish(self, code: int) -> None:
        if self._ended:
            return
        self._ended = True
        if self._transport is not None:
            self._transport.close()
        self._on_end(code)
