"""What one gateway's Subscribe stream has to send next, bounded: one that does not read is told so, and reads logs."""

from collections.abc import AsyncIterator, Sequence

from chat.codec import position_to_proto
from chat.errors import ErrorCode
from chat.position import Position
from switchboard.chat.v1 import event_pb2
from switchboard.session.v1 import session_pb2

from session.outbound import RESPONSE_BYTES, Outbound

_MAX_PENDING_BYTES = 16 * 1024 * 1024
"""Events that wait for one gateway's stream: seconds of all that a replica carries. One further behind reads logs."""


class GatewayReader:
    """Adapter of `fanout.Reader`."""

    def __init__(self) -> None:
        self.chats: set[str] = set()
        self.outbound = Outbound(session_pb2.SubscribeResponse)
        self._pending = 0
        self._unsealed = 0
        self.overrun = False
        """Whether more came than a reader may be behind; nothing is kept for it any more."""

    def confirm(self, chat_id: str, position: Position) -> None:
        self.outbound.next.subscribed.add(chat_id=chat_id, position=position_to_proto(position))
        self.outbound.wake()

    def deliver(self, chat_id: str, first: Position | None, events: Sequence[event_pb2.Event]) -> None:
        size = sum([event.ByteSize() for event in events])
        self._pending += size
        if self._pending > _MAX_PENDING_BYTES:
            self.overrun = True
            self.outbound.next.ClearField("events")
        if not self.overrun:
            self._unsealed += size
            if self._unsealed > RESPONSE_BYTES:
                self.outbound.seal()
                self._unsealed = size
            # Field by field: half of what the constructor takes, and this is done for each append.
            batch = self.outbound.next.events.add()
            batch.chat_id = chat_id
            if first is not None:
                batch.first.epoch, batch.first.offset = first.epoch, first.offset
            batch.events.extend(events)
        self.outbound.wake()

    def lose(self, chat_id: str, error: ErrorCode | None) -> None:
        self.chats.discard(chat_id)
        self.outbound.next.lost.add(chat_id=chat_id, error=error.value if error else 0)
        self.outbound.wake()

    async def batches(self) -> AsyncIterator[session_pb2.SubscribeResponse]:
        """Each batch as it is ready."""
        async for response in self.outbound.batches():
            self._pending = self._unsealed = 0
            yield response
