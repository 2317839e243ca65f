"""The gRPC face of the session service: checks what comes in, calls the stores, says errors as the contract does."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import grpc.aio
from chat.codec import position_from_proto, position_to_proto
from chat.errors import ErrorCode, SwitchboardError
from chat.position import Position
from google.protobuf.duration_pb2 import Duration
from runtime.rpc_errors import status_of
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc

from session.appender import Appender
from session.chats import Chats
from session.dispatcher import Dispatcher, WorkerStream
from session.fanout import Fanout
from session.log import Log
from session.names import Names
from session.outbound import RESPONSE_BYTES, Outbound
from session.redis_link import RedisLink
from session.turns import TurnName, Turns

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_MAX_CONTENT_BYTES = 1024 * 1024
_MAX_STRUCT_BYTES = 16 * 1024
_MAX_PENDING_BYTES = 16 * 1024 * 1024
"""Events that wait for one gateway's stream: seconds of all that a replica carries. One further behind reads logs."""
_STORE_CHECK_S = 1.0

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
        _check_id("chat.id", request.chat.id)
        _check_id("chat.dialect", request.chat.dialect)
        _check_name("chat.owner_id", request.chat.owner_id)
        _check_chat(request.chat)
        return session_pb2.CreateChatResponse(chat=await self._chats.create(request.chat, request.owner_username))

    @_unary
    async def GetChat(self, request: session_pb2.GetChatRequest, context: Context) -> session_pb2.GetChatResponse:
        _check_id("chat_id", request.chat_id)
        return session_pb2.GetChatResponse(chat=await self._chats.get(request.chat_id, request.dialect))

    @_unary
    async def ListChats(self, request: session_pb2.ListChatsRequest, context: Context) -> session_pb2.ListChatsResponse:
        _check_name("user_id", request.user_id)
        _check_id("dialect", request.dialect)
        limit = _check_limit(request.limit, 50)
        return session_pb2.ListChatsResponse(
            chats=await self._chats.of_user(request.user_id, request.dialect, limit, request.offset)
        )

    @_unary
    async def UpdateChat(
        self, request: session_pb2.UpdateChatRequest, context: Context
    ) -> session_pb2.UpdateChatResponse:
        _check_id("chat.id", request.chat.id)
        _check_chat(request.chat)
        return session_pb2.UpdateChatResponse(chat=await self._chats.update(request.chat))

    @_unary
    async def DeleteChat(
        self, request: session_pb2.DeleteChatRequest, context: Context
    ) -> session_pb2.DeleteChatResponse:
        _check_id("chat_id", request.chat_id)
        await self._chats.delete(request.chat_id, request.reason)
        return session_pb2.DeleteChatResponse()

    @_unary
    async def PutParticipant(
        self, request: session_pb2.PutParticipantRequest, context: Context
    ) -> session_pb2.PutParticipantResponse:
        _check_id("chat_id", request.chat_id)
        _check_name("participant.user_id", request.participant.user_id)
        if request.participant.role == chat_pb2.PARTICIPANT_ROLE_UNSPECIFIED:
            raise _invalid("participant.role", "is needed")
        participant = await self._chats.put_participant(request.chat_id, request.participant)
        return session_pb2.PutParticipantResponse(participant=participant)

    @_unary
    async def RemoveParticipant(
        self, request: session_pb2.RemoveParticipantRequest, context: Context
    ) -> session_pb2.RemoveParticipantResponse:
        _check_id("chat_id", request.chat_id)
        _check_name("user_id", request.user_id)
        await self._chats.remove_participant(request.chat_id, request.user_id)
        return session_pb2.RemoveParticipantResponse()

    @_unary
    async def ListParticipants(
        self, request: session_pb2.ListParticipantsRequest, context: Context
    ) -> session_pb2.ListParticipantsResponse:
        _check_id("chat_id", request.chat_id)
        return session_pb2.ListParticipantsResponse(participants=await self._chats.participants(request.chat_id))

    @_unary
    async def ListMessages(
        self, request: session_pb2.ListMessagesRequest, context: Context
    ) -> session_pb2.ListMessagesResponse:
        _check_id("chat_id", request.chat_id)
        limit = _check_limit(request.limit, 100)
        messages, total = await self._chats.messages(request.chat_id, limit, request.offset, from_end=request.from_end)
        return session_pb2.ListMessagesResponse(messages=messages, total=total)

    @_unary
    async def EditMessage(
        self, request: session_pb2.EditMessageRequest, context: Context
    ) -> session_pb2.EditMessageResponse:
        _check_id("chat_id", request.chat_id)
        _check_id("message_id", request.message_id)
        _check_content("content", request.content)
        message = await self._chats.edit_message(request.chat_id, request.message_id, request.content)
        return session_pb2.EditMessageResponse(message=message)

    @_unary
    async def BeginTurn(self, request: session_pb2.BeginTurnRequest, context: Context) -> session_pb2.BeginTurnResponse:
        _check_id("chat_id", request.chat_id)
        _check_message(request.message)
        if len(request.idempotency_key.encode()) > 255:
            raise _invalid("idempotency_key", "is at most 255 bytes")
        if request.ephemeral:
            raise _invalid("ephemeral", "turns are not served yet")
        limit_s = _check_span("deadline", request.deadline, request.HasField("deadline"), 180, low=1, high=3600)
        reserved = None if request.without_answer else self._dispatcher.reserve()
        claimed = None
        try:
            begun = await self._turns.begin(request, limit_s, reserved[1] if reserved else "")
            claimed = begun.claimed
        finally:
            if reserved is not None and claimed is None:
                self._dispatcher.release(reserved[0])
        if reserved is not None and claimed is not None:
            self._dispatcher.hand(reserved[0], claimed)
        elif begun.state == session_pb2.TURN_STATE_DUE and not begun.repeated:
            self._dispatcher.turn_due(request.chat_id, begun.turn_id)
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
        _check_id("chat_id", request.chat_id)
        if request.turn_id:
            _check_id("turn_id", request.turn_id)
        ended = await self._turns.cancel(
            request.chat_id, request.turn_id, by=request.cancelled_by, everything=request.all
        )
        if ended.following:
            self._dispatcher.turn_due(request.chat_id, ended.following)
        return session_pb2.CancelTurnResponse(turn_ids=ended.turn_ids)

    @_unary
    async def GetTurn(self, request: session_pb2.GetTurnRequest, context: Context) -> session_pb2.GetTurnResponse:
        _check_id("chat_id", request.chat_id)
        _check_id("turn_id", request.turn_id)
        return await self._turns.get(TurnName(request.chat_id, request.turn_id))

    @_unary
    async def ClaimTurn(self, request: session_pb2.ClaimTurnRequest, context: Context) -> session_pb2.ClaimTurnResponse:
        _check_id("chat_id", request.chat_id)
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
        if not _ID.fullmatch(first.worker_id):
            await context.abort_with_status(status_of(_invalid("worker_id", "is needed in the first request").failure))
        stream = WorkerStream(first.worker_id)

        async def take(request: session_pb2.ClaimTurnsRequest) -> None:
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
        finally:
            reading.cancel()
            self._dispatcher.leave(stream)

    async def Publish(
        self, request_iterator: AsyncIterator[session_pb2.PublishRequest], context: Context
    ) -> AsyncIterator[session_pb2.PublishResponse]:
        outbound = Outbound(session_pb2.PublishResponse)

        def answered(result: session_pb2.AppendResult) -> None:
            outbound.next.results.append(result)
            outbound.wake()

        async def intake() -> None:
            async for request in request_iterator:
                for append in request.appends:
                    self._appender.submit(append, answered)

        reading = _reading(intake(), outbound)
        try:
            async for response in outbound.batches():
                yield response
        finally:
            reading.cancel()

    @_unary
    async def Notify(self, request: session_pb2.NotifyRequest, context: Context) -> session_pb2.NotifyResponse:
        _check_id("chat_id", request.chat_id)
        if request.event.WhichOneof("kind") not in ("typing", "presence"):
            raise _invalid("event", "must be typing or presence")
        await self._chats.get(request.chat_id, "")
        await self._fanout.publish(request.chat_id, request.event)
        return session_pb2.NotifyResponse()

    async def Subscribe(
        self, request_iterator: AsyncIterator[session_pb2.SubscribeRequest], context: Context
    ) -> AsyncIterator[session_pb2.SubscribeResponse]:
        reader = _GatewayReader()

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
        _check_id("chat_id", request.chat_id)
        if request.snapshot_messages > 1000:
            raise _invalid("snapshot_messages", "is at most 1000")
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
        _check_id("dialect", request.dialect)
        _check_name("name", request.name)
        _check_name("chat.owner_id", request.chat.owner_id)
        _check_chat(request.chat)
        ttl_s = _check_span("ttl", request.ttl, request.HasField("ttl"), 86_400, low=60, high=365 * 86_400)
        session, created = await self._names.open(request.dialect, request.name, request.chat, round(ttl_s))
        return session_pb2.OpenSessionResponse(session=session, created=created)

    @_unary
    async def GetSession(
        self, request: session_pb2.GetSessionRequest, context: Context
    ) -> session_pb2.GetSessionResponse:
        _check_id("dialect", request.dialect)
        _check_name("name", request.name)
        return session_pb2.GetSessionResponse(session=await self._names.get(request.dialect, request.name))

    @_unary
    async def CloseSession(
        self, request: session_pb2.CloseSessionRequest, context: Context
    ) -> session_pb2.CloseSessionResponse:
        _check_id("dialect", request.dialect)
        _check_name("name", request.name)
        await self._names.close(request.dialect, request.name)
        return session_pb2.CloseSessionResponse()

    @_unary
    async def CheckStore(
        self, request: session_pb2.CheckStoreRequest, context: Context
    ) -> session_pb2.CheckStoreResponse:
        return session_pb2.CheckStoreResponse(connected=await self._link.ping(_STORE_CHECK_S))


