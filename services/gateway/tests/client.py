"""HTTP and WebSocket clients for tests, as a product would write them."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TIMEOUT_S = 20


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: Any


async def http(
    method: str, url: str, body: Any = None, *, key: str = "", headers: dict[str, str] | None = None
) -> Response:
    """One request; `body` is sent as JSON, bytes as they are. Header names come back in lower case."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = {
        "content-type": "application/json",
        **({"authorization": f"Bearer {key}"} if key else {}),
        **(headers or {}),
    }
    request = urllib.request.Request(url, data=data, headers=sent, method=method)  # noqa: S310
    return await asyncio.to_thread(_send, request)


def _send(request: urllib.request.Request) -> Response:
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            return _read(response.status, response)
    except urllib.error.HTTPError as error:
        with error:
            return _read(error.code, error)


def _read(status: int, response: Any) -> Response:
    raw = response.read()
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = json.loads(raw) if headers.get("content-type", "").startswith("application/json") else raw
    return Response(status, headers, body)


class Socket:
    """A WebSocket whose every wait has an end."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    @classmethod
    async def open(cls, url: str, *, small: bool = False, headers: dict[str, str] | None = None) -> Socket:
        """`small`: the kernel takes hardly anything on our behalf, and neither does the library."""
        options: dict[str, Any] = {
            "compression": None,
            "additional_headers": headers,
            "max_size": None,
            "max_queue": None,
        }
        if small:
            parts = urlsplit(url)
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
            options |= {"sock": raw, "max_queue": 1, "ping_interval": None}
        async with asyncio.timeout(TIMEOUT_S):
            return cls(await connect(url, **options))

    async def send(self, message: str | bytes) -> None:
        await self.connection.send(message)

    async def receive(self) -> Any:
        """The next frame, decoded."""
        async with asyncio.timeout(TIMEOUT_S):
            return json.loads(await self.connection.recv())

    async def closing(self) -> tuple[list[Any], int | None, str]:
        """All frames up to the close, and the close's code and reason."""
        frames = []
        try:
            while True:
                frames.append(await self.receive())
        except ConnectionClosed as closed:
            received = closed.rcvd
            return frames, received.code if received else None, received.reason if received else ""

    async def close(self) -> None:
        await self.connection.close()
