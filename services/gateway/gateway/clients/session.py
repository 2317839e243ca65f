"""The session service over gRPC: adapter of `ports.Sessions`."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

from collections.abc import Sequence

import grpc.aio
from chat import codec
from chat.errors import ErrorCode, SwitchboardError
from chat.events import Presence, Typing
from chat.messages import Chat, Message, Participant, ParticipantRole
from chat.position import Position
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import limit_pb2, session_pb2, session_pb2_grpc

from gateway.clients.calls import Caller, translated
from gateway.ports import (
    Begun,
    ChangeBatch,
    ChatEvents,
    DialectSession,
    Followed,
    LogPage,
    Lost,
    RateLimit,
    TurnState,
    Utterance,
)

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

    async def get_chat(self, chat_id: str, dialect: str, *, user_id: str = "") -> Chat:
        request = session_pb2.GetChatRequest(chat_id=chat_id, dialect=dialect)
        return codec.chat_from_proto((await self._caller.call(self._stub.GetChat, request, user_id=user_id)).chat)

    async def update_chat(self, chat: Chat, *, user_id: str = "") -> Chat:
        request = session_pb2.UpdateChatRequest(chat=codec.chat_to_proto(chat), expected_revision=chat.revision)
        return codec.chat_from_proto((await self._caller.call(self._stub.UpdateChat, request, user_id=user_id)).chat)

    async def delete_chat(self, chat_id: str, *, reason: str, user_id: str = "") -> None:
        request = session_pb2.DeleteChatRequest(chat_id=chat_id, reason=reason)
        await self._caller.call(self._stub.DeleteChat, request, user_id=user_id)

    async def list_chats(self, user_id: str, dialect: str, *, limit: int, offset: int = 0) -> tuple[Chat, ...]:
        request = session_pb2.ListChatsRequest(user_id=user_id, dialect=dialect, limit=limit, offset=offset)
        response = await self._caller.call(self._stub.ListChats, request, user_id=user_id)
        return tuple(map(codec.chat_from_proto, response.chats))

    async def list_participants(self, chat_id: str, *, user_id: str = "") -> tuple[Participant, ...]:
        request = session_pb2.ListParticipantsRequest(chat_id=chat_id)
        response = await self._caller.call(self._stub.ListParticipants, request, user_id=user_id)
        return tuple(map(codec.participant_from_proto, response.participants))

    async def put_participant(
        self, chat_id: str, participant_id: str, username: str, role: ParticipantRole, *, user_id: str = ""
    ) -> Participant:
        participant = codec.participant_to_proto(Participant(participant_id, username, role, 0))
        request = session_pb2.PutParticipantRequest(chat_id=chat_id, participant=participant)
        response = await self._caller.call(self._stub.PutParticipant, request, user_id=user_id)
        return codec.participant_from_proto(response.participant)

    async def remove_participant(self, chat_id: str, participant_id: str, *, user_id: str = "") -> None:
        request = session_pb2.RemoveParticipantRequest(chat_id=chat_id, user_id=participant_id)
        await self._caller.call(self._stub.RemoveParticipant, request, user_id=user_id)

    async def list_messages(
        self, chat_id: str, *, limit: int, offset: int = 0, from_end: bool = True, user_id: str = ""
    ) -> tuple[Message, ...]:
        request = session_pb2.ListMessagesRequest(chat_id=chat_id, limit=limit, offset=offset, from_end=from_end)
        response = await self._caller.call(self._stub.ListMessages, request, user_id=user_id)
        return tuple(map(codec.message_from_proto, response.messages))

    async def get_message(self, chat_id: str, message_id: str, *, user_id: str = "") -> Message:
        request = session_pb2.GetMessageRequest(chat_id=chat_id, message_id=message_id)
        response = await self._caller.call(self._stub.GetMessage, request, user_id=user_id)
        return codec.message_from_proto(response.message)

    async def edit_message(self, chat_id: str, message_id: str, content: str, *, user_id: str = "") -> Message:
        request = session_pb2.EditMessageRequest(chat_id=chat_id, message_id=message_id, content=content)
        response = await self._caller.call(self._stub.EditMessage, request, user_id=user_id)
        return codec.message_from_proto(response.message)

    async def begin_turn(self, utterance: Utterance) -> Begun:
        request = session_pb2.BeginTurnRequest(
            chat_id=utterance.chat_id,
            idempotency_key=utterance.key,
            without_answer=utterance.without_answer,
            ephemeral=utterance.ephemeral,
            answer_again=utterance.answer_again,
            answers=None if utterance.answers is None else codec.settings_to_proto(utterance.answers),
        )
        if not utterance.answer_again:
            message = request.message
            message.role = utterance.role.value  # type: ignore[assignment]
            message.sender_id, message.content = utterance.sender_id, utterance.content
            message.reply_to_id = utterance.reply_to_id
            if utterance.metadata is not None:
                message.metadata.update(dict(utterance.metadata))
        response = await self._caller.call(
            self._stub.BeginTurn, request, user_id=utterance.sender_id, key_id=utterance.key_id
        )
        return Begun(
            message=codec.message_from_proto(response.message),
            turn_id=response.turn_id,
            answer_id=response.answer_id,
            position=codec.position_from_proto(response.position),
            state=_TURN_STATES.get(response.state, TurnState.NONE),
            repeated=response.repeated,
            limit=limit_from_proto(response.limit) if response.HasField("limit") else None,
        )

    async def cancel_turn(self, chat_id: str, *, turn_id: str = "", cancelled_by: str = "") -> tuple[str, ...]:
        request = session_pb2.CancelTurnRequest(chat_id=chat_id, turn_id=turn_id, cancelled_by=cancelled_by)
        response = await self._caller.call(self._stub.CancelTurn, request, user_id=cancelled_by)
        return tuple(response.turn_ids)

    async def notify(self, chat_id: str, event: Typing | Presence, *, user_id: str = "") -> None:
        request = session_pb2.NotifyRequest(chat_id=chat_id, event=codec.event_to_proto(event))
        await self._caller.call(self._stub.Notify, request, user_id=user_id)

    async def read_log(
        self, chat_id: str, after: Position | None, *, snapshot_messages: int, user_id: str = ""
    ) -> LogPage:
        request = session_pb2.ReadLogRequest(
            chat_id=chat_id,
            after=None if after is None else codec.position_to_proto(after),
            snapshot_messages=snapshot_messages,
        )
        response = await self._caller.call(self._stub.ReadLog, request, user_id=user_id)
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


def limit_from_proto(proto: limit_pb2.RateLimit) -> RateLimit:
    """How a limit stands, in the kernel's words."""
    return RateLimit(proto.name, proto.quota, codec.seconds(proto.window), proto.remaining, codec.seconds(proto.reset))
