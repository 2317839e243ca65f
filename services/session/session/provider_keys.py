"""Users' own provider keys: stored encrypted, revealed to workers, rewrapped when the master key changes.

A key is bound to its user, its provider and its version: one that is moved to another user, another provider, or under
another version's number does not open. A version comes once and never again, also not after the key was deleted.
Without master keys nothing is stored and nothing opens. See docs/subsystems/users.md.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgpack
from chat.errors import ErrorCode, SwitchboardError
from switchboard.session.v1 import user_pb2

from session import keys, scripts
from session.envelope import Envelope, MasterKeys, SealedError, bound
from session.redis_link import RedisLink

log = logging.getLogger(__name__)

_PUTS_AT_ONCE = 16
"""Of one user's key for one provider; more at once than this is nobody's second browser tab."""


@dataclass(frozen=True, slots=True)
class _Record:
    """As it is stored under a user's provider."""

    version: int
    updated_at_us: int
    envelope: Envelope

    def pack(self) -> bytes:
        return msgpack.packb([self.version, self.updated_at_us, self.envelope.pack()])  # type: ignore[no-any-return]

    @staticmethod
    def unpack(packed: bytes) -> "_Record":
        """Raises: SealedError."""
        try:
            match msgpack.unpackb(packed):
                case [int(version), int(updated_at_us), bytes(envelope)]:
                    # What protobuf can say: a time until the year 2255.
                    if 0 < version < 2**53 and 0 <= updated_at_us < 2**53:
                        return _Record(version, updated_at_us, Envelope.unpack(envelope))
        except (ValueError, msgpack.UnpackException):
            pass
        raise SealedError("this is no record")


@dataclass(slots=True)
class Rotation:
    """How many records were found under which master key."""

    current: int = 0
    rewrapped: int = 0
    failed: int = 0


class ProviderKeys:
    """All users' keys. `master_keys` is None where the operator has set none."""

    def __init__(self, link: RedisLink, master_keys: MasterKeys | None, *, now_us: Callable[[], int]) -> None:
        self._link = link
        self._master_keys = master_keys
        self._now_us = now_us

    async def put(self, user_id: str, provider: str, key: str) -> user_pb2.ProviderKey:
        """Stores a key in place of the one before. Raises: SwitchboardError(NO_API_KEY, OVERLOADED, UNAVAILABLE)."""
        if self._master_keys is None:
            raise SwitchboardError(
                ErrorCode.NO_API_KEY,
                "The operator has set no MASTER_KEYS, so that keys of your own can't be stored safely.",
            )
        root = keys.provider_keys(user_id)
        for _ in range(_PUTS_AT_ONCE):
            before = int(await self._link.execute("HGET", f"{root}:versions", provider) or 0)
            version = before + 1
            envelope = self._master_keys.seal(key.encode(), _place(user_id, provider, version))
            record = _Record(version, self._now_us(), envelope)
            holders = keys.key_holders(keys.partition(user_id))
            arguments = (provider, before, version, record.pack(), user_id)
            if await self._link.run(scripts.PUT_KEY, [root, holders], *arguments):
                return _described(provider, record)
        raise SwitchboardError(ErrorCode.OVERLOADED, "this key is being replaced by others at the same time")

    async def stored(self, user_id: str) -> list[user_pb2.ProviderKey]:
        """Which providers the user has a key for, by provider. Raises: SwitchboardError(UNAVAILABLE)."""
        found: list[user_pb2.ProviderKey] = []
        for provider, packed in await self._records(user_id):
            try:
                found.append(_described(provider, _Record.unpack(packed)))
            except SealedError as error:
                _say_closed(user_id, provider, error)
        return found

    async def delete(self, user_id: str, provider: str) -> None:
        """Raises: SwitchboardError(UNAVAILABLE)."""
        holders = keys.key_holders(keys.partition(user_id))
        await self._link.run(scripts.DELETE_KEY, [keys.provider_keys(user_id), holders], provider, user_id)

    async def reveal(self, user_id: str) -> tuple[dict[str, str], list[str]]:
        """The keys themselves, and the providers of those that do not open. Raises: SwitchboardError(UNAVAILABLE)."""
        opened: dict[str, str] = {}
        closed: list[str] = []
        for provider, packed in await self._records(user_id):
            if self._master_keys is None:
                _say_closed(user_id, provider, SealedError("no MASTER_KEYS are set"))
                closed.append(provider)
                continue
            try:
                record = _Record.unpack(packed)
                place = _place(user_id, provider, record.version)
                opened[provider] = self._master_keys.open(record.envelope, place).decode()
            except SealedError as error:
                _say_closed(user_id, provider, error)
                closed.append(provider)
        return opened, closed

    async def rotate(self, index: int, rotation: Rotation) -> None:
        """Wraps all records of a partition under the current master key, and counts them in `rotation`.

        Records that are replaced or deleted meanwhile are left as they are: whoever replaces one has wrapped it. Ended
        midway it has done a part, and does the rest when it is begun again. Raises: SwitchboardError(UNAVAILABLE).
        """
        cursor: str | bytes = "0"
        while True:
            cursor, users = await self._link.execute("SSCAN", keys.key_holders(index), cursor, "COUNT", 100)
            for user in users:
                user_id = user.decode()
                for provider, packed in await self._records(user_id):
                    await self._rewrap(user_id, provider, packed, rotation)
            if int(cursor) == 0:
                return

    async def _rewrap(self, user_id: str, provider: str, packed: bytes | None, rotation: Rotation) -> None:
        if self._master_keys is None:
            raise SwitchboardError(ErrorCode.NO_API_KEY, "no MASTER_KEYS are set")
        root = keys.provider_keys(user_id)
        while packed is not None:
            try:
                record = _Record.unpack(packed)
                if record.envelope.master_id == self._master_keys.current:
                    rotation.current += 1
                    return
                envelope = self._master_keys.rewrap(record.envelope, _place(user_id, provider, record.version))
            except SealedError as error:
                _say_closed(user_id, provider, error)
                rotation.failed += 1
                return
            rewrapped = _Record(record.version, record.updated_at_us, envelope).pack()
            if await self._link.run(scripts.REWRAP_KEY, [root], provider, packed, rewrapped):
                rotation.rewrapped += 1
                return
            # By a replica that may not know the current master key yet: look again.
            packed = await self._link.execute("HGET", f"{root}:records", provider)

    async def _records(self, user_id: str) -> list[tuple[str, bytes]]:
        records = await self._link.execute("HGETALL", f"{keys.provider_keys(user_id)}:records")
        return sorted((provider.decode(), packed) for provider, packed in records.items())


def _place(user_id: str, provider: str, version: int) -> bytes:
    """What a key is bound to."""
    return bound(b"provider key", user_id.encode(), provider.encode(), str(version).encode())


def _described(provider: str, record: _Record) -> user_pb2.ProviderKey:
    described = user_pb2.ProviderKey(provider=provider, version=record.version)
    described.updated_at.FromMicroseconds(record.updated_at_us)
    return described


def _say_closed(user_id: str, provider: str, error: SealedError) -> None:
    log.error("provider_key_closed", extra={"user_id": user_id, "provider": provider, "why": str(error)})
