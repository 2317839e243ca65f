"""elogrants: a user's chat sessions; over the WebSocket an answer is one frame, history comes over HTTP.

Public document: `apis/elogrants.md`. Subsystem: docs/subsystems/gateway.md.

    WS   /ws/chat/                              a new session
    WS   /ws/chat/?session_id=<session_id>      goes on with one
    GET  /chat/sessions?limit=50&offset=0                           (ours)
    GET  /chat/sessions/{session_id}/messages?limit=50&offset=0     (ours)
    POST /chat/sessions/{session_id}/stop                           (ours)

    in:  {"message": "Hello AI!", "session_id": "8f..."}
    out: {"session_id": "8f..."}                                    (first, when no session was named)
         {"message": "Hello! How can I assist you today?", "session_id": "8f..."}
         {"error": "...", "session_id": "8f..."}

What the document leaves open:
- The credential is a user's token, over HTTP and on the WebSocket. A session belongs to the user who began it: to
  anybody else it is as unknown as one that never was (an `error` frame and 1008; 404 over HTTP).
- `/ws/chat`, without the slash, is the same.
- A new session is stored with its first message: until then nobody can connect to it, and it is not listed; nor is it
  when that message is refused for a limit. Its title is how that message begins.
- A frame's `session_id` beats the connection's, and the answer comes on this connection; without one, or with an empty
  one or null, the connection's own is meant. An unknown one gets an `error` frame with that very id. An empty
  `?session_id=` begins a new session.
- Each answer ends in exactly one frame: the whole text, as the model wrote it, when it completed or was stopped (with
  what was said so far); `error` when it failed, and what was said before is in the history. Answers that ended while
  nobody was connected are in the history alone; one under way is joined. Who is connected gets those, too, that ended
  while we could not be told of it.
- `?stream=true` adds `{"delta": ..., "session_id": ...}` frames before it. What they add up to is its `message`; only
  an answer that had to be restarted differs, and there `message` is the truth.
- A frame that can't be taken (no JSON object, no `message`, an empty one) gets an `error` frame, and the connection
  stays. Other keys are ignored. An error that is about no frame names the session that was spoken to last; its
  `session_id` is null when the client was not let in.
- `?client_id=<prefix>` makes sends repeatable, the connection's n-th message by `<prefix>:<n>` (one refused for a limit
  or a full queue has no number); who reconnects to repeat names the session.
- `GET /chat/sessions` is a list, the last active first:
  `{"session_id", "title", "created_at", "last_activity_at", "message_count"}`.
  `GET .../messages` is `{"session_id", "messages": [{"role", "content", "created_at"}], "total"}`, oldest first.
  `limit` is 1 to 1,000. `offset`, `limit` and `total` count all messages that are stored; the answer under way, which
  the WebSocket brings, and answers without a word are left out, so that a page may hold fewer: the last is the one with
  `offset + limit >= total`. Only where the messages of a page are over 16 MiB of text it ends before its limit, and
  says where to go on: `"next_offset"`. Times are ISO 8601, UTC. Errors are `{"error": ...}`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import (
    Event,
    MessageCreated,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
)
from chat.messages import AnswerSettings, AnswerState, Chat, Message, Role
from chat.names import NAME_BYTES, is_id
from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from gateway.answers import as_it_stands
from gateway.auth import bearer
from gateway.channel import Channel
from gateway.credential import Credential
from gateway.dialect import Command, Dialect, Handshake, Renderer, Say, Services, Visit
from gateway.dialects.elogrants.forms import (
    ENTRY,
    HISTORY,
    SESSION_ID,
    Answer,
    Delta,
    Error,
    Failed,
    History,
    HistoryMessage,
    NewSession,
    Saying,
    SessionEntry,
    SocketQuery,
    Stopped,
)
from gateway.frame import Frame
from gateway.history_pages import read_history
from gateway.http import caller_of, guarded_router, headers_of, status_of
from gateway.limits import CHATS_AT_ONCE, too_many_chats
from gateway.openapi import responses
from gateway.ports import Sessions

NAME = "elogrants"
_TITLE_CHARS = 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOST = "The answer was lost on our side. Please ask again."
_FAILED = "The answer could not be made. Please try again."
_UNKNOWN = {404: "unknown session"}

Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1)]


def dialect(services: Services) -> Dialect:
    """elogrants' routes and its WebSocket, with and without a slash."""
    sockets = tuple(ElograntsSocket(path, services) for path in ("/ws/chat/", "/ws/chat"))
    errors = {"/chat/sessions": error_object}
    return Dialect(NAME, _router(services), sockets, errors, failure=Failed, invalid=Failed)


