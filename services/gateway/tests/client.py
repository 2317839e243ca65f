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

from .documents import Channel, documents_of

TIMEOUT_S = 20


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: Any


async def http(
    method: str, url: str, body: Any = None, *, key: str = "", headers: dict[str, str] | None = None
) -> Response:
    """One request; `body` is sent as JSON, bytes as they are. Header names come back in lower case. Fails when the
    answer is not as the OpenAPI document says."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = {
        "content-type": "application/json",
        **({"authorization": f"Bearer {key}"} if key else {}),
        **(headers or {}),
    }
    request = urllib.request.Request(url, data=data, headers=sent, method=method)  # noqa: S310
    response = await asyncio.to_thread(_send, request)
    if (documents := await asyncio.to_thread(documents_of, url)) is not None:
        kind = response.headers.get("content-type", "")
        documents.check_response(method, urlsplit(url).path, response.status, kind, response.body)
    return response


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
    """A WebSocket whose every wait has an end; fails at a frame that is not as the AsyncAPI document says."""

    def __init__(self, connection: ClientConnection, channel: Channel | None = None) -> None:
        self.connection = connection
        self.channel = channel

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
        documents = await asyncio.to_thread(documents_of, f"http{url.removeprefix('ws')}")
        channel = None if documents is None else documents.channel_at(urlsplit(url).path)
        async with asyncio.timeout(TIMEOUT_S):
            return cls(await connect(url, **options), channel)

    async def send(self, message: str | bytes) -> None:
        await self.connection.send(message)

    async def receive(self) -> Any:
        """The next frame, decoded."""
        async with asyncio.timeout(TIMEOUT_S):
            frame = json.loads(await self.connection.recv())
        if self.channel is not None:
            self.channel.check_told(frame)
        return frame

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
