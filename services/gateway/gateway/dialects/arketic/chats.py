"""Endpoints 1 to 3, and beside them: changing, archiving and deleting a chat."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Chat
from fastapi import APIRouter, Query, Request

from gateway.dialect import Services
from gateway.dialects.arketic.access import (
    NO_ACCESS,
    NO_CHAT,
    NO_OPEN_CHAT,
    enter,
    last_messages,
    refused_as,
    shown_name,
)
from gateway.dialects.arketic.answers import persona_prompt, settings
from gateway.dialects.arketic.forms import ChangeChat, CreateChatRequest
from gateway.dialects.arketic.reading import Readings
from gateway.dialects.arketic.replies import ChatDeleted, ChatHistory, ChatResponse
from gateway.dialects.arketic.wire import NAME, Attributes, chat_object, message_object, micros, timestamp
from gateway.http import caller_of
from gateway.openapi import responses

Offset = Annotated[int, Query(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Fields = Annotated[Literal["all", "document"], Query(description="`all` adds what the document does not print.")]
_TRIES = 20
"""Each time somebody else's change came between, and stands: that many at the same moment are not people."""
_NOT_ALLOWED = "Only the chat's owner or an admin may do that"
_NOT_THE_OWNER = "Only the chat's owner may delete it"


def add_chats(router: APIRouter, services: Services, readings: Readings) -> None:
    """Adds the endpoints."""
    sessions = services.sessions

    @router.post("/chats", response_model=ChatResponse)
    async def create_chat(body: CreateChatRequest, request: Request) -> dict[str, Any]:
        """Makes a chat; who makes it owns it."""
        caller = caller_of(request)
        attributes = Attributes(
            body.chat_type,
            body.ai_model,
            body.ai_persona,
            body.is_private,
            None if body.tags is None else tuple(body.tags),
        )
        chat = Chat(
            id=services.new_id(),
            dialect=NAME,
            owner_id=caller.user_id,
            title=body.title,
            description=body.description or "",
            answers=settings(body.ai_model, body.ai_persona, body.system_prompt, body.temperature, body.max_tokens),
            attributes=attributes.stored(),
        )
        return chat_object(await sessions.create_chat(chat, owner_name=shown_name(caller)))

    @router.get("/chats", response_model=list[ChatResponse])
    async def list_chats(request: Request, limit: Limit = 50, offset: Offset = 0) -> list[dict[str, Any]]:
        """The chats that the user takes part in, the last active first, without archived ones."""
        chats = await sessions.list_chats(caller_of(request).user_id, NAME, limit=limit, offset=offset)
        return [chat_object(chat) for chat in chats]

    @router.get(
        "/chats/{chat_id}",
        response_model=ChatHistory,
        responses=responses(refusals={403: NO_ACCESS, 404: NO_OPEN_CHAT}),
    )
    async def get_history(
        chat_id: str, request: Request, limit: Limit = 100, offset: Offset = 0, fields: Fields = "document"
    ) -> dict[str, Any]:
        """A chat with a page of its messages: the last `limit` before the last `offset`, oldest first."""
        user_id = caller_of(request).user_id
        chat = await enter(sessions, chat_id, user_id, unknown=NO_OPEN_CHAT)
        messages = await last_messages(sessions, chat, user_id, limit=limit, offset=offset)
        participants = await sessions.list_participants(chat.id, user_id=user_id)
        await readings.note(chat.id, user_id)
        return {
            "chat": chat_object(chat),
            "messages": [message_object(message, all_fields=fields == "all") for message in messages],
            "participant_count": len(participants),
        }

    @router.patch(
        "/chats/{chat_id}",
        response_model=ChatResponse,
        responses=responses(refusals={403: _NOT_ALLOWED, 404: NO_CHAT}),
    )
    async def change_chat(chat_id: str, body: ChangeChat, request: Request) -> dict[str, Any]:
        """Changes what the body names, archives a chat or brings it back. For its owner and admins."""
        user_id = caller_of(request).user_id
        for left in reversed(range(_TRIES)):
            chat = await enter(sessions, chat_id, user_id, archived_too=True)
            changed = _changed(chat, body, micros(services.now_s()))
            try:
                async with refused_as(_NOT_ALLOWED):
                    return chat_object(await sessions.update_chat(changed, user_id=user_id))
            except SwitchboardError as error:
                if error.code is not ErrorCode.CONFLICT or not left:
                    raise
        raise AssertionError("the last try returns or raises")

    @router.delete(
        "/chats/{chat_id}",
        response_model=ChatDeleted,
        responses=responses(refusals={403: _NOT_THE_OWNER, 404: NO_CHAT}),
    )
    async def delete_chat(chat_id: str, request: Request) -> dict[str, Any]:
        """Deletes a chat and its history, and ends its connections. For its owner."""
        user_id = caller_of(request).user_id
        chat = await enter(sessions, chat_id, user_id, archived_too=True)
        async with refused_as(_NOT_THE_OWNER):
            participants = await sessions.list_participants(chat.id, user_id=user_id)
            await sessions.delete_chat(chat.id, reason="deleted", user_id=user_id)
        await readings.forget(chat.id, [participant.user_id for participant in participants])
        return {"status": "deleted", "chat_id": chat.id, "timestamp": timestamp(micros(services.now_s()))}


def _changed(chat: Chat, body: ChangeChat, now_us: int) -> Chat:
    """The chat as the body wants it. A null means what it means when a chat is made; elsewhere, nothing."""
    given = body.model_fields_set
    attributes, answers = Attributes.of(chat), chat.answers
    own_prompt = answers.system_prompt != persona_prompt(attributes.ai_persona)
    if "ai_model" in given:
        attributes = replace(attributes, ai_model=body.ai_model)
        answers = replace(answers, model=body.ai_model or "")
    if "ai_persona" in given:
        attributes = replace(attributes, ai_persona=body.ai_persona)
    if "system_prompt" in given:
        own_prompt = bool(body.system_prompt)
        answers = replace(answers, system_prompt=body.system_prompt or "")
    if not own_prompt:
        answers = replace(answers, system_prompt=persona_prompt(attributes.ai_persona))
    if body.temperature is not None:
        answers = replace(answers, temperature=body.temperature)
    if body.max_tokens is not None:
        answers = replace(answers, max_output_tokens=body.max_tokens)
    if body.is_private is not None:
        attributes = replace(attributes, is_private=body.is_private)
    if "tags" in given:
        attributes = replace(attributes, tags=None if body.tags is None else tuple(body.tags))
    archived_at_us = chat.archived_at_us
    if body.archived is not None:
        archived_at_us = (archived_at_us or now_us) if body.archived else None
    return replace(
        chat,
        title=chat.title if body.title is None else body.title,
        description=(body.description or "") if "description" in given else chat.description,
        answers=answers,
        attributes=attributes.stored(),
        archived_at_us=archived_at_us,
    )
