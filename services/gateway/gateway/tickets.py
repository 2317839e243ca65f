"""Tickets: credentials that we sign for a while, for one purpose, one subject and one thing that they are bound to.

Nothing is stored: whoever knows the service token can check what any replica has issued. A ticket holds only its time
and a signature, so that it tells nothing to who finds it in a log. See docs/subsystems/gateway.md.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from chat.errors import ErrorCode, SwitchboardError

_LABEL = b"switchboard gateway ticket 1"
"""Parts the signing key from every other use of the secret."""


class Tickets:
    """Issues and checks tickets. Of several secrets, in rotation, the first one issues and all are believed."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [hmac.digest(secret.encode(), _LABEL, "sha256") for secret in secrets]

    def issue(self, purpose: str, subject: str, bound_to: str, expires_at_s: float) -> str:
        """A ticket for that subject and what it is bound to, of characters that a URL takes as they are."""
        seconds = int(expires_at_s)
        return f"{seconds}.{_signature(self._keys[0], purpose, subject, bound_to, seconds)}"

    def open(self, purpose: str, ticket: str, subject: str, bound_to: str, now_s: float) -> float:
        """When a ticket that is good for all this expires, in seconds since 1970. Raises: SwitchboardError
        UNAUTHENTICATED: it is not, or no longer."""
        digits, _, signature = ticket.partition(".")
        # At most 12 digits, and of those that issue() writes: a number has one form.
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
            raise _invalid()
        seconds, given = int(digits), signature.encode("utf-8", "surrogateescape")
        good = [
            hmac.compare_digest(given, _signature(key, purpose, subject, bound_to, seconds).encode())
            for key in self._keys
        ]
        if not any(good) or str(seconds) != digits:
            raise _invalid()
        if seconds <= now_s:
            raise SwitchboardError(ErrorCode.UNAUTHENTICATED, "The ticket has expired.")
        return float(seconds)


def _signature(key: bytes, purpose: str, subject: str, bound_to: str, seconds: int) -> str:
    signed = hmac.new(key, digestmod=hashlib.sha256)
    for part in (purpose, subject, bound_to, str(seconds)):
        # Each with its length before it: no two tickets sign the same bytes.
        text = part.encode("utf-8", "surrogatepass")
        signed.update(len(text).to_bytes(8, "big") + text)
    return urlsafe_b64encode(signed.digest()).rstrip(b"=").decode()


def _invalid() -> SwitchboardError:
    return SwitchboardError(ErrorCode.UNAUTHENTICATED, "The ticket is not valid.")
