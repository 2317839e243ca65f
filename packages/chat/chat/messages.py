"""Messages, chats and who takes part in them. Times are microseconds since 1970 UTC (`_us`), durations seconds (`_s`).

Fields mean what `protos/switchboard/chat/v1/chat.proto` says of the message of the same name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from chat.errors import Failure

JsonObject = Mapping[str, Any]
"""Somebody's own JSON, kept and given back unread."""


class Role(IntEnum):
    """Who speaks in a message."""

    USER = 1
    ASSISTANT = 2
    SYSTEM = 3


class AnswerState(IntEnum):
    """Where an answer stands; there is no fifth state."""

    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4


class FinishReason(IntEnum):
    """Why the model ended an answer; UNKNOWN while it has not."""

    UNKNOWN = 0
    STOP = 1
    LENGTH = 2
    CONTENT_FILTER = 3
    TOOL_CALLS = 4


class ParticipantRole(IntEnum):
    """What a participant may do in a chat."""

    OWNER = 1
    ADMIN = 2
    MEMBER = 3
    READ_ONLY = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, over all its attempts, and what they cost."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False
    cost_nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to one target."""

    provider: str
    model: str
    duration_s: float
    failure: Failure | None = None
    time_to_first_token_s: float | None = None
    usage: Usage | None = None
    billed: bool = False
    own_key: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A passage from the knowledge store that the model was given."""

    id: str
    title: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of an answer beside its text."""

    state: AnswerState
    finish_reason: FinishReason = FinishReason.UNKNOWN
    provider: str = ""
    model: str = ""
    usage: Usage | None = None
    failure: Failure | None = None
    duration_s: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    sources: tuple[Source, ...] = ()
    without_knowledge: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat's history; `sequence` counts from 1 within the chat."""

    id: str
    chat_id: str
    role: Role
    content: str
    created_at_us: int
    sequence: int = 0
    sender_id: str = ""
    edited_at_us: int | None = None
    reply_to_id: str = ""
    turn_id: str = ""
    metadata: JsonObject | None = None
    answer: Answer | None = None

    @property
    def is_running(self) -> bool:
        """Whether it is an answer under way."""
        return self.answer is not None and self.answer.state is AnswerState.RUNNING


@dataclass(frozen=True, slots=True)
class Participant:
    """One person in a chat."""

    user_id: str
    username: str
    role: ParticipantRole
    joined_at_us: int


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """How answers are made; empty or zero fields take the persona's value."""

    persona: str = ""
    model: str = ""
    system_prompt: str = ""
    temperature: float | None = None
    max_output_tokens: int = 0

    def over(self, other: "AnswerSettings") -> "AnswerSettings":
        """These settings, with `other`'s where these say nothing."""
        return AnswerSettings(
            persona=self.persona or other.persona,
            model=self.model or other.model,
            system_prompt=self.system_prompt or other.system_prompt,
            temperature=other.temperature if self.temperature is None else self.temperature,
            max_output_tokens=self.max_output_tokens or other.max_output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation and its settings."""

    id: str
    dialect: str
    owner_id: str
    title: str = ""
    description: str = ""
    answers: AnswerSettings = AnswerSettings()
    attributes: JsonObject | None = None
    created_at_us: int = 0
    last_activity_at_us: int = 0
    message_count: int = 0
    archived_at_us: int | None = None
    usage: Usage = Usage(0, 0)
    revision: int = 0
    """Of its settings; 0: not known."""
