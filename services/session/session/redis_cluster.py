"""A link to a Redis Cluster: each partition of chats lies in one slot, and is served by whichever master has that slot.

What a server says about slots is followed: MOVED at once; ASK, for plain commands; TRYAGAIN, CLUSTERDOWN and LOADING
are waited for, shortly. None of those ran. What may have run is never repeated here, and ends in UNAVAILABLE. Scripts
never follow ASK: they need all of a chat in one place (`lua/stable_slot.lua`).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from chat.errors import SwitchboardError
from redis.asyncio.connection import parse_url
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    RedisError,
    TryAgainError,
)

from session import keys
from session.cluster_subscription import ShardSubscription
from session.cluster_topology import Address, Topology, named, read_slots
from session.redis_link import Item, Listener, RedisLink, Script, unavailable
from session.redis_node import COMMAND_TIMEOUT_S, RETRY_S, RedisNode
from session.redis_pipe import NotSentError

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""For a slot that is on its way, or a cluster that votes: longer than most moves take, shorter than callers wait."""
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.2
_LOOKS_APART_S = 0.1
"""Between two looks at the topology: a failover takes seconds, and hundreds of commands may ask for one at once."""
_NEXT_SERVER_S = 0.25
"""Without an answer for that long, another server is asked as well."""
_STABLE_SLOT = (Path(__file__).parent / "lua" / "stable_slot.lua").read_text()
Result = TypeVar("Result")


