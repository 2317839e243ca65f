"""Faye: a session-based chat whose answers are HTML.

Public document: `apis/faye.md`. Subsystem: docs/subsystems/gateway.md.

    POST /faye/chat/start_session  {"unique_token": "t"}  -> session_key, websocket_url, conversation_history, ...
    POST /faye/chat/end_session    {"unique_token": "t"}  -> {"message": "Session ended successfully"}
    POST /faye/chat/stop           {"unique_token": "t"}  -> {"message": "Answer stopped"}          (ours)
    WS   /ws/faye/{unique_token}

    in:  Is tofu healthy?
    out: {"type":"streaming","content":"<p>Yes, "}
         {"type":"message_stop","content":"<p>Yes, tofu is healthy.</p>"}
         {"type":"error","message":"..."}

What the document leaves open:
- A token is 1 to 200 bytes of what a URL's path carries unchanged: printable, without `/ \\ ? # %`, without spaces
  around it, and not `.` or `..`, which clients and proxies resolve. Others are refused: 422; 1008 on the WebSocket.
- HTTP takes the API key. On the WebSocket an open session's token is the credential.
- Each answer ends in exactly one frame: `message_stop` with the whole HTML when it completed or was stopped (with what
  was said so far), `error` when it failed. What all `streaming` frames of an answer add up to is `message_stop`'s
  content, closing tags included, also before an `error`; only an answer that had to be restarted differs, and there
  `message_stop` comes before the `error` too, because its content is the truth.
- A message that can't be taken (empty, binary, too large) gets an `error` frame; all but the too large may go on.
- `?client_id=<prefix>` makes sends repeatable: the connection's n-th message has the idempotency key `<prefix>:<n>`.
  Who reconnects to repeat what may have been lost uses the same prefix and sends the same messages again from the
  first; who goes on with new messages uses a new one.
- `conversation_history` has no answer under way: the WebSocket delivers that, from its beginning.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import (
    Event,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
)
from chat.messages import AnswerSettings, AnswerState, Chat, Message, Role
from chat.names import NAME_BYTES
from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel

from gateway.answers import as_it_stands
from gateway.dialect import Command, Dialect, Handshake, Renderer, Say, Services, Visit
from gateway.frame import Frame
from gateway.html.renderer import HtmlRenderer
from gateway.http import detail, guarded_router, websocket_origin
from gateway.ports import Sessions

NAME = "faye"
_HISTORY_MESSAGES = 200
"""As many as a model is given."""
_PAGE_MESSAGES = 50
"""Read at once: a page of the longest messages must still fit into one answer of the session service."""
_TOUCH_S = 3_600.0
"""A session stays open for a day after it was last used; what is said over an open WebSocket is such a use."""
_NOT_IN_A_PATH = frozenset("/\\?#%")
"""With these the document's `wss://.../ws/faye/{unique_token}` names another session, or none, whenever the token is
written into it as it stands, or some proxy decodes it once more."""
_LOST = "The answer was lost on our side. Please ask again."
_FAILED = "The answer could not be made. Please try again."


def _checked(token: str) -> str:
    if not 1 <= len(token.encode("utf-8", "surrogatepass")) <= NAME_BYTES:
        raise ValueError(f"unique_token must be 1 to {NAME_BYTES} bytes long")
    if not token.isprintable() or token != token.strip() or _NOT_IN_A_PATH & set(token) or token in (".", ".."):
        raise ValueError(
            "unique_token is part of a URL: it must be printable, without / \\ ? # %, without spaces around it, "
            "and not . or .."
        )
    return token


class SessionRequest(BaseModel):
    """Names a session."""

    unique_token: Annotated[str, AfterValidator(_checked)]


class HistoryMessage(BaseModel):
    """One message of the conversation so far; an assistant's content is HTML."""

    role: str
    content: str


class StartedSession(BaseModel):
    """An open session."""

    session_key: str
    unique_token: str
    status: str
    conversation_history: list[HistoryMessage]
    websocket_url: str


class Done(BaseModel):
    """Something was done."""

    message: str


