"""The connection to Redis: scripts, and the pub/sub channel. Nobody else in the system talks to Redis.

Raises `SwitchboardError(UNAVAILABLE)` for every way in which Redis can be out of reach, so that callers know one.
See docs/subsystems/log.md for what is promised when it fails.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import redis.asyncio as redis
from chat.errors import ErrorCode, SwitchboardError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from session import keys
from session.redis_pipe import RedisPipe

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 5.0
"""For one command; a script call takes under a millisecond, a server that fails over or loads its file seconds."""
Item = TypeVar("Item")
_LUA = Path(__file__).parent / "lua"


class Script:
    """One Lua file, with the library in front of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (_LUA / "lib.lua").read_text() + (_LUA / f"{name}.lua").read_text()


class RedisLink:
    """One Redis server: a connection that all commands share, and one for the subscription."""

    def __init__(self, url: str) -> None:
        # No retries of the client's own: a script that may have run is repeated only by who knows that it can be.
        self._pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=None,
            socket_connect_timeout=COMMAND_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._pipe = RedisPipe(self._pool)
        self._shas: dict[str, bytes] = {}
        self.publish_command = "PUBLISH"

    def channel(self, chat_id: str) -> str:
        """Where a chat's events are announced."""
        return keys.channel(None)

    def groups(self, items: Sequence[Item], chat_id: Callable[[Item], str]) -> list[Sequence[Item]]:
        """Items by what one script call can reach together: on one server, all."""
        return [items] if items else []

    def partition_groups(self) -> list[range]:
        """All partitions by what one script call can reach together."""
        return [range(keys.PARTITIONS)]

    async def run(self, script: Script, key_names: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Runs a script as one atomic step. Raises: SwitchboardError(UNAVAILABLE): not known whether it ran."""
        sha = self._shas.get(script.name)
        if sha is None:
            sha = await self._load(script)
        try:
            return await self.execute("EVALSHA", sha, len(key_names), *key_names, *arguments)
        except NoScriptError:
            # Another server, or one that was restarted: it did not run.
            sha = await self._load(script)
        try:
            return await self.execute("EVALSHA", sha, len(key_names), *key_names, *arguments)
        except NoScriptError as exc:
            raise _unavailable() from exc

    async def _load(self, script: Script) -> bytes:
        sha: bytes = await self.execute("SCRIPT", "LOAD", script.text)
        self._shas[script.name] = sha
        return sha

    async def run_packed(self, script: Script, key_names: Sequence[str], *arguments: str | bytes | int) -> Any:
        """As `run`, for scripts that return msgpack. Texts come back as bytes."""
        return unpack(await self.run(script, key_names, *arguments))

    async def execute(self, *command: str | bytes | int | float) -> Any:
        """Runs one plain command; texts come back as bytes. Raises: SwitchboardError(UNAVAILABLE)."""
        try:
            return await self._pipe.execute(*command, timeout_s=COMMAND_TIMEOUT_S)
        except NoScriptError:
            raise
        except (RedisError, OSError) as exc:
            # Out of reach, failing over, out of memory or disk: whatever it is, it may be over soon.
            log.warning("redis_failed", extra={"command": command[0], "error": type(exc).__name__})
            raise _unavailable() from exc

    async def ping(self, timeout_s: float) -> bool:
        """Whether the server answers in time."""
        try:
            return bool(await self._pipe.execute("PING", timeout_s=timeout_s))
        except (RedisError, OSError):
            return False

    async def announcements(self, silence_s: float) -> AsyncIterator[bytes | None]:
        """What is published, from a subscription of its own: None once it stands, then each message.

        Raises: SwitchboardError(UNAVAILABLE) when it breaks or nothing came for `silence_s`; what was published since
        the last message may be lost then.
        """
        pubsub = redis.Redis(connection_pool=self._pool).pubsub()
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await pubsub.subscribe(keys.channel(None))
            while True:
                # A heartbeat of our own comes through the same path, so that silence means a dead subscription.
                async with asyncio.timeout(silence_s):
                    message = await pubsub.get_message(timeout=None)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    yield None
                elif message["type"] == "message":
                    yield message["data"]
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable() from exc
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Closes every connection."""
        await self._pipe.close()
        await self._pool.aclose()


def pack(value: Any) -> bytes:
    """For Lua's cmsgpack, which knows strings of bytes alone."""
    return msgpack.packb(value, use_bin_type=False)  # type: ignore[no-any-return]


def unpack(packed: bytes) -> Any:
    """From Lua's cmsgpack; texts come back as bytes."""
    return msgpack.unpackb(packed, raw=True, strict_map_key=False)


def _unavailable() -> SwitchboardError:
    return SwitchboardError(ErrorCode.UNAVAILABLE, "the chat store can't be reached; try again", retry_after_s=1.0)
