"""Who a client is: service keys compared in constant time, user tokens verified. Knows no dialect and no request.

JWKS (RS256, ES256, EdDSA) is not here yet: user tokens are HS256 with one secret.
"""

import hmac
from dataclasses import dataclass

import jwt
from chat.errors import ErrorCode, SwitchboardError
from chat.names import NAME_BYTES

from gateway.settings import Credentials

_NAME_CLAIMS = ("preferred_username", "username", "name")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `user_id` is empty for a service key: it speaks for a product, not for a person."""

    user_id: str = ""
    username: str = ""


def bearer(authorization: str | None) -> str:
    """The credential of an `Authorization: Bearer` header; empty when there is none."""
    scheme, _, credential = (authorization or "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


class Doorkeeper:
    """Checks credentials against the settings' keys and secret."""

    def __init__(self, credentials: Credentials) -> None:
        self._keys = [key.encode() for key in credentials.api_keys]
        self._secret = credentials.jwt_secret
        self._issuer = credentials.jwt_issuer or None
        self._audience = credentials.jwt_audience or None

    def service(self, credential: str) -> Caller:
        """A service key's holder. Raises: SwitchboardError UNAUTHENTICATED."""
        if not self._is_key(credential):
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, _unauthenticated(credential, "API key"))
        return Caller()

    def user(self, credential: str) -> Caller:
        """A user token's bearer. Raises: SwitchboardError UNAUTHENTICATED."""
        if not credential:
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, _unauthenticated(credential, "user token"))
        if not self._secret:
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, "User tokens are not accepted here: no secret is set.")
        try:
            claims = jwt.decode(
                credential,
                self._secret,
                algorithms=["HS256"],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["sub"], "verify_aud": self._audience is not None},
                leeway=10,
            )
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
        return Caller(user_id, next((str(claims[name]) for name in _NAME_CLAIMS if claims.get(name)), ""))

    def anyone(self, credential: str) -> Caller:
        """A service key's holder or a user token's bearer. Raises: SwitchboardError UNAUTHENTICATED."""
        # Only a token has two dots; a key that had them too is still found to be a key.
        if self._secret and credential.count(".") == 2 and not self._is_key(credential):
            return self.user(credential)
        return self.service(credential)

    def _is_key(self, credential: str) -> bool:
        given = credential.encode("utf-8", "surrogateescape")
        # Every key is compared, each in constant time: how long it takes tells nothing of the keys.
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0


def _unauthenticated(credential: str, kind: str) -> str:
    if credential:
        return f"The {kind} is not valid."
    return f"Authentication is needed: send the {kind} as 'Authorization: Bearer <credential>'."
