"""What elogrants' routes answer and what goes over its WebSocket, with examples; `__init__.py` says what it means.

The frames are for the AsyncAPI document alone.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gateway.channel import Flag, heard, told

SESSION_ID = "8f14e45f-ceea-467f-9c1b-3d5c8f0a7b21"
"""A session's, in examples."""
ENTRY = {
    "session_id": SESSION_ID,
    "title": "Hello AI!",
    "created_at": "2026-02-01T09:30:00.000000Z",
    "last_activity_at": "2026-02-01T09:30:02.250000Z",
    "message_count": 2,
}
HISTORY = {
    "session_id": SESSION_ID,
    "messages": [
        {"role": "user", "content": "Hello AI!", "created_at": "2026-02-01T09:30:00.000000Z"},
        {
            "role": "assistant",
            "content": "Hello! How can I assist you today?",
            "created_at": "2026-02-01T09:30:01.100000Z",
        },
    ],
    "total": 2,
}


class SessionEntry(BaseModel):
    """One of a user's sessions."""

    session_id: str
    title: str
    created_at: str
    last_activity_at: str
    message_count: int


class HistoryMessage(BaseModel):
    """One message: `role` is "user" or "assistant"."""

    role: str
    content: str
    created_at: str


class History(BaseModel):
    """A page of a session's messages, oldest first; `total`: how many the session holds."""

    session_id: str
    messages: list[HistoryMessage]
    total: int
    next_offset: Annotated[
        int | None, Field(description="Only where the page ends before its limit, being over 16 MiB: the next one's.")
    ] = None


class Stopped(BaseModel):
    """Whether there was something to stop."""

    message: str
    session_id: str


class Failed(BaseModel):
    """A failure over HTTP."""

    error: str


class Saying(BaseModel):
    """What the user says, in the session that is named, else in the connection's own."""

    model_config = heard({"message": "Hello AI!", "session_id": SESSION_ID}, {"message": "Hello AI!"})
    message: Annotated[str, Field(pattern=r"\S", description="Not blank.")]
    session_id: str | None = None


class NewSession(BaseModel):
    """The first frame, when no session was named: the connection's own, which is stored with its first message."""

    model_config = told({"session_id": SESSION_ID})
    session_id: str


class Answer(BaseModel):
    """An answer has ended: the whole of it, as the model wrote it."""

    model_config = told({"message": "Hello! How can I assist you today?", "session_id": SESSION_ID})
    message: str
    session_id: str


class Delta(BaseModel):
    """With `?stream=true`: a piece of an answer."""

    model_config = told({"delta": "Hello! How", "session_id": SESSION_ID})
    delta: str
    session_id: str


class Error(BaseModel):
    """Something failed: an answer, a frame that can't be taken, or, with no session named, the visit."""

    model_config = told({"error": "unknown session", "session_id": None})
    error: str
    session_id: str | None


class SocketQuery(BaseModel):
    """What the WebSocket's query may hold."""

    model_config = ConfigDict(defer_build=True)
    session_id: Annotated[str, Field(description="A session to go on with; none, or an empty one: a new one.")] = ""
    stream: Annotated[Flag, Field(description="Sends an answer's deltas before the whole of it.")] = "false"
