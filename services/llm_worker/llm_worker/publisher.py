"""All turns' appends over one `Publish` stream: what has gathered while one request was written goes with the next.

Readers of one loop iteration share a request, and a turn has one append under way at the most. When the stream breaks,
what was not acknowledged is sent again, unchanged, over a new one; the session service applies nothing twice.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from runtime.rpc_channel import Metadata
from switchboard.session.v1 import session_pb2, session_pb2_grpc

from llm_worker.long_stream import SILENCE_S, StreamBrokenError, keep_open, read
from llm_worker.turn_log import Settled, TurnLog

REQUEST_BYTES = 1024 * 1024
"""A request is closed at this size: messages end at 8 MiB, and a large one holds up the others."""

REPEAT_S = 0.1
"""Before an append is sent again that the session service could not say anything of."""


class Publisher:
    """The one sender. `run` must run for anything to be published."""

    def __init__(self, session: "session_pb2_grpc.SessionServiceAsyncStub", metadata: Metadata) -> None:
        self._session = session
        self._metadata = metadata
        self._logs: dict[str, TurnLog] = {}
        self._ready: dict[str, TurnLog] = {}
        self._repeats: dict[str, TurnLog] = {}
        self._wake = asyncio.Event()
        self._waking = False
        self._heard_at = 0.0

    @asynccontextmanager
    async def publishing(self, turn: TurnLog) -> AsyncIterator[None]:
        """While entered, the turn's results reach it."""
        self._logs[turn.lease.lease_id] = turn
        try:
            yield
        finally:
            for known in (self._logs, self._ready, self._repeats):
                known.pop(turn.lease.lease_id, None)

    def wake(self, turn: TurnLog) -> None:
        """The turn has something to say."""
        self._ready[turn.lease.lease_id] = turn
        self._wake_soon()

    def _wake_soon(self) -> None:
        if not self._waking:
            self._waking = True
            # Not at once: every reader of this loop iteration is to be in the same request.
            asyncio.get_running_loop().call_soon(self._wake.set)

    async def run(self) -> None:
        """Publishes for as long as it is not cancelled."""
        await keep_open("publish", self._publish)

    async def _publish(self) -> None:
        call = self._session.Publish(metadata=self._metadata)
        self._heard_at = asyncio.get_running_loop().time()
        self._repeats = {lease: turn for lease, turn in self._logs.items() if turn.under_way is not None}
        if self._repeats or self._ready:
            self._wake.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(call))
                tasks.create_task(self._receive(call))
                tasks.create_task(self._watch())
        finally:
            call.cancel()

    async def _send(self, call: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._waking = False
            while self._ready or self._repeats:
                request = self._gather()
                if request.appends:
                    await call.write(request)

    def _gather(self) -> session_pb2.PublishRequest:
        """As much as one request takes."""
        request = session_pb2.PublishRequest()
        size = 0
        while self._repeats and size < REQUEST_BYTES:
            _, turn = self._repeats.popitem()
            if turn.under_way is not None:
                request.appends.append(turn.under_way)
                size += turn.under_way.ByteSize()
        while self._ready and size < REQUEST_BYTES:
            _, turn = self._ready.popitem()
            if turn.put_next(request):
                size += request.appends[-1].ByteSize()
        return request

    async def _receive(self, call: Any) -> None:
        loop = asyncio.get_running_loop()
        while True:
            response = await read(call)
            self._heard_at = loop.time()
            for result in response.results:
                turn = self._logs.get(result.lease_id)
                if turn is None:
                    continue
                match turn.settle(result):
                    case Settled.GO_ON:
                        self.wake(turn)
                    case Settled.REPEAT:
                        loop.call_later(REPEAT_S, self._repeat, result.lease_id)
                    case Settled.NOTHING:
                        pass

    def _repeat(self, lease_id: str) -> None:
        turn = self._logs.get(lease_id)
        if turn is not None and turn.under_way is not None:
            self._repeats[lease_id] = turn
            self._wake_soon()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        waiting_since: float | None = None
        while True:
            await asyncio.sleep(SILENCE_S / 5)
            if not any(turn.under_way is not None for turn in self._logs.values()):
                waiting_since = None
                continue
            waiting_since = max(waiting_since or loop.time(), self._heard_at)
            if loop.time() - waiting_since > SILENCE_S:
                raise StreamBrokenError("silent")
