"""What one client may send: sizes, how many chats, and the form of the keys that make its sends repeatable."""

import re

from chat.errors import ErrorCode, SwitchboardError

CHATS_AT_ONCE = 64
"""Chats that one connection may show: each costs a reader in the hub, and a look before every message that is sent, for
as long as the connection stays. People have one or a few open."""

_KEY = re.compile(r"[A-Za-z0-9._:-]{1,200}")


def check_key(text: str, name: str) -> str:
    """A client's idempotency key: 1 to 200 characters of [A-Za-z0-9._:-]. Raises: SwitchboardError."""
    if _KEY.fullmatch(text) is None:
        raise SwitchboardError(
            ErrorCode.INVALID_ARGUMENT, f"{name} must be 1 to 200 characters of A-Z a-z 0-9 . _ : -", field=name
        )
    return text


def check_message(text: str, limit: int) -> None:
    """Refuses a client's message over `limit` bytes of UTF-8. Raises: SwitchboardError TOO_LARGE."""
    # A character is at most 4 bytes: most messages are known to fit without being encoded.
    if len(text) * 4 > limit and len(text.encode("utf-8", "surrogatepass")) > limit:
        raise too_large(limit)


def too_large(limit: int) -> SwitchboardError:
    """The refusal of a message over `limit` bytes."""
    return SwitchboardError(ErrorCode.TOO_LARGE, f"The message is too large: at most {limit:,} bytes are accepted.")


def too_many_chats() -> SwitchboardError:
    """The refusal of one chat more than CHATS_AT_ONCE."""
    return SwitchboardError(
        ErrorCode.INVALID_ARGUMENT,
        f"This connection shows {CHATS_AT_ONCE} chats already: open another connection for more.",
    )
