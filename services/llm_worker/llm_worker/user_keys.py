"""Users' own provider keys, asked of the session service for each answer anew.

Nothing is kept: a key that was replaced or deleted stops counting with the next answer, and this process holds none
for longer than its answer takes. It fails aloud: what might have been the user's to pay is not made with the
platform's money. See docs/subsystems/providers.md, "Users' own keys".
"""

import logging

import grpc
import grpc.aio
from chat.errors import ErrorCode, SwitchboardError
from runtime.rpc_channel import service_metadata
from switchboard.session.v1 import user_pb2, user_pb2_grpc

from llm_worker.own_target import NO_KEYS, OwnKeys

log = logging.getLogger(__name__)

LOOKUP_TIMEOUT_S = 3.0
"""Somebody waits for the answer; a session service that is just restarting is back within it."""

PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
"""Of anything else the operator has to know: most likely the two services were not given the same WORKER_TOKEN."""


class UserKeys:
    """Finds users' keys. `token`: WORKER_TOKEN; without it nobody has any."""

    def __init__(self, users: "user_pb2_grpc.UserServiceAsyncStub", token: str) -> None:
        self._users = users
        self._metadata = service_metadata(token) if token else None

    async def find(self, user_id: str) -> OwnKeys:
        """This user's keys; nobody ("") has none.

        Raises: SwitchboardError: UNAVAILABLE, when it can't be told; API_KEY_REFUSED, when one of them can't be read
        any more, and it is not known whose money an answer would cost.
        """
        if self._metadata is None or not user_id:
            return NO_KEYS
        request = user_pb2.RevealProviderKeysRequest(user_id=user_id)
        try:
            response = await self._users.RevealProviderKeys(
                request, metadata=self._metadata, timeout=LOOKUP_TIMEOUT_S, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as exc:
            level = logging.WARNING if exc.code() in PASSING else logging.ERROR
            log.log(level, "user keys not revealed", extra={"status": exc.code().name.lower()})
        else:
            if response.unreadable:
                names = ", ".join(response.unreadable)
                raise SwitchboardError(
                    ErrorCode.API_KEY_REFUSED,
                    f"Your key for {names} can't be read any more: set it again or delete it.",
                )
            return OwnKeys(dict(response.keys))
        raise SwitchboardError(ErrorCode.UNAVAILABLE, "Your own keys can't be looked up just now; try again.")
