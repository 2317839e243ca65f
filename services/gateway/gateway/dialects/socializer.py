"""Socializer: a user's conversation with the AI over one WebSocket, whole answers as JSON.

Public document: `apis/socializer.md`. Subsystem: docs/subsystems/gateway.md.

    WS   /ws/ai/ai-chat/{client_id}     a user token by `?token=`, `access_token` cookie or Authorization header
    POST /ai/chat/{client_id}/stop      -> {"type":"system","message":"Answer stopped","timestamp":...}   (ours)

    in:  {"content":"Hello, AI!"}
    out: {"type":"system","message":"Welcome to AI Chat, ada! How can I assist you today?","timestamp":"..."}
         {"type":"ai_response","message":"Hello! How can I help you today?","timestamp":"2025-10-01T20:00:01.000000"}
         {"type":"error","message":"...","timestamp":"2025-10-01T20:00:02.000000"}

What the document leaves open:
- Of several credentials the first counts, in the order above, good or bad. A browser sends cookies from any page, so a
  cookie counts only without an `Origin`, or with one that CORS_ORIGINS names (`*` names none).
- `username` is the token's name claim, else the user id.
- A user and a `client_id` are one conversation. It is stored with its first message, unless that is refused for a
  limit, and is never ended; it goes when nobody came to it for a year. Of two connections that were there before its
  first message, one shows it only once it speaks itself. A `client_id` is printable; one that is too long for the
  session service is known there by its hash.
- There is exactly one frame an answer: `ai_response` when it completed or was stopped (with what was said so far, which
  may be empty), `error` when it failed.
- There is no history, so who connects is told, behind the welcome, the answers that it may not have heard: nobody keeps
  what was delivered, but whoever says something has been told what had ended before. So these are the answers that
  ended after the user's last message, failed ones too: none is lost, and again and again comes only the answer to what
  was last said, until something else is. Who wants nothing twice connects with `?after=<position>`. A `client_id` is
  one client's: what one of two says, counts as what both have heard.
- A timestamp is UTC. An answer's is that of its end, as far as its events tell: a stopped one's is of its start.
- A message must be a JSON object whose `content` is a string that is not blank; other keys are ignored. Anything else
  gets an `error` frame, and the connection stays; one too large ends it (1009).
- `?client_id=` in the query is the core's: it makes sends repeatable, and has nothing to do with the path's. A message
  that is refused for a limit or a full queue has no number.
"""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Literal

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
from chat.names import NAME_BYTES
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from gateway.auth import Doorkeeper, bearer
from gateway.channel import Channel, heard, told
from gateway.credential import Credential
from gateway.dialect import Command, Dialect, Handshake, Renderer, Say, Services, Shape, Visit
from gateway.frame import Frame
from gateway.http import caller_of, guarded_router, headers_of, status_of
from gateway.openapi import responses
from gateway.ports import Sessions

NAME = "socializer"
_COOKIE = "access_token"
_LIFETIME_S = 365 * 86_400
"""The longest that the session service keeps what nobody uses."""
_SHOWN_MESSAGES = 100
"""More than can wait for an answer at a time: all answers that came after the last message are among so many."""
_CLOCKS_APART_US = 1_000_000
"""Answers have their times from the worker's clock, what people say from the session service's."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOST = "The answer was lost on our side. Please ask again."
_UNPRINTABLE = "client_id must be printable."
_NO_CONVERSATION = "There is no conversation of this client_id."
_FAILED = "An error occurred while processing your message."


_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$"
Timestamp = Annotated[str, Field(pattern=_TIME, description="UTC, without saying so.")]


class Done(BaseModel):
    """Something was done."""

    type: str = "system"
    message: str
    timestamp: str


class Saying(BaseModel):
    """What the user says."""

    model_config = heard({"content": "Hello, AI!"})
    content: Annotated[str, Field(pattern=r"\S", description="Not blank.")]


class Welcome(BaseModel):
    """The first frame for who was let in."""

    model_config = told(
        {
            "type": "system",
            "message": "Welcome to AI Chat, username! How can I assist you today?",
            "timestamp": "2025-10-01T20:00:00.000000",
        }
    )
    type: Literal["system"]
    message: str
    timestamp: Timestamp


class Answer(BaseModel):
    """An answer has ended: the whole of it."""

    model_config = told(
        {
            "type": "ai_response",
            "message": "Hello! How can I help you today?",
            "timestamp": "2025-10-01T20:00:01.000000",
        }
    )
    type: Literal["ai_response"]
    message: str
    timestamp: Timestamp


class Error(BaseModel):
    """Something failed: an answer, a message, or, before the connection is closed, the visit. Over HTTP any failure."""

    model_config = told(
        {
            "type": "error",
            "message": "An error occurred while processing your message.",
            "timestamp": "2025-10-01T20:00:02.000000",
        }
    )
    type: Literal["error"]
    message: str
    timestamp: Timestamp


def dialect(services: Services) -> Dialect:
    """Socializer's route and its WebSocket."""
    socket = SocializerSocket(services.sessions, services.doorkeeper, services.origins, services.now_s)
    errors = {"/ai/chat": _shape(services.now_s)}
    return Dialect(NAME, _router(services), (socket,), errors, failure=Error, invalid=Error)


