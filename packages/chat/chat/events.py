"""The events of a chat's log: a closed union, so that a `match` over it ends in `assert_never`.

Fields mean what `protos/switchboard/chat/v1/event.proto` says of the event of the same name. Offsets and lengths of
text count bytes of UTF-8 (`utf8_length`).
"""

from dataclasses import dataclass
from typing import TypeAlias

from chat.messages import Answer, Chat, JsonObject, Message, Participant


@dataclass(frozen=True, slots=True)
class MessageCreated:
    """A person's or system's message was appended; ids are empty when nobody answers it."""

    message: Message
    turn_id: str = ""
    answer_id: str = ""


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """A worker began to answer; the message is empty and its answer RUNNING."""

    message: Message


@dataclass(frozen=True, slots=True)
class ResponseDelta:
    """Text was added to the end of the answer, which was `text_offset` bytes long."""

    message_id: str
    text_offset: int
    text: str


@dataclass(frozen=True, slots=True)
class ResponseCompleted:
    """The answer is whole: `text_length` bytes."""

    message_id: str
    text_length: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class ResponseFailed:
    """The answer broke; `answer.failure` says how, and the text so far stays."""

    message_id: str
    text_length: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class ResponseCancelled:
    """Somebody stopped the answer; the text so far stays."""

    message_id: str
    text_length: int
    cancelled_by: str = ""


@dataclass(frozen=True, slots=True)
class ResponseRestarted:
    """The text so far is void; the answer starts again under the same id."""

    message_id: str


@dataclass(frozen=True, slots=True)
class MessageEdited:
    """A message's content was replaced."""

    message_id: str
    content: str
    edited_at_us: int


@dataclass(frozen=True, slots=True)
class ParticipantAdded:
    """Somebody joined, or has another role now."""

    participant: Participant


@dataclass(frozen=True, slots=True)
class ParticipantRemoved:
    """Somebody left or was removed."""

    user_id: str


@dataclass(frozen=True, slots=True)
class ChatUpdated:
    """The chat's settings changed; the whole chat as it is now."""

    chat: Chat


@dataclass(frozen=True, slots=True)
class ChatDeleted:
    """The chat and its history are gone."""

    reason: str


@dataclass(frozen=True, slots=True)
class Typing:
    """Somebody is writing; no position, never stored."""

    user_id: str
    username: str
    time_us: int


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody came or went; no position, never stored."""

    user_id: str
    present: bool
    attributes: JsonObject | None = None


LogEvent: TypeAlias = (
    MessageCreated
    | ResponseStarted
    | ResponseDelta
    | ResponseCompleted
    | ResponseFailed
    | ResponseCancelled
    | ResponseRestarted
    | MessageEdited
    | ParticipantAdded
    | ParticipantRemoved
    | ChatUpdated
    | ChatDeleted
)
"""What has a position in the log."""

PassingEvent: TypeAlias = Typing | Presence
"""What is seen by who is there, and has no position."""

Event: TypeAlias = LogEvent | PassingEvent

TERMINAL = (ResponseCompleted, ResponseFailed, ResponseCancelled)
"""The events that end a turn."""


def utf8_length(text: str) -> int:
    """The length of `text` in bytes of UTF-8."""
    # Nearly all deltas are ASCII, and CPython knows that of a string without looking at it again.
    return len(text) if text.isascii() else len(text.encode())
