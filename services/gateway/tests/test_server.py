"""What the server does about clients that ask for too much, too slowly or not at all: raw bytes over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import pytest_asyncio
from gateway.server import SPARE_CONNECTIONS
from launcher.stack import Stack

from .client import TIMEOUT_S
from .conftest import NOBODY, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def handshake(path: bytes = b"/ws/faye/t", more: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + UPGRADE + more + b"\r\n"


def post(key: str, body: bytes) -> bytes:
    """A request whose body goes on after `body`."""
    head = f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: 1000"
    return f"POST /faye/chat/start_session HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body


class Raw:
    """A client that knows no protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int, data: bytes = b"") -> AsyncIterator[Raw]:
        raw = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            raw.writer.write(data)
            yield raw
        finally:
            raw.writer.close()

    async def status(self) -> int:
        """The next answer's."""
        async with asyncio.timeout(TIMEOUT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1])

    async def rest(self, drip: Sequence[bytes] = ()) -> bytes:
        """All that still comes before the other side closes or resets, while `drip` is sent piece by piece."""
        left, received = iter(drip), bytearray()
        reading = asyncio.create_task(self._read_into(received))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not (await asyncio.wait({reading}, timeout=0.1))[0]:
                    self.writer.write(next(left, b""))
                return bytes(received)
        finally:
            reading.cancel()

    async def _read_into(self, received: bytearray) -> None:
        with suppress(ConnectionResetError):
            while octets := await self.reader.read(65536):
                received += octets


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty() -> AsyncIterator[Stack]:
    """A gateway that does not wait long."""
    times = {"HEAD_SECONDS": "0.5", "STALL_SECONDS": "0.5", "KEEP_ALIVE_SECONDS": "1"}
    async with Stack(sessions=0, workers=0, redis=False, simulator=False, environment={**NOBODY, **times}) as stack:
        yield stack


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
        (handshake(b"/ws/faye/" + b"a" * 9_000), 414),
        (handshake(more=b"X: " + b"a" * 9_000 + b"\r\n"), 431),
        (handshake(more=b"X: a\r\n" * 130), 431),
        (handshake(more=b"Content-Length: 1\r\n") + b"a", 400),
    ],
)
async def test_a_head_that_is_too_large_or_cannot_be_read_is_refused(system: System, data: bytes, status: int) -> None:
    async with Raw.connected(system.stack.gateway_ports[0], data) as client:
        assert await client.status() == status
        assert b"HTTP/" not in await client.rest()


async def test_no_websocket_begins_in_the_middle_of_an_answer(system: System) -> None:
    async with Raw.connected(system.stack.gateway_ports[0], GET + handshake()) as client:
        assert b"101" not in await client.rest()


async def test_a_websocket_may_follow_an_answer(system: System) -> None:
    async with Raw.connected(system.stack.gateway_ports[0], GET) as client:
        assert await client.status() == 200
        assert await client.reader.readexactly(len(b'{"status":"alive"}'))
        client.writer.write(handshake())
        assert await client.status() == 101


@pytest.mark.parametrize("drip", [b"", b"abcdefghij" * 100])
@pytest.mark.parametrize("begun", [GET[:9], GET[:-2], handshake()[:-2], handshake()[:40]])
async def test_a_head_that_does_not_end_is_waited_for_so_long_and_no_longer(
    hasty: Stack, begun: bytes, drip: bytes
) -> None:
    async with Raw.connected(hasty.gateway_ports[0], begun) as client:
        assert (await client.rest([bytes([octet]) for octet in drip])).startswith(b"HTTP/1.1 408")


async def test_who_says_nothing_is_not_waited_for_either(hasty: Stack) -> None:
    async with Raw.connected(hasty.gateway_ports[0]) as client:
        assert await client.rest() == b""


@pytest.mark.parametrize("drip", [[], [b"\r\n"] * 1000])
async def test_a_connection_that_is_kept_alive_is_not_kept_for_ever(hasty: Stack, drip: Sequence[bytes]) -> None:
    async with Raw.connected(hasty.gateway_ports[0], GET) as client:
        assert await client.status() == 200
        assert (await client.rest(drip)).startswith(b'{"status":"alive"}')


@pytest.mark.parametrize("credential", ["good", "bad"])
async def test_a_body_that_does_not_end_is_not_waited_for_for_ever(hasty: Stack, credential: str) -> None:
    key = hasty.secrets.api_key if credential == "good" else "wrong"
    async with Raw.connected(hasty.gateway_ports[0], post(key, b"{")) as client:
        answer = await client.rest([b" "] * 900)
    assert (b"401" in answer) == (credential == "bad")
    assert b"HTTP/1.1 200" not in answer


async def test_a_bound_on_connections_counts_those_that_have_said_nothing() -> None:
    environment = {**NOBODY, "MAX_CONNECTIONS": "1", "HEAD_SECONDS": "3600"}
    async with Stack(sessions=0, workers=0, redis=False, simulator=False, environment=environment) as stack:
        port = stack.gateway_ports[0]
        async with AsyncExitStack() as clients:
            silent = [await clients.enter_async_context(Raw.connected(port)) for _ in range(1 + SPARE_CONNECTIONS)]
            async with Raw.connected(port, GET) as refused:
                assert await refused.status() == 503
            for client in silent:
                client.writer.write(GET)
                assert await client.status() == 200
            silent[0].writer.close()
            served = 503
            while served != 200:
                async with Raw.connected(port, GET) as again:
                    served = await again.status()