class _GatewayReader:
    """What one Subscribe stream has to send next. A `fanout.Reader`."""

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
        size = sum(event.ByteSize() for event in events)
        self._pending += size
        if self._pending > _MAX_PENDING_BYTES:
            self.overrun = True
            self.outbound.next.ClearField("events")
        if not self.overrun:
            self._unsealed += size
            if self._unsealed > RESPONSE_BYTES:
                self.outbound.seal()
                self._unsealed = size
            self.outbound.next.events.add(
                chat_id=chat_id, first=None if first is None else position_to_proto(first), events=events
            )
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


def _reading(intake: Coroutine[Any, Any, None], outbound: Outbound[Any]) -> "asyncio.Task[None]":
    """Reads the peer's requests beside the responses; when the peer has ended its side, or broke it, so do we."""
    reading = asyncio.create_task(intake)

    def ended(task: "asyncio.Task[None]") -> None:
        outbound.end()
        if not task.cancelled() and task.exception() is not None:
            log.warning("stream_broke", exc_info=task.exception())

    reading.add_done_callback(ended)
    return reading


def _invalid(field: str, message: str) -> SwitchboardError:
    return SwitchboardError(ErrorCode.INVALID_ARGUMENT, f"{field} {message}", field=field)


def _check_id(field: str, value: str) -> None:
    if not _ID.fullmatch(value):
        raise _invalid(field, "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")


