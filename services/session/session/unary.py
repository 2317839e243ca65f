"""How every unary RPC of this service ends when our own error comes out of it: with the contract's status."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from chat.errors import SwitchboardError
from runtime.rpc_errors import status_of

from session.caller import Context

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Response = TypeVar("Response")


def unary(
    handler: Callable[[Servicer, Request, Context], Awaitable[Response]],
) -> Callable[[Servicer, Request, Context], Awaitable[Response]]:
    """Ends the call with the contract's status when our own error comes out of it."""

    async def answered(self: Servicer, request: Request, context: Context) -> Response:
        try:
            return await handler(self, request, context)
        except SwitchboardError as error:
            await context.abort_with_status(status_of(error.failure, error.field))
            raise

    return answered
