"""The session service over gRPC: adapter of `ports.Sessions`."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

from collections.abc import Sequence

import grpc.aio
from chat import codec
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Chat, Message
from chat.position import Position
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc

from gateway.clients.calls import Caller, translated
from gateway.ports import Begun, ChangeBatch, ChatEvents, DialectSession, Followed, LogPage, Lost, TurnState, Utterance

_TURN_STATES = {
    session_pb2.TURN_STATE_QUEUED: TurnState.QUEUED,
    session_pb2.TURN_STATE_DUE: TurnState.DUE,
    session_pb2.TURN_STATE_RUNNING: TurnState.RUNNING,
    session_pb2.TURN_STATE_COMPLETED: TurnState.COMPLETED,
    session_pb2.TURN_STATE_FAILED: TurnState.FAILED,
    session_pb2.TURN_STATE_CANCELLED: TurnState.CANCELLED,
}
_STORE_CHECK_S = 2.0
"""Session itself gives Redis a second."""


class SessionClient:
    """Calls the session service."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = session_pb2_grpc.SessionServiceStub(channel)
        self._caller = Caller(token)

    async def open_session(
        self, dialect: str, name: str, chat: Chat, *, ttl_s: int = 86_400
    ) -> tuple[DialectSession, bool]:
        request = session_pb2.OpenSessionRequest(dialect=dialect, name=name, chat=codec.chat_to_proto(chat))
        request.ttl.FromSeconds(ttl_s)
        response = await self._caller.call(self._stub.OpenSession, request)
        return _session(response.session), response.created

    async def get_session(self, dialect: str, name: str) -> DialectSession:
        request = session_pb2.GetSessionRequest(dialect=dialect, name=name)
        return _session((await self._caller.call(self._stub.GetSession, request)).session)

    async def close_session(self, dialect: str, name: str) -> None:
        await self._caller.call(self._stub.CloseSession, session_pb2.CloseSessionRequest(dialect=dialect, name=name))

    async def create_chat(self, chat: Chat, *, owner_name: str = "") -> Chat:
        request = session_pb2.CreateChatRequest(chat=codec.chat_to_proto(chat), owner_username=owner_name)
        response = await self._caller.call(self._stub.CreateChat, request, user_id=chat.owner_id)
        return codec.chat_from_proto(response.chat)

    async def get_chat(self, chat_id: str, dialect: str) -> Chat:
        request = session_pb2.GetChatRequest(chat_id=chat_id, dialect=dialect)
        return codec.chat_from_proto((await self._caller.call(self._stub.GetChat, request)).chat)

    async def list_chats(self, user_id: str, dialect: str, *, limit: int, offset: int = 0) -> tuple[Chat, ...]:
        request = session_pb2.ListChatsRequest(user_id=user_id, dialect=dialect, limit=limit, offset=offset)
        response = await self._caller.call(self._stub.ListChats, request, user_id=user_id)
        return tuple(map(codec.chat_from_proto, response.chats))

    async def list_messages(
        self, chat_id: str, *, limit: int, offset: int = 0, from_end: bool = True
    ) -> tuple[Message, ...]:
        request = session_pb2.ListMessagesRequest(chat_id=chat_id, limit=limit, offset=offset, from_end=from_end)
        response = await self._caller.call(self._stub.ListMessages, request)
        return tuple(map(codec.message_from_proto, response.messages))

    async def begin_turn(self, utterance: Utterance) -> Begun:
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, sender_id=utterance.sender_id, content=utterance.content)
        request = session_pb2.BeginTurnRequest(
            chat_id=utterance.chat_id, message=message, idempotency_key=utterance.key
        )
        response = await self._caller.call(self._stub.BeginTurn, request, user_id=utterance.sender_id)
        return Begun(
            message=codec.message_from_proto(response.message),
            turn_id=response.turn_id,
            answer_id=response.answer_id,
            position=codec.position_from_proto(response.position),
            state=_TURN_STATES.get(response.state, TurnState.NONE),
            repeated=response.repeated,
        )

    async def cancel_turn(self, chat_id: str, *, turn_id: str = "", cancelled_by: str = "") -> tuple[str, ...]:
        request = session_pb2.CancelTurnRequest(chat_id=chat_id, turn_id=turn_id, cancelled_by=cancelled_by)
        response = await self._caller.call(self._stub.CancelTurn, request, user_id=cancelled_by)
        return tuple(response.turn_ids)

    async def read_log(self, chat_id: str, after: Position | None, *, snapshot_messages: int) -> LogPage:
        request = session_pb2.ReadLogRequest(
            chat_id=chat_id,
            after=None if after is None else codec.position_to_proto(after),
            snapshot_messages=snapshot_messages,
        )
        response = await self._caller.call(self._stub.ReadLog, request)
        snapshot = response.snapshot.messages if response.HasField("snapshot") else None
        return LogPage(
            position=codec.position_from_proto(response.position),
            events=tuple(map(codec.event_from_proto, response.events)),
            messages=None if snapshot is None else tuple(map(codec.message_from_proto, snapshot)),
            text_before=response.text_before,
        )

    async def open_stream(self) -> SessionStream:
        return SessionStream(self._stub.Subscribe(metadata=self._caller.metadata))

    async def check_store(self) -> bool:
        # Who asks wants to know how it stands now, not in five seconds.
        response = await self._caller.call(
            self._stub.CheckStore, session_pb2.CheckStoreRequest(), timeout_s=_STORE_CHECK_S, wait=False
        )
        return response.connected


class SessionStream:
    """One Subscribe call: adapter of `ports.ChangeStream`."""

    def __init__(
        self, call: grpc.aio.StreamStreamCall[session_pb2.SubscribeRequest, session_pb2.SubscribeResponse]
    ) -> None:
        self._call = call

    async def follow(self, add: Sequence[str], remove: Sequence[str]) -> None:
        with translated():
            await self._call.write(session_pb2.SubscribeRequest(add=add, remove=remove))

    async def next(self) -> ChangeBatch:
        with translated():
            response = await self._call.read()
        if not isinstance(response, session_pb2.SubscribeResponse):
            raise SwitchboardError(ErrorCode.UNAVAILABLE, "the change stream has ended")
        event_from_proto = codec.event_from_proto
        return ChangeBatch(
            followed=[Followed(one.chat_id, codec.position_from_proto(one.position)) for one in response.subscribed],
            events=[
                ChatEvents(
                    chat.chat_id,
                    chat.first.epoch,
                    chat.first.offset,
                    [event_from_proto(event) for event in chat.events],
                )
                for chat in response.events
            ],
            lost=[Lost(one.chat_id, one.error == chat_pb2.ERROR_CODE_NOT_FOUND) for one in response.lost],
        )

    def close(self) -> None:
        self._call.cancel()


def _session(proto: session_pb2.DialectSession) -> DialectSession:
    return DialectSession(proto.dialect, proto.name, proto.chat_id, proto.session_id)
