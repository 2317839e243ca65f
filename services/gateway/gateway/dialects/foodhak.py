"""Foodhak: a nutrition assistant that knows its user's profile; sessions by user, answers in HTML.

Public document: `apis/foodhak.md`. Subsystem: docs/subsystems/gateway.md.

    POST /chat/start_session  {"user_id": "u", "user_name": "Alex"}  -> session_key, websocket_url, ...
    POST /chat/end_session    {"user_id": "u"}  -> {"message": "Session ended successfully"}
    POST /chat/stop           {"user_id": "u"}  -> {"message": "Answer stopped"}                    (ours)
    PUT, GET, DELETE /chat/users/{user_id}/profile   the user's profile, a JSON object              (ours)
    WS   /ws/{user_id}

    in:  Are almonds okay for my cholesterol?
    out: {"type":"message_start"}
         {"type":"streaming","content":"<p>Yes, "}
         {"type":"message_stop","content":"<p>Yes, almonds are fine.</p>"}
         {"type":"error","message":"..."}

What the document leaves open:
- HTTP takes the API key. A user's id is no secret, so the WebSocket wants the API key in its Authorization header, or
  the ticket that start_session puts into `websocket_url` (`?ticket=`): it lets that user in while that session is open,
  a year at most. Where the header holds a Bearer credential, that one decides. FOODHAK_OPEN_WS=true lets anyone in who
  knows the id of a user with an open session, and prints the URL bare, as the document does.
- What is said on a WebSocket that was let in by the API key counts for the key's limits too, elsewhere for the user's.
- Without an open session there is no WebSocket, API key or not: `error`, saying to start one, and 1008.
- A user id is 1 to 200 bytes of what a URL's path carries unchanged: printable, without `/ \\ ? # %`, without spaces
  around it, and not `.` or `..`. It is not `chat` either: `/ws/chat` is another API's WebSocket, so that no URL of that
  user's would work. Others are refused: 422; 1008 on the WebSocket.
- `user_name` is given back as it was sent. It may be left out: it is empty then.
- Starting a session that is open returns it, with the same session_key, its history, and a new ticket beside the old.
- `message_start` comes when an answer begins; one that failed or was stopped while it waited has none. Each answer ends
  in exactly one frame: `message_stop` with the whole HTML when it completed or was stopped (with what was said so far),
  `error` when it failed. What all `streaming` frames of an answer add up to is `message_stop`'s content, closing tags
  included, also before an `error`; only an answer that had to be restarted differs, and there `message_stop` comes
  before the `error` too, because its content is the truth. A restart is no new `message_start`.
- `?sources=true` adds to `message_stop` the passages of the knowledge store that the model was given,
  `"sources": [{"id","title","score"}]` (none of a stopped answer), and `"knowledge": "unavailable"` where the store did
  not answer in time and the answer was made without it.
- A message that can't be taken (empty, binary, too large) gets an `error` frame; all but the too large may go on.
- `?client_id=<prefix>` makes sends repeatable: the connection's n-th message has the idempotency key `<prefix>:<n>`.
  One refused for a limit or a full queue is stored nowhere and has no number. Who reconnects to repeat what may have
  been lost uses the same prefix and sends the same messages again from the first, without those; who goes on with new
  messages uses a new one.
- `conversation_history` has no answer under way: the WebSocket delivers that, from its beginning.
- A profile is its user's, with a session or without, and outlives them; each answer looks at it as it is then. It is at
  most 16 KiB (413), as JSON and as it is stored, where a number takes 9 bytes; nested at most 16 deep; its numbers are
  doubles, so that a whole one beyond 2^53 is refused (422). PUT replaces all of it; GET returns it, 404 where there is
  none; DELETE succeeds also then.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.messages import Answer
from fastapi import APIRouter, Body, Path, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.auth import Caller, bearer
from gateway.channel import Channel, Flag, told
from gateway.credential import Credential
from gateway.dialect import Command, Dialect, Handshake, Renderer, Services, Visit
from gateway.frame import Frame
from gateway.html import answers, forms
from gateway.html.history import HistoryMessage, history_of
from gateway.http import detail, guarded_router, websocket_origin
from gateway.named_sessions import NamedSessions, check_name
from gateway.openapi import example, responses
from gateway.ports import DialectSession
from gateway.storable import check_storable

NAME = "foodhak"
_ERRORS = ("/chat/start_session", "/chat/end_session", "/chat/stop", "/chat/users")
"""Not /chat: below it another API has its paths, too."""
_NO_USERS = frozenset({"chat"})
"""What lies at /ws/{user_id} and is no user's."""
_TICKET_S = 365 * 86_400
"""As long as a session may be open at all between two uses. What ends a ticket is the end of its session."""
_PROFILE_BYTES = 16 * 1024

