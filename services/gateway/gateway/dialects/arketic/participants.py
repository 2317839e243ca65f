"""Endpoint 7, and beside it: adding participants, changing their roles, removing them.

The session service says who may: the owner everything, admins all but making and removing admins, everybody leaves.
"""

from typing import Any

from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Chat, Participant, ParticipantRole
from fastapi import APIRouter, Request

from gateway.dialect import Services
from gateway.dialects.arketic.access import NO_ACCESS, NO_CHAT, enter, refused_as
from gateway.dialects.arketic.forms import AddParticipant, ChangeParticipant
from gateway.dialects.arketic.reading import Contributions, Readings
from gateway.dialects.arketic.replies import ParticipantRemoved, ParticipantResponse, Participants
from gateway.dialects.arketic.wire import Attributes, micros, participant_object, timestamp
from gateway.http import caller_of
from gateway.openapi import responses

MAX_PARTICIPANTS = 1_000
"""All of them are listed at once, each with a look at when they last read. Of several that are added at the same moment
some may come in beyond it."""
_FULL = f"A chat has at most {MAX_PARTICIPANTS:,} participants"
_NOT_ALLOWED = "Your role in this chat does not allow that"
_NO_PARTICIPANT = "Participant not found"


def add_participants(router: APIRouter, services: Services, readings: Readings) -> None:
    """Adds the endpoints."""
    sessions = services.sessions
    contributions = Contributions(sessions)

    @router.get(
        "/chats/{chat_id}/participants",
        response_model=Participants,
        responses=responses(refusals={403: NO_ACCESS}),
    )
    async def list_participants(chat_id: str, request: Request) -> dict[str, Any]:
        """Who takes part. The document knows no 404 here: a chat that is not there is one without access."""
        user_id = caller_of(request).user_id
        try:
            chat = await enter(sessions, chat_id, user_id)
        except SwitchboardError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            raise SwitchboardError(ErrorCode.PERMISSION_DENIED, NO_ACCESS) from error
        said = await contributions.by_sender(chat, user_id)
        participants = await sessions.list_participants(chat.id, user_id=user_id)
        read = await readings.last_of(chat.id, [participant.user_id for participant in participants])
        listed = [
            participant_object(participant)
            | {
                "message_count": said.get(participant.user_id, 0),
                "last_read_at": None if read_us is None else timestamp(read_us),
            }
            for participant, read_us in zip(participants, read, strict=True)
        ]
        return {"chat_id": chat.id, "participants": listed, "total_participants": len(listed)}

    @router.post(
        "/chats/{chat_id}/participants",
        response_model=ParticipantResponse,
        responses=responses(refusals={400: _FULL, 403: _NOT_ALLOWED, 404: NO_CHAT}),
    )
    async def add_participant(chat_id: str, body: AddParticipant, request: Request) -> dict[str, Any]:
        """Adds a participant, or changes one who takes part: what the body leaves out stays as it is."""
        user_id = caller_of(request).user_id
        chat = await enter(sessions, chat_id, user_id)
        async with refused_as(_NOT_ALLOWED):
            participants = await sessions.list_participants(chat.id, user_id=user_id)
            known = next((one for one in participants if one.user_id == body.user_id), None)
            if known is None and len(participants) >= MAX_PARTICIPANTS:
                raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, _FULL)
            username = body.username or (known.username if known else "")
            added = await sessions.put_participant(
                chat.id, body.user_id, username, _role(chat, body.role, known), user_id=user_id
            )
        return participant_object(added)

    @router.patch(
        "/chats/{chat_id}/participants/{participant_id:path}",
        response_model=ParticipantResponse,
        responses=responses(refusals={403: _NOT_ALLOWED, 404: _NO_PARTICIPANT}),
    )
    async def change_participant(
        chat_id: str, participant_id: str, body: ChangeParticipant, request: Request
    ) -> dict[str, Any]:
        """Changes a participant's role."""
        user_id = caller_of(request).user_id
        chat = await enter(sessions, chat_id, user_id)
        async with refused_as(_NOT_ALLOWED):
            participants = await sessions.list_participants(chat.id, user_id=user_id)
            known = next((one for one in participants if one.user_id == participant_id), None)
            if known is not None:
                changed = await sessions.put_participant(
                    chat.id, known.user_id, known.username, ParticipantRole[body.role], user_id=user_id
                )
                return participant_object(changed)
        raise SwitchboardError(ErrorCode.NOT_FOUND, _NO_PARTICIPANT)

    @router.delete(
        "/chats/{chat_id}/participants/{participant_id:path}",
        response_model=ParticipantRemoved,
        responses=responses(refusals={403: _NOT_ALLOWED, 404: _NO_PARTICIPANT}),
    )
    async def remove_participant(chat_id: str, participant_id: str, request: Request) -> dict[str, Any]:
        """Removes a participant; by one's own id one leaves. 404: there is no such one."""
        user_id = caller_of(request).user_id
        chat = await enter(sessions, chat_id, user_id, archived_too=True)
        async with refused_as(_NOT_ALLOWED):
            participants = await sessions.list_participants(chat.id, user_id=user_id)
            known = any(one.user_id == participant_id for one in participants)
            if known:
                await sessions.remove_participant(chat.id, participant_id, user_id=user_id)
        if not known:
            raise SwitchboardError(ErrorCode.NOT_FOUND, _NO_PARTICIPANT)
        await readings.forget(chat.id, [participant_id])
        return {
            "status": "removed",
            "chat_id": chat.id,
            "user_id": participant_id,
            "timestamp": timestamp(micros(services.now_s())),
        }


def _role(chat: Chat, wanted: str | None, known: Participant | None) -> ParticipantRole:
    """Of who is added: as it is wanted, else as it was. In a CHANNEL few write and many read."""
    if wanted is not None:
        return ParticipantRole[wanted]
    # Nobody puts an owner, who is refused whatever role is asked for.
    if known is not None and known.role is not ParticipantRole.OWNER:
        return known.role
    is_channel = Attributes.of(chat).chat_type == "CHANNEL"
    return ParticipantRole.READ_ONLY if is_channel else ParticipantRole.MEMBER
