"""The closed set of failures, and the one exception that carries them through our own code.

Adapters translate what their libraries raise into `SwitchboardError` at their own edge, by status or code and never by
a message's text; dialects and gRPC servers choose the shape in which it leaves. The numbers are those of
`switchboard.chat.v1.ErrorCode`.
"""

from dataclasses import dataclass
from enum import IntEnum


class ErrorCode(IntEnum):
    """What kind of failure; the comments of the protobuf enum say what each asks of the caller."""

    INVALID_ARGUMENT = 1
    UNAUTHENTICATED = 2
    PERMISSION_DENIED = 3
    NOT_FOUND = 4
    ALREADY_EXISTS = 5
    TOO_LARGE = 6
    RATE_LIMITED = 7
    QUEUE_FULL = 8
    OVERLOADED = 9
    UNAVAILABLE = 10
    DEADLINE_EXCEEDED = 11
    PROVIDER_UNAVAILABLE = 12
    PROVIDER_REFUSED = 13
    NO_API_KEY = 14
    API_KEY_REFUSED = 15
    CONTEXT_TOO_LONG = 16
    LEASE_LOST = 17
    INTERNAL = 18
    CANCELLED = 19
    CONFLICT = 20


RETRYABLE = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.QUEUE_FULL,
        ErrorCode.OVERLOADED,
        ErrorCode.UNAVAILABLE,
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.PROVIDER_UNAVAILABLE,
        ErrorCode.INTERNAL,
    }
)
"""Failures after which the same request may succeed later."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How something failed, in words that a person may see: never a prompt, an answer, a key or an address."""

    code: ErrorCode
    message: str
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in RETRYABLE


class SwitchboardError(Exception):
    """A failure on its way to whoever asked. `field` names the request's field that INVALID_ARGUMENT is about."""

    def __init__(
        self, code: ErrorCode, message: str, *, retry_after_s: float | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.failure = Failure(code, message, retry_after_s)
        self.field = field

    @property
    def code(self) -> ErrorCode:
        """The failure's code."""
        return self.failure.code
