"""One connection to Redis that many commands share: each is written as it comes, and replies are handed out in order.

redis-py's own way, a connection from a pool for each command, costs several times as much, and keeps commands that come
together apart. Its connection is used for what it is good at: addresses, TLS, authentication, parsing.
"""

import asyncio
from collections import deque
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError


class RedisPipe:
    """Connects when it is first used, and again when it is used after it broke.

    A command whose connection broke fails with redis-py's ConnectionError, whether it ran or not: it is the caller who
    knows what may be repeated.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()

    async def execute(self, *command: str | bytes | int | float) -> Any:
        """Sends a command and returns its reply. Raises: redis.exceptions.RedisError, OSError.

        Give it a time limit; one that is given up may still run.
        """
        connection = self._connection
        if connection is None:
            connection = await self._connect()
        reply = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        try:
            # Written before it first waits, so that the order of replies is that of `_waiting`.
            await connection.send_packed_command(connection.pack_command(*command), check_health=False)
            return await reply
        finally:
            reply.cancel()

    async def _connect(self) -> AbstractConnection:
        async with self._connecting:
            if self._connection is None:
                connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
                await connection.connect()  # type: ignore[no-untyped-call]
                self._connection = connection
                self._reading = asyncio.create_task(self._read(connection))
            return self._connection

    async def _read(self, connection: AbstractConnection) -> None:
        error: Exception = RedisConnectionError("the connection was closed")
        try:
            while True:
                try:
                    reply = await connection.read_response(disconnect_on_error=False)
                except ResponseError as exc:
                    if not (waiting := self._waiting.popleft()).done():
                        waiting.set_exception(exc)
                else:
                    if not (waiting := self._waiting.popleft()).done():
                        waiting.set_result(reply)
        except Exception as exc:  # noqa: BLE001  this task's boundary: whatever it was, the connection is of no more use
            error = exc
        finally:
            self._connection = None
            broken, self._waiting = self._waiting, deque()
            for waiting in broken:
                if not waiting.done():
                    waiting.set_exception(RedisConnectionError(f"the connection broke: {error}"))
            await connection.disconnect(nowait=True)

    def drop(self) -> None:
        """Gives up a connection that does not answer; what waits fails, and the next command connects again."""
        if self._reading is not None:
            self._reading.cancel()

    async def close(self) -> None:
        """Ends the connection; what waits fails."""
        self.drop()
        if self._reading is not None:
            await asyncio.wait({self._reading})
