"""A gateway's view of a chat, in a few lines: begins turns, and follows what comes of them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from chat import codec
from chat.events import LogEvent, ResponseCompleted, ResponseDelta, ResponseFailed
from chat.fold import View, fold
from chat.messages import Message
from runtime.rpc_channel import open_channel, service_metadata
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc

PATIENCE_S = 30.0


class Chat:
    """One chat, followed from before its first message."""

    def __init__(self, session: Any, metadata: Any, chat_id: str) -> None:
        self.id = chat_id
        self.events: list[LogEvent] = []
        self.view = View()
        self._session = session
        self._metadata = metadata
        self._changed = asyncio.Condition()

    async def say(self, text: str, **fields: Any) -> session_pb2.BeginTurnResponse:
        """Begins a turn."""
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content=text, sender_id="ann")
        request = session_pb2.BeginTurnRequest(chat_id=self.id, message=message, **fields)
        return await self._session.BeginTurn(request, metadata=self._metadata, timeout=PATIENCE_S, wait_for_ready=True)

    async def ask_again(self, message_id: str, user_id: str) -> None:
        """Another answer to a message, for another participant."""
        member = chat_pb2.Participant(user_id=user_id, role=chat_pb2.PARTICIPANT_ROLE_MEMBER)
        put = session_pb2.PutParticipantRequest(chat_id=self.id, participant=member)
        await self._session.PutParticipant(put, metadata=self._metadata, timeout=PATIENCE_S)
        request = session_pb2.BeginTurnRequest(chat_id=self.id, answer_again=message_id)
        acting = (*self._metadata, ("x-switchboard-user", user_id))
        await self._session.BeginTurn(request, metadata=acting, timeout=PATIENCE_S)

    async def stop(self) -> None:
        """Stops the answer under way."""
        request = session_pb2.CancelTurnRequest(chat_id=self.id, cancelled_by="ann")
        await self._session.CancelTurn(request, metadata=self._metadata, timeout=PATIENCE_S)

    async def until(self, *kinds: type, count: int = 1) -> Any:
        """The `count`-th event of one of the kinds."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            while True:
                found = [event for event in self.events if isinstance(event, kinds)]
                if len(found) >= count:
                    return found[count - 1]
                await self._changed.wait()

    async def answer(self, count: int = 1) -> Message:
        """The `count`-th answer, once it has ended completed or failed."""
        ended = await self.until(ResponseCompleted, ResponseFailed, count=count)
        message = self.view.message(ended.message_id)
        assert message is not None, "it ended before it began"
        return message

    async def take(self, events: Any) -> None:
        """More of the log."""
        async with self._changed:
            for proto in events:
                event = codec.event_from_proto(proto)
                assert event is not None
                self.events.append(event)  # type: ignore[arg-type]
                self.view = fold(self.view, event)  # type: ignore[arg-type]
            self._changed.notify_all()

    @property
    def deltas(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, ResponseDelta)]


@asynccontextmanager
async def open_chats(target: str, token: str, *, count: int = 1, dialect: str = "faye") -> AsyncIterator[list[Chat]]:
    """New chats, each followed for the length of the block, over breaks of the session service's too."""
    metadata = service_metadata(token)
    async with open_channel(target) as channel, asyncio.TaskGroup() as tasks:
        session: Any = session_pb2_grpc.SessionServiceStub(channel)
        chats = [Chat(session, metadata, str(uuid.uuid4())) for _ in range(count)]
        for chat in chats:
            made = chat_pb2.Chat(id=chat.id, dialect=dialect, owner_id="ann")
            request = session_pb2.CreateChatRequest(chat=made)
            await session.CreateChat(request, metadata=metadata, timeout=PATIENCE_S, wait_for_ready=True)
        starts = [await _read(session, metadata, chat, None) for chat in chats]
        followed = zip(chats, starts, strict=True)
        following = [tasks.create_task(_follow(session, metadata, chat, start.position)) for chat, start in followed]
        yield chats
        for task in following:
            task.cancel()


async def _read(session: Any, metadata: Any, chat: Chat, after: Any) -> session_pb2.ReadLogResponse:
    request = session_pb2.ReadLogRequest(chat_id=chat.id, after=after)
    return await session.ReadLog(request, metadata=metadata, timeout=5, wait_for_ready=True)


async def _follow(session: Any, metadata: Any, chat: Chat, after: Any) -> None:
    """Reads the log from where the reader stands, again and again: no reader is simpler, and none misses less."""
    first = after
    while True:
        try:
            read = await _read(session, metadata, chat, after)
            events = read.events
            if read.HasField("snapshot"):
                # The answer has restarted since: who stood in its middle is told of it from the beginning alone.
                read = await _read(session, metadata, chat, first)
                events = read.events[len(chat.events) :]
        except grpc.aio.AioRpcError:
            continue
        assert not read.HasField("snapshot"), "the reader's position is gone"
        await chat.take(events)
        after = read.position
        await asyncio.sleep(0.005)
