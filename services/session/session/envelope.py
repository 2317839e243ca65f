"""Envelopes: a secret encrypted under a data key of its own, which is encrypted ("wrapped") under a master key.

AES-256-GCM both times (NIST SP 800-38D), each with a fresh nonce. What a secret belongs to is authenticated with it: an
envelope moved to another place does not open. The wrapping is bound to the master key's id as well. Changing the master
key touches the wrapping alone. No I/O, and nothing here says a secret: not in an error, not in a repr.
See docs/subsystems/users.md.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
"""GCM's own length; random ones of it do for 2^32 wrappings under one master key."""
_FORM = 1


class SealedError(Exception):
    """An envelope can't be opened: its master key is not known, or it was changed, or it is not of this place."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Nothing in it is secret."""

    master_id: str
    wrapped: bytes
    """Nonce, and the data key encrypted under the master key."""
    sealed: bytes
    """Nonce, and the secret encrypted under the data key."""

    def pack(self) -> bytes:
        """As it is stored."""
        return msgpack.packb([_FORM, self.master_id, self.wrapped, self.sealed])  # type: ignore[no-any-return]

    @staticmethod
    def unpack(packed: bytes) -> "Envelope":
        """Raises: SealedError."""
        try:
            match msgpack.unpackb(packed):
                case [1, str(master_id), bytes(wrapped), bytes(sealed)]:
                    return Envelope(master_id, wrapped, sealed)
        except (ValueError, msgpack.UnpackException):
            pass
        raise SealedError("this is no envelope")


class MasterKeys:
    """The keys that wrap: the first one encrypts, all of them decrypt. `keys`: (id, 32 bytes); at least one."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        self.current = keys[0][0]
        self._ciphers = {master_id: AESGCM(key) for master_id, key in keys}

    def seal(self, secret: bytes, place: bytes) -> Envelope:
        """Encrypts a secret for one place, under a new data key."""
        data_key = os.urandom(KEY_BYTES)
        return self._wrap(data_key, place, _encrypt(AESGCM(data_key), secret, place))

    def open(self, envelope: Envelope, place: bytes) -> bytes:
        """The secret. Raises: SealedError."""
        return _decrypt(AESGCM(self._unwrap(envelope, place)), envelope.sealed, place)

    def rewrap(self, envelope: Envelope, place: bytes) -> Envelope:
        """The same secret, wrapped under the current master key; the ciphertext stays. Raises: SealedError."""
        return self._wrap(self._unwrap(envelope, place), place, envelope.sealed)

    def _wrap(self, data_key: bytes, place: bytes, sealed: bytes) -> Envelope:
        wrapped = _encrypt(self._ciphers[self.current], data_key, bound(self.current.encode(), place))
        return Envelope(self.current, wrapped, sealed)

    def _unwrap(self, envelope: Envelope, place: bytes) -> bytes:
        cipher = self._ciphers.get(envelope.master_id)
        if cipher is None:
            raise SealedError("its master key is not among MASTER_KEYS")
        data_key = _decrypt(cipher, envelope.wrapped, bound(envelope.master_id.encode(), place))
        if len(data_key) != KEY_BYTES:
            raise SealedError("its data key is none")
        return data_key


def bound(*parts: bytes) -> bytes:
    """Parts as one, so that no other parts make the same: each behind its length."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _encrypt(cipher: AESGCM, secret: bytes, place: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, secret, place)


def _decrypt(cipher: AESGCM, sealed: bytes, place: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
    except (InvalidTag, ValueError):
        # Not `from`: nothing of a decryption goes further. ValueError: too short to hold a nonce.
        raise SealedError("it was changed, or belongs elsewhere") from None
