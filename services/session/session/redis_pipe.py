"""One connection to Redis that many commands share: what gathers is written together, replies are handed out in order.

redis-py's own way, a connection from a pool for each command, costs several times as much, and keeps commands that come
together apart. Its connection is used for what it is good at: addresses, TLS, authentication, parsing.
"""

import asyncio
from collections import deque
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import BusyLoadingError, MasterDownError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError


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
            await asyncio.wait(self._line.tasks)


class _Line:
    """One connection, from its making to its end. It writes and reads by itself: no caller breaks it by going away."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._wake = asyncio.Event()
        self.broken = False
        self.tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    def send(self, command: tuple[str | bytes | int | float, ...]) -> "asyncio.Future[Any]":
        reply = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        # redis-py's own encoding, in Python, takes eight times as long.
        self._unsent.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows tuples of one
        self._wake.set()
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
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self.tasks.append(asyncio.create_task(self._connection.disconnect(nowait=True)))

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                unsent, self._unsent = self._unsent, []
                await self._connection.send_packed_command(unsent, check_health=False)
        except Exception as exc:  # noqa: BLE001  this task's boundary: whatever it was, the connection is of no more use
            self.end(exc)

    async def _read(self) -> None:
        try:
            while True:
                try:
                    reply = await self._connection.read_response(disconnect_on_error=False)
                except (ResponseError, BusyLoadingError) as exc:
                    # redis-py counts LOADING among broken connections, of which it is none.
                    reply = exc
                waiting = self._waiting.popleft()
                if waiting.done():
                    continue
                if isinstance(reply, Exception):
                    waiting.set_exception(reply)
                else:
                    waiting.set_result(reply)
        except Exception as exc:  # noqa: BLE001  as above
            self.end(exc)
