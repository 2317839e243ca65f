"""One server of Redis': its shared connection, the scripts that it was given, and connections for subscriptions.

Raises redis-py's own errors: what they mean to a caller is said by the links above.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from session.redis_link import Script
from session.redis_pipe import RedisPipe

COMMAND_TIMEOUT_S = 5.0
"""For one command; a script call takes under a millisecond, a server that fails over or loads its file seconds."""
HEARTBEAT_S = 1.0
SILENCE_S = 5.0
"""A subscription that not even our own heartbeat came over for that long is dead: redis-py would wait for good."""
RETRY_S = 0.25
"""From a subscription's end to the next."""


class RedisNode:
    """The server that a URL names, or one at another address that is reached in the same way. `prelude`: Lua to put in
    front of every script."""

    def __init__(self, url: str, address: tuple[str, int] | None = None, prelude: str = "") -> None:
        # No retries of the client's own: a script that may have run is repeated only by who knows that it can be.
        self._pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=None,
            socket_connect_timeout=COMMAND_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        if address is not None:
            self._pool.connection_kwargs.update(host=address[0], port=address[1])
        kwargs = self._pool.connection_kwargs
        self.address: tuple[str, int] = (kwargs.get("host", "localhost"), kwargs.get("port", 6379))
        self.pipe = RedisPipe(self._pool)
        self._prelude = prelude
        self._shas: dict[str, bytes] = {}

    async def run(self, script: Script, key_names: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Runs a script, giving it to the server first if need be. Raises: RedisError, OSError."""
        sha = self._shas.get(script.name)
        if sha is None:
            sha = await self._load(script)
        call = (len(key_names), *key_names, *arguments)
        try:
            return await self.pipe.execute("EVALSHA", sha, *call, timeout_s=COMMAND_TIMEOUT_S)
        except NoScriptError:
            # Another server, or one that was restarted: it did not run.
            sha = await self._load(script)
        return await self.pipe.execute("EVALSHA", sha, *call, timeout_s=COMMAND_TIMEOUT_S)

    async def _load(self, script: Script) -> bytes:
        text = self._prelude + script.text
        sha: bytes = await self.pipe.execute("SCRIPT", "LOAD", text, timeout_s=COMMAND_TIMEOUT_S)
        self._shas[script.name] = sha
        return sha

    def subscription(self) -> "Subscription":
        """A connection for subscribing."""
        return Subscription(self._pool)

    async def close(self) -> None:
        """Closes every connection, for good."""
        await self.pipe.close()
        await self._pool.aclose()


class Subscription:
    """One connection's subscriptions, from its making to its end; nothing is subscribed again by itself."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pubsub = redis.Redis(connection_pool=pool).pubsub()

    async def connect(self) -> None:
        """Comes first. Raises: RedisError, OSError."""
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            await self._pubsub.connect()  # type: ignore[no-untyped-call]

    async def add(self, *channels: str, sharded: bool) -> None:
        """Asks for channels; each is confirmed by `next`, or refused with an error. Raises: RedisError, OSError."""
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            if not sharded:
                await self._pubsub.subscribe(*channels)
            for channel in channels if sharded else ():
                # A command may name channels of one slot alone.
                await self._pubsub.ssubscribe(channel)

    async def next(self) -> tuple[str, str, bytes]:
        """What comes next: its type, as Redis names it, its channel, and a message's body.

        Raises: RedisError; OSError, a TimeoutError of which says that not even a heartbeat came for `SILENCE_S`.
        """
        while True:
            async with asyncio.timeout(SILENCE_S):
                message = await self._pubsub.get_message(timeout=None)
            if message is not None:
                return message["type"], message["channel"].decode(), message["data"]

    async def close(self) -> None:
        """Ends the connection."""
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]