def dialect(services: Services) -> Dialect:
    """Faye's routes and its WebSocket."""
    sockets = (FayeSocket(services.sessions, services.now_s),)
    return Dialect(NAME, _router(services), sockets, errors={"/faye": detail})


def _router(services: Services) -> APIRouter:
    sessions = services.sessions

    router = guarded_router("/faye/chat", "Faye", services.doorkeeper.service, "The API key.")

    @router.post("/start_session")
    async def start_session(body: SessionRequest, request: Request) -> StartedSession:
        """Opens the session, or returns the open one with its history."""
        token = body.unique_token
        chat = Chat(id="", dialect=NAME, owner_id=token, answers=AnswerSettings(persona=NAME))
        session, created = await sessions.open_session(NAME, token, chat)
        messages = [] if created else await _last_messages(services, session.chat_id)
        return StartedSession(
            session_key=f"unique_token:{token}:{session.session_id}",
            unique_token=token,
            status="Session started successfully",
            conversation_history=_history(messages),
            websocket_url=f"{websocket_origin(request, services.public_url)}/ws/faye/{quote(token, safe='')}",
        )

    @router.post("/end_session")
    async def end_session(body: SessionRequest) -> Done:
        """Ends the session: stops its answer, deletes its history, closes its WebSockets. 404: none is open."""
        try:
            await sessions.close_session(NAME, body.unique_token)
        except SwitchboardError as error:
            raise _session_error(error) from error
        return Done(message="Session ended successfully")

    @router.post("/stop")
    async def stop(body: SessionRequest) -> Done:
        """Stops the answer under way; what was said so far is kept. 404: no session is open."""
        try:
            session = await sessions.get_session(NAME, body.unique_token)
            stopped = await sessions.cancel_turn(session.chat_id)
        except SwitchboardError as error:
            raise _session_error(error) from error
        return Done(message="Answer stopped" if stopped else "There was no answer to stop")

    return router


def _session_error(error: SwitchboardError) -> SwitchboardError:
    if error.code is not ErrorCode.NOT_FOUND:
        return error
    return SwitchboardError(ErrorCode.NOT_FOUND, "No session is open for this unique_token.")


async def _last_messages(services: Services, chat_id: str) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < _HISTORY_MESSAGES:
        page = await services.sessions.list_messages(chat_id, limit=_PAGE_MESSAGES, offset=len(messages))
        messages[:0] = page
        if len(page) < _PAGE_MESSAGES:
            break
    return messages


def _history(messages: Sequence[Message]) -> list[HistoryMessage]:
    history: list[HistoryMessage] = []
    for message in messages:
        if message.role is Role.USER:
            history.append(HistoryMessage(role="user", content=message.content))
        elif message.role is Role.ASSISTANT and message.content and not message.is_running:
            history.append(HistoryMessage(role="assistant", content=_html(message.content)))
    return history


def _html(text: str) -> str:
    renderer = HtmlRenderer()
    return renderer.feed(text) + renderer.finish()


@dataclass(slots=True)
class FayeVisit(Visit):
    """`used_s`: when the session's time was last extended, in seconds since 1970."""

    used_s: float = 0.0


class FayeSocket:
    """`/ws/faye/{unique_token}`."""

    path = "/ws/faye/{unique_token}"

    def __init__(self, sessions: Sessions, now_s: Callable[[], float]) -> None:
        self._sessions = sessions
        self._now_s = now_s

    async def admit(self, handshake: Handshake) -> FayeVisit:
        """Lets in who knows the token of an open session."""
        token = handshake.path["unique_token"]
        try:
            session = await self._sessions.get_session(NAME, _checked(token))
        except ValueError as exc:
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, str(exc)) from exc
        except SwitchboardError as error:
            raise _session_error(error) from error
        return FayeVisit(user_id=token, chat_id=session.chat_id, used_s=self._now_s())

    async def read(self, text: str, visit: Visit) -> Command:
        """A frame is a message, as it stands."""
        if not text.strip():
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, "The message is empty.")
        if isinstance(visit, FayeVisit) and self._now_s() - visit.used_s > _TOUCH_S:
            try:
                await self._sessions.get_session(NAME, visit.user_id)
            except SwitchboardError as error:
                raise _session_error(error) from error
            visit.used_s = self._now_s()
        return Say(visit.chat_id, text)

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        """There is one variant."""
        return FayeRenderer()

    def merge(self, frames: Sequence[Frame]) -> Frame:
        """Only streaming frames are of a run."""
        return _streaming("".join(str(frame.content["content"]) for frame in frames))

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        """The error frame."""
        return _error(failure.message)


