"""What replicas say of themselves, kept for as long as they go on saying it, by Redis' clock."""

from collections.abc import Callable

from switchboard.session.v1 import report_pb2

from session import keys, scripts
from session.redis_link import RedisLink

LIST_BYTES = 4 * 1024 * 1024
"""Of all reports together: gRPC's messages end at 8 MiB."""
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
        # What most of a report is, and can be done without.
        for dialect in replica.gateway.dialects:
            dialect.by_chat.clear()
        brief = replica.SerializeToString()
        await self._link.run(
            scripts.REPORT, [keys.reports()], replica.id, stored, b"" if brief == stored else brief, SILENT_MS
        )

    async def retire(self, replica_id: str) -> None:
        """The replica counts no longer. Raises: SwitchboardError(UNAVAILABLE)."""
        await self._link.run(scripts.RETIRE, [keys.reports()], replica_id)

    async def list(self) -> list[report_pb2.Replica]:
        """Every live replica's last report: where they are over `LIST_BYTES` together, some without `by_chat`, and if
        that does not do, without those that are over it. Raises: SwitchboardError(UNAVAILABLE)."""
        found = await self._link.run(scripts.LIST_REPORTS, [keys.reports()], SILENT_MS, LIST_BYTES)
        return [report_pb2.Replica.FromString(replica) for replica in found]
