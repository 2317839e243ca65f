"""The gRPC face of what is kept of users: profiles, and their own provider keys."""

import re

from chat.errors import ErrorCode, SwitchboardError
from runtime.rpc_server import BearerTokens
from switchboard.session.v1 import user_pb2, user_pb2_grpc

from session.caller import Context, acting_user
from session.checks import check_attributes, check_id, check_name, invalid
from session.profiles import Profiles
from session.provider_keys import ProviderKeys
from session.unary import unary

REVEAL = "/switchboard.session.v1.UserService/RevealProviderKeys"
"""The one method that takes the workers' token."""
_KEY = re.compile(r"[!-~]{8,512}")


class UserServicer(user_pb2_grpc.UserServiceServicer):
    """Every RPC's contract stands in protos/switchboard/session/v1/user.proto."""

    def __init__(self, profiles: Profiles, provider_keys: ProviderKeys, *, worker_tokens: BearerTokens) -> None:
        self._profiles = profiles
        self._provider_keys = provider_keys
        self._worker_tokens = worker_tokens

    @unary
    async def PutProfile(self, request: user_pb2.PutProfileRequest, context: Context) -> user_pb2.PutProfileResponse:
        _check_user("profile.user_id", request.profile.user_id, context)
        check_id("profile.dialect", request.profile.dialect)
        check_attributes("profile.attributes", request.profile.attributes)
        return user_pb2.PutProfileResponse(profile=await self._profiles.put(request.profile))

    @unary
    async def GetProfile(self, request: user_pb2.GetProfileRequest, context: Context) -> user_pb2.GetProfileResponse:
        _check_user("user_id", request.user_id, context)
        check_id("dialect", request.dialect)
        return user_pb2.GetProfileResponse(profile=await self._profiles.get(request.user_id, request.dialect))

    @unary
    async def DeleteProfile(
        self, request: user_pb2.DeleteProfileRequest, context: Context
    ) -> user_pb2.DeleteProfileResponse:
        _check_user("user_id", request.user_id, context)
        check_id("dialect", request.dialect)
        await self._profiles.delete(request.user_id, request.dialect)
        return user_pb2.DeleteProfileResponse()

    @unary
    async def PutProviderKey(
        self, request: user_pb2.PutProviderKeyRequest, context: Context
    ) -> user_pb2.PutProviderKeyResponse:
        _check_user("user_id", request.user_id, context)
        check_id("provider", request.provider)
        if not _KEY.fullmatch(request.key):
            # Never with the key: whoever asks knows it, and others read errors, too.
            raise invalid("key", "must be 8 to 512 printable ASCII characters without spaces")
        stored = await self._provider_keys.put(request.user_id, request.provider, request.key)
        return user_pb2.PutProviderKeyResponse(provider_key=stored)

    @unary
    async def ListProviderKeys(
        self, request: user_pb2.ListProviderKeysRequest, context: Context
    ) -> user_pb2.ListProviderKeysResponse:
        _check_user("user_id", request.user_id, context)
        return user_pb2.ListProviderKeysResponse(provider_keys=await self._provider_keys.stored(request.user_id))

    @unary
    async def DeleteProviderKey(
        self, request: user_pb2.DeleteProviderKeyRequest, context: Context
    ) -> user_pb2.DeleteProviderKeyResponse:
        _check_user("user_id", request.user_id, context)
        check_id("provider", request.provider)
        await self._provider_keys.delete(request.user_id, request.provider)
        return user_pb2.DeleteProviderKeyResponse()

    @unary
    async def RevealProviderKeys(
        self, request: user_pb2.RevealProviderKeysRequest, context: Context
    ) -> user_pb2.RevealProviderKeysResponse:
        if not self._worker_tokens.shown_in(context.invocation_metadata()):
            raise SwitchboardError(ErrorCode.PERMISSION_DENIED, "keys are revealed to workers alone (WORKER_TOKEN)")
        _check_user("user_id", request.user_id, context)
        opened, closed = await self._provider_keys.reveal(request.user_id)
        return user_pb2.RevealProviderKeysResponse(keys=opened, unreadable=closed)


def _check_user(field: str, user_id: str, context: Context) -> None:
    """Who acts for a user acts on that user's own. Raises: SwitchboardError."""
    check_name(field, user_id)
    if acting_user(context) not in ("", user_id):
        raise SwitchboardError(ErrorCode.PERMISSION_DENIED, "this is another user's")
