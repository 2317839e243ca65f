"""What the gateway needs of the other services, in the kernel's words. `clients/` hold the adapters, over gRPC.

Every method may raise SwitchboardError: UNAVAILABLE when the service or Redis can't be reached, DEADLINE_EXCEEDED when
it did not answer in time; other codes are named below. What each call does is said in full in the protos.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

from chat.events import Event, Presence, Typing
from chat.messages import Answer, AnswerSettings, Chat, JsonObject, Message, Participant, ParticipantRole, Role
from chat.position import Position

from gateway.prompts import GenerateRequest


@dataclass(frozen=True, slots=True)
class DialectSession:
    """A name that stands for a chat for a while."""

    dialect: str
    name: str
    chat_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Utterance:
    """A message on its way into a chat. With a `key`, sending it again appends nothing."""

    chat_id: str
    content: str
    sender_id: str
    """Who says it; who must be allowed to, unless it is empty."""
    key: str = ""
    role: Role = Role.USER
    reply_to_id: str = ""
    metadata: JsonObject | None = None
    without_answer: bool = False
    """Nobody answers it: there is no turn."""
    ephemeral: bool = False
    """Neither it nor its answer is kept; both have sequence 0."""
    answer_again: str = ""
    """Ask for another answer to this message of the history, in place of saying anything."""
    answers: AnswerSettings | None = None
    """Over the chat's own settings, for this answer."""
    key_id: str = ""
    """Names the API key that the client showed, without telling it: its limits count, too."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How the nearest of the caller's limits stands."""

    name: str
    quota: int
    """Messages allowed in a window, without earlier ones."""
    window_s: float
    remaining: int
    """Messages that may be sent at once now."""
    reset_s: float
    """Until the whole quota is there again."""


class TurnState(IntEnum):
    """Where a turn stands."""

    NONE = 0
    QUEUED = 1
    DUE = 2
    RUNNING = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6


@dataclass(frozen=True, slots=True)
class Begun:
    """A message that was appended, and the turn that answers it; `repeated`: an earlier send had appended it."""

    message: Message
    turn_id: str
    answer_id: str
    position: Position
    state: TurnState
    repeated: bool
    limit: RateLimit | None = None
    """None: limits are off, or the send was a repeat."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """What brings a reader to `position`: either `messages`, a snapshot for who must start anew, or `events`.

    `events` may end before the log does. `text_before` is the text that the answer under way had before the first of
    them; without events it is not known.
    """

    position: Position
    events: tuple[Event | None, ...] = ()
    messages: tuple[Message, ...] | None = None
    text_before: str = ""


@dataclass(frozen=True, slots=True)
class ChatEvents:
    """Events of one chat in order, the first at `offset` of `epoch`; an empty epoch: they have no position.

    None stands for an event of a kind that this version does not know: its position counts.
    """

    chat_id: str
    epoch: str
    offset: int
    events: Sequence[Event | None]


@dataclass(frozen=True, slots=True)
class Followed:
    """The chat is followed: every event after the position will come."""

    chat_id: str
    position: Position


@dataclass(frozen=True, slots=True)
class Lost:
    """The chat is followed no longer. `gone`: there is no such chat any more; else read the log and follow it again."""

    chat_id: str
    gone: bool


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """What came over the change stream at once; to be taken in the order of the fields."""

    followed: Sequence[Followed] = ()
    events: Sequence[ChatEvents] = ()
    lost: Sequence[Lost] = ()


class ChangeStream(Protocol):
    """One process's view of changing chats. It may break at any time; what was missed is read from the log."""

    async def follow(self, add: Sequence[str], remove: Sequence[str]) -> None:
        """Follows more chats and others no longer. Each added one is answered by Followed or Lost."""
        ...

    async def next(self) -> ChangeBatch:
        """The next batch. Raises: SwitchboardError when the stream has broken."""
        ...

    def close(self) -> None:
        """Ends the stream."""
        ...