class ClusterLink(RedisLink):
    """One shared connection and one subscription a master. `url` names any server of the cluster; the others are found
    through it, and are reached with its user, password and TLS."""

    publish_command = "SPUBLISH"
    group_count = keys.PARTITIONS

    def __init__(self, url: str) -> None:
        self._url = url
        parts = parse_url(url)
        self._named: Address = (parts.get("host", "localhost"), int(parts.get("port", 6379)))
        self._nodes: dict[Address, RedisNode] = {}
        self._topology: Topology | None = None
        self._changed = asyncio.Event()
        self._look: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self._ask_first: Address | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._untold = ""
        self._said_at: dict[Address | None, float] = {}

    def group(self, chat_id: str) -> int:
        return keys.partition(chat_id)

    def channel(self, chat_id: str) -> str:
        return keys.channel(keys.partition(chat_id))

    def groups(self, items: Sequence[Item], chat_id: Callable[[Item], str]) -> list[Sequence[Item]]:
        grouped: dict[int, list[Item]] = {}
        for item in items:
            grouped.setdefault(keys.partition(chat_id(item)), []).append(item)
        return list(grouped.values())

    def partition_groups(self) -> list[range]:
        return [range(index, index + 1) for index in range(keys.PARTITIONS)]

    async def run(self, script: Script, key_names: Sequence[str], *arguments: str | bytes | int) -> Any:
        def call(node: RedisNode) -> Awaitable[Any]:
            return node.run(script, key_names, *arguments)

        return await self._at(keys.partition_of(key_names[0]), script.name, call)

    async def execute(self, *command: str | bytes | int | float) -> Any:
        async def call(node: RedisNode) -> Any:
            try:
                return await node.pipe.execute(*command, timeout_s=COMMAND_TIMEOUT_S)
            except MovedError:
                raise
            except AskError as exc:
                there = self._node(named(exc.host, exc.port, node.address))
                return await there.pipe.execute(*command, timeout_s=COMMAND_TIMEOUT_S, asking=True)

        return await self._at(keys.partition_of(str(command[1])), str(command[0]), call)

    async def _at(self, index: int, name: str, call: Callable[[RedisNode], Awaitable[Any]]) -> Any:
        """Calls the server of a partition, again where it is certain that nothing was done.

        Raises: SwitchboardError(UNAVAILABLE).
        """
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + PATIENCE_S
        pause_s = 0.0
        if self._topology is None:
            await self._look_again()
        while True:
            address = self._topology.masters[index] if self._topology is not None else None
            try:
                return await call(self._serving(address))
            except NotSentError as exc:
                refusal: Exception = exc
                await self._look_again()
                if self._topology is None or self._topology.masters[index] == address:
                    # As one server's link: nobody is there, and nobody else has taken over yet.
                    raise self._failed(name, address, exc) from exc
            except MovedError as exc:
                refusal = exc
                self._moved(index, named(exc.host, exc.port, address or self._named))
            except (TryAgainError, AskError, ClusterDownError, BusyLoadingError) as exc:
                refusal = exc
                if isinstance(exc, ClusterDownError):
                    self._doubt()
                pause_s = pause_s or _FIRST_PAUSE_S
            except (RedisError, OSError) as exc:
                self._doubt()
                raise self._failed(name, address, exc) from exc
            if clock() > give_up_at:
                raise self._failed(name, address, refusal) from refusal
            await asyncio.sleep(pause_s)
            # MOVED is followed at once, the first time.
            pause_s = min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)

    def _failed(self, name: str, address: Address | None, exc: Exception) -> SwitchboardError:
        now = asyncio.get_running_loop().time()
        # Once a second for a server that is out of reach: each of its partitions finds that out for itself.
        level = logging.WARNING if now - self._said_at.get(address, float("-inf")) > 1 else logging.DEBUG
        if level == logging.WARNING:
            self._said_at[address] = now
        error = type(exc.__cause__ or exc).__name__
        log.log(level, "redis_failed", extra={"command": name, "address": address, "error": error})
        return unavailable()

    def _serving(self, address: Address | None) -> RedisNode:
        if address is None:
            raise ClusterDownError("no server has the slot")
        return self._node(address)

    def _node(self, address: Address) -> RedisNode:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = RedisNode(self._url, address, prelude=_STABLE_SLOT)
        return node

    def _moved(self, index: int, master: Address) -> None:
        """A server has said who has a partition; the rest may have changed too."""
        if self._topology is not None and self._topology.masters[index] != master:
            self._take(self._topology.moved(index, master))
        self._ask_first = master
        self._doubt()

    def _doubt(self) -> None:
        """Looks at the topology again, beside whatever else goes on."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._learn())

    async def _look_again(self) -> None:
        """As `_doubt`, and returns when that is done; nothing has changed when nobody answered."""
        self._doubt()
        if self._look is not None:
            await asyncio.shield(self._look)

    async def _learn(self) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(self._looked_at + _LOOKS_APART_S - clock())
        known = self._topology.nodes if self._topology is not None else frozenset()
        # In another order each time: one that answers and knows nothing new must not always be the first.
        others = random.sample([*known, self._named], len(known) + 1)
        first, self._ask_first = self._ask_first, None
        addresses = list(dict.fromkeys([*([first] if first else []), *others]))
        found = await _first_of([self._slots(address) for address in addresses], _NEXT_SERVER_S)
        self._looked_at = clock()
        if found is None:
            log.warning("topology_unknown", extra={"asked": len(addresses), "last_error": self._untold})
        else:
            self._take(found)

    async def _slots(self, address: Address) -> Topology | None:
        """What one server knows; None: nothing."""
        try:
            reply = await self._node(address).pipe.execute("CLUSTER", "SLOTS", timeout_s=COMMAND_TIMEOUT_S)
        except (RedisError, OSError) as exc:
            self._untold = str(exc.__cause__ or exc)
            return None
        topology = read_slots(reply, address)
        return topology if any(topology.masters) else None

    def _take(self, topology: Topology) -> None:
        if topology == self._topology:
            return
        log.info("topology_changed", extra={"masters": len(topology.shares()), "servers": len(topology.nodes)})
        self._topology = topology
        self._changed.set()
        # Those that have failed are no longer named; what waits for them fails now rather than by its timeout.
        for address in [address for address in self._nodes if address not in topology.nodes]:
            self._spawn(self._nodes.pop(address).close())

    def _spawn(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def ping(self, timeout_s: float) -> bool:
        """Whether every partition has a master, and each master serves one of its own in time."""
        try:
            async with asyncio.timeout(timeout_s):
                if self._topology is None:
                    await self._look_again()
                if self._topology is None or not all(self._topology.masters):
                    self._doubt()
                    return False
                some = map(min, self._topology.shares().values())
                await asyncio.gather(*(self.execute("EXISTS", keys.due(index)) for index in some))
        except (SwitchboardError, TimeoutError):
            self._doubt()
            return False
        return True

    async def follow(self, listener: Listener) -> None:
        async with asyncio.TaskGroup() as tasks:
            followed: dict[Address, tuple[ShardSubscription, asyncio.Task[None]]] = {}
            await self._look_again()
            while self._topology is None:
                await asyncio.sleep(RETRY_S)
                await self._look_again()
            while True:
                self._changed.clear()
                shares = self._topology.shares()
                for address in followed.keys() - shares.keys():
                    followed.pop(address)[1].cancel()
                for address, share in shares.items():
                    if address not in followed:
                        shard = ShardSubscription(
                            address, listener, node=self._node, doubt=self._doubt, moved=self._moved
                        )
                        followed[address] = shard, tasks.create_task(shard.run())
                    followed[address][0].want(share)
                await self._changed.wait()

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
            with suppress(asyncio.CancelledError):
                await self._look
        await asyncio.gather(*self._closing, *(node.close() for node in self._nodes.values()))


async def _first_of(attempts: Sequence[Coroutine[Any, Any, Result | None]], apart_s: float) -> Result | None:
    """The first result that is one, of attempts that begin one after the other: the next when one came to nothing, or
    took longer than `apart_s`."""
    waiting = list(attempts)
    running: set[asyncio.Task[Result | None]] = set()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(waiting.pop(0)))
            done, running = await asyncio.wait(
                running, timeout=apart_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                result = task.result()
                if result is not None:
                    return result
        return None
    finally:
        for task in running:
            task.cancel()
        for attempt in waiting:
            attempt.close()
