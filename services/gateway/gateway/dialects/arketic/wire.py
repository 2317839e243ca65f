"""How Arketic writes what we know: times, chats, messages, participants. Pure; the public document's own keys.

What the document does not print (`reply_to_id`, `message_metadata`) is added for those alone who ask for all fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from chat.messages import (
    Answer,
    AnswerState,
    Chat,
    FinishReason,
    JsonObject,
    Message,
    Participant,
    ParticipantRole,
    Role,
)

NAME = "arketic"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MESSAGE_TYPES = {Role.USER: "USER", Role.ASSISTANT: "AI", Role.SYSTEM: "SYSTEM"}
_STATUSES = {
    AnswerState.RUNNING: "PROCESSING",
    AnswerState.COMPLETED: "DELIVERED",
    AnswerState.FAILED: "FAILED",
    AnswerState.CANCELLED: "CANCELLED",
}
_FINISH_REASONS = {
    FinishReason.UNKNOWN: "stop",
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.TOOL_CALLS: "tool_calls",
}


def timestamp(time_us: int) -> str:
    """Microseconds since 1970 as the document writes them: `2024-01-01T12:00:00Z`, whole seconds."""
    return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%SZ")


def micros(seconds: float) -> int:
    """Seconds as microseconds."""
    return round(seconds * 1_000_000)


def milliseconds(seconds: float) -> int:
    """Seconds as whole milliseconds."""
    return round(seconds * 1_000)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What this dialect alone knows of a chat, kept as `Chat.attributes`."""

    chat_type: str = "DIRECT"
    ai_model: str | None = None
    """As the client named it; None: nobody answers in this chat."""
    ai_persona: str | None = None
    is_private: bool = False
    tags: tuple[str, ...] | None = None

    @classmethod
    def of(cls, chat: Chat) -> "Attributes":
        """A chat's."""
        stored = chat.attributes or {}
        tags: Sequence[str] | None = stored.get("tags")
        return cls(
            chat_type=stored.get("chat_type", "DIRECT"),
            ai_model=stored.get("ai_model"),
            ai_persona=stored.get("ai_persona"),
            is_private=stored.get("is_private", False),
            tags=None if tags is None else tuple(tags),
        )

    def stored(self) -> JsonObject:
        """The form in which they are kept."""
        return {
            "chat_type": self.chat_type,
            "ai_model": self.ai_model,
            "ai_persona": self.ai_persona,
            "is_private": self.is_private,
            "tags": None if self.tags is None else list(self.tags),
        }


def chat_object(chat: Chat) -> dict[str, Any]:
    """The document's ChatResponse."""
    attributes = Attributes.of(chat)
    return {
        "id": chat.id,
        "title": chat.title,
        "description": chat.description or None,
        "chat_type": attributes.chat_type,
        "ai_model": attributes.ai_model,
        "ai_persona": attributes.ai_persona,
        "message_count": chat.message_count,
        "last_activity_at": timestamp(chat.last_activity_at_us or chat.created_at_us),
        "created_at": timestamp(chat.created_at_us),
        "is_private": attributes.is_private,
        "tags": None if attributes.tags is None else list(attributes.tags),
    }


def message_object(message: Message, *, all_fields: bool = False) -> dict[str, Any]:
    """The document's MessageResponse."""
    answer = message.answer
    said = {
        "id": message.id,
        "chat_id": message.chat_id,
        "sender_id": message.sender_id or None,
        "content": message.content,
        "message_type": _MESSAGE_TYPES[message.role],
        "ai_model_used": (answer.model or None) if answer else None,
        "tokens_used": tokens_used(answer),
        "processing_time_ms": processing_time_ms(answer),
        "status": _STATUSES[answer.state] if answer else "DELIVERED",
        "created_at": timestamp(message.created_at_us),
        "is_edited": message.edited_at_us is not None,
    }
    return said | unprinted(message) if all_fields else said


def said_object(message: Message, *, all_fields: bool = False) -> dict[str, Any]:
    """The message of a `new_message` frame."""
    said = {
        "id": message.id,
        "chat_id": message.chat_id,
        "sender_id": message.sender_id or None,
        "content": message.content,
        "message_type": _MESSAGE_TYPES[message.role],
        "created_at": timestamp(message.created_at_us),
    }
    return said | unprinted(message) if all_fields else said


def unprinted(message: Message) -> dict[str, Any]:
    """What a message has beside the document's fields."""
    return {
        "reply_to_id": message.reply_to_id or None,
        "message_metadata": None if message.metadata is None else dict(message.metadata),
    }


def participant_object(participant: Participant) -> dict[str, Any]:
    """Who somebody is in a chat, and what they may do."""
    may_send = participant.role is not ParticipantRole.READ_ONLY
    return {
        "user_id": participant.user_id,
        "role": participant.role.name,
        "joined_at": timestamp(participant.joined_at_us),
        "can_send_messages": may_send,
        "can_upload_files": may_send,
    }


def tokens_used(answer: Answer | None) -> int | None:
    """All tokens of an answer, what was read and what was written; None: nobody has counted yet."""
    if answer is None or answer.usage is None:
        return None
    return answer.usage.input_tokens + answer.usage.output_tokens


def processing_time_ms(answer: Answer | None) -> int | None:
    """How long an answer took; None: it is under way, or nobody knows."""
    return milliseconds(answer.duration_s) if answer and answer.duration_s else None


def status_word(state: AnswerState) -> str:
    """An answer's status."""
    return _STATUSES[state]


def finish_word(answer: Answer) -> str:
    """Why an answer ended."""
    return "cancelled" if answer.state is AnswerState.CANCELLED else _FINISH_REASONS[answer.finish_reason]
