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
  One refused for a limit or a full queue is stored nowhere and has no number. Who reconnects to repeat what may have
  been lost uses the same prefix and sends the same messages again from the first, without those; who goes on with new
  messages uses a new one.
- `conversation_history` has no answer under way: the WebSocket delivers that, from its beginning.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Annotated
from urllib.parse import quote

from chat.errors import ErrorCode, Failure, SwitchboardError
from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel

from gateway.channel import Channel
from gateway.credential import Credential
from gateway.dialect import Command, Dialect, Handshake, Renderer, Services, Visit
from gateway.frame import Frame
from gateway.html import answers, forms
from gateway.html.history import HistoryMessage, history_of
from gateway.http import detail, guarded_router, websocket_origin
from gateway.named_sessions import NamedSessions, check_name
from gateway.openapi import example, responses
from gateway.ports import Sessions

NAME = "faye"
_NOT_OPEN = {404: "No session is open for this unique_token: start one with start_session first."}
_STARTED = {
    "session_key": "unique_token:YOUR_SESSION_TOKEN:8f14e45f-ceea-467f-9c1b-3d5c8f0a7b21",
    "unique_token": "YOUR_SESSION_TOKEN",
    "status": "Session started successfully",
    "conversation_history": [
        {"role": "user", "content": "Is tofu healthy?"},
        {"role": "assistant", "content": "<p>Yes, tofu is healthy.</p>"},
    ],
    "websocket_url": "wss://ai-foodhak.com/ws/faye/YOUR_SESSION_TOKEN",
}


class SessionRequest(BaseModel):
    """Names a session."""

    model_config = example({"unique_token": "YOUR_SESSION_TOKEN"})

    unique_token: Annotated[str, AfterValidator(check_name)]


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


def _sessions(sessions: Sessions, now_s: Callable[[], float]) -> NamedSessions:
    return NamedSessions(sessions, NAME, "unique_token", now_s)


def _router(services: Services) -> APIRouter:
    sessions = _sessions(services.sessions, services.now_s)

    router = guarded_router("/faye/chat", "Faye", services.doorkeeper.service, Credential.API_KEY)

    @router.post("/start_session", responses=responses(_STARTED))
    async def start_session(body: SessionRequest, request: Request) -> StartedSession:
        """Opens the session, or returns the open one with its history."""
        token = body.unique_token
        session, messages = await sessions.start(token)
        return StartedSession(
            session_key=f"unique_token:{token}:{session.session_id}",
            unique_token=token,
            status="Session started successfully",
            conversation_history=history_of(messages),
            websocket_url=f"{websocket_origin(request, services.public_url)}/ws/faye/{quote(token, safe='')}",
        )

    @router.post("/end_session", responses=responses({"message": "Session ended successfully"}, _NOT_OPEN))
    async def end_session(body: SessionRequest) -> Done:
        """Ends the session: stops its answer, deletes its history, closes its WebSockets. 404: none is open."""
        await sessions.end(body.unique_token)
        return Done(message="Session ended successfully")

    @router.post("/stop", responses=responses({"message": "Answer stopped"}, _NOT_OPEN))
    async def stop(body: SessionRequest) -> Done:
        """Stops the answer under way; what was said so far is kept. 404: no session is open."""
        stopped = await sessions.stop(body.unique_token)
        return Done(message="Answer stopped" if stopped else "There was no answer to stop")

    return router


class FayeSocket:
    """`/ws/faye/{unique_token}`."""

    path = "/ws/faye/{unique_token}"
    channel = Channel(
        name=NAME,
        title="Faye",
        summary="A session's chat: questions as plain text, answers as HTML, piece by piece.",
        hears=(forms.Question,),
        tells=(forms.Streaming, forms.MessageStop, forms.Error),
        parameters={"unique_token": "The token of an open session, which is the credential."},
    )

    def __init__(self, sessions: Sessions, now_s: Callable[[], float]) -> None:
        self._sessions = _sessions(sessions, now_s)

    async def admit(self, handshake: Handshake) -> Visit:
        """Lets in who knows the token of an open session."""
        try:
            token = check_name(handshake.path["unique_token"])
        except ValueError as exc:
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, f"unique_token: {exc}") from exc
        return self._sessions.visit(await self._sessions.find(token))

    async def read(self, text: str, visit: Visit) -> Command:
        """A frame is a message, as it stands."""
        return await self._sessions.say(text, visit)

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        """There is one variant."""
        return answers.HtmlAnswers()

    def merge(self, frames: Sequence[Frame]) -> Frame:
        """Only streaming frames are of a run."""
        return answers.merge(frames)

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        """The error frame."""
        return answers.error(failure.message)
