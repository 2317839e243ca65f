"""The subscription to one master's share of a cluster's channels: a connection of its own, and a heartbeat over it.

It breaks and heals apart from the other masters' ones. What it is asked for can change while it stands: a slot that
moves costs its own partition a new subscription, not its neighbours.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import AskError, MovedError, RedisError

from session import keys
from session.cluster_topology import Address, named
from session.redis_link import BEAT, Listener
from session.redis_node import COMMAND_TIMEOUT_S, HEARTBEAT_S, RETRY_S, RedisNode, Subscription

log = logging.getLogger(__name__)


class ShardSubscription:
    """`node`: gives the server at `address`, as it is known by then. `doubt()` is called when the cluster does not seem
    to be as it was thought to be, `moved(partition, address)` when it says so itself."""

    def __init__(
        self,
        address: Address,
        listener: Listener,
        *,
        node: Callable[[Address], RedisNode],
        doubt: Callable[[], None],
        moved: Callable[[int, Address], None],
    ) -> None:
        self._address = address
        self._listener = listener
        self._node = node
        self._doubt = doubt
        self._moved = moved
        self._wanted: set[int] = set()
        self._asked: set[int] = set()
        self._unanswered: set[int] = set()
        self._fresh: set[int] = set()
        """Those that stand, and that the listener was not told of yet: once for all that were asked for together."""
        self._wake = asyncio.Event()

    def want(self, partitions: set[int]) -> None:
        """From now on follows these."""
        self._wanted = set(partitions)
        self._wake.set()

    async def run(self) -> None:
        """Follows what is wanted, for as long as it is not cancelled; reconnects by itself."""
        while True:
            subscription = self._node(self._address).subscription()
            self._asked, self._unanswered, self._fresh = set(), set(), set()
            try:
                await subscription.connect()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._ask(subscription))
                    tasks.create_task(self._listen(subscription))
            except* (RedisError, OSError) as broken:
                reasons = [type(error).__name__ for error in broken.exceptions]
                log.warning("subscription_lost", extra={"address": self._address, "reasons": reasons})
            finally:
                await subscription.close()
            self._doubt()
            await asyncio.sleep(RETRY_S)

    async def _ask(self, subscription: Subscription) -> None:
        """Asks for what is wanted and not yet asked for, and lets a heartbeat travel, in turn."""
        while True:
            self._wake.clear()
            missing = sorted(self._wanted - self._asked)
            self._asked.update(missing)
            self._unanswered.update(missing)
            await subscription.add(*map(keys.channel, missing), sharded=True)
            if self._asked:
                await self._beat(keys.channel(min(self._asked)))
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()

    async def _beat(self, channel: str) -> None:
        try:
            # No timeout of the connection's own: a pause of a second ends nobody's command.
            async with asyncio.timeout(HEARTBEAT_S):
                await self._node(self._address).pipe.execute("SPUBLISH", channel, BEAT, timeout_s=COMMAND_TIMEOUT_S)
        except (RedisError, OSError):
            log.debug("heartbeat_failed", extra={"address": self._address})
            self._doubt()

    async def _listen(self, subscription: Subscription) -> None:
        while True:
            try:
                kind, channel, body = await subscription.next()
            except AskError as exc:
                # It does not serve that one's slot; the others' are as they were. MOVED is an ASK to redis-py.
                index = keys.partition_at(exc.slot_id)
                self._asked.discard(index)
                self._answered(index)
                if isinstance(exc, MovedError):
                    self._moved(index, named(exc.host, exc.port, self._address))
                continue
            if kind == "smessage":
                self._listener.heard(body)
            elif kind == "ssubscribe":
                index = keys.partition_of(channel)
                self._fresh.add(index)
                self._answered(index)
            elif kind == "sunsubscribe":
                # Not at our wish: the slot has left this master.
                index = keys.partition_of(channel)
                self._asked.discard(index)
                if index in self._wanted:
                    self._doubt()

    def _answered(self, index: int) -> None:
        self._unanswered.discard(index)
        if self._fresh and not self._unanswered:
            fresh, self._fresh = self._fresh, set()
            log.info("subscription_up", extra={"address": self._address, "partitions": len(fresh)})
            self._listener.stands(fresh)
