"""The public keys that user tokens are signed with, as an identity provider publishes them (RFC 7517).

Fetched in a thread, never by who waits with a key that is known. Refuses keys of any other kind than RS256's, ES256's
and EdDSA's: a secret that somebody put there by mistake verifies nothing. See docs/subsystems/gateway.md.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from http.client import HTTPException
from typing import Any
from urllib.request import HTTPRedirectHandler, build_opener

from chat.errors import ErrorCode, SwitchboardError
from jwt import InvalidTokenError, PyJWK, PyJWTError

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")

_FETCH_S = 5.0
"""For the server to answer, and for the rest of its answer to come: people wait for it, though only when their key is
new."""
_SET_BYTES = 1024 * 1024
"""Identity providers publish some KiB."""
_FRESH_S = 300.0
"""Then the set is fetched anew, so that a key that was taken out is believed no longer than this; PyJWT's default."""
_AGAIN_S = 10.0
"""Between two fetches: made-up key ids shall not turn us against the identity provider."""
_AGAIN_WITHOUT_KEYS_S = 1.0
"""Between two fetches while no key is known, and nobody can be let in."""
_BELIEVED_S = 86_400.0
"""How long a set is believed while no newer one can be had: a weekend's outage is the operator's to see to."""

Fetch = Callable[[], Awaitable[dict[str, Any]]]
"""Fetches the set as it is published. Raises: JwksUnavailable."""


class JwksUnavailable(Exception):
    """The set could not be had; the text says why."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Whom we trust stands in the settings, and nowhere else."""


def fetch_from(url: str) -> Fetch:
    """Fetches from a URL (http or https), following no redirect, and reading no answer that does not end."""
    opener = build_opener(_NoRedirects)

    def read() -> Any:
        octets = b""
        with opener.open(url, timeout=_FETCH_S) as response:
            # The time-out is one read's; an answer may come in many.
            ends_s = time.monotonic() + _FETCH_S
            while part := response.read1(_SET_BYTES):
                octets += part
                if len(octets) > _SET_BYTES or time.monotonic() > ends_s:
                    raise JwksUnavailable("the answer does not end")
        return json.loads(octets)

    async def fetch() -> dict[str, Any]:
        try:
            published = await asyncio.to_thread(read)
        except (OSError, HTTPException, ValueError, RecursionError) as exc:
            raise JwksUnavailable(f"{type(exc).__name__}: {exc}") from exc
        if not isinstance(published, dict):
            raise JwksUnavailable("the answer is no JSON object")
        return published

    return fetch


class KeySet:
    """An identity provider's keys. `tasks` owns the fetching; `now_s` never goes back."""

    def __init__(self, fetch: Fetch, tasks: asyncio.TaskGroup, now_s: Callable[[], float]) -> None:
        self._fetch = fetch
        self._tasks = tasks
        self._now_s = now_s
        self._keys: Sequence[PyJWK] = ()
        self._fetched_s = -_BELIEVED_S
        self._tried_s = -_BELIEVED_S
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, key_id: str | None, algorithm: str) -> PyJWK:
        """The key of that id, for that algorithm alone; without an id, the algorithm's only one.

        Raises: InvalidTokenError: there is none. SwitchboardError UNAVAILABLE: no set could be fetched, so that nobody
        knows.
        """
        now = self._now_s()
        if now - self._fetched_s > _BELIEVED_S:
            self._keys = ()
        found = self._find(key_id, algorithm)
        if found is None or now - self._fetched_s > _FRESH_S:
            fetching = self._refresh(now)
            if found is None and fetching is not None:
                await asyncio.wait([fetching])
                found = self._find(key_id, algorithm)
        if found is not None:
            return found
        if not self._keys:
            raise SwitchboardError(
                ErrorCode.UNAVAILABLE,
                "User tokens can't be checked just now. Please try again in a moment.",
                retry_after_s=_AGAIN_WITHOUT_KEYS_S,
            )
        raise InvalidTokenError("no such key")

    def _refresh(self, now: float) -> asyncio.Task[None] | None:
        """The fetch that is under way, or a new one when it is time for one."""
        if self._fetching is None and now - self._tried_s >= (_AGAIN_S if self._keys else _AGAIN_WITHOUT_KEYS_S):
            self._tried_s = now
            self._fetching = self._tasks.create_task(self._fetch_keys())
        return self._fetching

    async def _fetch_keys(self) -> None:
        try:
            self._keys = _usable(await self._fetch())
        except JwksUnavailable as exc:
            if not self._failing:
                log.warning("jwks_unavailable", extra={"reason": str(exc), "keys": len(self._keys)})
            self._failing = True
        else:
            self._failing = False
            self._fetched_s = self._now_s()
        finally:
            self._fetching = None

    def _find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm and key_id in (None, key.key_id)]
        return fitting[0] if len(fitting) == 1 or (fitting and key_id is not None) else None


def _usable(published: dict[str, Any]) -> Sequence[PyJWK]:
    """The keys of a set that may verify a token. Raises: JwksUnavailable: there is none."""
    entries = published.get("keys")
    if not isinstance(entries, list):
        raise JwksUnavailable("the answer is no key set")
    usable = [
        key
        for key in map(_read, entries)
        if key is not None
        and key.algorithm_name in ALGORITHMS
        and key.public_key_use in (None, "sig")
        # A private key, which should not be there, is known to everybody: it signs nothing that we believe.
        and hasattr(key.key, "public_bytes")
        # RFC 7518, section 3.3: RSA of 2048 bits at least.
        and key.Algorithm.check_key_length(key.key) is None
    ]
    if not usable:
        raise JwksUnavailable("the set holds no key for RS256, ES256 or EdDSA")
    return usable


def _read(entry: object) -> PyJWK | None:
    """A key as it was published; None: it is none that we can read. One such entry leaves the others good."""
    if not isinstance(entry, dict):
        return None
    try:
        return PyJWK(entry)
    except (PyJWTError, KeyError, TypeError, ValueError):
        # PyJWT takes an entry's form on trust: what a field lacks, or has too much of, comes out as any of these.
        return None
