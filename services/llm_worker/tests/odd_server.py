"""A provider that says just what a test gives it, whatever it is asked: what the simulator is too well-behaved for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def as_stream(*events: object) -> bytes:
    """A whole response with these events; bytes are an event's data as they are."""
    data = [event if isinstance(event, bytes) else orjson.dumps(event) for event in events]
    return STREAM + b"".join(b"data: " + each + b"\n\n" for each in data)


@asynccontextmanager
async def open_odd(response: bytes) -> AsyncIterator[str]:
    """Serves the response for the length of the block, and then closes the connection; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(response)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
