"""The direct call: the same measuring reader on the simulator's own socket, as Anthropic's or OpenAI's API streams.

What a client would see without us; it decodes nothing and keeps nothing, so it is the floor, not a competitor.
"""

import asyncio
import json
from collections.abc import Callable
from typing import cast

WIRES = {
    "anthropic": ("/anthropic/v1/messages", "claude-sonnet-4-5", b"event: message_stop"),
    "openai": ("/openai/v1/chat/completions", "gpt-4o", b"data: [DONE]"),
}
"""Path, model, and what the last event holds."""

END_BYTES = 64
"""The last event is shorter, so that this much of the bytes before suffices to find it when it is cut."""


def compose_request(wire: str, host: str, message: str) -> bytes:
    """A whole HTTP request, with the headers that either API wants."""
    path, model, _ = WIRES[wire]
    body = json.dumps(
        {"model": model, "max_tokens": 4096, "stream": True, "messages": [{"role": "user", "content": message}]}
        if wire == "anthropic"
        else {"model": model, "stream": True, "messages": [{"role": "user", "content": message}]}
    ).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAuthorization: Bearer simulator\r\n"
        f"x-api-key: simulator\r\nanthropic-version: 2023-06-01\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class DirectClient(asyncio.Protocol):
    """One connection, one answer. `on_octets` gets what comes; `on_end` is called once: whether the answer is whole."""

    __slots__ = ("_end", "_ended", "_last", "_on_end", "_on_octets", "_transport")

    def __init__(self, wire: str, *, on_octets: Callable[[bytes], None], on_end: Callable[[bool], None]) -> None:
        self._end = WIRES[wire][2]
        self._on_octets = on_octets
        self._on_end = on_end
        self._last = b""
        self._ended = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by interface, not by class.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._on_octets(data)
        if self._end in self._last + data:
            self._finish(True)
        else:
            self._last = data[-END_BYTES:]

    def close(self) -> None:
        self._finish(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(False)

    def _finish(self, complete: bool) -> None:
        if self._ended:
            return
        self._ended = True
        if self._transport is not None:
            self._transport.close()
        self._on_end(complete)
