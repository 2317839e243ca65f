"""Endpoints 4 and 5, and beside them: editing a message, another answer to it, stopping one."""

from typing import Annotated, Any

from chat.errors import ErrorCode, SwitchboardError
from chat.events import Typing
from chat.messages import Answer, AnswerState, Chat, JsonObject, Message, Role
from chat.names import is_id
from fastapi import APIRouter, Header, Request
from fastapi.exceptions import RequestValidationError

from gateway.dialect import Services
from gateway.dialects.arketic.access import NO_CHAT, enter, find_message, refused_as, shown_name
from gateway.dialects.arketic.answers import CANNOT_SEND, EMPTY, answered_message, blank, empty, stop
from gateway.dialects.arketic.chats import Fields
from gateway.dialects.arketic.forms import EditMessage, SendMessageRequest
from gateway.dialects.arketic.replies import AnswerStopped, MessageResponse, TypingSent
from gateway.dialects.arketic.typing_pace import TypingPace
from gateway.dialects.arketic.wire import Attributes, message_object, micros, timestamp
from gateway.http import caller_of, note_limit
from gateway.limits import check_key
from gateway.openapi import responses
from gateway.ports import Begun, Utterance

_ROLES = {"USER": Role.USER, "SYSTEM": Role.SYSTEM}
_NO_MESSAGE = "Message not found"
_CANNOT_EDIT = "Cannot edit this message"
_CANNOT_STOP = "Cannot stop answers in this chat"
_TURNED_OFF = "AI responses are turned off in this chat"
Key = Annotated[str | None, Header(alias="Idempotency-Key")]


async def say(
    services: Services,
    request: Request,
    chat: Chat,
    content: str,
    *,
    key: str | None,
    role: Role = Role.USER,
    reply_to_id: str = "",
    metadata: JsonObject | None = None,
    without_answer: bool = False,
    ephemeral: bool = False,
) -> Begun:
    """Says something in a chat on behalf of who calls. Raises: INVALID_ARGUMENT, PERMISSION_DENIED, NOT_FOUND,
    RATE_LIMITED, QUEUE_FULL."""
    if blank(content):
        raise empty()
    caller = caller_of(request)
    utterance = Utterance(
        chat.id,
        content,
        caller.user_id,
        key="" if key is None else check_key(key, "Idempotency-Key"),
        role=role,
        reply_to_id=reply_to_id,
        metadata=metadata,
        without_answer=without_answer,
        ephemeral=ephemeral,
    )
    async with refused_as(CANNOT_SEND, NO_CHAT):
        begun = await services.turns.begin(utterance)
    note_limit(request, begun.limit)
    return begun


