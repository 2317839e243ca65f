"""Dialect sessions: a name, such as a token or a user id, that stands for a chat for a while.

A name lies in another slot than its chat. So it is claimed first, for a chat id made beforehand; a chat that is missing
behind a name (a crash between the two) is made when the name is next opened.
"""

from collections.abc import Callable

from chat.errors import ErrorCode, SwitchboardError
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from session import keys, scripts
from session.chats import Chats
from session.redis_link import RedisLink


class Names:
    """All dialect sessions. `new_id` makes ids that nobody can guess."""

    def __init__(self, link: RedisLink, chats: Chats, *, new_id: Callable[[], str], now_us: Callable[[], int]) -> None:
        self._link = link
        self._chats = chats
        self._new_id = new_id
        self._now_us = now_us

    async def open(
        self, dialect: str, name: str, template: chat_pb2.Chat, ttl_s: int
    ) -> tuple[session_pb2.DialectSession, bool]:
        """The session under a name, and whether this call made it: one that is open stays as it is, whatever `template`
        says. Raises: SwitchboardError(UNAVAILABLE)."""
        made = session_pb2.DialectSession(dialect=dialect, name=name, chat_id=self._new_id(), session_id=self._new_id())
        made.started_at.FromMicroseconds(self._now_us())
        made.ttl.FromSeconds(ttl_s)
        key = keys.dialect_session(dialect, name)
        while True:
            known = await self._link.execute("SET", key, made.SerializeToString(), "NX", "GET", "EX", ttl_s)
            stored = known or made.SerializeToString()
            session = session_pb2.DialectSession.FromString(stored)
            if known:
                await self._link.execute("EXPIRE", key, ttl_s)
            chat = chat_pb2.Chat()
            chat.CopyFrom(template)
            chat.id, chat.dialect = session.chat_id, dialect
            try:
                # The chat outlives its name a little, so that a name never stands for a chat that has gone.
                await self._chats.create(chat, "", ttl_s + 3600)
            except SwitchboardError as error:
                # An open one's chat may be another owner's, and go while it is looked at.
                if error.code not in (ErrorCode.ALREADY_EXISTS, ErrorCode.NOT_FOUND):
                    raise
            if await self._link.execute("GET", key) == stored:
                return session, not known
            # Ended meanwhile: nobody would find this chat, and the name is free.
            await self._chats.delete(session.chat_id, "ended")

    async def get(self, dialect: str, name: str) -> session_pb2.DialectSession:
        """The open session of a name; its time begins anew. Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
        key = keys.dialect_session(dialect, name)
        found = await self._link.execute("GET", key)
        if found is None:
            raise _not_open()
        session = session_pb2.DialectSession.FromString(found)
        await self._link.execute("EXPIRE", key, session.ttl.seconds)
        await self._chats.touch(session.chat_id)
        return session

    async def close(self, dialect: str, name: str) -> None:
        """Ends a session and deletes its chat. Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
        key = keys.dialect_session(dialect, name)
        found = await self._link.execute("GET", key)
        # The name first: whoever opens it from now on gets another chat. One left behind here goes by its lifetime.
        if found is None or not await self._link.run(scripts.CLOSE_SESSION, [key], found):
            raise _not_open()
        await self._chats.delete(session_pb2.DialectSession.FromString(found).chat_id, "ended")


def _not_open() -> SwitchboardError:
    return SwitchboardError(ErrorCode.NOT_FOUND, "no session is open under this name")
