"""A user's own provider keys, which the document presumes ("in Settings"): stored encrypted, never readable back.

PUT    /api/v1/settings/api-keys/{provider}  {"api_key":"sk-..."}
GET    /api/v1/settings/api-keys/{provider}
DELETE /api/v1/settings/api-keys/{provider}
GET    /api/v1/settings/api-keys
-> {"provider":"openai","configured":true,"version":1,"updated_at":"2024-01-01T12:00:00Z"}
"""

from typing import Any

from chat.errors import ErrorCode, SwitchboardError
from chat.names import is_id
from fastapi import APIRouter, Request

from gateway.credential import Credential
from gateway.dialect import Services
from gateway.dialects.arketic.forms import PutKey
from gateway.dialects.arketic.replies import KeyDeleted, KeyStored
from gateway.dialects.arketic.wire import timestamp
from gateway.http import caller_of, guarded_router
from gateway.openapi import responses
from gateway.records import ProviderKey

_NO_KEY = "No API key is stored for this provider"
_NO_PROVIDER = "There is no such provider"


def keys_router(services: Services) -> APIRouter:
    """The endpoints."""
    users = services.users
    router = guarded_router("/api/v1/settings/api-keys", "Arketic", services.doorkeeper.user, Credential.USER_TOKEN)

    @router.get("", response_model=list[KeyStored])
    async def list_keys(request: Request) -> list[dict[str, Any]]:
        """For which providers the user has a key."""
        return [_key_object(key) for key in await users.list_provider_keys(caller_of(request).user_id)]

    @router.put("/{provider}", response_model=KeyStored, responses=responses(refusals={404: _NO_PROVIDER}))
    async def put_key(provider: str, body: PutKey, request: Request) -> dict[str, Any]:
        """Stores a key in place of the one before. 404: no provider has that name. 503: nothing can be encrypted."""
        await _check_provider(services, provider)
        try:
            return _key_object(await users.put_provider_key(caller_of(request).user_id, provider, body.api_key))
        except SwitchboardError as error:
            if error.code is not ErrorCode.NO_API_KEY:
                raise
            # It is about the operator's master key, and no fault of the user.
            raise SwitchboardError(ErrorCode.UNAVAILABLE, "API keys can't be stored here") from error

    @router.get("/{provider}", response_model=KeyStored, responses=responses(refusals={404: _NO_KEY}))
    async def get_key(provider: str, request: Request) -> dict[str, Any]:
        """Whether the user has a key, and since when. 404: there is none."""
        for key in await users.list_provider_keys(caller_of(request).user_id):
            if key.provider == provider:
                return _key_object(key)
        raise SwitchboardError(ErrorCode.NOT_FOUND, _NO_KEY)

    @router.delete("/{provider}", response_model=KeyDeleted, responses=responses(refusals={404: _NO_KEY}))
    async def delete_key(provider: str, request: Request) -> dict[str, Any]:
        """Deletes a key; deleting one that is not there succeeds."""
        if not is_id(provider):
            raise SwitchboardError(ErrorCode.NOT_FOUND, _NO_KEY)
        await users.delete_provider_key(caller_of(request).user_id, provider)
        return {"provider": provider, "configured": False}

    return router


async def _check_provider(services: Services, provider: str) -> None:
    """Raises: NOT_FOUND: a key that no worker would ever use."""
    deployment = await services.replicas.deployment()
    known = {target.provider for worker in deployment.workers for target in worker}
    # Without a live worker nobody knows which there are.
    if not is_id(provider) or (known and provider not in known):
        raise SwitchboardError(ErrorCode.NOT_FOUND, _NO_PROVIDER)


def _key_object(key: ProviderKey) -> dict[str, Any]:
    return {
        "provider": key.provider,
        "configured": True,
        "version": key.version,
        "updated_at": timestamp(key.updated_at_us),
    }
