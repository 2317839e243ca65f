"""The WebSocket's frames for the AsyncAPI document, with the document's own examples; `socket.py` and `renderer.py`
read and write them. With `?events=all` there are more frames, and more in a message."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.channel import Channel, Flag, heard, told
from gateway.credential import Credential
from gateway.dialects.arketic.replies import (
    CHAT_ID,
    ChatResponse,
    MessageType,
    ParticipantResponse,
    Status,
    Timestamp,
)
from gateway.dialects.arketic.wire import NAME

_TIME = "2024-01-01T12:00:00Z"
_STARTED: dict[str, Any] = {
    "id": "msg-126",
    "chat_id": CHAT_ID,
    "sender_id": None,
    "content": "",
    "message_type": "AI",
    "ai_model_used": "gpt-4",
    "created_at": "2024-01-01T12:31:15Z",
    "status": "PROCESSING",
    "is_streaming": True,
}
_COMPLETE: dict[str, Any] = {
    **_STARTED,
    "content": "Hello! I'd be happy to help you with your Python questions.",
    "tokens_used": 15,
    "processing_time_ms": 1250,
    "status": "DELIVERED",
    "is_streaming": False,
}


class Ping(BaseModel):
    """Asks for a pong, which repeats the timestamp."""

    model_config = heard({"type": "ping", "timestamp": _TIME})
    type: Literal["ping"]
    timestamp: Annotated[str, Field(max_length=64)] = ""


class Heartbeat(BaseModel):
    """Says that the client is there; it gets no reply."""

    model_config = heard({"type": "heartbeat", "timestamp": _TIME})
    type: Literal["heartbeat"]


class TypingNow(BaseModel):
    """Says that the user types; the others are told, once a second at most."""

    model_config = heard({"type": "typing"})
    type: Literal["typing"]


class Cancel(BaseModel):
    """Stops an answer, named by its id or by that of the message it answers; without an id, the one under way."""

    model_config = heard({"type": "cancel", "message_id": "msg-126"}, {"type": "cancel"})
    type: Literal["cancel"]
    message_id: str | None = None


class Welcome(BaseModel):
    """The first frame for who was let in."""

    model_config = told(
        {
            "type": "welcome",
            "message": "Connected to chat",
            "chat_id": CHAT_ID,
            "user_id": "user-456",
            "username": "johndoe",
            "timestamp": _TIME,
            "server_time": _TIME,
        }
    )
    type: Literal["welcome"]
    message: str
    chat_id: str
    user_id: str
    username: str
    timestamp: Timestamp
    server_time: Timestamp


class Said(BaseModel):
    """What somebody said."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    id: str
    chat_id: str
    sender_id: str | None
    content: str
    message_type: MessageType
    created_at: Timestamp
    reply_to_id: Annotated[str | None, Field(description="With `?events=all`.")] = None
    message_metadata: Annotated[dict[str, Any] | None, Field(description="With `?events=all`.")] = None


class NewMessage(BaseModel):
    """Somebody said something."""

    model_config = told(
        {
            "type": "new_message",
            "message": {
                "id": "msg-125",
                "chat_id": CHAT_ID,
                "sender_id": "user-456",
                "content": "Hello everyone!",
                "message_type": "USER",
                "created_at": "2024-01-01T12:31:00Z",
            },
        }
    )
    type: Literal["new_message"]
    message: Said


class StartedAnswer(BaseModel):
    """An answer that has no text yet."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    id: str
    chat_id: str
    sender_id: None
    content: Literal[""]
    message_type: Literal["AI"]
    ai_model_used: str | None
    created_at: Timestamp
    status: Literal["PROCESSING"]
    is_streaming: Literal[True]


class AiResponseStart(BaseModel):
    """An answer begins; a second one of the same id: it begins anew, and what came before counts no longer."""

    model_config = told({"type": "ai_response_start", "message": _STARTED})
    type: Literal["ai_response_start"]
    message: StartedAnswer


class AiResponseChunk(BaseModel):
    """A piece of an answer. All pieces add up to it; `full_content`, what they add up to so far, can be turned off."""

    model_config = told(
        {
            "type": "ai_response_chunk",
            "message_id": "msg-126",
            "chat_id": CHAT_ID,
            "chunk": " to help you",
            "full_content": "Hello! I'd be happy to help you",
        }
    )
    type: Literal["ai_response_chunk"]
    message_id: str
    chat_id: str
    chunk: str
    full_content: Annotated[str, Field(description="Not with `?full_content=false`.")] = ""


class EndedAnswer(BaseModel):
    """A whole answer."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    id: str
    chat_id: str
    sender_id: None
    content: str
    message_type: Literal["AI"]
    ai_model_used: str | None
    tokens_used: int | None
    processing_time_ms: int | None
    created_at: Timestamp
    status: Status
    is_streaming: Literal[False]


