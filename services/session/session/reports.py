"""What replicas say of themselves, kept for as long as they go on saying it. Times are Redis' own."""

from collections.abc import Callable

from switchboard.session.v1 import report_pb2

from session import keys, scripts
from session.redis_link import RedisLink

SILENT_MS = 25_000
"""Three reports missed (one every 8 s); a replica that dies stops counting within 30 s, callers' looks included."""


class Reports:
    """The reports of all replicas that live."""

    def __init__(self, link: RedisLink, *, now_us: Callable[[], int]) -> None:
        self._link = link
        self._now_us = now_us

    async def put(self, given: report_pb2.Replica) -> None:
        """Stores a replica's report in place of its last. Raises: SwitchboardError(UNAVAILABLE)."""
        replica = report_pb2.Replica()
        replica.CopyFrom(given)
        replica.reported_at.FromMicroseconds(self._now_us())
        stored = replica.SerializeToString()
        await self._link.run(scripts.REPORT, [keys.reports()], replica.id, stored, SILENT_MS)

    async def retire(self, replica_id: str) -> None:
        """The replica counts no longer. Raises: SwitchboardError(UNAVAILABLE)."""
        # The time first: without it nobody is listed. A report that a failure here leaves goes when all fall silent.
        await self._link.execute("ZREM", f"{keys.reports()}:at", replica_id)
        await self._link.execute("HDEL", keys.reports(), replica_id)

    async def list(self) -> list[report_pb2.Replica]:
        """Every live replica's last report. Raises: SwitchboardError(UNAVAILABLE)."""
        found = await self._link.run(scripts.LIST_REPORTS, [keys.reports()], SILENT_MS)
        return [report_pb2.Replica.FromString(replica) for replica in found]
