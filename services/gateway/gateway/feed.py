"""One chat as this process follows it: its readers, in groups that are in step and share a rendering.

Sans-I/O: `hub.py` brings the events and reads the log. See docs/subsystems/gateway.md.
"""

from asyncio import Event as Signal
from asyncio import TimerHandle
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol, TypeAlias

from chat.errors import Failure
from chat.events import ChatDeleted, Event, ParticipantRemoved
from chat.messages import Message
from chat.position import Position

from gateway.dialect import Renderer, Socket
from gateway.frame import Frame, coalesce
from gateway.ports import LogPage

BUFFERED_EVENTS = 2_000
"""Live events kept for a group while it reads the log; beyond, they are dropped and the log is read again."""

RESET = {"type": "reset"}
"""Tells a reader that knows positions to forget what it has; a snapshot follows."""

Buffer: TypeAlias = list[tuple[str, int, Event | None]]
"""Live events with their epochs and offsets."""


class Reader(Protocol):
    """One who reads a chat. Its methods are called by the hub, and neither block nor call the hub."""

    @property
    def resumes(self) -> bool:
        """Whether it knows positions, and so may be told to forget what it has."""
        ...

    def deliver(self, frames: Sequence[Frame]) -> None:
        """More frames."""
        ...

    def ended(self) -> None:
        """The chat is gone; nothing more comes."""
        ...

    def failed(self, failure: Failure) -> None:
        """It can't go on; nothing more comes."""
        ...

    def removed(self, user_id: str) -> None:
        """That user, for whom it was attached, takes part in the chat no longer; nothing more comes."""
        ...


