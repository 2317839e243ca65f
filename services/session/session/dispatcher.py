"""Hands due turns to workers, as many as each has credit for, and tells workers of turns that are theirs no longer.

A turn reaches a worker within a round trip when one of this replica's workers has credit; else another replica, told by
announcement, hands it out; else the next look at what is due, within a second, finds it. Nothing is kept here that
Redis does not know: a replica that dies loses no turn.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from chat.errors import ErrorCode, SwitchboardError
from switchboard.session.v1 import session_pb2

from session.outbound import RESPONSE_BYTES, Outbound
from session.roles import Asker
from session.turns import Begun, TurnName, Turns

log = logging.getLogger(__name__)

POLL_S = 1.0
"""Between two looks at what time has brought: expired leases and deadlines need no more."""
FRESH_S = 6.0
"""Two renewals of a worker."""
_CLAIMS_AT_ONCE = 32


class WorkerStream:
    """One worker's ClaimTurns stream: its credit, and what is to be sent to it next."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.credit = 0
        self.outbound = Outbound(session_pb2.ClaimTurnsResponse)

    def hand(self, turn: session_pb2.ClaimedTurn) -> None:
        """Sends a claimed turn."""
        if self.outbound.next.ByteSize() + turn.ByteSize() > RESPONSE_BYTES:
            self.outbound.seal()
        self.outbound.next.claimed.append(turn)
        self.outbound.wake()

    def revoke(self, lease: session_pb2.Lease) -> None:
        """Tells that a lease is gone."""
        self.outbound.next.revoked.append(lease)
        self.outbound.wake()


