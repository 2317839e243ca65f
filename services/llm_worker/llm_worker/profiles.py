"""Users' profiles, read from the session service. Nothing is kept: one that changed counts from the next message."""

from typing import TYPE_CHECKING

import grpc
import grpc.aio
from chat import codec
from chat.messages import JsonObject
from runtime.rpc_channel import Metadata
from switchboard.session.v1 import user_pb2

if TYPE_CHECKING:
    from switchboard.session.v1 import user_pb2_grpc


class ProfileError(Exception):
    """A profile could not be read in time."""


class Profiles:
    """The profiles of all users."""

    def __init__(self, users: "user_pb2_grpc.UserServiceAsyncStub", metadata: Metadata) -> None:
        self._users = users
        self._metadata = metadata

    async def find(self, user_id: str, dialect: str, timeout_s: float) -> JsonObject | None:
        """A user's profile in the product's own words; None: there is none. Raises: ProfileError."""
        request = user_pb2.GetProfileRequest(user_id=user_id, dialect=dialect)
        try:
            response = await self._users.GetProfile(request, metadata=self._metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise ProfileError(exc.code().name.lower()) from exc
        return codec.json_object(response.profile.attributes)