class _Answer:
    """An answer under way, as its readers see it."""

    __slots__ = ("html", "message_id", "restarted", "shown")

    def __init__(self, message_id: str, *, restarted: bool = False) -> None:
        self.message_id = message_id
        self.html = HtmlRenderer()
        self.shown: list[str] = []
        self.restarted = restarted

    def feed(self, text: str) -> str:
        made = self.html.feed(text)
        if made:
            self.shown.append(made)
        return made

    def finish(self) -> str:
        made = self.html.finish()
        if made:
            self.shown.append(made)
        return made


class FayeRenderer:
    """Events to Faye's frames. See `dialect.Renderer`."""

    __slots__ = ("_answer",)

    def __init__(self) -> None:
        self._answer: _Answer | None = None

    def render(self, event: Event) -> Sequence[Frame]:
        """See `dialect.Renderer`; what people say has no frame."""
        match event:
            case ResponseDelta():
                if self._answer is None:
                    self._answer = _Answer(event.message_id)
                made = self._answer.feed(event.text)
                return (_streaming(made),) if made else ()
            case ResponseStarted():
                self._answer = _Answer(event.message.id)
            case ResponseRestarted():
                self._answer = _Answer(event.message_id, restarted=True)
            case ResponseCompleted() | ResponseCancelled():
                return self._end(None)
            case ResponseFailed():
                return self._end(event.answer.failure.message if event.answer.failure else _FAILED)
            case _:
                pass
        return ()

    def resume(self, text_before: str) -> None:
        """See `dialect.Renderer`."""
        if text_before:
            self._answer = _Answer("")
            self._answer.feed(text_before)

    def snapshot(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: the answers, each as if it came now."""
        frames: list[Frame] = []
        for message in messages:
            if message.role is Role.ASSISTANT:
                self._answer = _Answer(message.id)
                made = self._answer.feed(message.content)
                if made:
                    frames.append(_streaming(made))
                frames.extend(self._end_of(message))
        return frames

    def resync(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: what the answer under way, or one that began since, still lacks."""
        before, self._answer = self._answer, None
        if before is None:
            return self.snapshot([message for message in messages if message.is_running])
        now = as_it_stands(before.message_id, messages)
        if now is None:
            return (_error(_LOST),)
        self._answer = _Answer(now.id)
        self._answer.feed(now.content)
        shown, whole = "".join(before.shown), "".join(self._answer.shown)
        # What can't be taken back is put right by message_stop.
        self._answer.restarted = not whole.startswith(shown)
        missed = whole[len(shown) :]
        frames = [_streaming(missed)] if missed and not self._answer.restarted else []
        return [*frames, *self._end_of(now)]

    def _end_of(self, message: Message) -> Sequence[Frame]:
        if message.answer is None or message.is_running:
            return ()
        if message.answer.state is AnswerState.FAILED:
            return self._end(message.answer.failure.message if message.answer.failure else _FAILED)
        return self._end(None)

    def _end(self, error: str | None) -> Sequence[Frame]:
        answer, self._answer = self._answer, None
        frames: list[Frame] = []
        whole = ""
        if answer is not None:
            last = answer.finish()
            if last:
                frames.append(_streaming(last))
            whole = "".join(answer.shown)
        if error is None or (answer is not None and answer.restarted):
            frames.append(Frame({"type": "message_stop", "content": whole}))
        if error is not None:
            frames.append(_error(error))
        return frames


def _streaming(content: str) -> Frame:
    return Frame({"type": "streaming", "content": content}, run="streaming")


def _error(message: str) -> Frame:
    content: Mapping[str, object] = {"type": "error", "message": message}
    return Frame(content)
