"""Sessions by name: a product opens a chat under a name of its own, a token or a user's id, until it ends it.

What the dialects have in common that work so: which names there may be, what is done with a session, and that it stays
open while something is said in it. Shows nothing and lets nobody in: that is the dialects'. Subsystem:
docs/subsystems/gateway.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chat.errors import ErrorCode, SwitchboardError
from chat.messages import AnswerSettings, Chat, Message
from chat.names import NAME_BYTES

from gateway.dialect import Say, Visit
from gateway.history_pages import read_history
from gateway.ports import DialectSession, Sessions

_HISTORY_MESSAGES = 200
"""As many as a model is given; fewer where they are very long (`history_pages.py`)."""
_TOUCH_S = 3_600.0
"""A session stays open for a day after it was last used; what is said over an open WebSocket is such a use."""
_NOT_IN_A_PATH = frozenset("/\\?#%")
"""With these the documents' `wss://.../{name}` names another session, or none, whenever the name is written into it as
it stands, or some proxy decodes it once more."""


def check_name(name: str) -> str:
    """A name of 1 to 200 bytes that a URL's path carries unchanged. Raises: ValueError, saying what it must be."""
    if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= NAME_BYTES:
        raise ValueError(f"it must be 1 to {NAME_BYTES} bytes long")
    if not name.isprintable() or name != name.strip() or _NOT_IN_A_PATH & set(name) or name in (".", ".."):
        raise ValueError(
            "it is part of a URL: it must be printable, without / \\ ? # %, without spaces around it, and not . or .."
        )
    return name


@dataclass(slots=True)
class SessionVisit(Visit):
    """A stay in the session `name`. `used_s`: when its time was last extended, in seconds since 1970. `key_id` names
    the API key that the client was let in by, if it was (`Caller.key_id`)."""

    name: str = ""
    used_s: float = 0.0
    key_id: str = ""


class NamedSessions:
    """One dialect's sessions. `field` is what the dialect calls a session's name."""

    def __init__(self, sessions: Sessions, dialect: str, field: str, now_s: Callable[[], float]) -> None:
        self._sessions = sessions
        self._dialect = dialect
        self._field = field
        self._now_s = now_s

    async def start(self, name: str) -> tuple[DialectSession, list[Message]]:
        """Opens the session, or takes the open one; with its last messages. Its chat's owner has the session's name,
        and the dialect's persona answers."""
        chat = Chat(id="", dialect=self._dialect, owner_id=name, answers=AnswerSettings(persona=self._dialect))
        session, created = await self._sessions.open_session(self._dialect, name, chat)
        if created:
            return session, []
        return session, await read_history(self._sessions, session.chat_id, limit=_HISTORY_MESSAGES)

    async def find(self, name: str) -> DialectSession:
        """The open session, its time extended. Raises: SwitchboardError NOT_FOUND, saying that one must be started."""
        try:
            return await self._sessions.get_session(self._dialect, name)
        except SwitchboardError as error:
            raise self._explained(error) from error

    async def end(self, name: str) -> None:
        """Ends the session: stops its answer, deletes its history, closes its WebSockets. Raises: as `find`."""
        try:
            await self._sessions.close_session(self._dialect, name)
        except SwitchboardError as error:
            raise self._explained(error) from error

    async def stop(self, name: str) -> bool:
        """Stops the answer under way, what was said so far is kept; whether there was one. Raises: as `find`."""
        session = await self.find(name)
        try:
            return bool(await self._sessions.cancel_turn(session.chat_id))
        except SwitchboardError as error:
            raise self._explained(error) from error

    def visit(self, session: DialectSession) -> SessionVisit:
        """A stay in a session that was found just now; its name speaks."""
        return SessionVisit(user_id=session.name, chat_id=session.chat_id, name=session.name, used_s=self._now_s())

    async def say(self, text: str, visit: Visit) -> Say:
        """A client's text as a message, as it stands; the session stays open. Raises: SwitchboardError: it is blank, or
        the session is no longer open."""
        if not text.strip():
            raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, "The message is empty.")
        key_id = ""
        if isinstance(visit, SessionVisit):
            key_id = visit.key_id
            if self._now_s() - visit.used_s > _TOUCH_S:
                await self.find(visit.name)
                visit.used_s = self._now_s()
        return Say(visit.chat_id, text, key_id=key_id)

    def _explained(self, error: SwitchboardError) -> SwitchboardError:
        if error.code is not ErrorCode.NOT_FOUND:
            return error
        return SwitchboardError(
            ErrorCode.NOT_FOUND, f"No session is open for this {self._field}: start one with start_session first."
        )
