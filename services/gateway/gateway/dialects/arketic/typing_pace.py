"""How often others are told that somebody types: once a second at the most, over HTTP and on a WebSocket each.

Somebody may send a word of it for each key that is pressed, and every one would go to everybody who reads the chat.
"""

from collections import OrderedDict

TYPING_S = 1.0
_REMEMBERED = 10_000


class TypingPace:
    """When others were last told of each user in each chat, by this process and over HTTP."""

    def __init__(self) -> None:
        self._told_s: OrderedDict[tuple[str, str], float] = OrderedDict()

    def begin(self, chat_id: str, user_id: str, now_s: float) -> bool:
        """Whether others are to be told now; it counts as done. `forget` it when it could not be."""
        told_s = self._told_s.get((chat_id, user_id))
        if told_s is not None and abs(now_s - told_s) < TYPING_S:
            return False
        self._told_s[chat_id, user_id] = now_s
        self._told_s.move_to_end((chat_id, user_id))
        if len(self._told_s) > _REMEMBERED:
            self._told_s.popitem(last=False)
        return True

    def forget(self, chat_id: str, user_id: str) -> None:
        """Nobody was told."""
        self._told_s.pop((chat_id, user_id), None)
