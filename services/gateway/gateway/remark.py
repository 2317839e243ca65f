"""What a client says, where the core must know more of it than a plain `Say` tells: the API key that counts it, or that
its chat was made for it. `ws.py` does what is said here. Subsystem: docs/subsystems/gateway.md.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.dialect import Say


@dataclass(frozen=True, slots=True)
class Remark(Say):
    """A `Say` with what else is known of it."""

    key_id: str = ""
    """Names the API key that the client showed (`Caller.key_id`): its limits count, too."""
    undo: Callable[[], Awaitable[None]] | None = None
    """The chat was made for this message, and nobody is shown it yet. Called when the message was refused for certain:
    takes the chat back. May raise SwitchboardError: then the chat stays. None: the chat was there before."""
