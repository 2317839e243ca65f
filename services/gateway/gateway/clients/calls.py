"""How every call to our services is made: the service token, the acting user, a deadline, our own errors."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote

import grpc.aio
from chat.errors import ErrorCode, SwitchboardError
from runtime.rpc_channel import Metadata, service_metadata
from runtime.rpc_errors import reason_of

CALL_S = 5.0
"""Deadline of a unary call: a person waits for it. It includes waiting for a service that is just restarting."""

_OUTAGE = "The service can't be reached just now. Please try again in a moment."
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@contextmanager
def translated() -> Generator[None, None, None]:
    """Turns what gRPC raises into SwitchboardError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _translated(error) from error
    except asyncio.InvalidStateError as error:
        # What grpc.aio raises for using a call that has ended meanwhile.
        raise SwitchboardError(ErrorCode.UNAVAILABLE, _OUTAGE) from error


def _translated(error: grpc.aio.AioRpcError) -> SwitchboardError:
    reason, message, retry_after_s = reason_of(error)
    code = ErrorCode[reason] if reason in ErrorCode.__members__ else ErrorCode.INTERNAL
    if code in (ErrorCode.INTERNAL, ErrorCode.UNAUTHENTICATED, ErrorCode.LEASE_LOST):
        # UNAUTHENTICATED is about our service token, and no fault of the client.
        code, message = ErrorCode.INTERNAL, "Something went wrong on our side. Please try again."
    elif not message or code in (ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED):
        # Only what our services wrote for people may go further.
        message = _OUTAGE
    return SwitchboardError(code, message, retry_after_s=retry_after_s)


class Caller:
    """Makes unary calls with what each of them carries."""

    def __init__(self, token: str) -> None:
        self.metadata = service_metadata(token)

    def acting(self, user_id: str, key_id: str = "") -> Metadata:
        """The metadata of a call on behalf of a user (ids that are not ASCII are percent-encoded) and of an API key."""
        metadata = self.metadata
        if user_id:
            metadata = (*metadata, ("x-switchboard-user", quote(user_id, safe="._:-@")))
        if key_id:
            metadata = (*metadata, ("x-switchboard-key", key_id))
        return metadata

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        user_id: str = "",
        key_id: str = "",
        timeout_s: float = CALL_S,
        wait: bool = True,
    ) -> _Response:
        """One call. `wait`: for a service that can't be reached, until the deadline. Raises: SwitchboardError."""
        with translated():
            return await method(request, timeout=timeout_s, metadata=self.acting(user_id, key_id), wait_for_ready=wait)
