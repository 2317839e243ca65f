"""Our failures as gRPC statuses with google.rpc details, and back: the one table between the two.

Server side: `status_of`. Client side: `error_of`. Details: ErrorInfo (domain "switchboard", reason: the code's name),
RetryInfo where waiting helps, BadRequest where a field is to blame.
Source of the meanings: google.rpc.Code and google/rpc/error_details.proto.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "switchboard"

# By name, since this package knows nothing of chats; `chat.errors.ErrorCode` is the closed set.
_STATUS: dict[str, grpc.StatusCode] = {
    "INVALID_ARGUMENT": grpc.StatusCode.INVALID_ARGUMENT,
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "QUEUE_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "PROVIDER_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "PROVIDER_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "NO_API_KEY": grpc.StatusCode.FAILED_PRECONDITION,
    "API_KEY_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "CONTEXT_TOO_LONG": grpc.StatusCode.OUT_OF_RANGE,
    "LEASE_LOST": grpc.StatusCode.ABORTED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
    "CANCELLED": grpc.StatusCode.CANCELLED,
    "CONFLICT": grpc.StatusCode.ABORTED,
}
# What a status without our details means: it was made by gRPC itself, on either side or between.
_REASON: dict[grpc.StatusCode, str] = {
    grpc.StatusCode.INVALID_ARGUMENT: "INVALID_ARGUMENT",
    grpc.StatusCode.UNAUTHENTICATED: "UNAUTHENTICATED",
    grpc.StatusCode.PERMISSION_DENIED: "PERMISSION_DENIED",
    grpc.StatusCode.NOT_FOUND: "NOT_FOUND",
    grpc.StatusCode.ALREADY_EXISTS: "ALREADY_EXISTS",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "OVERLOADED",
    grpc.StatusCode.UNAVAILABLE: "UNAVAILABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    grpc.StatusCode.ABORTED: "LEASE_LOST",
    grpc.StatusCode.CANCELLED: "CANCELLED",
}


class _Failure(Protocol):
    @property
    def code(self) -> IntEnum: ...
    @property
    def message(self) -> str: ...
    @property
    def retry_after_s(self) -> float | None: ...


def status_of(failure: _Failure, field: str | None = None) -> grpc.Status:
    """What a server ends a call with: `await context.abort_with_status(status_of(error.failure, error.field))`."""
    details: list[error_details_pb2.RetryInfo | error_details_pb2.BadRequest] = []
    if failure.retry_after_s is not None:
        whole, micros = divmod(round(failure.retry_after_s * 1_000_000), 1_000_000)
        details.append(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=whole, nanos=micros * 1000)))
    if field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=failure.message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    return _status(failure.code.name, failure.message, details)


def unauthenticated() -> grpc.Status:
    """What a call without the service token ends with."""
    message = "the metadata 'authorization: Bearer <service token>' is missing or wrong"
    return _status("UNAUTHENTICATED", message, ())


def _status(
    reason: str, message: str, details: Iterable[error_details_pb2.RetryInfo | error_details_pb2.BadRequest]
) -> grpc.Status:
    packed = [_pack(detail) for detail in (error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN), *details)]
    code = code_pb2.Code.Value(_STATUS[reason].name)
    return rpc_status.to_status(status_pb2.Status(code=code, message=message, details=packed))


def _pack(
    detail: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | error_details_pb2.BadRequest,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def reason_of(error: grpc.aio.AioRpcError) -> tuple[str, str, float | None]:
    """What a call failed with: the name of an `ErrorCode`, our server's sentence, and when to try again (seconds).

    The sentence is empty where the words are gRPC's own, which name addresses and are for no client.
    """
    message = ""
    reason = _REASON.get(error.code(), "INTERNAL")
    retry_after_s: float | None = None
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                retry = error_details_pb2.RetryInfo()
                if packed.Unpack(info) and info.domain == DOMAIN:
                    reason, message = info.reason, error.details() or ""
                elif packed.Unpack(retry):
                    retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return reason, message, retry_after_s