_NOT_OPEN = {404: "No session is open for this user_id: start one with start_session first."}
_STARTED = {
    "session_key": "user:USER123:8f14e45f-ceea-467f-9c1b-3d5c8f0a7b21",
    "user_id": "USER123",
    "user_name": "Alex",
    "status": "Session started successfully",
    "conversation_history": [],
    "websocket_url": "wss://ai-foodhak.com/ws/USER123?ticket=8f14e45f-ceea-467f-9c1b-3d5c8f0a7b21.1795195360.c2lnbmF0dXJl",
}
_PROFILE = {"age": 34, "diet": "vegetarian", "allergies": ["peanuts"], "goals": {"cholesterol": "lower"}}


def _check_user_id(user_id: str) -> str:
    if check_name(user_id) in _NO_USERS:
        raise ValueError(f"it can't be {user_id!r}: /ws/{user_id} is another API's")
    return user_id


def _check_profile(profile: dict[str, Any]) -> dict[str, Any]:
    check_storable(profile)
    return profile


UserId = Annotated[str, AfterValidator(_check_user_id)]
Profile = Annotated[dict[str, Any], AfterValidator(_check_profile), Body(examples=[_PROFILE])]


class StartRequest(BaseModel):
    """Names a user and says how they are called."""

    model_config = example({"user_id": "USER123", "user_name": "Alex"})

    user_id: UserId
    user_name: str = ""


class SessionRequest(BaseModel):
    """Names a user."""

    model_config = example({"user_id": "USER123"})

    user_id: UserId


class StartedSession(BaseModel):
    """An open session."""

    session_key: str
    user_id: str
    user_name: str
    status: str
    conversation_history: list[HistoryMessage]
    websocket_url: str


class Done(BaseModel):
    """Something was done."""

    message: str


class SocketQuery(BaseModel):
    """What the WebSocket's query may hold."""

    model_config = ConfigDict(defer_build=True)
    sources: Annotated[Flag, Field(description="Adds to `message_stop` what the model was given to read.")] = "false"


class Source(BaseModel):
    """A passage of the knowledge store; the higher its score, the better it fits."""

    id: str
    title: str
    score: float


class MessageStop(BaseModel):
    """An answer has ended: the whole of it. Where it differs from what was streamed, this is the truth."""

    model_config = told(
        {"type": "message_stop", "content": "<p>Yes, almonds are fine.</p>"},
        {
            "type": "message_stop",
            "content": "<p>Yes, almonds are fine.</p>",
            "sources": [{"id": "nuts-4", "title": "Nuts and cholesterol", "score": 0.83}],
        },
    )
    type: Literal["message_stop"]
    content: str
    sources: Annotated[list[Source], Field(description="With `?sources=true`.")] = []
    knowledge: Annotated[
        Literal["unavailable"] | None,
        Field(description="With `?sources=true`, where the knowledge store did not answer in time."),
    ] = None


def dialect(services: Services) -> Dialect:
    """Foodhak's routes and its WebSocket."""
    sessions = NamedSessions(services.sessions, NAME, "user_id", services.now_s)
    sockets = (FoodhakSocket(services, sessions),)
    return Dialect(NAME, _router(services, sessions), sockets, errors=dict.fromkeys(_ERRORS, detail))


def _router(services: Services, sessions: NamedSessions) -> APIRouter:
    users = services.users

    router = guarded_router("/chat", "Foodhak", services.doorkeeper.service, Credential.API_KEY)

    @router.post("/start_session", responses=responses(_STARTED))
    async def start_session(body: StartRequest, request: Request) -> StartedSession:
        """Opens the session, or returns the open one with its history."""
        session, messages = await sessions.start(body.user_id)
        url = f"{websocket_origin(request, services.public_url)}/ws/{quote(body.user_id, safe='')}"
        if NAME not in services.open_sockets:
            url += f"?ticket={_ticket(services, session)}"
        return StartedSession(
            session_key=f"user:{body.user_id}:{session.session_id}",
            user_id=body.user_id,
            user_name=body.user_name,
            status="Session started successfully",
            conversation_history=history_of(messages),
            websocket_url=url,
        )

    @router.post("/end_session", responses=responses({"message": "Session ended successfully"}, _NOT_OPEN))
    async def end_session(body: SessionRequest) -> Done:
        """Ends the session: stops its answer, deletes its history, closes its WebSockets. 404: none is open."""
        await sessions.end(body.user_id)
        return Done(message="Session ended successfully")

    @router.post("/stop", responses=responses({"message": "Answer stopped"}, _NOT_OPEN))
    async def stop(body: SessionRequest) -> Done:
        """Stops the answer under way; what was said so far is kept. 404: no session is open."""
        stopped = await sessions.stop(body.user_id)
        return Done(message="Answer stopped" if stopped else "There was no answer to stop")

    @router.put("/users/{user_id}/profile", responses=responses({"message": "Profile stored"}))
    async def put_profile(user_id: Annotated[UserId, Path()], profile: Profile) -> Done:
        """Stores the user's profile, the body, in place of the one before. 413: it is too large."""
        if len(json.dumps(profile, ensure_ascii=False).encode()) > _PROFILE_BYTES:
            raise _too_large()
        try:
            await users.put_profile(user_id, NAME, profile)
        except SwitchboardError as error:
            # As it is stored it may be larger than it was as JSON.
            raise _too_large() if error.code is ErrorCode.INVALID_ARGUMENT else error from error
        return Done(message="Profile stored")

    @router.get("/users/{user_id}/profile", responses=responses(_PROFILE, {404: "There is no profile of this user."}))
    async def get_profile(user_id: Annotated[UserId, Path()]) -> dict[str, Any]:
        """The user's profile. 404: there is none."""
        try:
            return dict(await users.get_profile(user_id, NAME))
        except SwitchboardError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            raise SwitchboardError(ErrorCode.NOT_FOUND, "There is no profile of this user.") from error

    @router.delete("/users/{user_id}/profile", responses=responses({"message": "Profile deleted"}))
    async def delete_profile(user_id: Annotated[UserId, Path()]) -> Done:
        """Deletes the user's profile, if there is one."""
        await users.delete_profile(user_id, NAME)
        return Done(message="Profile deleted")

    return router