def session_name(user_id: str, client_id: str) -> str:
    """What the session service knows a conversation by. Raises: SwitchboardError for a client_id that is none."""
    if not client_id.isprintable():
        raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, _UNPRINTABLE, field="client_id")
    # A variable of a path has no slash in it: the last one parts the two, whatever the user's id holds.
    name = f"{user_id}/{client_id}"
    if len(name.encode()) <= NAME_BYTES:
        return name
    # Without a slash, and so no other conversation's name.
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def _router(services: Services) -> APIRouter:
    sessions = services.sessions

    router = guarded_router("/ai/chat", "Socializer", services.doorkeeper.user, Credential.USER_TOKEN)

    stopped = {"type": "system", "message": "Answer stopped", "timestamp": "2025-10-01T20:00:03.000000"}

    @router.post("/{client_id}/stop", responses=responses(stopped, {400: _UNPRINTABLE, 404: _NO_CONVERSATION}))
    async def stop(client_id: str, request: Request) -> Done:
        """Stops the answer under way; what was said so far is kept. 404: this client has never been here."""
        caller = caller_of(request)
        try:
            session = await sessions.get_session(NAME, session_name(caller.user_id, client_id))
            stopped = await sessions.cancel_turn(session.chat_id, cancelled_by=caller.user_id)
        except SwitchboardError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            raise SwitchboardError(ErrorCode.NOT_FOUND, _NO_CONVERSATION) from error
        message = "Answer stopped" if stopped else "There was no answer to stop"
        return Done(message=message, timestamp=_timestamp(_micros(services.now_s())))

    return router


def _shape(now_s: Callable[[], float]) -> Shape:
    def shape(error: SwitchboardError | RequestValidationError) -> Response:
        now_us = _micros(now_s())
        if isinstance(error, RequestValidationError):
            return JSONResponse(_content("error", "The request is not valid.", now_us), 422)
        content = _content("error", error.failure.message, now_us)
        return JSONResponse(content, status_of(error.code), headers_of(error))

    return shape


@dataclass(slots=True)
class SocializerVisit(Visit):
    """A user's stay. `name`: what the session service knows the conversation by, once something was said in it."""

    name: str = ""


