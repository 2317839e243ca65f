"""The connections to providers: taken for a request, given back behind its answer, kept for a while.

It knows addresses, TLS and proxies (HTTP_PROXY; HTTPS_PROXY by CONNECT), and nothing of what is asked. Turns at work
bound how many there are.
"""

import asyncio
import socket
import ssl
from base64 import b64encode
from functools import partial
from typing import NamedTuple

import aiohappyeyeballs
import httpx2

from llm_worker.http_connection import BrokenConnectionError, Connection, head

_KEEPALIVE_S = 60.0
"""Providers keep idle connections for a minute and more; a new one costs two round trips."""
_NEXT_ADDRESS_S = 0.25
"""Before the next address of a host is tried beside the one that does not answer (RFC 8305, section 5)."""
_CONNECTED_STATUS = 200


class Origin(NamedTuple):
    """Whom a connection leads to, and through which proxy ("": none)."""

    scheme: str
    host: str
    port: int
    proxy: str


class ConnectionPool:
    """Connections to providers, kept for a while after their last answer. The turns at work bound them."""

    def __init__(self, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._open: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._timers: dict[Connection, asyncio.TimerHandle] = {}
        """By idle connection: when it has been idle for long enough."""
        self._tls: ssl.SSLContext | None = None

    async def take(self, origin: Origin) -> Connection:
        """An idle connection, or a new one. Raises: OSError, TimeoutError, BrokenConnectionError (the proxy's)."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            self._timers.pop(connection).cancel()
            if connection.reusable and connection.quiet:
                return connection
            connection.close()
        connection = Connection(partial(self._ended, origin))
        self._open.add(connection)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._connect(origin, connection)
        except BaseException:
            self._open.discard(connection)
            raise
        return connection

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """An answer is over: its connection is kept if it can be used again."""
        if connection.reusable:
            connection.forget()
            self._idle.setdefault(origin, []).append(connection)
            loop = asyncio.get_running_loop()
            self._timers[connection] = loop.call_later(_KEEPALIVE_S, connection.close)
        else:
            connection.close()

    def close(self) -> None:
        """Ends every connection."""
        for connection in self._open:
            connection.close()

    def _ended(self, origin: Origin, connection: Connection) -> None:
        self._open.discard(connection)
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()
            self._idle[origin].remove(connection)

    async def _connect(self, origin: Origin, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        tls = self._tls_context() if origin.scheme == "https" else None
        if not origin.proxy:
            sock = await _open_socket(origin.host, origin.port)
            name = origin.host if tls else None
            await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)
            return
        proxy = httpx2.URL(origin.proxy)
        sock = await _open_socket(proxy.host, proxy.port or 80)
        transport, _ = await loop.create_connection(lambda: connection, sock=sock)
        if tls is None:
            return
        # The provider's TLS goes through the proxy unseen (RFC 9110, section 9.3.6).
        authority, secured = _authority(origin), None
        try:
            await connection.ask(head(b"CONNECT", authority, [(b"host", authority), *proxy_headers(proxy)]))
            if connection.status == _CONNECTED_STATUS:
                secured = await loop.start_tls(transport, connection, tls, server_hostname=origin.host)
        except BaseException:
            connection.close()
            raise
        if secured is None:
            connection.close()
            raise BrokenConnectionError
        connection.connection_made(secured)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


async def _open_socket(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, loop=loop)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def _authority(origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"{host}:{origin.port}".encode()


def proxy_headers(proxy: httpx2.URL) -> list[tuple[bytes, bytes]]:
    """What a proxy wants to know of us."""
    if not proxy.username:
        return []
    credential = b64encode(f"{proxy.username}:{proxy.password}".encode())
    return [(b"proxy-authorization", b"Basic " + credential)]
