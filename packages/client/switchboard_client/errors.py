"""What a call failed with: the contract's closed set, read from google.rpc's details, never from a message's text."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

import asyncio
from collections.abc import Awaitable
from enum import StrEnum
from typing import TypeVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "switchboard"

T = TypeVar("T")


class ErrorCode(StrEnum):
    """The names of `switchboard.chat.v1.ErrorCode`; its comments, and docs/generate.md, say what each asks of you."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    TOO_LARGE = "TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"
    QUEUE_FULL = "QUEUE_FULL"
    OVERLOADED = "OVERLOADED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    PROVIDER_REFUSED = "PROVIDER_REFUSED"
    NO_API_KEY = "NO_API_KEY"
    API_KEY_REFUSED = "API_KEY_REFUSED"
    CONTEXT_TOO_LONG = "CONTEXT_TOO_LONG"
    LEASE_LOST = "LEASE_LOST"
    INTERNAL = "INTERNAL"
    CANCELLED = "CANCELLED"
    CONFLICT = "CONFLICT"


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

# What a status without our details means: gRPC made it itself, on either side or between.
_BARE: dict[grpc.StatusCode, tuple[ErrorCode, str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        ErrorCode.UNAVAILABLE,
        "No worker can be reached, or the connection broke; check the address if it goes on",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        ErrorCode.DEADLINE_EXCEEDED,
        "The call's deadline passed before it ended; give it more time, or ask for less",
    ),
    grpc.StatusCode.UNAUTHENTICATED: (ErrorCode.UNAUTHENTICATED, "The service token is missing or wrong"),
    grpc.StatusCode.PERMISSION_DENIED: (ErrorCode.PERMISSION_DENIED, "The service token does not allow this"),
    grpc.StatusCode.INVALID_ARGUMENT: (ErrorCode.INVALID_ARGUMENT, "The request is malformed"),
    grpc.StatusCode.UNIMPLEMENTED: (
        ErrorCode.NOT_FOUND,
        "The server has no such method: is it an LLM worker, and as new as this client",
    ),
    # gRPC says so of a message over the size limit of either side; our worker's own refusals have details.
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ErrorCode.TOO_LARGE, "The request is over 8 MiB; send less"),
    grpc.StatusCode.CANCELLED: (ErrorCode.CANCELLED, "Something between here and the worker ended the call"),
}


class SwitchboardError(Exception):
    """A call failed; `str` of it is fit for a log."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        field: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        """One sentence that says what to do."""
        self.field = field
        """The request's field that is to blame; empty: none."""
        self.retry_after_s = retry_after_s
        """When to try again at the earliest; None: no better guess than your own back-off."""

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in RETRYABLE


def closed() -> SwitchboardError:
    """What a call ends with whose client is closed."""
    return SwitchboardError(ErrorCode.CANCELLED, "The client was closed while the call was under way")


async def answered(call: Awaitable[T]) -> T:
    """What gRPC answers. Raises: SwitchboardError, from what gRPC raised, in whose words is more of it."""
    try:
        return await call
    except grpc.aio.AioRpcError as exc:
        raise error_of(exc) from exc
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody cancelled whoever waits here, but the call itself.
        raise closed() from None


def error_of(error: grpc.aio.AioRpcError) -> SwitchboardError:
    """What gRPC raised, in the contract's words."""
    code, message = _BARE.get(error.code(), (ErrorCode.INTERNAL, f"The call failed with {error.code().name}"))
    if error.details():
        message = f"{message} (gRPC: {error.details()})"
    field, retry_after_s = "", None
    for packed in _details(error):
        info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
        if packed.Unpack(info) and info.domain == DOMAIN:
            # A reason that is newer than this client is what its status is without one.
            code = ErrorCode.__members__.get(info.reason, code)
            message = error.details() or ""
        elif packed.Unpack(retry):
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif packed.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
    return SwitchboardError(code, message, field=field, retry_after_s=retry_after_s)


def _details(error: grpc.aio.AioRpcError) -> list[status_pb2.Any]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return list(status_pb2.Status.FromString(value).details)
    return []
