"""A conversation so far, where answers are HTML: what a session that is open gives back when it is started.

The answer under way is not in it: the WebSocket delivers that, from its beginning. Subsystem: docs/subsystems/html.md.
"""

from collections.abc import Sequence

from chat.messages import Message, Role
from pydantic import BaseModel

from gateway.html.renderer import HtmlRenderer


class HistoryMessage(BaseModel):
    """One message: `role` is "user" or "assistant", whose content is HTML."""

    role: str
    content: str


def history_of(messages: Sequence[Message]) -> list[HistoryMessage]:
    """What was said and answered; answers without a word are left out."""
    history: list[HistoryMessage] = []
    for message in messages:
        if message.role is Role.USER:
            history.append(HistoryMessage(role="user", content=message.content))
        elif message.role is Role.ASSISTANT and message.content and not message.is_running:
            history.append(HistoryMessage(role="assistant", content=_html(message.content)))
    return history


def _html(text: str) -> str:
    renderer = HtmlRenderer()
    return renderer.feed(text) + renderer.finish()