class SocializerSocket:
    """`/ws/ai/ai-chat/{client_id}`."""

    path = "/ws/ai/ai-chat/{client_id}"
    channel = Channel(
        name=NAME,
        title="Socializer",
        summary="A user's conversation with the AI, in whole answers.",
        hears=(Saying,),
        tells=(Welcome, Answer, Error),
        parameters={"client_id": "Made up by the client: with the user it names the conversation."},
        credentials=(Credential.TOKEN_IN_QUERY, Credential.TOKEN_IN_COOKIE, Credential.USER_TOKEN),
    )

    def __init__(
        self, sessions: Sessions, doorkeeper: Doorkeeper, origins: frozenset[str], now_s: Callable[[], float]
    ) -> None:
        self._sessions = sessions
        self._doorkeeper = doorkeeper
        self._origins = origins
        self._now_s = now_s

    async def admit(self, handshake: Handshake) -> Visit:
        """Lets a user in to the conversation with this client."""
        caller = await self._doorkeeper.user(self._credential(handshake))
        name = session_name(caller.user_id, handshake.path["client_id"])
        try:
            chat_id = (await self._sessions.get_session(NAME, name)).chat_id
        except SwitchboardError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            # It begins with what is said first: pages that make up a client_id each time they load would leave a
            # conversation behind each time.
            chat_id = ""
        username = caller.username if caller.username.isprintable() and caller.username else caller.user_id
        welcome = f"Welcome to AI Chat, {username}! How can I assist you today?"
        return SocializerVisit(
            user_id=caller.user_id,
            expires_at_s=caller.expires_at_s,
            chat_id=chat_id,
            name=name,
            greeting=(_frame("system", welcome, self._now_us()),),
            shown_messages=_SHOWN_MESSAGES,
        )

    async def read(self, text: str, visit: Visit) -> Command:
        """A frame is a JSON object with what is said as its `content`."""
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, "The message is not valid JSON.") from exc
        if not isinstance(message, dict):
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, "The message must be a JSON object.")
        content = message.get("content")
        if not isinstance(content, str) or not content.strip():
            raise SwitchboardError(
                ErrorCode.INVALID_ARGUMENT, "The message needs a content: a string that is not blank.", field="content"
            )
        if isinstance(visit, SocializerVisit) and not visit.chat_id:
            chat = Chat(id="", dialect=NAME, owner_id=visit.user_id, answers=AnswerSettings(persona=NAME))
            session, created = await self._sessions.open_session(NAME, visit.name, chat, ttl_s=_LIFETIME_S)
            visit.chat_id = session.chat_id
            if created:
                return Say(visit.chat_id, content, undo=partial(self._forget, visit))
        return Say(visit.chat_id, content)

    async def _forget(self, visit: SocializerVisit) -> None:
        """Takes a conversation back that was begun just now, and in which nothing could be said."""
        chat_id, visit.chat_id = visit.chat_id, ""
        # Another connection may have found it meanwhile.
        if not (await self._sessions.get_chat(chat_id, NAME)).message_count:
            await self._sessions.close_session(NAME, visit.name)

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        """There is one variant."""
        return SocializerRenderer(self._now_us)

    def merge(self, frames: Sequence[Frame]) -> Frame:
        """Never called: every frame stands for itself."""
        raise AssertionError("no frame of this dialect is of a run")

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        """The error frame."""
        return _frame("error", failure.message, self._now_us())

    def _credential(self, handshake: Handshake) -> str:
        if token := handshake.query.get("token"):
            return token
        header = bearer(handshake.header("authorization"))
        cookie = handshake.cookie(_COOKIE)
        if not cookie:
            return header
        origin = handshake.header("origin")
        if origin is None or origin in self._origins:
            return cookie
        if header:
            return header
        raise SwitchboardError(
            ErrorCode.UNAUTHENTICATED, "A cookie is not accepted from this page's origin: send the token as ?token=."
        )

    def _now_us(self) -> int:
        return _micros(self._now_s())


class _Answer:
    """An answer under way. `began_us` is 0 when its beginning was not seen."""

    __slots__ = ("began_us", "message_id", "pieces")

    def __init__(self, message_id: str, text: str = "", began_us: int = 0) -> None:
        self.message_id = message_id
        self.pieces = [text] if text else []
        self.began_us = began_us


