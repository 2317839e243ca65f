"""The gRPC face of the session service: checks what comes in, calls the stores, says errors as the contract does."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from chat.codec import position_from_proto, position_to_proto
from chat.errors import ErrorCode, SwitchboardError
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc

from session.admission import Admission, subjects_of
from session.appender import Appender
from session.caller import Context, acting_user, key_id
from session.chats import Chats
from session.checks import (
    check_chat,
    check_content,
    check_dialect,
    check_id,
    check_label,
    check_limit,
    check_name,
    check_passing,
    check_span,
    check_turn,
    invalid,
)
from session.dispatcher import Dispatcher
from session.fanout import Fanout
from session.log import Log
from session.names import Names
from session.redis_link import RedisLink
from session.roles import GOVERNS, OWNS, READS, SPEAKS, Asker
from session.streams import claim_turns, publish, subscribe
from session.turns import LONGEST_S, TurnName, Turns
from session.unary import unary

_STORE_CHECK_S = 1.0


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """Every RPC's contract stands in protos/switchboard/session/v1/session.proto."""

    def __init__(
        self,
        *,
        link: RedisLink,
        chats: Chats,
        turns: Turns,
        names: Names,
        log: Log,
        appender: Appender,
        fanout: Fanout,
        dispatcher: Dispatcher,
        admission: Admission,
        new_id: Callable[[], str],
    ) -> None:
        self._link = link
        self._chats = chats
        self._turns = turns
        self._names = names
        self._log = log
        self._appender = appender
        self._fanout = fanout
        self._dispatcher = dispatcher
        self._admission = admission
        self._new_id = new_id

    @unary
    async def CreateChat(
        self, request: session_pb2.CreateChatRequest, context: Context
    ) -> session_pb2.CreateChatResponse:
        check_id("chat.id", request.chat.id)
        check_dialect("chat.dialect", request.chat.dialect)
        check_name("chat.owner_id", request.chat.owner_id)
        check_label("owner_username", request.owner_username)
        check_chat(request.chat)
        _asker(context, OWNS).check_is(request.chat.owner_id)
        return session_pb2.CreateChatResponse(chat=await self._chats.create(request.chat, request.owner_username))

    @unary
    async def GetChat(self, request: session_pb2.GetChatRequest, context: Context) -> session_pb2.GetChatResponse:
        check_id("chat_id", request.chat_id)
        chat = await self._chats.get(request.chat_id, request.dialect, _asker(context, READS))
        return session_pb2.GetChatResponse(chat=chat)

    @unary
    async def ListChats(self, request: session_pb2.ListChatsRequest, context: Context) -> session_pb2.ListChatsResponse:
        check_name("user_id", request.user_id)
        check_dialect("dialect", request.dialect)
        limit = check_limit(request.limit, 50)
        _asker(context, READS).check_is(request.user_id)
        return session_pb2.ListChatsResponse(
            chats=await self._chats.of_user(request.user_id, request.dialect, limit, request.offset)
        )

    @unary
    async def UpdateChat(
        self, request: session_pb2.UpdateChatRequest, context: Context
    ) -> session_pb2.UpdateChatResponse:
        check_id("chat.id", request.chat.id)
        check_chat(request.chat)
        asker = _asker(context, GOVERNS)
        chat = await self._chats.update(request.chat, asker, expected_revision=request.expected_revision)
        return session_pb2.UpdateChatResponse(chat=chat)

    @unary
    async def DeleteChat(
        self, request: session_pb2.DeleteChatRequest, context: Context
    ) -> session_pb2.DeleteChatResponse:
        check_id("chat_id", request.chat_id)
        check_label("reason", request.reason)
        await self._chats.delete(request.chat_id, request.reason, _asker(context, OWNS))
        return session_pb2.DeleteChatResponse()

    @unary
    async def PutParticipant(
        self, request: session_pb2.PutParticipantRequest, context: Context
    ) -> session_pb2.PutParticipantResponse:
        check_id("chat_id", request.chat_id)
        check_name("participant.user_id", request.participant.user_id)
        check_label("participant.username", request.participant.username)
        if request.participant.role not in (GOVERNS, SPEAKS, READS):
            raise invalid("participant.role", "must be ADMIN, MEMBER or READ_ONLY")
        asker = _asker(context, GOVERNS)
        participant = await self._chats.put_participant(request.chat_id, request.participant, asker)
        return session_pb2.PutParticipantResponse(participant=participant)

    @unary
    async def RemoveParticipant(
        self, request: session_pb2.RemoveParticipantRequest, context: Context
    ) -> session_pb2.RemoveParticipantResponse:
        check_id("chat_id", request.chat_id)
        check_name("user_id", request.user_id)
        await self._chats.remove_participant(request.chat_id, request.user_id, _asker(context, GOVERNS))
        return session_pb2.RemoveParticipantResponse()

    @unary
    async def ListParticipants(
        self, request: session_pb2.ListParticipantsRequest, context: Context
    ) -> session_pb2.ListParticipantsResponse:
        check_id("chat_id", request.chat_id)
        participants = await self._chats.participants(request.chat_id, _asker(context, READS))
        return session_pb2.ListParticipantsResponse(participants=participants)

    @unary
    async def ListMessages(
        self, request: session_pb2.ListMessagesRequest, context: Context
    ) -> session_pb2.ListMessagesResponse:
        check_id("chat_id", request.chat_id)
        limit = check_limit(request.limit, 100)
        messages, total = await self._chats.messages(
            request.chat_id, limit, request.offset, from_end=request.from_end, asker=_asker(context, READS)
        )
        return session_pb2.ListMessagesResponse(messages=messages, total=total)

    @unary
    async def GetMessage(
        self, request: session_pb2.GetMessageRequest, context: Context
    ) -> session_pb2.GetMessageResponse:
        check_id("chat_id", request.chat_id)
        check_id("message_id", request.message_id)
        message = await self._chats.message(request.chat_id, request.message_id, _asker(context, READS))
        return session_pb2.GetMessageResponse(message=message)

    @unary
    async def EditMessage(
        self, request: session_pb2.EditMessageRequest, context: Context
    ) -> session_pb2.EditMessageResponse:
        check_id("chat_id", request.chat_id)
        check_id("message_id", request.message_id)
        check_content("content", request.content)
        asker = _asker(context, SPEAKS)
        message = await self._chats.edit_message(request.chat_id, request.message_id, request.content, asker)
        return session_pb2.EditMessageResponse(message=message)

    @unary
    async def BeginTurn(self, request: session_pb2.BeginTurnRequest, context: Context) -> session_pb2.BeginTurnResponse:
        check_id("chat_id", request.chat_id)
        check_turn(request)
        limit_s = check_span("deadline", request.deadline, request.HasField("deadline"), 180, low=1, high=LONGEST_S)
        asker = _asker(context, GOVERNS if request.message.role == chat_pb2.ROLE_SYSTEM else SPEAKS)
        if not request.answer_again:
            asker.check_is(request.message.sender_id)
        subjects = subjects_of(asker.user_id or request.message.sender_id, key_id(context))
        begun, limit = await self._admission.begin(request, limit_s, subjects, asker)
        if begun.participants:
            chat = await self._chats.get(request.chat_id, "")
            await self._chats.list_for(chat.dialect, chat.id, begun.participants)
        return session_pb2.BeginTurnResponse(
            message=begun.message,
            turn_id=begun.turn_id,
            answer_id=begun.answer_id,
            position=position_to_proto(begun.position),
            state=begun.state,
            repeated=begun.repeated,
            limit=limit,
        )

    @unary
    async def CancelTurn(
        self, request: session_pb2.CancelTurnRequest, context: Context
    ) -> session_pb2.CancelTurnResponse:
        check_id("chat_id", request.chat_id)
        if request.turn_id:
            check_id("turn_id", request.turn_id)
        check_label("cancelled_by", request.cancelled_by)
        asker = _asker(context, SPEAKS)
        if request.cancelled_by:
            asker.check_is(request.cancelled_by)
        ended = await self._turns.cancel(
            request.chat_id,
            request.turn_id,
            by=request.cancelled_by or asker.user_id,
            everything=request.all,
            asker=asker,
        )
        if ended.following:
            self._dispatcher.turn_due(request.chat_id, ended.following)
        return session_pb2.CancelTurnResponse(turn_ids=ended.turn_ids)

    @unary
    async def GetTurn(self, request: session_pb2.GetTurnRequest, context: Context) -> session_pb2.GetTurnResponse:
        check_id("chat_id", request.chat_id)
        check_id("turn_id", request.turn_id)
        return await self._turns.get(TurnName(request.chat_id, request.turn_id))

    @unary
    async def ClaimTurn(self, request: session_pb2.ClaimTurnRequest, context: Context) -> session_pb2.ClaimTurnResponse:
        check_id("chat_id", request.chat_id)
        turn = await self._turns.claim(TurnName(request.chat_id, request.turn_id), self._new_id())
        if turn is None:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "no turn of this chat is due")
        return session_pb2.ClaimTurnResponse(turn=turn)

    async def ClaimTurns(
        self, request_iterator: AsyncIterator[session_pb2.ClaimTurnsRequest], context: Context
    ) -> AsyncIterator[session_pb2.ClaimTurnsResponse]:
        async with aclosing(claim_turns(self._dispatcher, request_iterator, context)) as responses:
            async for response in responses:
                yield response

    async def Publish(
        self, request_iterator: AsyncIterator[session_pb2.PublishRequest], context: Context
    ) -> AsyncIterator[session_pb2.PublishResponse]:
        async with aclosing(publish(self._appender, request_iterator)) as responses:
            async for response in responses:
                yield response

    @unary
    async def Notify(self, request: session_pb2.NotifyRequest, context: Context) -> session_pb2.NotifyResponse:
        check_id("chat_id", request.chat_id)
        kind = request.event.WhichOneof("kind")
        if kind not in ("typing", "presence"):
            raise invalid("event", "must be typing or presence")
        check_passing(request.event)
        asker = _asker(context, SPEAKS if kind == "typing" else READS)
        asker.check_is(request.event.typing.user_id or request.event.presence.user_id)
        await self._chats.get(request.chat_id, "", asker)
        await self._fanout.publish(request.chat_id, request.event)
        return session_pb2.NotifyResponse()

    async def Subscribe(
        self, request_iterator: AsyncIterator[session_pb2.SubscribeRequest], context: Context
    ) -> AsyncIterator[session_pb2.SubscribeResponse]:
        async with aclosing(subscribe(self._fanout, request_iterator, context)) as responses:
            async for response in responses:
                yield response

    @unary
    async def ReadLog(self, request: session_pb2.ReadLogRequest, context: Context) -> session_pb2.ReadLogResponse:
        check_id("chat_id", request.chat_id)
        if request.snapshot_messages > 1000:
            raise invalid("snapshot_messages", "is at most 1000")
        after = position_from_proto(request.after) if request.HasField("after") else None
        reading = await self._log.read(request.chat_id, after, request.snapshot_messages, _asker(context, READS))
        return session_pb2.ReadLogResponse(
            position=position_to_proto(reading.position),
            events=reading.events,
            snapshot=session_pb2.Snapshot(messages=reading.messages) if reading.snapshot else None,
            text_before=reading.text_before,
        )

    @unary
    async def OpenSession(
        self, request: session_pb2.OpenSessionRequest, context: Context
    ) -> session_pb2.OpenSessionResponse:
        check_dialect("dialect", request.dialect)
        check_name("name", request.name)
        check_name("chat.owner_id", request.chat.owner_id)
        check_chat(request.chat)
        ttl_s = check_span("ttl", request.ttl, request.HasField("ttl"), 86_400, low=60, high=365 * 86_400)
        session, created = await self._names.open(request.dialect, request.name, request.chat, round(ttl_s))
        return session_pb2.OpenSessionResponse(session=session, created=created)

    @unary
    async def GetSession(
        self, request: session_pb2.GetSessionRequest, context: Context
    ) -> session_pb2.GetSessionResponse:
        check_dialect("dialect", request.dialect)
        check_name("name", request.name)
        return session_pb2.GetSessionResponse(session=await self._names.get(request.dialect, request.name))

    @unary
    async def CloseSession(
        self, request: session_pb2.CloseSessionRequest, context: Context
    ) -> session_pb2.CloseSessionResponse:
        check_dialect("dialect", request.dialect)
        check_name("name", request.name)
        await self._names.close(request.dialect, request.name)
        return session_pb2.CloseSessionResponse()

    @unary
    async def CheckStore(
        self, request: session_pb2.CheckStoreRequest, context: Context
    ) -> session_pb2.CheckStoreResponse:
        return session_pb2.CheckStoreResponse(connected=await self._link.ping(_STORE_CHECK_S))


def _asker(context: Context, weakest: "chat_pb2.ParticipantRole.ValueType") -> Asker:
    """Who acts in a call that needs this role or one that may more."""
    return Asker(acting_user(context), weakest)
