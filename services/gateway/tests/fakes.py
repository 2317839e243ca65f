"""Fakes of the ports, for tests without I/O: a session service with one chat's log in memory."""

import asyncio
import hashlib
from collections.abc import Sequence

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import Event, LogEvent
from chat.fold import View, fold
from chat.messages import Participant, ParticipantRole
from chat.position import Position
from gateway.frame import Frame
from gateway.ports import ChangeBatch, ChatEvents, Followed, LogPage, Lost

CHAT = "chat-1"


class FakeLog:
    """One chat's log, with the promises of the contract; `trim` and `fail_over` are what it may suffer."""

    def __init__(self) -> None:
        self.epoch = "e0"
        self.events: list[LogEvent] = []
        self.kept_from = 1
        self.page = 1_000
        """Events in one reading at the most."""
        self._epochs = 0

    @property
    def position(self) -> Position:
        return Position(self.epoch, len(self.events))

    def append(self, event: LogEvent) -> ChatEvents:
        self.events.append(event)
        return ChatEvents(CHAT, self.epoch, len(self.events), [event])

    def trim(self) -> None:
        self.kept_from = len(self.events) + 1

    def fail_over(self) -> None:
        self._epochs += 1
        self.epoch = "e" + hashlib.sha256(str(self._epochs).encode()).hexdigest()[:6]

    def view(self, offset: int | None = None) -> View:
        view = View()
        for event in self.events[:offset]:
            view = fold(view, event)
        return view

    def read(self, after: Position | None, snapshot_messages: int) -> LogPage:
        known = after is not None and after.epoch == self.epoch
        if after is None or not known or not self.kept_from - 1 <= after.offset <= len(self.events):
            messages = self.view().messages
            running = [message for message in messages if message.is_running]
            some = messages[-snapshot_messages:] if snapshot_messages else tuple(running)
            return LogPage(self.position, messages=some)
        events = tuple(self.events[after.offset : after.offset + self.page])
        before = self.view(after.offset).messages
        text = next((message.content for message in before if message.is_running), "")
        return LogPage(Position(self.epoch, after.offset + len(events)), events=events, text_before=text)


class FakeStream:
    """A change stream whose batches the test puts in."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[ChangeBatch | None] = asyncio.Queue()
        self.followed: asyncio.Queue[tuple[Sequence[str], Sequence[str]]] = asyncio.Queue()
        self.closed = False

    async def follow(self, add: Sequence[str], remove: Sequence[str]) -> None:
        self.followed.put_nowait((add, remove))

    async def next(self) -> ChangeBatch:
        batch = await self.batches.get()
        if batch is None:
            raise SwitchboardError(ErrorCode.UNAVAILABLE, "broken")
        return batch

    def close(self) -> None:
        self.closed = True


class FakeSessions:
    """What the hub needs of the session service."""

    def __init__(self, log: FakeLog) -> None:
        self.log = log
        self.streams: asyncio.Queue[FakeStream] = asyncio.Queue()
        self.reads: list[Position | None] = []
        self.people = {"somebody", "exact", "ann", "bob"}
        self.fail_reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def open_stream(self) -> FakeStream:
        stream = FakeStream()
        self.streams.put_nowait(stream)
        return stream

    async def read_log(
        self, chat_id: str, after: Position | None, *, snapshot_messages: int, user_id: str = ""
    ) -> LogPage:
        self.reads.append(after)
        if self.fail_reads:
            self.fail_reads -= 1
            raise SwitchboardError(ErrorCode.UNAVAILABLE, "down")
        if user_id and user_id not in self.people:
            raise SwitchboardError(ErrorCode.PERMISSION_DENIED, "not yours")
        page = self.log.read(after, snapshot_messages)
        await self.gate.wait()
        return page

    async def list_participants(self, chat_id: str, *, user_id: str = "") -> tuple[Participant, ...]:
        return tuple(Participant(one, "", ParticipantRole.MEMBER, 0) for one in sorted(self.people))


class FakeReader:
    """Remembers what it was told."""

    def __init__(self, *, resumes: bool = False) -> None:
        self.resumes = resumes
        self.frames: list[Frame] = []
        self.over = False
        self.failure: Failure | None = None
        self.gone: list[str] = []
        self.news = asyncio.Event()

    def deliver(self, frames: Sequence[Frame]) -> None:
        self.frames += frames
        self.news.set()

    def ended(self) -> None:
        self.over = True
        self.news.set()

    def failed(self, failure: Failure) -> None:
        self.failure = failure
        self.news.set()

    def removed(self, user_id: str) -> None:
        self.gone.append(user_id)
        self.news.set()

    @property
    def contents(self) -> list[tuple[str, str]]:
        return [(str(frame.content["type"]), str(frame.content.get("text", ""))) for frame in self.frames]

    @property
    def text(self) -> str:
        return "".join(text for kind, text in self.contents if kind == "delta")


def batch(*events: ChatEvents, followed: Position | None = None, lost: bool | None = None) -> ChangeBatch:
    return ChangeBatch(
        followed=[Followed(CHAT, followed)] if followed is not None else [],
        events=events,
        lost=[Lost(CHAT, lost)] if lost is not None else [],
    )


def passing(event: Event) -> ChatEvents:
    return ChatEvents(CHAT, "", 0, [event])
