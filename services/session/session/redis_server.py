"""A link to one Redis server, with replicas if you like."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from session import keys
from session.redis_link import BEAT, Item, Listener, RedisLink, Script, unavailable
from session.redis_node import COMMAND_TIMEOUT_S, HEARTBEAT_S, RETRY_S, RedisNode

log = logging.getLogger(__name__)


class ServerLink(RedisLink):
    """One connection that all commands share, and one for the subscription."""

    publish_command = "PUBLISH"
    group_count = 1

    def __init__(self, url: str) -> None:
        self._node = RedisNode(url)

    def group(self, chat_id: str) -> int:
        return 0

    def channel(self, chat_id: str) -> str:
        return keys.channel(None)

    def groups(self, items: Sequence[Item], chat_id: Callable[[Item], str]) -> list[Sequence[Item]]:
        return [items] if items else []

    def partition_groups(self) -> list[range]:
        return [range(keys.PARTITIONS)]

    async def run(self, script: Script, key_names: Sequence[str], *arguments: str | bytes | int) -> Any:
        try:
            return await self._node.run(script, key_names, *arguments)
        except (RedisError, OSError) as exc:
            # Out of reach, failing over, out of memory or disk: whatever it is, it may be over soon.
            log.warning("redis_failed", extra={"command": script.name, "error": type(exc.__cause__ or exc).__name__})
            raise unavailable() from exc

    async def execute(self, *command: str | bytes | int | float) -> Any:
        try:
            return await self._node.pipe.execute(*command, timeout_s=COMMAND_TIMEOUT_S)
        except (RedisError, OSError) as exc:
            log.warning("redis_failed", extra={"command": command[0], "error": type(exc.__cause__ or exc).__name__})
            raise unavailable() from exc

    async def ping(self, timeout_s: float) -> bool:
        try:
            return bool(await self._node.pipe.execute("PING", timeout_s=timeout_s))
        except (RedisError, OSError):
            return False

    async def follow(self, listener: Listener) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            while True:
                subscription = self._node.subscription()
                try:
                    await subscription.connect()
                    await subscription.add(keys.channel(None), sharded=False)
                    while True:
                        kind, _, body = await subscription.next()
                        if kind == "message":
                            listener.heard(body)
                        elif kind == "subscribe":
                            log.info("subscription_up")
                            listener.stands([0])
                except (RedisError, OSError):
                    log.warning("subscription_lost", exc_info=True)
                finally:
                    await subscription.close()
                await asyncio.sleep(RETRY_S)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self._node.pipe.execute("PUBLISH", keys.channel(None), BEAT, timeout_s=COMMAND_TIMEOUT_S)
            except (RedisError, OSError):
                log.debug("heartbeat_failed")

    async def close(self) -> None:
        await self._node.close()
