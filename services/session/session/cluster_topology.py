"""Which server of a cluster serves each partition, as one of its servers tells it (CLUSTER SLOTS). Does no I/O.

redis-py's own NodesManager asks one server after the other, and waits for each that is dead; it also connects and
reconnects as it sees fit. Its parsing is these twenty lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from session import keys

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Topology:
    """`masters`: by partition, None where nobody serves it. `nodes`: all servers, replicas included, that are not
    known to have failed."""

    masters: tuple[Address | None, ...]
    nodes: frozenset[Address]

    def moved(self, index: int, master: Address) -> "Topology":
        """With a partition at another master."""
        masters = (*self.masters[:index], master, *self.masters[index + 1 :])
        return replace(self, masters=masters, nodes=self.nodes | {master})

    def shares(self) -> dict[Address, set[int]]:
        """The partitions of each master that has any."""
        shares: dict[Address, set[int]] = {}
        for index, master in enumerate(self.masters):
            if master is not None:
                shares.setdefault(master, set()).add(index)
        return shares


def read_slots(reply: Sequence[Any], asked: Address) -> Topology:
    """From CLUSTER SLOTS, answered by `asked`: its host stands for hosts that are not told."""
    masters: list[Address | None] = [None] * keys.PARTITIONS
    nodes: set[Address] = set()
    for first, last, *servers in reply:
        addresses = [named(server[0], int(server[1]), asked) for server in servers]
        nodes.update(addresses)
        for index in range(keys.partition_at(int(first)), keys.partition_at(int(last)) + 1):
            if addresses and first <= keys.slot(index) <= last:
                masters[index] = addresses[0]
    return Topology(tuple(masters), frozenset(nodes))


def named(host: bytes | str | None, port: int, asked: Address) -> Address:
    """An address as a server tells it: without a host it is at the one that was asked."""
    text = host.decode() if isinstance(host, bytes) else host or ""
    # "?" is a server's word for a host name that it was not given.
    return (asked[0] if text in ("", "?") else text), port