class Group:
    """Readers of one chat and variant that are in step: each frame is made once for all of them.

    Unless it is new, whoever reads in it might read when the log was where the group is: `hub.py` sees to it where
    the log is read, and here each removal takes its user's readers out before anything that follows.
    """

    __slots__ = (
        "buffer",
        "caught_up",
        "chat_id",
        "epoch",
        "greeting",
        "new",
        "offset",
        "part",
        "readers",
        "renderer",
        "shown_messages",
        "socket",
        "variant",
    )

    def __init__(
        self,
        chat_id: str,
        socket: Socket,
        variant: Hashable,
        reader: Reader,
        user_id: str,
        after: Position | None,
        shown_messages: int,
        greeting: Sequence[Frame] = (),
    ) -> None:
        self.chat_id = chat_id
        self.socket = socket
        self.variant = variant
        self.readers: dict[Reader, str] = {reader: user_id}
        """Each with the user who reads; empty: nobody whose right to it could end."""
        self.renderer: Renderer = socket.renderer(variant, chat_id)
        self.epoch = after.epoch if after else ""
        # An event of which only some frames are known is read again, and those frames are left out.
        self.offset = max(after.offset - 1, 0) if after and after.part else after.offset if after else 0
        self.part = after.part if after else 0
        self.greeting = greeting
        """What its first reader gets before anything else, once all that is said will come."""
        self.shown_messages = shown_messages
        """Of a first snapshot, if its readers know no position; see `dialect.Visit`."""
        self.new = True
        """The log has not been read yet."""
        self.caught_up: Signal | None = None
        """Set, if anybody waits for it, when the group is no longer new, or gone."""
        self.buffer: Buffer | None = []
        """Live events kept while the log is read; None: the group is live."""

    @property
    def position(self) -> Position | None:
        """What its readers know; None: nothing."""
        return Position(self.epoch, self.offset) if self.epoch else None

    @property
    def users(self) -> set[str]:
        """Who reads, as far as their right to it could end."""
        return set(self.readers.values()) - {""}

    def remove(self, user_id: str) -> None:
        """That user may read no longer: their readers are told, and get nothing more."""
        for reader in [reader for reader, who in self.readers.items() if who == user_id]:
            del self.readers[reader]
            reader.removed(user_id)
        if not self.readers and self.caught_up is not None:
            self.caught_up.set()

    def take(self, epoch: str, offset: int, event: Event | None, frames: list[Frame]) -> bool:
        """Takes a live event and adds its frames; False: events are missing, the log must be read."""
        if self.buffer is None:
            if epoch != self.epoch:
                return False
            if offset == self.offset + 1:
                self._render(event, frames)
                self._part_with_removed(event, frames)
            return offset <= self.offset
        if len(self.buffer) == BUFFERED_EVENTS:
            self.buffer.clear()
        self.buffer.append((epoch, offset, event))
        return True

    def apply(self, page: LogPage, *, admitted: bool = False) -> bool:
        """Takes what the log says, delivers it, and then what came live meanwhile. The group is live afterwards.

        `admitted`: all its readers were found to be allowed to read when the page was read, so that whoever was removed
        in it is back. Returns False when events are missing still: the log must be read again.
        """
        buffered, self.buffer = self.buffer or [], None
        if self.greeting:
            self.deliver(self.greeting)
            self.greeting = ()
        if page.messages is not None:
            self._start_anew(page.position, page.messages)
        else:
            if self.new:
                self.renderer.resume(page.text_before)
            frames: list[Frame] = []
            self.epoch = page.position.epoch
            for event in page.events:
                self._render(event, frames)
                if not admitted:
                    self._part_with_removed(event, frames)
            self.offset = page.position.offset
            self.deliver(frames)
        self.new, self.part = False, 0
        if self.caught_up is not None:
            self.caught_up.set()
        frames = []
        # An event that does not fit was appended before the next reading of the log, which will have it.
        whole = all(self.take(epoch, offset, event, frames) for epoch, offset, event in buffered)
        self.deliver(frames)
        return whole

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Hands frames to every reader; those that arrived at once and can be merged leave as one."""
        if len(frames) > 1:
            frames = coalesce(frames, self.socket.merge)
        if frames:
            for reader in self.readers:
                reader.deliver(frames)

    def _part_with_removed(self, event: Event | None, frames: list[Frame]) -> None:
        """Who is removed by the event just rendered gets what it says and what came before, and nothing after."""
        if isinstance(event, ParticipantRemoved) and event.user_id in self.readers.values():
            self.deliver(tuple(frames))
            frames.clear()
            self.remove(event.user_id)

    def _render(self, event: Event | None, frames: list[Frame]) -> None:
        self.offset += 1
        if event is None:
            return
        made = self.renderer.render(event)
        last = len(made) - 1
        for index, frame in enumerate(made):
            frame.stamp(self.epoch, self.offset, index + 1 if index < last else 0)
        if self.part:
            made, self.part = made[self.part :], 0
        frames.extend(made)

    def _start_anew(self, position: Position, messages: Sequence[Message]) -> None:
        """A snapshot: readers that know positions are told to forget; the others get what puts them right."""
        knew = bool(self.epoch)
        self.epoch, self.offset = position.epoch, position.offset
        renderer = self.socket.renderer(self.variant, self.chat_id)
        anew = list(renderer.snapshot(messages))
        forgetting = [Frame(RESET), *anew] if knew else anew
        onward = anew if self.new else list(self.renderer.resync(messages))
        for frames in (forgetting, onward):
            if frames:
                # Only who has all of a snapshot stands at its position.
                frames[-1].stamp(self.epoch, self.offset)
        self.renderer = renderer
        for reader in self.readers:
            reader.deliver(forgetting if reader.resumes else onward)


class Feed:
    """One chat that this process follows, or has asked to."""

    __slots__ = ("chat_id", "epoch", "followed", "groups", "leaving", "offset")

    def __init__(self, chat_id: str) -> None:
        self.chat_id = chat_id
        self.epoch = ""
        self.offset = 0
        """The furthest position that the change stream has told of."""
        self.followed = False
        """Whether the change stream has confirmed it."""
        self.groups: list[Group] = []
        self.leaving: TimerHandle | None = None
        """Set when nobody reads it any more."""

    def lacks(self, group: Group) -> bool:
        """Whether the group is known to be behind: one reading of the log brings so many events and no more."""
        return group.epoch == self.epoch and group.offset < self.offset

    def remove(self, reader: Reader) -> None:
        """Takes a reader away, if it is there."""
        for group in self.groups:
            group.readers.pop(reader, None)
        self.groups = [group for group in self.groups if group.readers]

    def join(self) -> None:
        """Makes one group of those that are live and in step."""
        if len(self.groups) < 2:
            return
        leaders: dict[tuple[int, Hashable, str, int], Group] = {}
        for group in self.groups:
            if group.buffer is None:
                step = (id(group.socket), group.variant, group.epoch, group.offset)
                leader = leaders.setdefault(step, group)
                if leader is not group:
                    leader.readers.update(group.readers)
                    group.readers = {}
        self.groups = [group for group in self.groups if group.readers]

    def clear(self) -> list[Reader]:
        """Takes all readers away, and returns them."""
        readers = [reader for group in self.groups for reader in group.readers]
        for group in self.groups:
            group.readers = {}
            if group.caught_up is not None:
                group.caught_up.set()
        self.groups = []
        return readers


def deletes(events: Iterable[Event | None]) -> bool:
    """Whether the chat is gone after these events."""
    return any(isinstance(event, ChatDeleted) for event in events)