def _too_large() -> SwitchboardError:
    return SwitchboardError(
        ErrorCode.TOO_LARGE, f"The profile is too large: at most {_PROFILE_BYTES:,} bytes are stored."
    )


def _ticket(services: Services, session: DialectSession) -> str:
    """Lets in to this session: its id, and our word for it."""
    expires_at_s = services.now_s() + _TICKET_S
    return f"{session.session_id}.{services.tickets.issue(NAME, session.name, session.session_id, expires_at_s)}"


class FoodhakSocket:
    """`/ws/{user_id}`."""

    path = "/ws/{user_id}"
    channel = Channel(
        name=NAME,
        title="Foodhak",
        summary="A user's chat: questions as plain text, answers as HTML, piece by piece.",
        hears=(forms.Question,),
        tells=(forms.MessageStart, forms.Streaming, MessageStop, forms.Error),
        parameters={"user_id": "A user with an open session."},
        query=SocketQuery,
        credentials=(Credential.TICKET, Credential.API_KEY),
    )

    def __init__(self, services: Services, sessions: NamedSessions) -> None:
        self._services = services
        self._sessions = sessions

    async def admit(self, handshake: Handshake) -> Visit:
        """Lets in to a user's open session: the API key's holder, a ticket's, or, in an open deployment, anyone."""
        try:
            user_id = _check_user_id(handshake.path["user_id"])
        except ValueError as exc:
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, f"user_id: {exc}") from exc
        sources = handshake.query.get("sources", "false")
        if sources not in ("true", "false"):
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, "sources must be true or false", field="sources")
        # Looked at first: who may not come in does not learn whether a session is open, and keeps none open.
        session_id, caller = await self._credential(handshake, user_id)
        session = await self._sessions.find(user_id)
        if session_id not in ("", session.session_id):
            raise SwitchboardError(
                ErrorCode.UNAUTHENTICATED,
                "The ticket is of a session that has ended: take the websocket_url of start_session.",
            )
        visit = self._sessions.visit(session)
        visit.variant, visit.expires_at_s, visit.key_id = sources == "true", caller.expires_at_s, caller.key_id
        return visit

    async def _credential(self, handshake: Handshake, user_id: str) -> tuple[str, Caller]:
        """Which session the credential is good for (empty: any of this user's), until when, and by which API key, if it
        is one. Raises: UNAUTHENTICATED."""
        if NAME in self._services.open_sockets:
            return "", Caller()
        api_key, ticket = bearer(handshake.header("authorization")), handshake.query.get("ticket", "")
        if ticket and not api_key:
            # The session's id is in it, so that it can be checked before anybody asks what is open.
            session_id, _, signed = ticket.partition(".")
            now_s = self._services.now_s()
            ends_s = self._services.tickets.open(NAME, signed, user_id, session_id, now_s)
            return session_id, Caller(expires_at_s=ends_s)
        if not api_key:
            raise SwitchboardError(
                ErrorCode.UNAUTHENTICATED,
                "Authentication is needed: take the websocket_url of start_session, or send the API key as "
                "'Authorization: Bearer <credential>'.",
            )
        return "", await self._services.doorkeeper.service(api_key)

    async def read(self, text: str, visit: Visit) -> Command:
        """A frame is a message, as it stands."""
        return await self._sessions.say(text, visit)

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        """The variant: whether sources are wanted."""
        more = _knowledge if variant is True else answers.nothing_more
        return answers.HtmlAnswers(begins=True, more=more)

    def merge(self, frames: Sequence[Frame]) -> Frame:
        """Only streaming frames are of a run."""
        return answers.merge(frames)

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        """The error frame."""
        return answers.error(failure.message)


def _knowledge(answer: Answer | None) -> Mapping[str, object]:
    """What `?sources=true` adds to message_stop."""
    sources = answer.sources if answer is not None else ()
    made: dict[str, object] = {
        "sources": [{"id": source.id, "title": source.title, "score": source.score} for source in sources]
    }
    if answer is not None and answer.without_knowledge:
        made["knowledge"] = "unavailable"
    return made
