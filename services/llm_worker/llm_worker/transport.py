"""HTTP to the providers: aiohttp underneath the SDKs' httpx2, with bodies that can be read raw and in the pacer's time.

The SDKs keep authentication, URLs and errors; a streamed body goes around their iterators (`body_of`), which cost
five times as much a delta as the socket itself, and a request past most of httpx2 (`ProviderClient`): measured,
docs/subsystems/performance.md. aiohttp's own read timer stays off: keep-alives would reset it; who reads watches for
content. No redirects, no cookies, no .netrc.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, cast
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import aiohttp
import httpx2

from llm_worker.pacer import Pacer

_BODY = "switchboard.body"
_KEEPALIVE_S = 60.0
"""Providers keep idle connections for a minute and more; a new one costs two round trips."""
_LINGER_S = 1.0
"""How long a whole answer's connection may take to come to its end; nobody waits for it."""
_DROPPED_HEADERS = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""aiohttp has undone what they speak of."""


class PacedBody(httpx2.AsyncByteStream):
    """A response's body. Whoever asked for it must close it."""

    __slots__ = ("_connection", "_content", "_pacer", "_response", "_seat", "_transport")

    def __init__(self, response: aiohttp.ClientResponse, pacer: Pacer) -> None:
        self._response: aiohttp.ClientResponse | None = response
        self._content = response.content
        # Else aiohttp feeds its parser nothing, and resumes what is not paused, for each chunk of those that came
        # together: a tenth of the worker's time under load. With this, once when all have been read.
        self._content._low_water = 1
        self._pacer = pacer
        connection = response.connection
        self._transport = None if connection is None else connection.transport
        self._seat = pacer.enter()

    async def read(self) -> bytes:
        """What has arrived since the last read, empty at the end; what came before a break is given before it is told.

        Raises: httpx2.TransportError.
        """
        try:
            octets = await self._content.readany()
        # RuntimeError is what is raised for a connection that was closed over HTTP that made no sense.
        except (aiohttp.ClientError, OSError, RuntimeError) as exc:
            # Once a connection broke, all that aiohttp offers raises, though it still holds bytes that had come before:
            # a piece of the answer, whenever its reader was busy in that moment. They are given; the next call raises.
            octets = self._content._read_nowait(-1)
            if not octets:
                raise httpx2.ReadError("the response broke off") from exc
        # At its end the connection is back in its pool, and not ours to pause.
        if self._transport is not None and not self._content.is_eof():
            self._pacer.hold(self._transport, self._seat)
        return octets

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while octets := await self.read():
            yield octets

    def finish(self) -> None:
        """The answer is whole: its connection can be used again if the body, too, ends within a moment."""
        response, self._response = self._response, None
        if response is not None:
            self._pacer.leave(self._transport)
            # At the body's end the connection goes back to its pool by itself; released earlier, it is closed.
            asyncio.get_running_loop().call_later(_LINGER_S, response.release)

    async def aclose(self) -> None:
        """Ends the provider's answer if it is still under way, by closing the connection. Idempotent."""
        response, self._response = self._response, None
        if response is not None:
            self._pacer.leave(self._transport)
            response.release()


def body_of(response: httpx2.Response) -> PacedBody:
    """The raw body of a response that came through `AiohttpTransport` and was not read yet."""
    return cast(PacedBody, response.extensions[_BODY])


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Sends requests through one connection pool for all providers. Must be made inside the running loop."""

    def __init__(self, *, pacer: Pacer, connect_timeout_s: float, proxies: Mapping[str, str]) -> None:
        self._pacer = pacer
        self._proxies = proxies
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._session = aiohttp.ClientSession(
            # The turns at work bound the connections.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._session.request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=request.content,
                allow_redirects=False,
                proxy=self._proxy(request.url),
            )
        except TimeoutError as exc:
            raise httpx2.ConnectTimeout("no connection in time") from exc
        except aiohttp.InvalidURL as exc:
            raise httpx2.UnsupportedProtocol("the URL is not one of HTTP") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise httpx2.ConnectError("no connection, or reset before an answer") from exc
        body = PacedBody(response, self._pacer)
        return httpx2.Response(
            status_code=response.status,
            headers=[item for item in response.raw_headers if item[0].lower() not in _DROPPED_HEADERS],
            stream=body,
            request=request,
            extensions={"http_version": b"HTTP/1.1", _BODY: body},
        )

    def _proxy(self, url: httpx2.URL) -> str | None:
        # aiohttp's own way (trust_env) asks a thread for the proxy, and another for a .netrc, at every request.
        proxy = self._proxies.get(url.scheme)
        return None if proxy is None or proxy_bypass_environment(url.host, dict(self._proxies)) else proxy

    async def aclose(self) -> None:
        await self._session.close()


class ProviderClient(httpx2.AsyncClient):
    """httpx2's client as the SDKs want it (`http_client=`), without what it does for others at each request.

    Redirects, cookies, authentication flows, hooks and merged defaults cost a quarter of a request, and nothing here
    uses them: the SDKs give whole URLs and headers, and no answer's cookie may reach another's call.
    """

    def __init__(self, transport: AiohttpTransport) -> None:
        super().__init__(transport=transport, timeout=None, follow_redirects=False)
        self._aiohttp = transport

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
        return await self._aiohttp.handle_async_request(request)


def open_http_client(
    *, pacer: Pacer, connect_timeout_s: float, proxies: Mapping[str, str] = MappingProxyType({})
) -> httpx2.AsyncClient:
    """The one client that all SDKs share. Whoever opened it closes it.

    `proxies`: a URL by scheme, and under "no" the hosts that are reached without one, as NO_PROXY writes them.
    """
    return ProviderClient(AiohttpTransport(pacer=pacer, connect_timeout_s=connect_timeout_s, proxies=proxies))