class AiResponseComplete(BaseModel):
    """An answer has ended; its status says how."""

    model_config = told({"type": "ai_response_complete", "message": _COMPLETE})
    type: Literal["ai_response_complete"]
    message: EndedAnswer


class TypingIndicator(BaseModel):
    """Somebody types."""

    model_config = told(
        {
            "type": "typing_indicator",
            "chat_id": CHAT_ID,
            "user_id": "user-456",
            "username": "johndoe",
            "timestamp": "2024-01-01T12:31:30Z",
        }
    )
    type: Literal["typing_indicator"]
    chat_id: str
    user_id: str
    username: str
    timestamp: Timestamp


class Pong(BaseModel):
    """The reply to a ping."""

    model_config = told({"type": "pong", "timestamp": _TIME, "server_time": "2024-01-01T12:00:15Z"})
    type: Literal["pong"]
    timestamp: str
    server_time: Timestamp


class AiError(BaseModel):
    """Something failed: an answer, a frame, or, before the connection is closed, the visit."""

    model_config = told(
        {
            "type": "ai_error",
            "error": "Please set up your OpenAI API key in Settings to enable AI responses.",
            "chat_id": CHAT_ID,
            "error_code": "no_api_key",
            "timestamp": "2024-01-01T12:32:30Z",
        }
    )
    type: Literal["ai_error"]
    error: str
    chat_id: Annotated[str | None, Field(description="Null for who was not let in.")]
    error_code: str
    timestamp: Timestamp


class Edited(BaseModel):
    """A message's new text."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    id: str
    chat_id: str
    content: str
    is_edited: Literal[True]
    edited_at: Timestamp


class MessageEdited(BaseModel):
    """With `?events=all`: a message's text was replaced."""

    model_config = told(
        {
            "type": "message_edited",
            "message": {
                "id": "msg-125",
                "chat_id": CHAT_ID,
                "content": "Hello all!",
                "is_edited": True,
                "edited_at": "2024-01-01T12:33:00Z",
            },
        }
    )
    type: Literal["message_edited"]
    message: Edited


class ParticipantAdded(BaseModel):
    """With `?events=all`: somebody takes part, or has another role."""

    model_config = told(
        {
            "type": "participant_added",
            "chat_id": CHAT_ID,
            "participant": {
                "user_id": "user-789",
                "role": "MEMBER",
                "joined_at": "2024-01-01T12:33:00Z",
                "can_send_messages": True,
                "can_upload_files": True,
            },
        }
    )
    type: Literal["participant_added"]
    chat_id: str
    participant: ParticipantResponse


class ParticipantRemoved(BaseModel):
    """With `?events=all`: somebody takes part no longer."""

    model_config = told({"type": "participant_removed", "chat_id": CHAT_ID, "user_id": "user-789"})
    type: Literal["participant_removed"]
    chat_id: str
    user_id: str


class ChatUpdated(BaseModel):
    """With `?events=all`: the chat was changed, archived or brought back."""

    model_config = told(
        {
            "type": "chat_updated",
            "chat": {
                "id": CHAT_ID,
                "title": "My AI Chat, continued",
                "description": None,
                "chat_type": "DIRECT",
                "ai_model": "gpt-4",
                "ai_persona": None,
                "message_count": 15,
                "last_activity_at": "2024-01-01T12:30:00Z",
                "created_at": _TIME,
                "is_private": False,
                "tags": None,
            },
        }
    )
    type: Literal["chat_updated"]
    chat: ChatResponse


class ChatDeleted(BaseModel):
    """With `?events=all`: the chat is gone, and the connection is closed."""

    model_config = told({"type": "chat_deleted", "chat_id": CHAT_ID})
    type: Literal["chat_deleted"]
    chat_id: str


class SocketQuery(BaseModel):
    """What the WebSocket's query may hold."""

    model_config = ConfigDict(defer_build=True)
    full_content: Annotated[Flag, Field(description="`false`: chunks come at once and don't repeat the text.")] = "true"
    events: Annotated[
        Literal["document", "all"], Field(description="`all` adds frames and fields that the document does not print.")
    ] = "document"


def channel(idle_s: float) -> Channel:
    """The WebSocket of a chat, whose client is closed after so long a silence."""
    return Channel(
        name=NAME,
        title="Arketic",
        summary="A chat of people and an AI. Messages are sent over HTTP; here everybody sees them.",
        hears=(Ping, Heartbeat, TypingNow, Cancel),
        tells=(
            Welcome,
            NewMessage,
            AiResponseStart,
            AiResponseChunk,
            AiResponseComplete,
            TypingIndicator,
            Pong,
            AiError,
            MessageEdited,
            ParticipantAdded,
            ParticipantRemoved,
            ChatUpdated,
            ChatDeleted,
        ),
        parameters={"chat_id": "A chat that the user takes part in."},
        query=SocketQuery,
        credentials=(Credential.TOKEN_IN_QUERY, Credential.USER_TOKEN),
        idle_s=idle_s,
    )
