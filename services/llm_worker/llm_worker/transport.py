"""HTTP to the providers, below the SDKs' httpx2: a pool of our own connections, raw bodies in the pacer's time.

The SDKs keep authentication, URLs and errors; a streamed body goes around their iterators (`body_of`), which cost
five times as much a delta as the socket itself, and a request past most of httpx2 (`ProviderClient`): measured,
docs/subsystems/performance.md. No time-outs but that of connecting: keep-alives would reset a read's; who reads watches
for content. No redirects, no cookies, no .netrc.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, cast
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import httpx2

from llm_worker.connection_pool import ConnectionPool, Origin, proxy_headers
from llm_worker.http_connection import BrokenConnectionError, Connection, head
from llm_worker.pacer import Pacer

_BODY = "switchboard.body"
_WHOLE_BYTES = 32 * 1024 * 1024
"""Of a body that is taken into memory whole: an error's, a few KiB; a hundred embeddings', some 7 MiB."""
_LINGER_S = 1.0
"""How long a whole answer's connection may take to come to its end; nobody waits for it."""


class PacedBody(httpx2.AsyncByteStream):
    """A response's body. Whoever asked for it must close it."""

    __slots__ = ("_connection", "_origin", "_pacer", "_pool", "_seat")

    def __init__(self, connection: Connection, origin: Origin, pool: ConnectionPool, pacer: Pacer) -> None:
        self._connection: Connection | None = connection
        self._origin = origin
        self._pool = pool
        self._pacer = pacer
        self._seat = pacer.enter()

    async def read(self) -> bytes:
        """What has arrived since the last read, empty at the end; what came before a break is given before it is told.

        Raises: httpx2.TransportError.
        """
        connection = self._connection
        if connection is None:
            return b""
        try:
            octets = await connection.read()
        except BrokenConnectionError as exc:
            raise httpx2.ReadError("the response broke off") from exc
        if not connection.complete:
            self._pacer.hold(connection.transport, self._seat)
        return octets

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """For who wants it whole. Raises: httpx2.TransportError, also for one of over `_WHOLE_BYTES`."""
        size = 0
        while octets := await self.read():
            size += len(octets)
            if size > _WHOLE_BYTES:
                raise httpx2.ReadError("the body does not end")
            yield octets

    def finish(self) -> None:
        """The answer is whole: its connection can be used again if the body, too, ends within a moment."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._pacer.leave(connection.transport)
        if connection.complete:
            self._pool.give_back(self._origin, connection)
        else:
            timer = asyncio.get_running_loop().call_later(_LINGER_S, connection.close)
            origin, pool = self._origin, self._pool

            def keep(whole: Connection) -> None:
                timer.cancel()
                pool.give_back(origin, whole)

            connection.on_complete = keep

    async def aclose(self) -> None:
        """Ends the provider's answer if it is still under way, by closing the connection. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pacer.leave(connection.transport)
            self._pool.give_back(self._origin, connection)


def body_of(response: httpx2.Response) -> PacedBody:
    """The raw body of a response that came through `PooledTransport` and was not read yet."""
    return cast(PacedBody, response.extensions[_BODY])


class PooledTransport(httpx2.AsyncBaseTransport):
    """Sends requests through one connection pool for all providers. Must be made inside the running loop."""

    def __init__(self, *, pacer: Pacer, connect_timeout_s: float, proxies: Mapping[str, str]) -> None:
        self._pacer = pacer
        self._proxies = dict(proxies)
        self._pool = ConnectionPool(connect_timeout_s)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx2.UnsupportedProtocol("the URL is not one of HTTP")
        port = url.port or (443 if url.scheme == "https" else 80)
        origin = Origin(url.scheme, url.host, port, self._proxy(url))
        target, headers = url.raw_path, request.headers.raw
        if origin.proxy and origin.scheme == "http":
            target, headers = str(url).encode(), [*headers, *proxy_headers(httpx2.URL(origin.proxy))]
        try:
            request_head = head(request.method.encode(), target, headers)
        except ValueError as exc:
            raise httpx2.LocalProtocolError("a header has a line end in it") from exc
        try:
            connection = await self._pool.take(origin)
        except TimeoutError as exc:
            raise httpx2.ConnectTimeout("no connection in time") from exc
        except (OSError, BrokenConnectionError) as exc:
            raise httpx2.ConnectError("no connection") from exc
        try:
            await connection.ask(request_head + request.content)
        except BrokenConnectionError as exc:
            raise httpx2.ConnectError("reset before an answer") from exc
        except asyncio.CancelledError:
            connection.close()
            raise
        body = PacedBody(connection, origin, self._pool, self._pacer)
        return httpx2.Response(
            status_code=connection.status,
            # A body is taken as it comes. None was asked for compressed, and a few KiB may unpack to gigabytes.
            headers=[header for header in connection.headers if header[0].lower() != b"content-encoding"],
            stream=body,
            request=request,
            extensions={"http_version": b"HTTP/1.1", _BODY: body},
        )

    def _proxy(self, url: httpx2.URL) -> str:
        proxy = self._proxies.get(url.scheme)
        return "" if proxy is None or proxy_bypass_environment(url.host, self._proxies) else proxy

    async def aclose(self) -> None:
        self._pool.close()


class ProviderClient(httpx2.AsyncClient):
    """httpx2's client as the SDKs want it (`http_client=`), without what it does for others at each request.

    Redirects, cookies, authentication flows, hooks and merged defaults cost a quarter of a request, and nothing here
    uses them: the SDKs give whole URLs and headers, and no answer's cookie may reach another's call.
    """

    def __init__(self, transport: PooledTransport) -> None:
        super().__init__(transport=transport, timeout=None, follow_redirects=False)
        self._pooled = transport

    def build_request(self, method: str, url: httpx2.URL | str, **given: Any) -> httpx2.Request:
        content, headers = given.pop("content", None), httpx2.Headers(given.pop("headers", None))
        # A compressed stream of small events would cost time and save nothing.
        headers["accept-encoding"] = "identity"
        if any(value is not None for name, value in given.items() if name != "timeout"):
            return super().build_request(method, url, content=content, headers=headers, **given)
        return httpx2.Request(method, url, content=content, headers=headers)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **given: Any) -> httpx2.Response:
        if not stream:
            return await super().send(request, stream=False, **given)
        return await self._pooled.handle_async_request(request)


def open_http_client(
    *, pacer: Pacer, connect_timeout_s: float, proxies: Mapping[str, str] = MappingProxyType({})
) -> httpx2.AsyncClient:
    """The one client that all SDKs share. Whoever opened it closes it.

    `proxies`: a URL by scheme, and under "no" the hosts that are reached without one, as NO_PROXY writes them.
    """
    return ProviderClient(PooledTransport(pacer=pacer, connect_timeout_s=connect_timeout_s, proxies=proxies))