class Dispatcher:
    """All workers of this replica. `announce` tells the other replicas of a turn that no worker here can take."""

    def __init__(self, turns: Turns, *, new_id: Callable[[], str]) -> None:
        self._turns = turns
        self._new_id = new_id
        self._streams: list[WorkerStream] = []
        self._handed_at: dict[str, float] = {}
        self._clock = asyncio.get_running_loop().time
        self._held: dict[str, tuple[session_pb2.Lease, WorkerStream]] = {}
        self._look = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._claim_slots = asyncio.Semaphore(_CLAIMS_AT_ONCE)
        self.announce: Callable[[str], None] = lambda chat_id: None

    def join(self, stream: WorkerStream) -> None:
        """A worker's stream begins."""
        self._streams.append(stream)
        log.info("worker_joined", extra={"worker_id": stream.worker_id, "workers": len(self._streams)})

    def leave(self, stream: WorkerStream) -> None:
        """A worker's stream has ended; its leases run on until they expire or are renewed over another."""
        self._streams.remove(stream)
        self._held = {turn: held for turn, held in self._held.items() if held[1] is not stream}
        log.info("worker_left", extra={"worker_id": stream.worker_id, "workers": len(self._streams)})

    def add_credit(self, stream: WorkerStream, credit: int) -> None:
        """A worker can take more; what waited for that is looked for at once."""
        if credit:
            starved = not any(one.credit for one in self._streams)
            stream.credit += credit
            if starved:
                self._look.set()

    async def begin(self, request: session_pb2.BeginTurnRequest, limit_s: float, turn_id: str, asker: Asker) -> Begun:
        """Appends the message; a turn that is due goes to a worker at hand, in the same step. Raises: as Turns.begin.

        A caller that goes away meanwhile leaves no turn leased to a worker that was never told.
        """
        return await asyncio.shield(asyncio.create_task(self._begin(request, limit_s, turn_id, asker)))

    async def _begin(self, request: session_pb2.BeginTurnRequest, limit_s: float, turn_id: str, asker: Asker) -> Begun:
        reserved = self._reserve() if turn_id else None
        claimed = None
        try:
            begun = await self._turns.begin(request, limit_s, reserved[1] if reserved else "", turn_id, asker)
            claimed = begun.claimed
        finally:
            if reserved is not None and claimed is None:
                self._release(reserved[0])
        if reserved is not None and claimed is not None:
            self._hand(reserved[0], claimed)
        elif begun.state == session_pb2.TURN_STATE_DUE and not begun.repeated:
            self.turn_due(request.chat_id, begun.turn_id)
        return begun

    def _reserve(self) -> tuple[WorkerStream, str] | None:
        """A worker with credit, and a new lease id; None: none has any. Ends in `_release` or `_hand`."""
        best = max(self._streams, key=lambda stream: stream.credit, default=None)
        if best is None or best.credit == 0:
            return None
        best.credit -= 1
        return best, self._new_id()

    def _release(self, stream: WorkerStream) -> None:
        """Nothing came of a reservation."""
        stream.credit += 1

    def _hand(self, stream: WorkerStream, turn: session_pb2.ClaimedTurn) -> None:
        """Gives a claimed turn to the worker that was reserved for it."""
        if stream in self._streams:
            self._held[turn.lease.turn_id] = (turn.lease, stream)
            self._handed_at[turn.lease.turn_id] = self._clock()
        # To a stream that has ended it goes nowhere: its lease expires.
        stream.hand(turn)

    def turn_due(self, chat_id: str, turn_id: str) -> None:
        """A turn became due on this replica."""
        reserved = self._reserve()
        if reserved is None:
            self.announce(chat_id)
        else:
            self._spawn(TurnName(chat_id, turn_id), reserved)

    def turn_ended(self, chat_id: str, turn_id: str) -> None:
        """A turn was ended from outside, on any replica."""
        held = self._held.pop(turn_id, None)
        if held is not None:
            lease, stream = held
            stream.revoke(lease)

    def look(self) -> None:
        """Some replica has turns that it can't hand out."""
        if any(stream.credit for stream in self._streams):
            self._look.set()

    async def renew(self, stream: WorkerStream, leases: list[session_pb2.Lease]) -> None:
        """Extends a worker's leases, and answers; those that are lost are revoked. Redis out of reach: no answer."""
        try:
            lost = {lease.lease_id for lease in await self._turns.renew(leases)}
        except SwitchboardError:
            log.warning("renewal_failed", extra={"worker_id": stream.worker_id, "leases": len(leases)})
            return
        held = dict(self._held)
        for lease in leases:
            if lease.lease_id in lost:
                held.pop(lease.turn_id, None)
                stream.revoke(lease)
            else:
                held[lease.turn_id] = (lease, stream)
        # What a worker renews no longer, it holds no longer.
        known = {lease.turn_id for lease in leases}
        # One that was handed out just now, the worker did not know of when it wrote this.
        known |= {turn for turn, at in self._handed_at.items() if self._clock() - at < FRESH_S}
        self._held = {turn: one for turn, one in held.items() if one[1] is not stream or turn in known}
        self._handed_at = {turn: at for turn, at in self._handed_at.items() if turn in self._held}
        # With nothing to revoke the response is empty: by it the worker knows that the stream is alive.
        stream.outbound.wake()

    async def run(self) -> None:
        """Looks for due, expired and late turns, for as long as it is not cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._look.wait()
            self._look.clear()
            try:
                due, late = await self._turns.poll()
            except SwitchboardError as error:
                log.warning("poll_failed", extra={"code": error.code.name})
                continue
            for name in late:
                await self._fail_late(name)
            for name in due:
                reserved = self._reserve()
                if reserved is None:
                    break
                self._spawn(name, reserved)

    async def _fail_late(self, name: TurnName) -> None:
        try:
            ended = await self._turns.fail_late(name)
        except SwitchboardError as error:
            # A chat that has gone took its turn along.
            if error.code is not ErrorCode.NOT_FOUND:
                log.warning("deadline_failed", extra={"chat_id": name.chat_id, "code": error.code.name})
            return
        for turn_id in ended.turn_ids:
            log.warning("turn_late", extra={"chat_id": name.chat_id, "turn_id": turn_id})
        if ended.following:
            self.turn_due(name.chat_id, ended.following)

    def _spawn(self, name: TurnName, reserved: tuple[WorkerStream, str]) -> None:
        task = asyncio.create_task(self._claim(name, *reserved))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _claim(self, name: TurnName, stream: WorkerStream, lease_id: str) -> None:
        turn: session_pb2.ClaimedTurn | None = None
        try:
            async with self._claim_slots:
                turn = await self._turns.claim(name, lease_id)
        except SwitchboardError as error:
            log.warning("claim_failed", extra={"chat_id": name.chat_id, "code": error.code.name})
        finally:
            if turn is None:
                self._release(stream)
        if turn is not None:
            self._hand(stream, turn)
