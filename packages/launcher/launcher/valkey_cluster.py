"""A Redis Cluster on this machine, for tests: three masters and a replica of each, as processes that can be killed.

    async with ValkeyCluster() as cluster:
        async with Stack(redis_url=cluster.url, environment=cluster.environment) as stack:
            await cluster.nodes[0].kill()              # SIGKILL; its replica, nodes[3], takes over within 2 to 3 s

Nothing is kept: it holds no file after the block. The cluster is not negotiated, which would take seconds and a client:
each server finds in its directory the very file (`nodes.conf`) that it would have written at the end of that.
"""

import asyncio
import secrets
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from launcher.log_line import LogLine
from launcher.ports import HeldPort
from launcher.process import Child
from launcher.valkey import valkey_program, valkey_url

SLOTS = 16384
START_TIMEOUT_S = 30.0
_FORMED = "Cluster state changed: ok"
_SYNCED = "PRIMARY <-> REPLICA sync: Finished with success"


class ValkeyCluster:
    """`nodes`: at first the masters, then a replica of each in the same order. `node_timeout_ms`: how long a server is
    silent before the others take it for dead; a failover takes that and one to two seconds more."""

    def __init__(
        self, *, shards: int = 3, node_timeout_ms: int = 1000, listener: Callable[[LogLine], None] | None = None
    ) -> None:
        self._shards = shards
        self._node_timeout_ms = node_timeout_ms
        self._listener = listener
        self._password = secrets.token_urlsafe(16)
        self._cleanup = ExitStack()
        self._ports: list[HeldPort] = []
        self.nodes: list[Child] = []

    @property
    def urls(self) -> list[str]:
        """Of each node."""
        return [valkey_url(port.number, self._password) for port in self._ports[: 2 * self._shards]]

    @property
    def url(self) -> str:
        """Of one node; the others are found through it."""
        return self.urls[0]

    @property
    def environment(self) -> dict[str, str]:
        """What session is told beside the URL."""
        return {"REDIS_CLUSTER": "true"}

    async def __aenter__(self) -> "ValkeyCluster":
        """Returns when every slot is served and every replica has caught up. Raises: ChildEndedError, TimeoutError,
        OSError; then nothing runs."""
        try:
            self._prepare()
            formed = [
                asyncio.ensure_future(node.next_event(event, START_TIMEOUT_S))
                for n, node in enumerate(self.nodes)
                for event in (_FORMED, *((_SYNCED,) if n >= self._shards else ()))
            ]
            await asyncio.gather(*(node.start() for node in self.nodes))
            await asyncio.gather(*formed)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stops every server, frozen ones too. Twice is fine."""
        # Nothing of theirs is kept.
        await asyncio.gather(*(node.kill() for node in self.nodes))
        self._cleanup.close()

    def _prepare(self) -> None:
        root = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="valkey-cluster-")))
        count = 2 * self._shards
        # One for clients and one for the other servers each.
        self._ports = [HeldPort() for _ in range(2 * count)]
        for port in self._ports:
            self._cleanup.callback(port.release)
        ids = [secrets.token_hex(20) for _ in range(count)]
        shard_ids = [secrets.token_hex(20) for _ in range(self._shards)]
        for me in range(count):
            directory = root / str(me)
            settings = {
                "appendonly": "no",
                "cluster-enabled": "yes",
                "cluster-port": str(self._ports[count + me].number),
                "cluster-node-timeout": str(self._node_timeout_ms),
                # A shard without a master is no reason for the others to stop.
                "cluster-require-full-coverage": "no",
                "masterauth": self._password,
                "repl-diskless-sync-delay": "0",
            }
            number = self._ports[me].number
            program = valkey_program(
                directory, port=number, password=self._password, name=f"redis-{me}", settings=settings
            )
            lines = [self._line(n, me, ids, shard_ids) for n in range(count)]
            lines.append(f"vars currentEpoch {self._shards} lastVoteEpoch 0")
            (directory / "nodes.conf").write_text("\n".join(lines) + "\n")
            self.nodes.append(Child(program, self._listener))

    def _line(self, n: int, me: int, ids: list[str], shard_ids: list[str]) -> str:
        """Node n, as node `me` knows it."""
        shard = n % self._shards
        port, bus = self._ports[n], self._ports[2 * self._shards + n]
        address = f"{port.address}@{bus.number},,shard-id={shard_ids[shard]}"
        flags = ("myself," if n == me else "") + ("master" if n == shard else "slave")
        first, end = (SLOTS * share // self._shards for share in (shard, shard + 1))
        follows, slots = ("-", f" {first}-{end - 1}") if n == shard else (ids[shard], "")
        return f"{ids[n]} {address} {flags} {follows} 0 0 {shard + 1} connected{slots}"
