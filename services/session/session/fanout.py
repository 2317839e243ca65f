"""Brings what is appended to the streams that follow it.

Pub/sub carries all events to each process, and may lose them: nothing depends on it. Per chat, offsets are checked, and
a gap is closed by reading the log. What can't be closed (trimmed, another epoch) is said to the readers, who then read
the log themselves.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from chat.errors import ErrorCode, SwitchboardError
from chat.position import Position
from switchboard.chat.v1 import event_pb2

from session.log import Log
from session.redis_link import RedisLink, pack, unpack

log = logging.getLogger(__name__)

_REPAIRS_AT_ONCE = 64
"""Over all groups of chats; one has as many for itself as is its share, and four at the least: reading on from a shard
that is down must not take the others' turns."""
_RETRY_S = 0.25


class Reader(Protocol):
    """A stream that follows chats. Its methods must not block."""

    def deliver(self, chat_id: str, first: Position | None, events: Sequence[event_pb2.Event]) -> None:
        """Events in order, the first one at `first`; None: they have no position."""

    def lose(self, chat_id: str, error: ErrorCode | None) -> None:
        """The chat is followed no longer."""


class _Feed:
    """A chat that somebody follows. `waiting` holds what came while its position is being found out; `expected` counts
    who waits for that, and will be a reader then."""

    __slots__ = ("chat_id", "expected", "position", "readers", "ready", "waiting")

    def __init__(self, chat_id: str) -> None:
        self.chat_id = chat_id
        self.position = Position("", 0)
        self.readers: set[Reader] = set()
        self.waiting: list[tuple[Position, list[bytes]]] | None = []
        self.expected = 0
        self.ready: asyncio.Task[SwitchboardError | None] | None = None


