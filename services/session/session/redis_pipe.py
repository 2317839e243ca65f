"""One connection to Redis that many commands share: what gathers is written together, replies are handed out in order.

redis-py's own way, a connection from a pool for each command, costs several times as much, and keeps commands that come
together apart. Its connection is used for what it is good at: addresses, TLS, authentication, parsing.
"""

import asyncio
from collections import deque
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, MasterDownError, ReadOnlyError, RedisError

_NOTHING_YET = object()


class NotSentError(RedisConnectionError):
    """There is no connection and none could be made: the command did not run, and will not."""


class RedisPipe:
    """Connects when it is first used, and again when it is used after its connection broke or timed out.

    A command whose connection broke fails with redis-py's ConnectionError, whether it ran or not: it is the caller who
    knows what may be repeated. Only NotSentError says that it did not run.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._connecting = asyncio.Lock()
        self._line: _Line | None = None
        self._closed = False

    async def execute(self, *command: str | bytes | int | float, timeout_s: float, asking: bool = False) -> Any:
        """Sends a command and returns its reply. One that is given up may still run. `asking`: with a cluster's ASKING
        right before it, which lets a server take it for a slot that is only on its way there.

        Raises: redis.exceptions.RedisError, OSError (TimeoutError among them: then the connection is given up, too).
        """
        line: _Line | None = None
        try:
            async with asyncio.timeout(timeout_s):
                line = self._line
                if line is None or line.broken:
                    line = await self._connect()
                if asking:
                    asked, reply = line.send(("ASKING",)), line.send(command)
                    await asked
                    return await reply
                return await line.send(command)
        except (TimeoutError, ReadOnlyError, MasterDownError) as exc:
            if line is None:
                raise NotSentError("no connection in time") from exc
            # It does not answer, or is a master no longer: what is at the address now is another one, perhaps.
            line.end(exc)
            raise

    async def _connect(self) -> "_Line":
        async with self._connecting:
            if self._line is None or self._line.broken:
                connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
                try:
                    await connection.connect()  # type: ignore[no-untyped-call]
                except (RedisError, OSError) as exc:
                    raise NotSentError(str(exc)) from exc
                self._line = _Line(connection)
            if self._closed:
                self._line.end(NotSentError("closed"))
                raise NotSentError("closed")
            return self._line

    async def close(self) -> None:
        """Ends the connection, for good; what waits fails."""
        self._closed = True
        if self._line is not None:
            self._line.end(RedisConnectionError("closed"))
            if self._line.ending is not None:
                await self._line.ending


class _Line(asyncio.Protocol):
    """One connection, from its making to its end.

    redis-py has connected it, with all that belongs to that, and its stream is put aside: two tasks of its own that
    wake for each other took half of what a command costs. No caller breaks it by going away.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=_NOTHING_YET
        )
        self._transport = cast(asyncio.StreamWriter, connection._writer).transport
        self._transport.set_protocol(self)
        self.broken = False
        self.ending: asyncio.Task[None] | None = None

    def send(self, command: tuple[str | bytes | int | float, ...]) -> "asyncio.Future[Any]":
        reply = self._loop.create_future()
        self._waiting.append(reply)
        if not self._unsent:
            self._loop.call_soon(self._write)
        # redis-py's own encoding, in Python, takes eight times as long.
        self._unsent.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows tuples of one
        return reply

    def end(self, error: Exception) -> None:
        """Nothing more is sent; what waits fails. Idempotent."""
        if self.broken:
            return
        self.broken = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(RedisConnectionError(f"the connection broke: {error}"))
                # Whoever waited may have gone.
                waiting.exception()
        self._waiting.clear()
        self.ending = asyncio.create_task(self._connection.disconnect(nowait=True))

    def _write(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not self.broken:
            self._transport.write(b"".join(unsent))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not _NOTHING_YET:
                self._answer(reply)
        except (InvalidResponse, IndexError) as exc:
            # No RESP, or a reply that nobody had asked for.
            self.end(exc)

    def _answer(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            return
        waiting = self._waiting.popleft()
        if waiting.done():
            return
        if isinstance(reply, Exception):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.end(exc or RedisConnectionError("closed by the server"))
