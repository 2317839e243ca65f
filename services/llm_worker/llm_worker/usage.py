"""What answers have cost, told to the session service, which keeps it by user and day.

Gathered for a second, then told in one call, again and again until it is heard: records are known by their ids. They
wait in memory; a worker that dies takes the last second's with it. See docs/subsystems/providers.md, "What it costs".
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import grpc
import grpc.aio
from chat import codec
from chat.messages import Attempt
from runtime.rpc_channel import Metadata
from switchboard.session.v1 import usage_pb2, usage_pb2_grpc

log = logging.getLogger(__name__)

GATHER_S = 1.0
AGAIN_S = 1.0
"""After a call that failed."""
TIMEOUT_S = 5.0
MAX_RECORDS = 500
"""In one call: the contract's bound is twice that."""
MAX_WAITING = 50_000
"""Of an outage of hours at a hundred answers a second, the last minutes: what is older is given up, loudly."""
MAX_ATTEMPTS = 100
MAX_USER_BYTES = 200
FLUSH_S = 2.0


class UsageRecorder:
    """Tells what is added. `run` must run for anything to be told."""

    def __init__(
        self, usages: "usage_pb2_grpc.UsageServiceAsyncStub", metadata: Metadata, *, new_id: Callable[[], str]
    ) -> None:
        self._usages = usages
        self._metadata = metadata
        self._new_id = new_id
        self._waiting: deque[usage_pb2.UsageRecord] = deque(maxlen=MAX_WAITING)
        self._changed = asyncio.Event()
        self._failing = False
        self._losing = False

    def add(self, user_id: str, attempts: Sequence[Attempt]) -> None:
        """An answer's attempts; nothing is kept of an answer without any."""
        if not attempts:
            return
        if len(self._waiting) == MAX_WAITING and not self._losing:
            # Once: each further one of this outage is lost as well.
            self._losing = True
            log.error("usage lost", extra={"waiting": MAX_WAITING})
        record = usage_pb2.UsageRecord(
            id=self._new_id(),
            user_id=user_id if len(user_id.encode()) <= MAX_USER_BYTES else "",
            attempts=map(codec.attempt_to_proto, attempts[:MAX_ATTEMPTS]),
        )
        self._waiting.append(record)
        self._changed.set()

    async def run(self) -> None:
        """Tells for as long as it is not cancelled. An outage is logged once."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(GATHER_S)
            self._changed.clear()
            while self._waiting:
                if not await self._tell():
                    await asyncio.sleep(AGAIN_S)

    async def flush(self) -> None:
        """Tells the rest, before the end; `run` must have ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                while self._waiting and await self._tell():
                    pass

    async def _tell(self) -> bool:
        records = [self._waiting[at] for at in range(min(MAX_RECORDS, len(self._waiting)))]
        request = usage_pb2.RecordUsageRequest(records=records)
        refused = False
        try:
            await self._usages.RecordUsage(request, metadata=self._metadata, timeout=TIMEOUT_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as exc:
            refused = exc.code() is grpc.StatusCode.INVALID_ARGUMENT
            if not refused:
                if not self._failing:
                    log.warning("usage not recorded", extra={"status": exc.code().name.lower()})
                self._failing = True
                return False
        if refused:
            # They would be again, and all that waits behind them with them.
            log.error("usage refused", extra={"lost": len(records)})
        self._failing = self._losing = False
        for record in records:
            # While it was told, the oldest may have been given up.
            if self._waiting and self._waiting[0].id == record.id:
                self._waiting.popleft()
        return True
