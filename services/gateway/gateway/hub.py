"""Brings chats' events to this process's readers, over one change stream for all chats.

The law it keeps: a reader's frames are those of every event of its chat from where it began, once and in order; where
that can't be had, a snapshot. Nothing depends on the stream: contiguity is checked, and what is missing is read from
the log. See docs/subsystems/gateway.md.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import NoReturn

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.position import Position

from gateway.dialect import Socket
from gateway.feed import Buffer, Feed, Group, Reader, deletes
from gateway.frame import Frame
from gateway.ports import ChangeBatch, ChangeStream, ChatEvents, Followed, LogPage, Sessions

log = logging.getLogger(__name__)

SNAPSHOT_MESSAGES = 100
"""Messages that a reader gets back whose position the log no longer knows."""
_READS_AT_ONCE = 64
"""Readings of the log under way: after a restart of session every chat wants one."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
"""Before trying again; each wait is jittered, and doubles."""
_IDS_A_REQUEST = 1_000
_CAUGHT_UP_S = 5.0
"""As long as a call to the session service may take."""
_OUTAGE = "The service can't be reached just now. Please try again in a moment."
_BROKEN = Failure(ErrorCode.INTERNAL, "Something went wrong on our side. Please reconnect.")


class Hub:
    """All chats that this process follows. `run` must run for readers to get anything."""

    def __init__(self, sessions: Sessions, *, linger_s: float, jitter: Callable[[], float]) -> None:
        """`jitter` gives a number of 0 to 1; `linger_s`: how long a chat without readers is still followed."""
        self._sessions = sessions
        self._linger_s = linger_s
        self._jitter = jitter
        self._feeds: dict[str, Feed] = {}
        self._add: set[str] = set()
        self._remove: set[str] = set()
        self._changed = asyncio.Event()
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def chats(self) -> int:
        """How many chats are followed."""
        return len(self._feeds)

    def attach(
        self,
        chat_id: str,
        reader: Reader,
        socket: Socket,
        variant: Hashable,
        after: Position | None,
        *,
        user_id: str = "",
        shown_messages: int = 0,
        greeting: Sequence[Frame] = (),
    ) -> None:
        """Delivers to the reader what follows the position; without one, the answer under way and what follows, and
        before them what the renderer shows of the last `shown_messages` messages. The greeting comes first: who has it
        gets all that is said from then on.

        `user_id`: who reads, as long as they take part in the chat: the reader is told when they do not, or no longer,
        and gets nothing that was said afterwards. Empty: nobody who could be removed.

        Returns at once; call `detach` when the reader is gone.
        """
        feed = self._feeds.get(chat_id)
        if feed is None:
            feed = self._feeds[chat_id] = Feed(chat_id)
            self._follow(feed)
        elif feed.leaving is not None:
            feed.leaving.cancel()
            feed.leaving = None
        group = Group(chat_id, socket, variant, reader, user_id, after, shown_messages, greeting)
        feed.groups.append(group)
        if feed.followed:
            self._catch_up(feed, group)

    def detach(self, chat_id: str, reader: Reader) -> None:
        """Delivers no more to the reader. Does nothing when it is not attached."""
        feed = self._feeds.get(chat_id)
        if feed is None:
            return
        feed.remove(reader)
        if not feed.groups and feed.leaving is None:
            feed.leaving = asyncio.get_running_loop().call_later(self._linger_s, self._forget, feed)

    async def caught_up(self, chat_id: str, reader: Reader) -> None:
        """Returns once the reader has what the chat holds now, so that it will get all that comes of what it says next.

        Raises: SwitchboardError UNAVAILABLE when that takes too long: the session service is away.
        """
        feed = self._feeds.get(chat_id)
        group = next((group for group in feed.groups if reader in group.readers), None) if feed else None
        if group is None or not group.new:
            return
        group.caught_up = group.caught_up or asyncio.Event()
        try:
            async with asyncio.timeout(_CAUGHT_UP_S):
                await group.caught_up.wait()
        except TimeoutError as exc:
            raise SwitchboardError(ErrorCode.UNAVAILABLE, _OUTAGE) from exc

    async def run(self) -> NoReturn:
        """Keeps the change stream open, and opens it again after a growing wait, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            wait_s = _FIRST_WAIT_S
            while True:
                try:
                    stream = await self._sessions.open_stream()
                    async with asyncio.TaskGroup() as flows:
                        writing = flows.create_task(self._write(stream))
                        try:
                            while True:
                                batch = await stream.next()
                                wait_s = _FIRST_WAIT_S
                                self._take(batch)
                        finally:
                            writing.cancel()
                            stream.close()
                except* SwitchboardError as errors:
                    codes = sorted({error.code.name for error in _leaves(errors)})
                    log.warning("change_stream_broken", extra={"codes": codes, "chats": len(self._feeds)})
                # A new stream follows nothing yet.
                self._remove.clear()
                for feed in self._feeds.values():
                    self._follow(feed)
                await asyncio.sleep(wait_s * (0.5 + self._jitter()))
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _write(self, stream: ChangeStream) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            add, self._add = list(self._add), set()
            remove, self._remove = list(self._remove), set()
            for start in range(0, max(len(add), len(remove)), _IDS_A_REQUEST):
                end = start + _IDS_A_REQUEST
                await stream.follow(add[start:end], remove[start:end])

    def _follow(self, feed: Feed) -> None:
        feed.followed = False
        self._remove.discard(feed.chat_id)
        self._add.add(feed.chat_id)
        self._changed.set()

    def _forget(self, feed: Feed) -> None:
        if feed.leaving is not None:
            feed.leaving.cancel()
            feed.leaving = None
        if self._feeds.get(feed.chat_id) is feed:
            del self._feeds[feed.chat_id]
            self._add.discard(feed.chat_id)
            self._remove.add(feed.chat_id)
            self._changed.set()

    def _take(self, batch: ChangeBatch) -> None:
        for confirmed in batch.followed:
            if feed := self._feeds.get(confirmed.chat_id):
                self._confirmed(feed, confirmed)
        for changes in batch.events:
            if feed := self._feeds.get(changes.chat_id):
                try:
                    self._advance(feed, changes)
                except Exception:  # noqa: BLE001 - a dialect's fault with one chat must not end the stream of all
                    self._fail(feed)
        for lost in batch.lost:
            if feed := self._feeds.get(lost.chat_id):
                if lost.gone:
                    self._end(feed)
                else:
                    self._follow(feed)

    def _confirmed(self, feed: Feed, confirmed: Followed) -> None:
        feed.followed = True
        feed.epoch, feed.offset = confirmed.position.epoch, confirmed.position.offset
        for group in feed.groups:
            # Who stands where the stream goes on has missed nothing, and needs no log.
            if group.buffer is not None or group.position != confirmed.position:
                self._catch_up(feed, group)

    def _advance(self, feed: Feed, changes: ChatEvents) -> None:
        if changes.epoch:
            feed.epoch, feed.offset = changes.epoch, changes.offset + len(changes.events) - 1
        for group in feed.groups:
            frames: list[Frame] = []
            if changes.epoch:
                offset = changes.offset
                for event in changes.events:
                    if not group.take(changes.epoch, offset, event, frames):
                        self._catch_up(feed, group)
                        break
                    offset += 1
            elif group.buffer is None:
                for event in changes.events:
                    if event is not None:
                        frames.extend(group.renderer.render(event))
            group.deliver(frames)
        if deletes(changes.events):
            self._end(feed)
        elif len(feed.groups) > 1:
            feed.join()

    def _catch_up(self, feed: Feed, group: Group) -> None:
        """Reads the log for the group; live events are kept meanwhile. A reading under way is given up."""
        group.buffer = []
        if self._tasks is not None:
            self._tasks.create_task(self._read(feed, group, group.buffer))

    async def _read(self, feed: Feed, group: Group, buffer: Buffer) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                async with self._reads:
                    # What is not followed any more is read when it is followed again.
                    if not group.readers or group.buffer is not buffer or not feed.followed:
                        return
                    found = await self._read_page(feed, group)
                if found is None:
                    continue
                page, admitted = found
                break
            except SwitchboardError as error:
                if error.code is ErrorCode.NOT_FOUND:
                    self._end(feed)
                    return
                log.warning("read_log_failed", extra={"chat_id": feed.chat_id, "code": error.code.name})
            await asyncio.sleep(wait_s * (0.5 + self._jitter()))
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        if not group.readers or group.buffer is not buffer:
            return
        gone = deletes(page.events) or deletes(event for _, _, event in group.buffer)
        try:
            whole = group.apply(page, admitted=admitted)
        except Exception:  # noqa: BLE001 - this task's boundary: the renderer is a dialect's
            self._fail(feed)
            return
        if gone:
            self._end(feed)
        elif whole and not feed.lacks(group):
            feed.join()
        else:
            self._catch_up(feed, group)

    async def _read_page(self, feed: Feed, group: Group) -> tuple[LogPage, bool] | None:
        """What the group lacks, and whether all its readers were found to be allowed to read it as it was read. Who is
        not is told, and taken out of the group; None: that was the only one.
        """
        messages = SNAPSHOT_MESSAGES if group.epoch else group.shown_messages
        users = group.users
        if len(users) < 2:
            # Whoever is new, too: since their dialect let them in they may have been removed.
            sole = next(iter(users), "")
            try:
                page = await self._sessions.read_log(
                    feed.chat_id, group.position, snapshot_messages=messages, user_id=sole
                )
            except SwitchboardError as error:
                if error.code is not ErrorCode.PERMISSION_DENIED or not sole:
                    raise
                group.remove(sole)
                return None
            return page, True
        page = await self._sessions.read_log(feed.chat_id, group.position, snapshot_messages=messages)
        if page.messages is not None:
            # The events that told of removals are gone. Of any that comes after this question an event will tell.
            participants = await self._sessions.list_participants(feed.chat_id)
            for user_id in users - {participant.user_id for participant in participants}:
                group.remove(user_id)
        return page, False

    def _end(self, feed: Feed) -> None:
        self._forget(feed)
        for reader in feed.clear():
            reader.ended()

    def _fail(self, feed: Feed) -> None:
        log.exception("render_failed", extra={"chat_id": feed.chat_id})
        self._forget(feed)
        for reader in feed.clear():
            reader.failed(_BROKEN)


def _leaves(errors: BaseExceptionGroup[SwitchboardError]) -> list[SwitchboardError]:
    return [
        leaf
        for error in errors.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