def error_object(error: SwitchboardError | RequestValidationError) -> Response:
    """A failure over HTTP: `{"error": ...}`."""
    if isinstance(error, RequestValidationError):
        wrong = [f"{'.'.join(map(str, entry['loc'][1:]))}: {entry['msg']}" for entry in error.errors()]
        return JSONResponse({"error": "; ".join(wrong)}, 422)
    return JSONResponse({"error": error.failure.message}, status_of(error.code), headers_of(error))


def _router(services: Services) -> APIRouter:
    sessions = services.sessions

    router = guarded_router("/chat/sessions", "elogrants", services.doorkeeper.user, Credential.USER_TOKEN)

    @router.get("", responses=responses([ENTRY]))
    async def list_sessions(request: Request, limit: Limit = 50, offset: Offset = 0) -> list[SessionEntry]:
        """The user's sessions, the last active first."""
        chats = await sessions.list_chats(caller_of(request).user_id, NAME, limit=limit, offset=offset)
        return [
            SessionEntry(
                session_id=chat.id,
                title=chat.title,
                created_at=_time(chat.created_at_us),
                last_activity_at=_time(chat.last_activity_at_us),
                message_count=chat.message_count,
            )
            for chat in chats
        ]

    @router.get("/{session_id}/messages", response_model_exclude_none=True, responses=responses(HISTORY, _UNKNOWN))
    async def list_messages(request: Request, session_id: str, limit: Limit = 50, offset: Offset = 0) -> History:
        """A page of a session's history, oldest first. 404: the user has no such session."""
        chat = await _own(sessions, session_id, caller_of(request).user_id)
        wanted = min(limit, chat.message_count - offset)
        messages = await read_history(sessions, chat.id, limit=wanted, offset=offset, from_end=False)
        return History(
            session_id=chat.id,
            messages=[
                HistoryMessage(
                    role="user" if message.role is Role.USER else "assistant",
                    content=message.content,
                    created_at=_time(message.created_at_us),
                )
                for message in messages
                if message.role is Role.USER or _said(message)
            ],
            total=chat.message_count,
            next_offset=offset + len(messages) if 0 < len(messages) < wanted else None,
        )

    @router.post(
        "/{session_id}/stop", responses=responses({"message": "Answer stopped", "session_id": SESSION_ID}, _UNKNOWN)
    )
    async def stop(request: Request, session_id: str) -> Stopped:
        """Stops the answer under way; what was said so far is kept. 404: the user has no such session."""
        user_id = caller_of(request).user_id
        chat = await _own(sessions, session_id, user_id)
        stopped = await sessions.cancel_turn(chat.id, cancelled_by=user_id)
        return Stopped(message="Answer stopped" if stopped else "There was no answer to stop", session_id=chat.id)

    return router


async def _own(sessions: Sessions, session_id: str, user_id: str) -> Chat:
    """The user's session. Raises: NOT_FOUND: there is none, or it is another's."""
    unknown = SwitchboardError(ErrorCode.NOT_FOUND, "unknown session")
    if not is_id(session_id):
        raise unknown
    try:
        chat = await sessions.get_chat(session_id, NAME)
    except SwitchboardError as error:
        if error.code is ErrorCode.NOT_FOUND:
            raise unknown from error
        raise
    if chat.owner_id != user_id:
        raise unknown
    return chat


def _said(message: Message) -> bool:
    return message.role is Role.ASSISTANT and bool(message.content) and not message.is_running


def _time(time_us: int) -> str:
    # Said in full, so that every time has the same form: isoformat leaves out microseconds that are zero.
    return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True)
class ElograntsVisit(Visit):
    """A user's stay. `session_id` is the connection's, `speaks_to` the one that was spoken to last.

    `known`: sessions that are stored and the user's, as far as this connection has had to find out.
    """

    user_name: str = ""
    session_id: str = ""
    speaks_to: str = ""
    known: tuple[str, ...] = ()


