"""How many clients are here, by dialect and by chat: counted as they come and go, never by looking at all of them."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from gateway.records import Connections


class Headcount:
    """Counts the clients of these dialects."""

    def __init__(self, dialects: Collection[str]) -> None:
        self._clients = dict.fromkeys(dialects, 0)
        self._readers: dict[str, Counter[str]] = {dialect: Counter() for dialect in dialects}
        self.changed = asyncio.Event()
        """Set by every change; who waits for it clears it."""

    def enter(self, dialect: str) -> None:
        """A client was let in; `leave` follows."""
        self._clients[dialect] += 1
        self.changed.set()

    def show(self, dialect: str, chat_id: str) -> None:
        """A client that is here reads a chat, too."""
        self._readers[dialect][chat_id] += 1
        self.changed.set()

    def leave(self, dialect: str, chat_ids: Iterable[str]) -> None:
        """A client is gone, which read these chats."""
        self._clients[dialect] -= 1
        readers = self._readers[dialect]
        for chat_id in chat_ids:
            readers[chat_id] -= 1
            if not readers[chat_id]:
                del readers[chat_id]
        self.changed.set()

    def count(self) -> Mapping[str, Connections]:
        """How things stand, by dialect; it goes on changing, and is to be used before anything is waited for."""
        return {dialect: Connections(total, self._readers[dialect]) for dialect, total in self._clients.items()}
