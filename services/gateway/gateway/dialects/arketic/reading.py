"""When each participant last read a chat, and how much each has said in it: what the document tells of participants.

A reading is noted with the user's own records, under a name of this chat, so that every replica knows it; it is told to
nobody else but who lists the chat's participants. How much somebody has said is counted from the history, once: each
process remembers how far it has counted.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Chat, Role

from gateway.dialects.arketic.wire import NAME, micros
from gateway.history_pages import history_pages
from gateway.ports import Sessions
from gateway.records import Users

log = logging.getLogger(__name__)

_COUNTED_CHATS = 1_000
_CALLS_AT_ONCE = 32
"""For one request: a chat of many people must not keep everybody else's calls waiting."""
_Found = TypeVar("_Found")
_FIELD = "last_read_at_us"


class Readings:
    """Readings of chats."""

    def __init__(self, users: Users, now_s: Callable[[], float]) -> None:
        self._users = users
        self._now_s = now_s

    async def note(self, chat_id: str, user_id: str) -> None:
        """The user reads the chat now. Never raises: nobody's reading waits for it to be noted."""
        try:
            await self._users.put_profile(user_id, _name(chat_id), {_FIELD: micros(self._now_s())})
        except SwitchboardError as error:
            log.info("reading_not_noted", extra={"chat_id": chat_id, "code": error.code.name})

    async def last(self, chat_id: str, user_id: str) -> int | None:
        """When the user last read the chat, in microseconds since 1970; None: not yet."""
        try:
            noted = await self._users.get_profile(user_id, _name(chat_id))
        except SwitchboardError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            return None
        return int(noted[_FIELD])

    async def last_of(self, chat_id: str, user_ids: Sequence[str]) -> list[int | None]:
        """As `last`, of many users, in their order."""
        return await _some_at_once(self.last, chat_id, user_ids)

    async def forget(self, chat_id: str, user_ids: Sequence[str]) -> None:
        """These users take part no longer, or the chat is gone. Never raises: what is left behind is a few bytes."""
        await _some_at_once(self._forget, chat_id, user_ids)

    async def _forget(self, chat_id: str, user_id: str) -> None:
        try:
            await self._users.delete_profile(user_id, _name(chat_id))
        except SwitchboardError as error:
            log.info("reading_not_forgotten", extra={"chat_id": chat_id, "code": error.code.name})


async def _some_at_once(
    ask: Callable[[str, str], Awaitable[_Found]], chat_id: str, user_ids: Sequence[str]
) -> list[_Found]:
    """What is found for each user, in their order."""
    found: list[_Found] = []
    for start in range(0, len(user_ids), _CALLS_AT_ONCE):
        some = user_ids[start : start + _CALLS_AT_ONCE]
        found += await asyncio.gather(*(ask(chat_id, user_id) for user_id in some))
    return found


def _name(chat_id: str) -> str:
    return f"{NAME}.{chat_id}"


@dataclass(slots=True)
class _Count:
    messages: int = 0
    by_sender: Counter[str] = field(default_factory=Counter)


class Contributions:
    """How many messages each participant has sent, for the chats that were asked about last."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    async def by_sender(self, chat: Chat, user_id: str) -> Mapping[str, int]:
        """Messages by who sent them. `user_id` asks. Raises: NOT_FOUND, PERMISSION_DENIED."""
        count = self._counts.pop(chat.id, None) or _Count()
        if count.messages > chat.message_count:
            # Redis has lost the end of what was counted.
            count = _Count()
        new = chat.message_count - count.messages
        async for page in history_pages(
            self._sessions, chat.id, limit=new, offset=count.messages, from_end=False, user_id=user_id
        ):
            count.by_sender.update(message.sender_id for message in page if message.role is not Role.ASSISTANT)
            count.messages += len(page)
        self._counts[chat.id] = count
        if len(self._counts) > _COUNTED_CHATS:
            self._counts.popitem(last=False)
        return count.by_sender
