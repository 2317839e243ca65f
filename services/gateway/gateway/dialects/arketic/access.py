"""Who gets into a chat: its participants, private or not, as long as it is not archived.

The session service looks at the acting user's role with every call; here its refusals get the document's words.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Chat, Message
from chat.names import NAME_BYTES, is_id

from gateway.auth import Caller
from gateway.dialects.arketic.wire import NAME
from gateway.history_pages import read_history
from gateway.ports import Sessions

NO_ACCESS = "Access denied to this chat"
NO_CHAT = "Chat not found"
NO_OPEN_CHAT = "Chat not found or archived"


@asynccontextmanager
async def refused_as(denied: str, unknown: str = NO_CHAT) -> AsyncIterator[None]:
    """Says in these words that somebody may not, or that something is not there."""
    try:
        yield
    except SwitchboardError as error:
        words = {ErrorCode.PERMISSION_DENIED: denied, ErrorCode.NOT_FOUND: unknown}
        if error.code not in words:
            raise
        raise SwitchboardError(error.code, words[error.code]) from error


async def enter(
    sessions: Sessions, chat_id: str, user_id: str, *, unknown: str = NO_CHAT, archived_too: bool = False
) -> Chat:
    """The chat, for one of its participants. Raises: PERMISSION_DENIED, NOT_FOUND."""
    async with refused_as(NO_ACCESS, unknown):
        if not is_id(chat_id):
            raise SwitchboardError(ErrorCode.NOT_FOUND, unknown)
        chat = await sessions.get_chat(chat_id, NAME, user_id=user_id)
        if chat.archived_at_us is not None and not archived_too:
            raise SwitchboardError(ErrorCode.NOT_FOUND, unknown)
        return chat


async def last_messages(sessions: Sessions, chat: Chat, user_id: str, *, limit: int, offset: int) -> list[Message]:
    """The `limit` messages before the last `offset` ones, oldest first; of very long ones, fewer, the older left out.

    Raises: PERMISSION_DENIED, NOT_FOUND.
    """
    wanted = min(limit, chat.message_count - offset)
    return await read_history(sessions, chat.id, limit=wanted, offset=offset, user_id=user_id)


async def find_message(sessions: Sessions, chat: Chat, message_id: str, user_id: str) -> Message:
    """A message of the chat's history. Raises: NOT_FOUND, PERMISSION_DENIED."""
    if not is_id(message_id):
        raise SwitchboardError(ErrorCode.NOT_FOUND, "Message not found")
    async with refused_as(NO_ACCESS, "Message not found"):
        return await sessions.get_message(chat.id, message_id, user_id=user_id)


def shown_name(caller: Caller) -> str:
    """What others see of a user: a token's name may be anything, and is left out when it can't be shown."""
    name = caller.username
    return name if name and name.isprintable() and len(name.encode()) <= NAME_BYTES else caller.user_id
