"""A server that accepts connections and says nothing, as a frozen process does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class HungServer:
    """`url` is its address; `accepted` and `closed` count connections."""

    def __init__(self) -> None:
        self.url = ""
        self.address = ""
        self.accepted = 0
        self.closed = 0
        self._changed = asyncio.Condition()

    async def all_closed(self, count: int) -> None:
        """Waits until so many have come and none is open. Raises: TimeoutError."""
        async with asyncio.timeout(20), self._changed:
            while self.accepted < count or self.closed < self.accepted:
                await self._changed.wait()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        while await reader.read(65536):
            pass
        writer.close()
        async with self._changed:
            self.closed += 1
            self._changed.notify_all()


@asynccontextmanager
async def open_hung() -> AsyncIterator[HungServer]:
    """One that hangs for the length of the block."""
    hung = HungServer()
    server = await asyncio.start_server(hung.take, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    hung.address, hung.url = f"{host}:{port}", f"http://{host}:{port}"
    async with server:
        yield hung