class ElograntsSocket:
    """`/ws/chat/`, or `/ws/chat`."""

    def __init__(self, path: str, services: Services) -> None:
        self.path = path
        self.channel = Channel(
            name=NAME if path.endswith("/") else f"{NAME}.without_slash",
            title="elogrants",
            summary="A user's sessions, whole answers; one connection may show several of them.",
            hears=(Saying,),
            tells=(NewSession, Delta, Answer, Error),
            query=SocketQuery,
            credentials=(Credential.USER_TOKEN,),
        )
        self._services = services

    async def admit(self, handshake: Handshake) -> ElograntsVisit:
        """Lets in a user, to a session of theirs or a new one."""
        user = await self._services.doorkeeper.user(bearer(handshake.header("authorization")))
        stream = handshake.query.get("stream", "false")
        if stream not in ("true", "false"):
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, "stream must be true or false", field="stream")
        visit = ElograntsVisit(
            user_id=user.user_id,
            expires_at_s=user.expires_at_s,
            user_name=_label(user.username),
            variant=stream == "true",
        )
        asked = handshake.query.get("session_id", "")
        if asked:
            await _own(self._services.sessions, asked, user.user_id)
            visit.chat_id, visit.known = asked, (asked,)
        else:
            asked = self._services.new_id()
            # There is no chat to show yet.
            visit.greeting = (Frame({"session_id": asked}),)
        visit.session_id = visit.speaks_to = asked
        return visit

    async def read(self, text: str, visit: Visit) -> Command:
        """A frame is a message, in the session that it names or else the connection's."""
        if not isinstance(visit, ElograntsVisit):
            raise TypeError(visit)
        visit.speaks_to = visit.session_id
        message, session_id = _parse(text)
        session_id = visit.speaks_to = session_id or visit.session_id
        if not message.strip():
            raise _bad("message must not be empty")
        if session_id not in visit.known:
            if len(visit.known) >= CHATS_AT_ONCE:
                # Before anything is stored.
                raise too_many_chats()
            if session_id == visit.session_id:
                return await self._begin(visit, message)
            await _own(self._services.sessions, session_id, visit.user_id)
            visit.known += (session_id,)
        return Say(session_id, message)

    async def _begin(self, visit: ElograntsVisit, message: str) -> Say:
        sessions = self._services.sessions
        chat = Chat(
            id=visit.session_id,
            dialect=NAME,
            owner_id=visit.user_id,
            title=" ".join(message[: 4 * _TITLE_CHARS].split())[:_TITLE_CHARS].strip(),
            answers=AnswerSettings(persona=NAME),
        )
        await sessions.create_chat(chat, owner_name=visit.user_name)
        visit.known += (chat.id,)

        async def undo() -> None:
            visit.known = tuple(known for known in visit.known if known != chat.id)
            # Another connection of the user may have found it meanwhile.
            if not (await sessions.get_chat(chat.id, NAME)).message_count:
                await sessions.delete_chat(chat.id, reason="refused")

        return Say(chat.id, message, undo=undo)

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        """The variant: whether deltas are wanted."""
        return ElograntsRenderer(chat_id, stream=variant is True)

    def merge(self, frames: Sequence[Frame]) -> Frame:
        """Only deltas of one session are of a run."""
        return _delta("".join(str(frame.content["delta"]) for frame in frames), str(frames[0].content["session_id"]))

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        """The error frame, with the session that it is most likely about."""
        return _error(failure.message, visit.speaks_to if isinstance(visit, ElograntsVisit) else None)


def _label(name: str) -> str:
    """A name as the session service takes it, or none: a token may say anything."""
    return name if name.isprintable() and len(name.encode()) <= NAME_BYTES else ""


def _parse(text: str) -> tuple[str, str]:
    """A client's frame: its message and the session it names, if any."""
    try:
        content: Any = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise _bad("not JSON") from exc
    if not isinstance(content, dict):
        raise _bad("not an object")
    message, session_id = content.get("message"), content.get("session_id")
    if not isinstance(message, str):
        raise _bad("message must be a string")
    if not isinstance(session_id, str | None):
        raise _bad("session_id must be a string")
    return message, session_id or ""


def _bad(what: str) -> SwitchboardError:
    return SwitchboardError(
        ErrorCode.INVALID_ARGUMENT, f'{what}: send {{"message": "...", "session_id": "..."}}', field="message"
    )


class _Answer:
    """An answer under way, as its readers see it."""

    __slots__ = ("message_id", "texts")

    def __init__(self, message_id: str, text: str = "") -> None:
        self.message_id = message_id
        self.texts = [text] if text else []

    @property
    def text(self) -> str:
        return "".join(self.texts)