def _check_name(field: str, value: str) -> None:
    if not 1 <= len(value.encode()) <= 200:
        raise _invalid(field, "must be 1 to 200 bytes")


def _check_content(field: str, value: str) -> None:
    if not value:
        raise _invalid(field, "must not be empty")
    if len(value.encode()) > _MAX_CONTENT_BYTES:
        raise SwitchboardError(ErrorCode.TOO_LARGE, f"{field} is at most {_MAX_CONTENT_BYTES} bytes", field=field)


def _check_limit(value: int, default: int) -> int:
    if value > 1000:
        raise _invalid("limit", "is at most 1000")
    return value or default


def _check_span(field: str, span: Duration, given: bool, default_s: float, *, low: float, high: float) -> float:
    if not given:
        return default_s
    seconds = span.seconds + span.nanos / 1e9
    if not low <= seconds <= high:
        raise _invalid(field, f"must be {low:g} s to {high:g} s")
    return seconds


def _check_chat(chat: chat_pb2.Chat) -> None:
    if len(chat.title) > 200:
        raise _invalid("chat.title", "is at most 200 characters")
    if len(chat.description) > 1000:
        raise _invalid("chat.description", "is at most 1,000 characters")
    if chat.attributes.ByteSize() > _MAX_STRUCT_BYTES:
        raise _invalid("chat.attributes", f"is at most {_MAX_STRUCT_BYTES} bytes")


def _check_message(message: chat_pb2.Message) -> None:
    if message.role not in (chat_pb2.ROLE_USER, chat_pb2.ROLE_SYSTEM):
        raise _invalid("message.role", "must be USER or SYSTEM")
    _check_content("message.content", message.content)
    for field, value in (("message.id", message.id), ("message.reply_to_id", message.reply_to_id)):
        if value:
            _check_id(field, value)
    if len(message.sender_id.encode()) > 200:
        raise _invalid("message.sender_id", "is at most 200 bytes")
    if message.metadata.ByteSize() > _MAX_STRUCT_BYTES:
        raise _invalid("message.metadata", f"is at most {_MAX_STRUCT_BYTES} bytes")
