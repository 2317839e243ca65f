"""What this worker finds of its targets, told to the session service, so that any replica can say how they stand.

Told every eight seconds, and at once when a breaker opened, closed, or let a probe through, or a target begins to cool
down; nothing is polled. That an open breaker's time has passed is said by the next report. See
docs/subsystems/providers.md.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import grpc.aio
from chat import codec
from runtime.rpc_channel import Metadata
from switchboard.session.v1 import report_pb2, report_pb2_grpc

from llm_worker.breaker import BreakerState
from llm_worker.settings import BreakerSettings
from llm_worker.target import Target

log = logging.getLogger(__name__)

REPORT_S = 8.0
"""A report lasts 25 s (report.proto): two may be lost before it does."""
TIMEOUT_S = 5.0
"""Of a report: it waits for a session service that is just restarting."""
AGAIN_S = 1.0
"""After one that failed."""
RETIRE_S = 1.0
"""Nothing waits for it longer: without it the last report runs out by itself."""

_CIRCUITS = {
    BreakerState.CLOSED: report_pb2.CIRCUIT_STATE_CLOSED,
    BreakerState.OPEN: report_pb2.CIRCUIT_STATE_OPEN,
    BreakerState.HALF_OPEN: report_pb2.CIRCUIT_STATE_HALF_OPEN,
}


class Reporter:
    """Tells of `targets` whenever `changed` is set, which it clears. `run` must run for anything to be told."""

    def __init__(
        self,
        *,
        worker_id: str,
        targets: Sequence[Target],
        settings: BreakerSettings,
        reports: "report_pb2_grpc.ReportServiceAsyncStub",
        metadata: Metadata,
        changed: asyncio.Event,
    ) -> None:
        self._worker_id = worker_id
        self._targets = targets
        self._settings = settings
        self._reports = reports
        self._metadata = metadata
        self._changed = changed
        self._failing = False

    async def run(self) -> None:
        """Reports for as long as it is not cancelled. An outage is logged once."""
        while True:
            self._changed.clear()
            if not await self._report():
                await asyncio.sleep(AGAIN_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._changed.wait()

    async def retire(self) -> None:
        """Takes the report back; `run` must have ended."""
        request = report_pb2.RetireRequest(replica_id=self._worker_id)
        with suppress(grpc.aio.AioRpcError):
            await self._reports.Retire(request, metadata=self._metadata, timeout=RETIRE_S)

    async def _report(self) -> bool:
        worker = report_pb2.WorkerReport(targets=[self._told(target) for target in self._targets])
        request = report_pb2.ReportRequest(replica=report_pb2.Replica(id=self._worker_id, worker=worker))
        try:
            await self._reports.Report(request, metadata=self._metadata, timeout=TIMEOUT_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as exc:
            if not self._failing:
                log.warning("report failed", extra={"status": exc.code().name.lower()})
            self._failing = True
        else:
            self._failing = False
        return not self._failing

    def _told(self, target: Target) -> report_pb2.TargetReport:
        status = target.status()
        last, cooling_until = status.last_failure_at_s, status.cooling_until_s
        return report_pb2.TargetReport(
            provider=target.provider.name,
            model=target.model.id,
            circuit=_CIRCUITS[status.breaker.state],
            failures=status.breaker.failures,
            failure_threshold=self._settings.failure_threshold,
            reset_timeout=codec.duration(self._settings.reset_timeout_s),
            last_failure_at=None if last is None else codec.timestamp(round(last * 1_000_000)),
            configured=target.configured,
            cooling_down_until=None if cooling_until is None else codec.timestamp(round(cooling_until * 1_000_000)),
        )