class Sessions(Protocol):
    """Chats, their logs and their turns: the session service.

    `user_id` is who acts: with it, PERMISSION_DENIED is raised unless that user is the chat's owner or a participant
    whose role allows what is asked (see ParticipantRole in chat.proto). Empty: the dialect itself has made sure.
    """

    async def open_session(
        self, dialect: str, name: str, chat: Chat, *, ttl_s: int = 86_400
    ) -> tuple[DialectSession, bool]:
        """Opens the session of that name, or returns the open one; whether it was made. `chat` is used if it was. It
        stays open for `ttl_s` (a minute to 365 days) after it was last used."""
        ...

    async def get_session(self, dialect: str, name: str) -> DialectSession:
        """The open session of that name, its time extended. Raises: NOT_FOUND."""
        ...

    async def close_session(self, dialect: str, name: str) -> None:
        """Ends a session and deletes its chat; its readers see ChatDeleted. Raises: NOT_FOUND."""
        ...

    async def create_chat(self, chat: Chat, *, owner_name: str = "") -> Chat:
        """Makes a chat, or returns the one that is there under its id, dialect and owner. Raises: ALREADY_EXISTS:
        another's."""
        ...

    async def get_chat(self, chat_id: str, dialect: str, *, user_id: str = "") -> Chat:
        """A chat that this dialect made. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def update_chat(self, chat: Chat, *, user_id: str = "") -> Chat:
        """Replaces title, description, answers, attributes and archived_at; its readers see ChatUpdated.

        Raises: NOT_FOUND, PERMISSION_DENIED, CONFLICT (it has changed since `chat` was read: nothing was replaced).
        """
        ...

    async def delete_chat(self, chat_id: str, *, reason: str, user_id: str = "") -> None:
        """Deletes a chat and its history; its readers see ChatDeleted. Raises: PERMISSION_DENIED."""
        ...

    async def list_chats(self, user_id: str, dialect: str, *, limit: int, offset: int = 0) -> tuple[Chat, ...]:
        """The chats that a user takes part in, the last active first; `limit` 1 to 1,000."""
        ...

    async def list_participants(self, chat_id: str, *, user_id: str = "") -> tuple[Participant, ...]:
        """Who takes part, by the time they joined. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def put_participant(
        self, chat_id: str, participant_id: str, username: str, role: ParticipantRole, *, user_id: str = ""
    ) -> Participant:
        """Adds a participant or changes one's role. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def remove_participant(self, chat_id: str, participant_id: str, *, user_id: str = "") -> None:
        """Removes a participant; nothing happens when there is no such one. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def list_messages(
        self, chat_id: str, *, limit: int, offset: int = 0, from_end: bool = True, user_id: str = ""
    ) -> tuple[Message, ...]:
        """The `limit` (1 to 1,000) messages before the last `offset` ones, or, not `from_end`, behind the first ones;
        oldest first. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def get_message(self, chat_id: str, message_id: str, *, user_id: str = "") -> Message:
        """One message of the history. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def edit_message(self, chat_id: str, message_id: str, content: str, *, user_id: str = "") -> Message:
        """Replaces a message's content; its readers see MessageEdited. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def begin_turn(self, utterance: Utterance) -> Begun:
        """Appends a message and makes its turn due. Raises: NOT_FOUND, PERMISSION_DENIED, RATE_LIMITED, QUEUE_FULL
        (nothing was stored)."""
        ...

    async def cancel_turn(self, chat_id: str, *, turn_id: str = "", cancelled_by: str = "") -> tuple[str, ...]:
        """Stops the turn, or the one that runs or is due; the ids of those that it ended. `cancelled_by` acts.

        Raises: NOT_FOUND, PERMISSION_DENIED.
        """
        ...

    async def notify(self, chat_id: str, event: Typing | Presence, *, user_id: str = "") -> None:
        """Tells who reads the chat now. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def read_log(
        self, chat_id: str, after: Position | None, *, snapshot_messages: int, user_id: str = ""
    ) -> LogPage:
        """What a reader at `after` needs; a snapshot has at most so many messages. The user's role is looked at in the
        same step. Raises: NOT_FOUND, PERMISSION_DENIED."""
        ...

    async def open_stream(self) -> ChangeStream:
        """A new change stream that follows nothing yet."""
        ...

    async def check_store(self) -> bool:
        """Whether Redis answers. Raises when the service itself can't be reached."""
        ...


@dataclass(frozen=True, slots=True)
class Started:
    """A target has begun to answer."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text to add to the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The model's reasoning, to add to what came of it; no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. `id` and `name` are set in the call's first piece, and in no other."""

    index: int
    """Which of the answer's calls, from 0."""
    id: str = ""
    name: str = ""
    arguments: str = ""
    """A piece of the arguments' JSON."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole."""

    answer: Answer


Piece: TypeAlias = Started | Text | Reasoning | ToolCallDelta | Finished


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked for, and the provider of its first target."""

    id: str
    provider: str


class Models(Protocol):
    """Answers without a chat, and the fast way to have a turn answered: the LLM worker."""

    def generate(self, request: GenerateRequest, *, user_id: str) -> AsyncIterator[Piece]:
        """Streams one answer; closing the iterator ends the provider's call. It ends with Finished, or raises.

        Raises: NOT_FOUND (the model), PROVIDER_UNAVAILABLE, PROVIDER_REFUSED, NO_API_KEY, CONTEXT_TOO_LONG,
        RATE_LIMITED, OVERLOADED, INVALID_ARGUMENT, TOO_LARGE (more than our services pass on). After something has
        come, what came is then not the whole answer.
        """
        ...

    async def start_turn(self, chat_id: str, turn_id: str) -> bool:
        """Has a due turn answered by a worker at once; whether it was claimed now."""
        ...

    async def list_models(self) -> tuple[Model, ...]:
        """The models that can be asked for."""
        ...


class Turns(Protocol):
    """How a message becomes a turn; see `turn.py`."""

    async def begin(self, utterance: Utterance) -> Begun:
        """Appends the message and has it answered. Raises as Sessions.begin_turn."""
        ...


class Answers(Protocol):
    """Whole answers; see `answer_wait.py`."""

    async def wait(self, chat_id: str, begun: Begun) -> Message:
        """The answer to what was begun, once it has ended, however it ended; cancelled, the turn goes on.

        Raises: NOT_FOUND (the chat is gone), INTERNAL (the answer was lost), DEADLINE_EXCEEDED.
        """
        ...
