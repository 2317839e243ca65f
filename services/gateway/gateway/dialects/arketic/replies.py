"""What Arketic's endpoints answer, with the document's own examples; `wire.py` and the endpoints write it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.openapi import example

CHAT_ID = "123e4567-e89b-12d3-a456-426614174000"
"""A chat's, in examples."""
_CHAT: dict[str, Any] = {
    "id": CHAT_ID,
    "title": "My AI Chat",
    "description": "Chat about AI development topics",
    "chat_type": "DIRECT",
    "ai_model": "gpt-4",
    "ai_persona": "helpful assistant",
    "message_count": 15,
    "last_activity_at": "2024-01-01T12:30:00Z",
    "created_at": "2024-01-01T12:00:00Z",
    "is_private": False,
    "tags": ["ai", "development"],
}
_MESSAGE: dict[str, Any] = {
    "id": "msg-125",
    "chat_id": CHAT_ID,
    "sender_id": "user-456",
    "content": "Can you explain how async/await works in Python?",
    "message_type": "USER",
    "ai_model_used": None,
    "tokens_used": None,
    "processing_time_ms": None,
    "status": "DELIVERED",
    "created_at": "2024-01-01T12:31:00Z",
    "is_edited": False,
}
_PARTICIPANT: dict[str, Any] = {
    "user_id": "user-456",
    "role": "OWNER",
    "joined_at": "2024-01-01T12:00:00Z",
    "can_send_messages": True,
    "can_upload_files": True,
}
TIME = "2024-01-01T12:32:00Z"
USER: dict[str, Any] = {"user_id": "user-456", "username": "johndoe"}

Role = Literal["OWNER", "ADMIN", "MEMBER", "READ_ONLY"]
MessageType = Literal["USER", "AI", "SYSTEM"]
Status = Literal["PROCESSING", "DELIVERED", "FAILED", "CANCELLED"]
Circuit = Literal["CLOSED", "OPEN", "HALF_OPEN"]
Word = Literal["healthy", "unhealthy"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "cancelled"]
Timestamp = Annotated[str, Field(pattern=r"^\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", description="UTC, in whole seconds.")]


def done(message: str, content: dict[str, Any]) -> dict[str, Any]:
    """An example of the form that most of these answers have."""
    return {"success": True, "message": message, "data": content, "timestamp": TIME}


class UserInfo(BaseModel):
    """Who calls."""

    user_id: str
    username: str


class ChatResponse(BaseModel):
    """A chat."""

    model_config = example(_CHAT)
    id: str
    title: str
    description: str | None
    chat_type: Literal["DIRECT", "GROUP", "CHANNEL"]
    ai_model: str | None
    ai_persona: str | None
    message_count: int
    last_activity_at: Timestamp
    created_at: Timestamp
    is_private: bool
    tags: list[str] | None


class MessageResponse(BaseModel):
    """A message; with `?fields=all` also `reply_to_id` and `message_metadata`."""

    model_config = ConfigDict(extra="allow") | example(_MESSAGE)
    id: str
    chat_id: str
    sender_id: str | None
    content: str
    message_type: MessageType
    ai_model_used: str | None
    tokens_used: int | None
    processing_time_ms: int | None
    status: Status
    created_at: Timestamp
    is_edited: bool


class ChatHistory(BaseModel):
    """A chat with a page of its messages."""

    model_config = example({"chat": _CHAT, "messages": [_MESSAGE], "participant_count": 1})
    chat: ChatResponse
    messages: list[MessageResponse]
    participant_count: int


class ChatDeleted(BaseModel):
    """A chat is gone."""

    model_config = example({"status": "deleted", "chat_id": CHAT_ID, "timestamp": TIME})
    status: Literal["deleted"]
    chat_id: str
    timestamp: Timestamp


class TypingSent(BaseModel):
    """Others were told that the user types."""

    model_config = example({"status": "sent", "timestamp": "2024-01-01T12:31:30Z"})
    status: Literal["sent"]
    timestamp: Timestamp


class AnswerStopped(BaseModel):
    """What came of a wish to stop an answer."""

    model_config = example({"status": "cancelled", "message_id": "msg-126", "timestamp": TIME})
    status: Literal["cancelled", "not_running"]
    message_id: str
    timestamp: Timestamp


class ParticipantResponse(BaseModel):
    """Who somebody is in a chat."""

    model_config = example(_PARTICIPANT)
    user_id: str
    role: Role
    joined_at: Timestamp
    can_send_messages: bool
    can_upload_files: bool


class ListedParticipant(ParticipantResponse):
    """The same, with what they did there."""

    model_config = example({**_PARTICIPANT, "message_count": 25, "last_read_at": None})
    message_count: int
    last_read_at: Timestamp | None


class Participants(BaseModel):
    """Who takes part in a chat."""

    model_config = example(
        {
            "chat_id": CHAT_ID,
            "participants": [{**_PARTICIPANT, "message_count": 25, "last_read_at": "2024-01-01T12:30:00Z"}],
            "total_participants": 1,
        }
    )
    chat_id: str
    participants: list[ListedParticipant]
    total_participants: int


class ParticipantRemoved(BaseModel):
    """Somebody takes part no longer."""

    model_config = example({"status": "removed", "chat_id": CHAT_ID, "user_id": "user-789", "timestamp": TIME})
    status: Literal["removed"]
    chat_id: str
    user_id: str
    timestamp: Timestamp


class KeyStored(BaseModel):
    """That a user has a key for a provider; the key itself is never given back."""

    model_config = example({"provider": "openai", "configured": True, "version": 1, "updated_at": TIME})
    provider: str
    configured: Literal[True]
    version: int
    updated_at: Timestamp


class KeyDeleted(BaseModel):
    """That a user has none."""

    model_config = example({"provider": "openai", "configured": False})
    provider: str
    configured: Literal[False]