class ElograntsRenderer:
    """Events to elogrants' frames. See `dialect.Renderer`."""

    __slots__ = ("_answer", "_chat_id", "_newest_id", "_stream")

    def __init__(self, chat_id: str, *, stream: bool) -> None:
        self._chat_id = chat_id
        self._stream = stream
        self._answer: _Answer | None = None
        self._newest_id = ""
        """The last message that was seen to enter the chat, as far as one was."""

    def render(self, event: Event) -> Sequence[Frame]:
        """See `dialect.Renderer`; what people say has no frame."""
        match event:
            case ResponseDelta():
                if self._answer is None:
                    self._answer = _Answer(event.message_id)
                self._answer.message_id = event.message_id
                self._answer.texts.append(event.text)
                return self._deltas(event.text)
            case MessageCreated():
                self._newest_id = event.message.id
            case ResponseStarted():
                self._newest_id = event.message.id
                self._answer = _Answer(event.message.id)
            case ResponseRestarted():
                self._answer = _Answer(event.message_id)
            case ResponseCompleted() | ResponseCancelled():
                return self._end(event.message_id, event.text_length, None)
            case ResponseFailed():
                why = event.answer.failure or Failure(ErrorCode.INTERNAL, _FAILED)
                return self._end(event.message_id, event.text_length, why)
            case _:
                pass
        return ()

    def resume(self, text_before: str) -> None:
        """See `dialect.Renderer`."""
        if text_before:
            self._answer = _Answer("", text_before)

    def snapshot(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: the answers, each as if it came now."""
        frames: list[Frame] = []
        for message in messages:
            self._newest_id = message.id
            if message.role is Role.ASSISTANT:
                self._answer = _Answer(message.id, message.content)
                frames.extend(self._deltas(message.content))
                frames.extend(self._end_of(message))
        return frames

    def resync(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: what the answer under way still lacks, and the answers that began since."""
        before, self._answer = self._answer, None
        ids = [message.id for message in messages]
        if self._newest_id in ids:
            later = messages[ids.index(self._newest_id) + 1 :]
        else:
            # Which of the others are old is not known.
            later = [message for message in messages if message.is_running]
        if before is None:
            return self.snapshot(later)
        now = as_it_stands(before.message_id, messages)
        frames = [_error(_LOST, self._chat_id)] if now is None else self._catch_up(before, now)
        return [*frames, *self.snapshot([message for message in later if now is None or message.id != now.id])]

    def _catch_up(self, before: _Answer, now: Message) -> list[Frame]:
        """What the readers of an answer lack of it as it stands now."""
        self._answer = _Answer(now.id, now.content)
        # What can't be taken back is put right by the answer's last frame.
        missed = now.content.removeprefix(before.text) if now.content.startswith(before.text) else ""
        return [*self._deltas(missed), *self._end_of(now)]

    def _deltas(self, text: str) -> Sequence[Frame]:
        return (_delta(text, self._chat_id),) if self._stream and text else ()

    def _end_of(self, message: Message) -> Sequence[Frame]:
        if message.answer is None or message.is_running:
            return ()
        length = len(message.content)
        if message.answer.state is AnswerState.FAILED:
            return self._end(message.id, length, message.answer.failure or Failure(ErrorCode.INTERNAL, _FAILED))
        return self._end(message.id, length, None)

    def _end(self, message_id: str, length: int, failure: Failure | None) -> Sequence[Frame]:
        """The last frame of an answer that ended with a text of some length, which may be in any unit."""
        answer = self._answer
        # One that was resumed has no name yet, but it has a text.
        if answer is not None and (answer.message_id != message_id if answer.message_id else not length):
            # Another's turn ended while it waited: the answer under way goes on.
            answer = None
        else:
            self._answer = None
        if failure is not None:
            return (_error(failure.message, self._chat_id),)
        return (Frame({"message": answer.text if answer else "", "session_id": self._chat_id}),)


def _delta(text: str, session_id: str) -> Frame:
    # A connection may show several sessions; only deltas of one may become one.
    return Frame({"delta": text, "session_id": session_id}, run=f"delta {session_id}")


def _error(message: str, session_id: str | None) -> Frame:
    return Frame({"error": message, "session_id": session_id})
