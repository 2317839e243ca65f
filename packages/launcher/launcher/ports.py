"""Ports held for children before they start, so that each can be told where the others will be.

A held port is bound and never listened on, with SO_REUSEADDR. On Linux a child that sets SO_REUSEADDR too, as every
server of ours does, can then listen on it, while nobody is given it by chance: neither when a child starts nor while
one restarts. Elsewhere the port is let go at once, and taken again by the child a moment later.
"""

import errno
import socket
import sys

LOOPBACK = "127.0.0.1"


class PortTakenError(OSError):
    """The port can't be had; the text is one sentence."""


class BadHostError(ValueError):
    """The host is no address of this machine; the text is one sentence."""


class HeldPort:
    """One port, held until `release`."""

    def __init__(self, host: str = LOOPBACK, port: int = 0) -> None:
        """Port 0 takes any free one. Raises: PortTakenError, BadHostError."""
        try:
            family, kind, number, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except socket.gaierror as exc:
            raise BadHostError(f"{host!r} is not a host name or address: {exc.strerror}") from exc
        self._socket = socket.socket(family, kind, number)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(address)
        except OSError as exc:
            self._socket.close()
            if exc.errno == errno.EADDRINUSE:
                raise PortTakenError(f"port {port} on {host} is taken") from exc
            if exc.errno == errno.EACCES:
                raise PortTakenError(f"port {port} on {host} is not ours to use: {exc.strerror}") from exc
            raise BadHostError(f"{host!r} is not an address of this machine: {exc.strerror}") from exc
        self.host = host
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    @property
    def address(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.number}" if ":" in self.host else f"{self.host}:{self.number}"

    def release(self) -> None:
        """Twice is fine."""
        self._socket.close()