class SocializerRenderer:
    """Events to Socializer's frames. See `dialect.Renderer`.

    Times are those of events, so that a frame is the same on every replica. Only an answer whose beginning none of the
    events told of (somebody resumed in its middle) has the time at which it is rendered.
    """

    __slots__ = ("_answer", "_newest_id", "_newest_us", "_now_us")

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._answer: _Answer | None = None
        self._newest_id = ""
        self._newest_us = 0

    def render(self, event: Event) -> Sequence[Frame]:
        """See `dialect.Renderer`; only an answer's end has a frame."""
        match event:
            case ResponseDelta():
                self._under_way(event.message_id).pieces.append(event.text)
            case MessageCreated():
                self._note(event.message)
            case ResponseStarted():
                self._note(event.message)
                self._answer = _Answer(event.message.id, began_us=event.message.created_at_us)
            case ResponseRestarted():
                self._under_way(event.message_id).pieces.clear()
            case ResponseCompleted():
                text, began_us = self._take(event.message_id)
                return (_frame("ai_response", text, self._ended_us(began_us, event.answer.duration_s)),)
            case ResponseCancelled():
                text, began_us = self._take(event.message_id)
                return (_frame("ai_response", text, self._ended_us(began_us, 0.0)),)
            case ResponseFailed():
                _, began_us = self._take(event.message_id)
                why = event.answer.failure.message if event.answer.failure else _FAILED
                return (_frame("error", why, self._ended_us(began_us, event.answer.duration_s)),)
            case _:
                pass
        return ()

    def resume(self, text_before: str) -> None:
        """See `dialect.Renderer`."""
        if text_before:
            self._answer = _Answer("", text_before)

    def snapshot(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: the answers that may not have been heard; the module's docstring says which."""
        for message in messages:
            self._note(message)
            if message.is_running:
                self._answer = _Answer(message.id, message.content, message.created_at_us)
        return [self._whole(message) for message in _unheard(messages)]

    def resync(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: the answers that ended meanwhile."""
        ids = [message.id for message in messages]
        frames: list[Frame] = []
        before = self._answer
        if before is not None and before.message_id:
            if before.message_id not in ids:
                frames.append(_frame("error", _LOST, self._ended_us(before.began_us, 0.0)))
            elif not (now := messages[ids.index(before.message_id)]).is_running:
                frames.append(self._whole(now))
        if self._newest_id in ids:
            later = [message for message in messages[ids.index(self._newest_id) + 1 :] if _ended(message)]
        else:
            later = _unheard(messages)
        frames.extend(self._whole(one) for one in later if before is None or one.id != before.message_id)
        return frames

    def _note(self, message: Message) -> None:
        self._newest_id = message.id
        self._newest_us = message.created_at_us or self._newest_us

    def _under_way(self, message_id: str) -> _Answer:
        if self._answer is None:
            self._answer = _Answer(message_id)
        self._answer.message_id = message_id
        return self._answer

    def _take(self, message_id: str) -> tuple[str, int]:
        """The text and the beginning of the answer that ends; a turn may end before its answer began, too."""
        answer = self._answer
        if answer is None or answer.message_id not in ("", message_id):
            return "", 0
        self._answer = None
        return "".join(answer.pieces), answer.began_us

    def _ended_us(self, began_us: int, duration_s: float) -> int:
        if began_us:
            return began_us + _micros(duration_s)
        return self._newest_us or self._now_us()

    def _whole(self, message: Message) -> Frame:
        """The frame of an answer that has ended."""
        answer = message.answer
        ended_us = self._ended_us(message.created_at_us, answer.duration_s if answer else 0.0)
        if answer is not None and answer.state is AnswerState.FAILED:
            return _frame("error", answer.failure.message if answer.failure else _FAILED, ended_us)
        return _frame("ai_response", message.content, ended_us)


def _unheard(messages: Sequence[Message]) -> list[Message]:
    """The answers that ended after the user's last message, or may have; see the module's docstring."""
    said = [index for index, message in enumerate(messages) if message.role is Role.USER]
    last = said[-1] if said else -1
    unheard = [message for message in messages[last + 1 :] if _ended(message)]
    # One answer is made at a time: of those that began before the last message, only the latest can have ended after.
    before = [message for message in messages[: max(last, 0)] if message.role is Role.ASSISTANT]
    if before and _ended(before[-1]) and _may_end_after(before[-1], messages[last].created_at_us):
        unheard.insert(0, before[-1])
    return unheard


def _may_end_after(message: Message, time_us: int) -> bool:
    if message.answer is None or not message.answer.duration_s:
        return True
    # A duration counts from before the answer's start, so this is not too early.
    return message.created_at_us + _micros(message.answer.duration_s) + _CLOCKS_APART_US > time_us


def _ended(message: Message) -> bool:
    return message.role is Role.ASSISTANT and not message.is_running


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _timestamp(time_us: int) -> str:
    """As the document writes it: UTC without saying so, always with microseconds."""
    return (_EPOCH + timedelta(microseconds=time_us)).replace(tzinfo=None).isoformat(timespec="microseconds")


def _content(kind: str, message: str, time_us: int) -> Mapping[str, object]:
    return {"type": kind, "message": message, "timestamp": _timestamp(time_us)}


def _frame(kind: str, message: str, time_us: int) -> Frame:
    return Frame(_content(kind, message, time_us))
