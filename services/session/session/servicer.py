"""The gRPC face of the session service: checks what comes in, calls the stores, says errors as the contract does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import grpc.aio
from chat.codec import position_from_proto, position_to_proto
from chat.errors import ErrorCode, SwitchboardError
from chat.names import is_id
from runtime.rpc_errors import status_of
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc

from session.appender import Appender
from session.chats import Chats
from session.checks import (
    check_answers,
    check_chat,
    check_content,
    check_id,
    check_label,
    check_limit,
    check_message,
    check_name,
    check_passing,
    check_span,
    invalid,
)
from session.dispatcher import Dispatcher, WorkerStream
from session.fanout import Fanout
from session.log import Log
from session.names import Names
from session.outbound import Outbound
from session.reader import GatewayReader
from session.redis_link import RedisLink
from session.turns import TurnName, Turns

log = logging.getLogger(__name__)

_STORE_CHECK_S = 1.0
_MAX_CREDIT = 10_000

Request = TypeVar("Request")
Response = TypeVar("Response")
Context = grpc.aio.ServicerContext[Any, Any]


def _unary(
    handler: Callable[["SessionServicer", Request, Context], Awaitable[Response]],
) -> Callable[["SessionServicer", Request, Context], Awaitable[Response]]:
    """Ends the call with the contract's status when our own error comes out of it."""

    async def answered(self: "SessionServicer", request: Request, context: Context) -> Response:
        try:
            return await handler(self, request, context)
        except SwitchboardError as error:
            await context.abort_with_status(status_of(error.failure, error.field))
            raise

    return answered


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
        self._new_id = new_id

    @_unary
    async def CreateChat(
        self, request: session_pb2.CreateChatRequest, context: Context
    ) -> session_pb2.CreateChatResponse:
        check_id("chat.id", request.chat.id)
        check_id("chat.dialect", request.chat.dialect)
        check_name("chat.owner_id", request.chat.owner_id)
        check_label("owner_username", request.owner_username)
        check_chat(request.chat)
        return session_pb2.CreateChatResponse(chat=await self._chats.create(request.chat, request.owner_username))

    @_unary
    async def GetChat(self, request: session_pb2.GetChatRequest, context: Context) -> session_pb2.GetChatResponse:
        check_id("chat_id", request.chat_id)
        return session_pb2.GetChatResponse(chat=await self._chats.get(request.chat_id, request.dialect))

    @_unary
    async def ListChats(self, request: session_pb2.ListChatsRequest, context: Context) -> session_pb2.ListChatsResponse:
        check_name("user_id", request.user_id)
        check_id("dialect", request.dialect)
        limit = check_limit(request.limit, 50)
        return session_pb2.ListChatsResponse(
            chats=await self._chats.of_user(request.user_id, request.dialect, limit, request.offset)
        )

    @_unary
    async def UpdateChat(
        self, request: session_pb2.UpdateChatRequest, context: Context
    ) -> session_pb2.UpdateChatResponse:
        check_id("chat.id", request.chat.id)
        check_chat(request.chat)
        return session_pb2.UpdateChatResponse(chat=await self._chats.update(request.chat))

    @_unary
    async def DeleteChat(
        self, request: session_pb2.DeleteChatRequest, context: Context
    ) -> session_pb2.DeleteChatResponse:
        check_id("chat_id", request.chat_id)
        check_label("reason", request.reason)
        await self._chats.delete(request.chat_id, request.reason)
        return session_pb2.DeleteChatResponse()

    @_unary
    async def PutParticipant(
        self, request: session_pb2.PutParticipantRequest, context: Context
    ) -> session_pb2.PutParticipantResponse:
        check_id("chat_id", request.chat_id)
        check_name("participant.user_id", request.participant.user_id)
        check_label("participant.username", request.participant.username)
        if request.participant.role not in chat_pb2.ParticipantRole.values()[1:]:
            raise invalid("participant.role", "must be OWNER, ADMIN, MEMBER or READ_ONLY")
        participant = await self._chats.put_participant(request.chat_id, request.participant)
        return session_pb2.PutParticipantResponse(participant=participant)

    @_unary
    async def RemoveParticipant(
        self, request: session_pb2.RemoveParticipantRequest, context: Context
    ) -> session_pb2.RemoveParticipantResponse:
        check_id("chat_id", request.chat_id)
        check_name("user_id", request.user_id)
        await self._chats.remove_participant(request.chat_id, request.user_id)
        return session_pb2.RemoveParticipantResponse()

    @_unary
    async def ListParticipants(
        self, request: session_pb2.ListParticipantsRequest, context: Context
    ) -> session_pb2.ListParticipantsResponse:
        check_id("chat_id", request.chat_id)
        return session_pb2.ListParticipantsResponse(participants=await self._chats.participants(request.chat_id))

    @_unary
    async def ListMessages(
        self, request: session_pb2.ListMessagesRequest, context: Context
    ) -> session_pb2.ListMessagesResponse:
        check_id("chat_id", request.chat_id)
        limit = check_limit(request.limit, 100)
        messages, total = await self._chats.messages(request.chat_id, limit, request.offset, from_end=request.from_end)
        return session_pb2.ListMessagesResponse(messages=messages, total=total)

    @_unary
    async def EditMessage(
        self, request: session_pb2.EditMessageRequest, context: Context
    ) -> session_pb2.EditMessageResponse:
        check_id("chat_id", request.chat_id)
        check_id("message_id", request.message_id)
        check_content("content", request.content)
        message = await self._chats.edit_message(request.chat_id, request.message_id, request.content)
        return session_pb2.EditMessageResponse(message=message)

    @_unary
    async def BeginTurn(self, request: session_pb2.BeginTurnRequest, context: Context) -> session_pb2.BeginTurnResponse:
        check_id("chat_id", request.chat_id)
        check_message(request.message)
        check_answers("answers", request.answers)
        if len(request.idempotency_key.encode()) > 255:
            raise invalid("idempotency_key", "is at most 255 bytes")
        if request.ephemeral and request.without_answer:
            raise invalid("ephemeral", "leaves nothing without an answer")
        limit_s = check_span("deadline", request.deadline, request.HasField("deadline"), 180, low=1, high=3600)
        begun = await self._dispatcher.begin(request, limit_s)
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
        )

    @_unary
    async def CancelTurn(
        self, request: session_pb2.CancelTurnRequest, context: Context
    ) -> session_pb2.CancelTurnResponse:
        check_id("chat_id", request.chat_id)
        if request.turn_id:
            check_id("turn_id", request.turn_id)
        check_label("cancelled_by", request.cancelled_by)
        ended = await self._turns.cancel(
            request.chat_id, request.turn_id, by=request.cancelled_by, everything=request.all
        )
        if ended.following:
            self._dispatcher.turn_due(request.chat_id, ended.following)
        return session_pb2.CancelTurnResponse(turn_ids=ended.turn_ids)

    @_unary
    async def GetTurn(self, request: session_pb2.GetTurnRequest, context: Context) -> session_pb2.GetTurnResponse:
        check_id("chat_id", request.chat_id)
        check_id("turn_id", request.turn_id)
        return await self._turns.get(TurnName(request.chat_id, request.turn_id))

    @_unary
    async def ClaimTurn(self, request: session_pb2.ClaimTurnRequest, context: Context) -> session_pb2.ClaimTurnResponse:
        check_id("chat_id", request.chat_id)
        turn = await self._turns.claim(TurnName(request.chat_id, request.turn_id), self._new_id())
        if turn is None:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "no turn of this chat is due")
        return session_pb2.ClaimTurnResponse(turn=turn)

    async def ClaimTurns(
        self, request_iterator: AsyncIterator[session_pb2.ClaimTurnsRequest], context: Context
    ) -> AsyncIterator[session_pb2.ClaimTurnsResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        if not is_id(first.worker_id):
            await context.abort_with_status(status_of(invalid("worker_id", "is needed in the first request").failure))
        stream = WorkerStream(first.worker_id)

        async def take(request: session_pb2.ClaimTurnsRequest) -> None:
            if request.credit > _MAX_CREDIT:
                raise invalid("credit", f"is at most {_MAX_CREDIT}")
            self._dispatcher.add_credit(stream, request.credit)
            if request.renew:
                await self._dispatcher.renew(stream, list(request.renew))

        async def intake() -> None:
            await take(first)
            async for request in request_iterator:
                await take(request)

        self._dispatcher.join(stream)
        reading = _reading(intake(), stream.outbound)
        try:
            async for response in stream.outbound.batches():
                yield response
            refused = reading.exception() if reading.done() else None
            if isinstance(refused, SwitchboardError):
                await context.abort_with_status(status_of(refused.failure, refused.field))
        finally:
            reading.cancel()
            self._dispatcher.leave(stream)

    async def Publish(
        self, request_iterator: AsyncIterator[session_pb2.PublishRequest], context: Context
    ) -> AsyncIterator[session_pb2.PublishResponse]:
        outbound = Outbound(session_pb2.PublishResponse)

        def answer() -> session_pb2.AppendResult:
            outbound.wake()
            return outbound.next.results.add()

        async def intake() -> None:
            async for request in request_iterator:
                for append in request.appends:
                    self._appender.submit(append, answer)

        reading = _reading(intake(), outbound)
        try:
            async for response in outbound.batches():
                yield response
        finally:
            reading.cancel()

    @_unary
    async def Notify(self, request: session_pb2.NotifyRequest, context: Context) -> session_pb2.NotifyResponse:
        check_id("chat_id", request.chat_id)
        if request.event.WhichOneof("kind") not in ("typing", "presence"):
            raise invalid("event", "must be typing or presence")
        check_passing(request.event)
        await self._chats.get(request.chat_id, "")
        await self._fanout.publish(request.chat_id, request.event)
        return session_pb2.NotifyResponse()

    async def Subscribe(
        self, request_iterator: AsyncIterator[session_pb2.SubscribeRequest], context: Context
    ) -> AsyncIterator[session_pb2.SubscribeResponse]:
        reader = GatewayReader()

        async def add(chat_id: str) -> None:
            reader.chats.add(chat_id)
            try:
                position = await self._fanout.add(chat_id, reader)
            except SwitchboardError as error:
                reader.lose(chat_id, error.code)
                return
            if chat_id in reader.chats:
                reader.confirm(chat_id, position)
            else:
                self._fanout.remove(chat_id, reader)

        async def intake() -> None:
            async with asyncio.TaskGroup() as adding:
                async for request in request_iterator:
                    for chat_id in request.remove:
                        reader.chats.discard(chat_id)
                        self._fanout.remove(chat_id, reader)
                    for chat_id in request.add:
                        adding.create_task(add(chat_id))

        reading = _reading(intake(), reader.outbound)
        try:
            async for response in reader.batches():
                if not reader.overrun:
                    yield response
                if reader.overrun:
                    full = SwitchboardError(ErrorCode.OVERLOADED, "the reader is too slow; reconnect and read the log")
                    await context.abort_with_status(status_of(full.failure))
        finally:
            reading.cancel()
            for chat_id in reader.chats:
                self._fanout.remove(chat_id, reader)
            reader.chats.clear()

    @_unary
    async def ReadLog(self, request: session_pb2.ReadLogRequest, context: Context) -> session_pb2.ReadLogResponse:
        check_id("chat_id", request.chat_id)
        if request.snapshot_messages > 1000:
            raise invalid("snapshot_messages", "is at most 1000")
        after = position_from_proto(request.after) if request.HasField("after") else None
        reading = await self._log.read(request.chat_id, after, request.snapshot_messages)
        return session_pb2.ReadLogResponse(
            position=position_to_proto(reading.position),
            events=reading.events,
            snapshot=session_pb2.Snapshot(messages=reading.messages) if reading.snapshot else None,
            text_before=reading.text_before,
        )

    @_unary
    async def OpenSession(
        self, request: session_pb2.OpenSessionRequest, context: Context
    ) -> session_pb2.OpenSessionResponse:
        check_id("dialect", request.dialect)
        check_name("name", request.name)
        check_name("chat.owner_id", request.chat.owner_id)
        check_chat(request.chat)
        ttl_s = check_span("ttl", request.ttl, request.HasField("ttl"), 86_400, low=60, high=365 * 86_400)
        session, created = await self._names.open(request.dialect, request.name, request.chat, round(ttl_s))
        return session_pb2.OpenSessionResponse(session=session, created=created)

    @_unary
    async def GetSession(
        self, request: session_pb2.GetSessionRequest, context: Context
    ) -> session_pb2.GetSessionResponse:
        check_id("dialect", request.dialect)
        check_name("name", request.name)
        return session_pb2.GetSessionResponse(session=await self._names.get(request.dialect, request.name))

    @_unary
    async def CloseSession(
        self, request: session_pb2.CloseSessionRequest, context: Context
    ) -> session_pb2.CloseSessionResponse:
        check_id("dialect", request.dialect)
        check_name("name", request.name)
        await self._names.close(request.dialect, request.name)
        return session_pb2.CloseSessionResponse()

    @_unary
    async def CheckStore(
        self, request: session_pb2.CheckStoreRequest, context: Context
    ) -> session_pb2.CheckStoreResponse:
        return session_pb2.CheckStoreResponse(connected=await self._link.ping(_STORE_CHECK_S))


def _reading(intake: Coroutine[Any, Any, None], outbound: Outbound[Any]) -> "asyncio.Task[None]":
    """Reads the peer's requests beside the responses; when the peer has ended its side, or broke it, so do we."""
    reading = asyncio.create_task(intake)

    def ended(task: "asyncio.Task[None]") -> None:
        outbound.end()
        if not task.cancelled() and not isinstance(task.exception(), SwitchboardError | None):
            log.warning("stream_broke", exc_info=task.exception())

    reading.add_done_callback(ended)
    return reading
