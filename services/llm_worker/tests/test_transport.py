"""The transport, below the SDKs: what it sends, and what a server's bad manners come to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
import openai
import pytest
from llm_worker.pacer import Pacer
from llm_worker.transport import body_of, open_http_client

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nset-cookie: a=b\r\n\r\n"


@asynccontextmanager
async def open_client(serve: Serve) -> AsyncIterator[tuple[httpx2.AsyncClient, str]]:
    """A client, and the address of a server that treats each connection so."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    url = f"http://{host}:{port}/"
    async with server, open_http_client(pacer=Pacer(), connect_timeout_s=2) as client:
        yield client, url


async def test_a_request_of_an_sdk_asks_for_no_compression_and_brings_no_cookie_of_an_earlier_one() -> None:
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
                await reader.readexactly(2)
                writer.write(HEAD + b"0\r\n\r\n")
        writer.close()

    async with open_client(serve) as (client, url):
        sdk = openai.AsyncOpenAI(api_key="sk-1", base_url=url, http_client=client, max_retries=0)
        for _ in range(2):
            response: Any = await sdk.post(
                url, content=b"{}", cast_to=httpx2.Response, stream=True, stream_cls=openai.AsyncStream[object]
            )
            assert await body_of(response).read() == b""
            await body_of(response).aclose()
    first, second = heads
    assert "\r\naccept-encoding: identity\r\n" in first
    assert "\r\nauthorization: bearer sk-1\r\n" in first
    assert "\r\ncontent-type: application/json\r\n" in first
    assert "cookie" not in second


async def test_http_that_makes_no_sense_is_a_broken_connection_and_what_came_before_is_kept() -> None:
    rest, closed = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"3\r\none\r\n")
        await rest.wait()
        writer.write(b"3\r\ntwo\r\nno number\r\n")
        await reader.read()
        writer.close()
        closed.set()

    async with open_client(serve) as (client, url):
        response = await client.send(client.build_request("POST", url, content=b"{}"), stream=True)
        body = body_of(response)
        assert await body.read() == b"one"
        rest.set()
        async with asyncio.timeout(10):
            await closed.wait()
        assert await body.read() == b"two"
        with pytest.raises(httpx2.ReadError):
            await body.read()
        await body.aclose()