def add_messages(router: APIRouter, services: Services) -> None:
    """Adds the endpoints."""
    sessions = services.sessions
    pace = TypingPace()

    @router.post(
        "/chats/{chat_id}/messages",
        response_model=MessageResponse,
        responses=responses(limited=True, refusals={400: EMPTY, 403: CANNOT_SEND, 404: NO_CHAT}),
    )
    async def send_message(
        chat_id: str, body: SendMessageRequest, request: Request, key: Key = None, fields: Fields = "document"
    ) -> dict[str, Any]:
        """Sends a message; its answer comes over the WebSocket. SYSTEM messages are for owners and admins, and are not
        answered; AI messages are for nobody."""
        chat = await enter(sessions, chat_id, caller_of(request).user_id)
        if body.message_type == "AI":
            raise SwitchboardError(ErrorCode.PERMISSION_DENIED, CANNOT_SEND)
        if body.reply_to_id:
            await _check_reply(services, chat, body.reply_to_id, caller_of(request).user_id)
        role = _ROLES[body.message_type]
        begun = await say(
            services,
            request,
            chat,
            body.content,
            key=key,
            role=role,
            reply_to_id=body.reply_to_id or "",
            metadata=body.message_metadata,
            without_answer=role is Role.SYSTEM or Attributes.of(chat).ai_model is None,
        )
        return message_object(begun.message, all_fields=fields == "all")

    @router.post(
        "/chats/{chat_id}/typing",
        response_model=TypingSent,
        responses=responses(refusals={403: CANNOT_SEND, 404: NO_CHAT}),
    )
    async def send_typing(chat_id: str, request: Request) -> dict[str, Any]:
        """Tells everybody who is connected that the user types, once a second at the most."""
        caller, now_s = caller_of(request), services.now_s()
        now_us = micros(now_s)
        chat = await enter(sessions, chat_id, caller.user_id)
        if pace.begin(chat.id, caller.user_id, now_s):
            typing = Typing(caller.user_id, shown_name(caller), now_us)
            try:
                async with refused_as(CANNOT_SEND):
                    await sessions.notify(chat.id, typing, user_id=caller.user_id)
            except SwitchboardError:
                pace.forget(chat.id, caller.user_id)
                raise
        return {"status": "sent", "timestamp": timestamp(now_us)}

    @router.patch(
        "/chats/{chat_id}/messages/{message_id}",
        response_model=MessageResponse,
        responses=responses(refusals={400: EMPTY, 403: _CANNOT_EDIT, 404: _NO_MESSAGE}),
    )
    async def edit_message(
        chat_id: str, message_id: str, body: EditMessage, request: Request, fields: Fields = "document"
    ) -> dict[str, Any]:
        """Replaces a message's text: who wrote it may, and nobody else."""
        user_id = caller_of(request).user_id
        chat = await enter(sessions, chat_id, user_id)
        if blank(body.content):
            raise empty()
        _check_message_id(message_id)
        async with refused_as(_CANNOT_EDIT, _NO_MESSAGE):
            edited = await sessions.edit_message(chat.id, message_id, body.content, user_id=user_id)
        return message_object(edited, all_fields=fields == "all")

    @router.post(
        "/chats/{chat_id}/messages/{message_id}/regenerate",
        response_model=MessageResponse,
        responses=responses(limited=True, refusals={400: _TURNED_OFF, 403: CANNOT_SEND, 404: _NO_MESSAGE}),
    )
    async def regenerate(
        chat_id: str, message_id: str, request: Request, key: Key = None, fields: Fields = "document"
    ) -> dict[str, Any]:
        """Has a message answered once more, named by itself or by an answer to it. Gives the answer as it is now, under
        way; it comes over the WebSocket."""
        user_id = caller_of(request).user_id
        chat = await enter(sessions, chat_id, user_id)
        check_answers(chat)
        _check_message_id(message_id)
        async with refused_as(CANNOT_SEND, _NO_MESSAGE):
            asked = await answered_message(sessions, chat, message_id, user_id)
            utterance = Utterance(
                chat.id,
                "",
                user_id,
                key="" if key is None else check_key(key, "Idempotency-Key"),
                answer_again=asked.id,
            )
            begun = await services.turns.begin(utterance)
        note_limit(request, begun.limit)
        answer = Message(
            id=begun.answer_id,
            chat_id=chat.id,
            role=Role.ASSISTANT,
            content="",
            created_at_us=micros(services.now_s()),
            reply_to_id=asked.id,
            answer=Answer(AnswerState.RUNNING),
        )
        return message_object(answer, all_fields=fields == "all")

    @router.post(
        "/chats/{chat_id}/messages/{message_id}/cancel",
        response_model=AnswerStopped,
        responses=responses(refusals={403: _CANNOT_STOP, 404: _NO_MESSAGE}),
    )
    async def cancel(chat_id: str, message_id: str, request: Request) -> dict[str, Any]:
        """Stops an answer, named by itself or by the message it answers; what was said so far is kept."""
        user_id = caller_of(request).user_id
        chat = await enter(sessions, chat_id, user_id)
        _check_message_id(message_id)
        async with refused_as(_CANNOT_STOP, _NO_MESSAGE):
            stopped = await stop(sessions, chat, message_id, user_id)
        return {
            "status": "cancelled" if stopped.was_running else "not_running",
            "message_id": message_id,
            "timestamp": timestamp(micros(services.now_s())),
        }


def _check_message_id(message_id: str) -> None:
    if not is_id(message_id):
        raise SwitchboardError(ErrorCode.NOT_FOUND, _NO_MESSAGE)


async def _check_reply(services: Services, chat: Chat, reply_to_id: str, user_id: str) -> None:
    """Raises: RequestValidationError: the chat has no such message."""
    try:
        await find_message(services.sessions, chat, reply_to_id, user_id)
    except SwitchboardError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        wrong = {"loc": ("body", "reply_to_id"), "msg": "The chat has no such message", "type": "value_error"}
        raise RequestValidationError([wrong]) from error


def check_answers(chat: Chat) -> None:
    """Raises: INVALID_ARGUMENT: nobody answers in this chat."""
    if Attributes.of(chat).ai_model is None:
        raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, _TURNED_OFF)
