"""Who a client is: service keys compared in constant time, user tokens verified. Knows no dialect and no request.

A token's `alg` chooses between two sets that share nothing: HS256 by our secret, RS256, ES256 and EdDSA by the identity
provider's public keys (`jwks.py`). Neither kind of key is ever tried for the other's algorithms.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import jwt
from chat.errors import ErrorCode, SwitchboardError
from chat.names import NAME_BYTES

from gateway.jwks import ALGORITHMS, KeySet
from gateway.settings import Credentials

LEEWAY_S = 10
"""By which our clock and the issuer's may differ: a token is good so much longer than it says."""

_NAME_CLAIMS = ("preferred_username", "username", "name")
_NEVER_S = 1 << 40
"""A token may name any time, in any number of digits; from the year 36,812 on they are all the same to us."""
_KEY_ID_CHARS = 16
"""64 bits of a hash: enough to tell keys apart, and nothing to find one by."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `user_id` is empty for a service key: it speaks for a product, not for a person."""

    user_id: str = ""
    username: str = ""
    expires_at_s: float | None = None
    """When the credential is good no longer, leeway included, in seconds since 1970; None: for ever."""
    key_id: str = ""
    """Names the API key in limits and logs, without telling it; empty for a user's token."""


def bearer(authorization: str | None) -> str:
    """The credential of an `Authorization: Bearer` header; empty when there is none."""
    scheme, _, credential = (authorization or "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


class Doorkeeper:
    """Checks credentials against the settings' keys and secret, and the identity provider's keys, if there is one."""

    def __init__(self, credentials: Credentials, key_set: KeySet | None = None) -> None:
        self._keys = [key.encode() for key in credentials.api_keys]
        self._secret = credentials.jwt_secret
        self._key_set = key_set
        self._issuer = credentials.jwt_issuer or None
        self._audience = credentials.jwt_audience or None

    async def service(self, credential: str) -> Caller:
        """A service key's holder. Raises: SwitchboardError UNAUTHENTICATED."""
        if not self._is_key(credential):
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, _unauthenticated(credential, "API key"))
        return Caller(key_id=hashlib.sha256(credential.encode()).hexdigest()[:_KEY_ID_CHARS])

    async def user(self, credential: str) -> Caller:
        """A user token's bearer. Raises: SwitchboardError UNAUTHENTICATED; UNAVAILABLE: the identity provider's keys
        could not be fetched, so that nobody knows."""
        if not credential:
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, _unauthenticated(credential, "user token"))
        if not self._takes_tokens:
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, "User tokens are not accepted here: no key is set.")
        try:
            claims = await self._verified(credential)
        except jwt.ExpiredSignatureError as exc:
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, "The token has expired.") from exc
        except jwt.InvalidTokenError as exc:
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, _unauthenticated(credential, "user token")) from exc
        user_id = claims["sub"]
        # What is not printable (half a surrogate pair, too) is no text that anybody behind us takes.
        if not user_id or not user_id.isprintable() or len(user_id.encode()) > NAME_BYTES:
            raise SwitchboardError(
                ErrorCode.UNAUTHENTICATED,
                f"The token names no user: its sub must be 1 to {NAME_BYTES} bytes of printable text.",
            )
        username = next((str(claims[name]) for name in _NAME_CLAIMS if claims.get(name)), "")
        return Caller(user_id, username, expires_at_s=min(int(claims["exp"]), _NEVER_S) + LEEWAY_S)

    async def anyone(self, credential: str) -> Caller:
        """A service key's holder or a user token's bearer. Raises: SwitchboardError, as `user` does."""
        # Only a token has two dots; a key that had them too is still found to be a key.
        if self._takes_tokens and credential.count(".") == 2 and not self._is_key(credential):
            return await self.user(credential)
        return await self.service(credential)

    @property
    def _takes_tokens(self) -> bool:
        return bool(self._secret) or self._key_set is not None

    async def _verified(self, token: str) -> dict[str, Any]:
        """A token's claims. Raises: InvalidTokenError, SwitchboardError UNAVAILABLE."""
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        key: str | jwt.PyJWK
        if algorithm == "HS256" and self._secret:
            key = self._secret
        elif algorithm in ALGORITHMS and self._key_set is not None:
            # The id only chooses among the keys that are known. What else a header offers (jku, jwk, x5u) nobody reads.
            key = await self._key_set.key(header.get("kid"), algorithm)
        else:
            raise jwt.InvalidAlgorithmError
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=self._issuer,
            audience=self._audience,
            options={"require": ["sub", "exp"], "verify_aud": self._audience is not None},
            leeway=LEEWAY_S,
        )
        return claims

    def _is_key(self, credential: str) -> bool:
        given = credential.encode("utf-8", "surrogateescape")
        # Every key is compared, each in constant time: how long it takes tells nothing of the keys.
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0


def _unauthenticated(credential: str, kind: str) -> str:
    if credential:
        return f"The {kind} is not valid."
    return f"Authentication is needed: send the {kind} as 'Authorization: Bearer <credential>'."
