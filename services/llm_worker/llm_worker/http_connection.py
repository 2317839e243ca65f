"""One HTTP/1.1 connection to a provider: writes a request, gives the answer's head, and its body as it arrives.

Our own, on httptools' parser, because a provider's socket is where the hot path begins: of what aiohttp did for each
read, and each chunk in it, nothing was needed here (docs/decisions/0003-http-client.md). It knows no time-outs, no
redirects, no cookies and no compression; who asks watches the time. Document: RFC 9112.
"""

import asyncio
import select
from collections.abc import Callable, Sequence

import httptools

MAX_HEAD_BYTES = 64 * 1024
"""A provider's answer has some 2 KiB of headers. Nor may more than this come without a byte of the body among it: in
trailers and chunk extensions, an answer could go on for ever."""
MAX_UNREAD_BYTES = 256 * 1024
"""Of a body whose reader does not come: more stays in the kernel, and with the provider."""
FINAL_STATUS = 200
"""What comes with a lower one is no answer yet (RFC 9110, section 15.2)."""
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
"""Headers that say where a body ends. Without them it ends with the connection."""

_LINE_ENDS = frozenset(b"\r\n\0")

Header = tuple[bytes, bytes]


def head(method: bytes, target: bytes, headers: Sequence[Header]) -> bytes:
    """A request up to its body. Raises: ValueError: a header has a line end in it."""
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    for name, value in headers:
        if not _LINE_ENDS.isdisjoint(name + value):
            raise ValueError
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join((*lines, b"", b""))


class BrokenConnectionError(Exception):
    """The connection ended before the answer did, or what came over it made no sense as HTTP."""


class Connection(asyncio.Protocol):
    """One exchange at a time: `ask`, then `read` until it gives nothing, then `ask` again if `reusable`."""

    def __init__(self, on_end: "Callable[[Connection], None]") -> None:
        """`on_end` is called once, when the connection is gone."""
        self.status = 0
        self.headers: list[Header] = []
        self.on_complete: Callable[[Connection], None] | None = None
        """Called once, when the answer under way is whole, read or not."""
        self.transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser | None = None
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._waiting: asyncio.Future[None] | None = None
        self._bare_bytes = 0
        self._has_head = False
        self._until_end = False
        self._keep_alive = False
        self._chunks: list[bytes] = []
        self._unread = 0
        self._full = False
        self._gone = False
        self.complete = True
        """Whether no answer is under way."""

    async def ask(self, request: bytes) -> None:
        """Sends a request and waits for the answer's `status` and `headers`. Raises: BrokenConnectionError."""
        self.forget()
        self.complete = self._has_head = self._until_end = False
        self.headers = []
        self._bare_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        self.transport.write(request)
        while not self._has_head:
            await self._wait()

    async def read(self) -> bytes:
        """What has arrived since the last read; empty at the body's end. Raises: BrokenConnectionError, after what
        came before the break was given."""
        while not self._chunks:
            if self.complete:
                return b""
            await self._wait()
        octets = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self.forget()
        return octets

    def forget(self) -> None:
        """Nothing of the answer is unread any more; more of it may come."""
        self._chunks = []
        self._unread = 0
        if self._full:
            self._full = False
            self.transport.resume_reading()

    @property
    def reusable(self) -> bool:
        """Whether another request can be sent: the answer is whole, nothing that came behind it may have gone unseen
        while reading was paused, and neither side wants to end."""
        whole = self.complete and not self._full
        return whole and self._keep_alive and not self._gone and not self.transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether nothing has arrived that the loop has not looked at yet. What comes over an idle connection is its
        end, or belongs to nobody; read behind the next request, it would be taken for the answer to that."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Ends the connection at once, and with it the answer under way."""
        self.transport.abort()

    async def _wait(self) -> None:
        if self._gone:
            raise BrokenConnectionError
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol. Called again by who puts TLS on top."""
        self.transport = transport  # type: ignore[assignment]  # of a stream it is both ways

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. The hot path begins here."""
        parser = self._parser
        if self.complete or parser is None:
            # Nobody asked: a server's last words before it ends an idle connection.
            self._give_up()
            return
        self._bare_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._give_up()
        if self._bare_bytes > MAX_HEAD_BYTES:
            self._give_up()
        elif self._unread > MAX_UNREAD_BYTES and not self._full:
            self._full = True
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._until_end and exc is None and not self._gone:
            self.on_message_complete()
        self._gone = True
        # It holds us: a circle, which only the collector would find.
        self._parser = None
        self._wake()
        self._on_end(self)

    def _give_up(self) -> None:
        self._gone = True
        self.close()

    def on_message_begin(self) -> None:
        """See httptools."""
        if self.complete:
            # A second answer to one question.
            self._give_up()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        if not self._has_head:
            # Else of the trailers, which nobody reads.
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self._has_head:
            # Of a second answer, which is nobody's.
            return
        assert self._parser is not None  # noqa: S101  for the type checker: it calls us
        self.status = self._parser.get_status_code()
        if self.status >= FINAL_STATUS:
            self._has_head = True
            # Once the body is whole, the parser has forgotten it.
            self._keep_alive = self._parser.should_keep_alive()
            self._until_end = _LENGTHS.isdisjoint(name.lower() for name, _ in self.headers)

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        if self.complete:
            return
        self._bare_bytes = 0
        self._chunks.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        if not self._has_head:
            # 100 and its kind: the answer is still to come.
            self.headers = []
            return
        self.complete = True
        if self.on_complete is not None:
            completed, self.on_complete = self.on_complete, None
            completed(self)
