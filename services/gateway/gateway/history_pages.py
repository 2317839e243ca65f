"""A chat's history, read page by page, so that one look at it costs what is looked at and no more.

The session service reads all that it is asked for, and gives 4 MiB of it: who asks each time for all that is still
wanted reads long messages over and over. Bounds what is held of a history at once, too. Knows no dialect.
Subsystem: docs/subsystems/gateway.md.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from chat.events import utf8_length
from chat.messages import Message

from gateway.ports import Sessions

HISTORY_BYTES = 16 * 1024 * 1024
"""Of text in one answer over HTTP: longer than any conversation that a person reads, and held several times over while
it is written."""
_FIRST_PAGE = 20
"""Of the longest messages that people send (50,000 characters) these are about the 4 MiB."""
_LARGEST_PAGE = 1_000


async def history_pages(
    sessions: Sessions,
    chat_id: str,
    *,
    limit: int,
    offset: int = 0,
    from_end: bool = True,
    user_id: str = "",
) -> AsyncGenerator[Sequence[Message], None]:
    """The `limit` messages before the last `offset` ones, the latest page first, or, not `from_end`, behind the first
    ones, in order; each page is oldest first. Raises: NOT_FOUND, PERMISSION_DENIED.
    """
    size, read = _FIRST_PAGE, 0
    while read < limit:
        asked = min(size, limit - read)
        page = await sessions.list_messages(
            chat_id, limit=asked, offset=offset + read, from_end=from_end, user_id=user_id
        )
        if not page:
            return
        yield page
        read += len(page)
        # Twice as many as fitted at the most, so that at most twice what is given is read.
        size = min(2 * size, _LARGEST_PAGE) if len(page) == asked else len(page)


async def read_history(
    sessions: Sessions, chat_id: str, *, limit: int, offset: int = 0, from_end: bool = True, user_id: str = ""
) -> list[Message]:
    """As `history_pages`, oldest first, and at most HISTORY_BYTES of text (one message always): of more, those next to
    the offset. Raises: NOT_FOUND, PERMISSION_DENIED.
    """
    messages: list[Message] = []
    octets = 0
    pages = history_pages(sessions, chat_id, limit=limit, offset=offset, from_end=from_end, user_id=user_id)
    async with aclosing(pages):
        async for page in pages:
            # From the offset on, whichever way that is.
            for message in reversed(page) if from_end else page:
                octets += utf8_length(message.content)
                if messages and octets > HISTORY_BYTES:
                    return messages[::-1] if from_end else messages
                messages.append(message)
    return messages[::-1] if from_end else messages
