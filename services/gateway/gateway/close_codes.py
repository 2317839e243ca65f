"""The one table of WebSocket close codes: what each says, and whether the client should come back.

Codes below 4000 mean what RFC 6455, section 7.4.1, and IANA's registry say; 4408 is ours, after HTTP's 408.
"""

from dataclasses import dataclass
from enum import Enum

from chat.errors import ErrorCode


class Reconnect(Enum):
    """What a client should do after a close."""

    NEVER = "never"
    """The same connection would be closed again."""
    NOW = "now"
    """Another replica, or this one, takes it at once; resume by position."""
    LATER = "later"
    """After a back-off; resume by position."""


@dataclass(frozen=True, slots=True)
class Close:
    """One way in which we close. `reason` is at most 123 bytes, the protocol's limit."""

    code: int
    reason: str
    reconnect: Reconnect
    explained: bool = False
    """Whether an error frame in the dialect's form goes before it."""


SESSION_ENDED = Close(1000, "the session has ended", Reconnect.NEVER)
DRAINING = Close(1001, "the server is going away: reconnect now", Reconnect.NOW)
REFUSED = Close(1008, "refused: the frame before says why", Reconnect.NEVER, explained=True)
TOO_LARGE = Close(1009, "the message is too large", Reconnect.NEVER, explained=True)
OUR_FAULT = Close(1011, "an internal error: reconnect later", Reconnect.LATER, explained=True)
SILENT = Close(4408, "no frame came for too long: reconnect when there is something to say", Reconnect.LATER)
OVERLOADED = Close(1013, "overloaded: reconnect later", Reconnect.LATER, explained=True)
TOO_SLOW = Close(1013, "too slow: reconnect later", Reconnect.LATER)

_OF_FAILURE = {
    ErrorCode.INVALID_ARGUMENT: REFUSED,
    ErrorCode.UNAUTHENTICATED: REFUSED,
    ErrorCode.PERMISSION_DENIED: REFUSED,
    ErrorCode.NOT_FOUND: REFUSED,
    ErrorCode.ALREADY_EXISTS: REFUSED,
    ErrorCode.CONFLICT: REFUSED,
    ErrorCode.RATE_LIMITED: REFUSED,
    ErrorCode.TOO_LARGE: TOO_LARGE,
    ErrorCode.OVERLOADED: OVERLOADED,
    ErrorCode.UNAVAILABLE: OVERLOADED,
    ErrorCode.DEADLINE_EXCEEDED: OVERLOADED,
}


def close_of(code: ErrorCode) -> Close:
    """How a connection is closed that can't go on because of a failure."""
    return _OF_FAILURE.get(code, OUR_FAULT)