class Fanout:
    """All subscriptions of this process. `turn_ended(chat_id, turn_id)` is told of turns that were stopped or failed
    from outside, on any replica; `turns_due()` that some replica has turns it can't hand out."""

    def __init__(
        self,
        link: RedisLink,
        chat_log: Log,
        *,
        turn_ended: Callable[[str, str], None],
        turns_due: Callable[[], None],
    ) -> None:
        self._link = link
        self._log = chat_log
        self._turn_ended = turn_ended
        self._turns_due = turns_due
        self._feeds: dict[str, _Feed] = {}
        self._repairs: set[asyncio.Task[None]] = set()
        share = max(4, _REPAIRS_AT_ONCE // link.group_count)
        self._repair_slots = [asyncio.Semaphore(share) for _ in range(link.group_count)]
        self._subscriptions = 0

    async def add(self, chat_id: str, reader: Reader) -> Position:
        """Follows a chat: every event after the position returned is delivered, or the chat lost.

        Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE).
        """
        while True:
            feed = self._feeds.get(chat_id)
            if feed is None:
                feed = self._feeds[chat_id] = _Feed(chat_id)
                # No reader's own: the one who came first may go while others wait.
                feed.ready = asyncio.create_task(self._establish(feed))
            if feed.ready is None:
                feed.readers.add(reader)
                # While a gap is being closed the position is the last one delivered, and the rest is to come.
                return feed.position
            feed.expected += 1
            try:
                error = await asyncio.shield(feed.ready)
                if error is None and self._feeds.get(chat_id) is feed:
                    feed.readers.add(reader)
                    return feed.position
            finally:
                feed.expected -= 1
                self._forget_unread(feed)
            if error is not None:
                raise error

    async def _establish(self, feed: _Feed) -> SwitchboardError | None:
        """Finds out where a chat's log ends; events from there on are not missed."""
        try:
            while True:
                subscriptions = self._subscriptions
                feed.position = await self._log.position(feed.chat_id)
                # A subscription that was made since may have missed what came between.
                if subscriptions == self._subscriptions:
                    break
        except SwitchboardError as error:
            self._feeds.pop(feed.chat_id, None)
            return error
        except Exception:  # this task's boundary: those who wait must be told
            log.exception("position_failed", extra={"chat_id": feed.chat_id})
            self._feeds.pop(feed.chat_id, None)
            return SwitchboardError(ErrorCode.INTERNAL, "the chat can't be followed just now")
        feed.ready = None
        self._catch_up(feed)
        return None

    def remove(self, chat_id: str, reader: Reader) -> None:
        """Follows a chat no longer."""
        feed = self._feeds.get(chat_id)
        if feed is not None:
            feed.readers.discard(reader)
            self._forget_unread(feed)

    def _forget_unread(self, feed: _Feed) -> None:
        if not feed.readers and not feed.expected and self._feeds.get(feed.chat_id) is feed:
            del self._feeds[feed.chat_id]

    def appended(self, chat_id: str, first: Position, events: Sequence[event_pb2.Event]) -> None:
        """Delivers what this replica has just appended, ahead of its announcement, which then brings nothing new."""
        feed = self._feeds.get(chat_id)
        # Whatever does not simply go on from here is left to the announcement.
        if feed is None or feed.waiting is not None:
            return
        if first.epoch == feed.position.epoch and first.offset == feed.position.offset + 1:
            self._deliver(feed, events)

    async def publish(self, chat_id: str, event: event_pb2.Event) -> None:
        """Sends an event without a position to who follows the chat. Raises: SwitchboardError(UNAVAILABLE)."""
        await self._announce(["passing", chat_id, event.SerializeToString()], self._link.channel(chat_id))

    async def announce_due(self, chat_id: str) -> None:
        """Tells the other replicas of a turn that none of our workers can take. Raises: SwitchboardError."""
        await self._announce(["due"], self._link.channel(chat_id))

    async def _announce(self, message: list[object], channel: str) -> None:
        await self._link.execute(self._link.publish_command, channel, pack(message))

    async def run(self) -> None:
        """Receives what is published, for as long as it is not cancelled."""
        await self._link.follow(self)

    def stands(self, groups: Collection[int]) -> None:
        """As `redis_link.Listener`: chats of these groups may have missed something."""
        self._subscriptions += 1
        for feed in self._feeds.values():
            if feed.waiting is None and self._link.group(feed.chat_id) in groups:
                feed.waiting = []
                self._repair(feed)

    def heard(self, message: bytes) -> None:
        """As `redis_link.Listener`."""
        kind, *rest = unpack(message)
        if kind == b"events":
            for chat_id, epoch, first, blobs, ended in rest[0]:
                name = chat_id.decode()
                if ended:
                    self._turn_ended(name, ended.decode())
                feed = self._feeds.get(name)
                if feed is not None:
                    self._arrive(feed, Position(epoch.decode(), int(first)), blobs)
        elif kind == b"passing":
            feed = self._feeds.get(rest[0].decode())
            if feed is not None:
                events = [event_pb2.Event.FromString(rest[1])]
                for reader in tuple(feed.readers):
                    reader.deliver(feed.chat_id, None, events)
        elif kind == b"due":
            self._turns_due()

    def _arrive(self, feed: _Feed, first: Position, blobs: list[bytes]) -> None:
        if feed.waiting is not None:
            feed.waiting.append((first, blobs))
            return
        at = feed.position
        if first.epoch != at.epoch or first.offset > at.offset + 1:
            feed.waiting = [(first, blobs)]
            self._repair(feed)
            return
        new = blobs[at.offset + 1 - first.offset :]
        if new:
            self._deliver(feed, [event_pb2.Event.FromString(blob) for blob in new])

    def _deliver(self, feed: _Feed, events: Sequence[event_pb2.Event]) -> None:
        first = Position(feed.position.epoch, feed.position.offset + 1)
        feed.position = Position(first.epoch, feed.position.offset + len(events))
        for reader in tuple(feed.readers):
            reader.deliver(feed.chat_id, first, events)

    def _catch_up(self, feed: _Feed) -> None:
        """What came while the position was being found out follows it, or shows a gap."""
        waiting, feed.waiting = feed.waiting or [], None
        for first, blobs in waiting:
            self._arrive(feed, first, blobs)

    def _repair(self, feed: _Feed) -> None:
        task = asyncio.create_task(self._read_on(feed))
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)

    async def _read_on(self, feed: _Feed) -> None:
        """Closes a gap by reading the log; readers of what can't be closed lose the chat."""
        error: ErrorCode | None = None
        try:
            async with self._repair_slots[self._link.group(feed.chat_id)]:
                while self._feeds.get(feed.chat_id) is feed:
                    subscriptions, waited = self._subscriptions, len(feed.waiting or ())
                    try:
                        reading = await self._log.read(feed.chat_id, feed.position, 1)
                    except SwitchboardError as exc:
                        if exc.code is not ErrorCode.UNAVAILABLE:
                            error = exc.code
                            break
                        await asyncio.sleep(_RETRY_S)
                        continue
                    if reading.snapshot:
                        break
                    if reading.events:
                        self._deliver(feed, reading.events)
                    elif subscriptions == self._subscriptions:
                        # What waited before this reading is in the log, and so delivered; or of an epoch that is over.
                        feed.waiting = (feed.waiting or [])[waited:]
                        self._catch_up(feed)
                        return
        except Exception:  # this task's boundary: readers must not wait for ever
            log.exception("repair_failed", extra={"chat_id": feed.chat_id})
        if self._feeds.get(feed.chat_id) is feed:
            del self._feeds[feed.chat_id]
            for reader in tuple(feed.readers):
                reader.lose(feed.chat_id, error)
