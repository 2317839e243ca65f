"""Envelopes open where they were sealed, under a master key that is known, and nowhere else."""

import os
from dataclasses import replace

import pytest
from session.envelope import Envelope, MasterKeys, SealedError, bound

OLD, NEW = ("old", os.urandom(32)), ("new", os.urandom(32))
PLACE = bound(b"user", b"openai", b"1")


def test_what_is_sealed_opens_at_its_place_alone() -> None:
    keys = MasterKeys([OLD])
    packed = keys.seal(b"secret", PLACE).pack()
    assert b"secret" not in packed
    assert keys.open(Envelope.unpack(packed), PLACE) == b"secret"
    with pytest.raises(SealedError):
        keys.open(Envelope.unpack(packed), bound(b"user", b"openai", b"2"))


def test_the_same_secret_is_sealed_otherwise_each_time() -> None:
    keys = MasterKeys([OLD])
    first, second = keys.seal(b"secret", PLACE), keys.seal(b"secret", PLACE)
    assert first.sealed != second.sealed
    assert first.wrapped != second.wrapped
    # Each has a data key of its own: one's does not open the other.
    with pytest.raises(SealedError):
        keys.open(replace(first, wrapped=second.wrapped), PLACE)


def test_parts_of_a_place_can_t_be_moved_into_one_another() -> None:
    assert bound(b"ab", b"c") != bound(b"a", b"bc")
    assert bound(b"a", b"") != bound(b"a")


@pytest.mark.parametrize("part", ["wrapped", "sealed"])
def test_a_bit_changed_anywhere_keeps_it_closed(part: str) -> None:
    keys = MasterKeys([OLD])
    envelope = keys.seal(b"secret", PLACE)
    content = getattr(envelope, part)
    for index in range(len(content)):
        changed = content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]
        with pytest.raises(SealedError):
            keys.open(replace(envelope, **{part: changed}), PLACE)
    for length in (0, 11, 12, len(content) - 1):
        with pytest.raises(SealedError):
            keys.open(replace(envelope, **{part: content[:length]}), PLACE)


def test_rewrapping_leaves_the_ciphertext_and_needs_the_old_key_no_more() -> None:
    envelope = MasterKeys([OLD]).seal(b"secret", PLACE)
    with pytest.raises(SealedError):
        MasterKeys([NEW]).rewrap(envelope, PLACE)
    rewrapped = MasterKeys([NEW, OLD]).rewrap(envelope, PLACE)
    assert rewrapped.sealed == envelope.sealed
    assert MasterKeys([NEW]).open(rewrapped, PLACE) == b"secret"
    with pytest.raises(SealedError):
        MasterKeys([OLD]).open(rewrapped, PLACE)


def test_a_wrapping_is_bound_to_its_master_key_s_id() -> None:
    envelope = MasterKeys([OLD]).seal(b"secret", PLACE)
    renamed = MasterKeys([("other", OLD[1])])
    with pytest.raises(SealedError):
        renamed.open(replace(envelope, master_id="other"), PLACE)


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x90", b"\x94\x02\xa1a\xc4\x00\xc4\x00", b"\x01\x01"])
def test_what_is_no_envelope_is_said_to_be_none(packed: bytes) -> None:
    with pytest.raises(SealedError):
        Envelope.unpack(packed)


def test_neither_error_nor_repr_says_a_secret() -> None:
    keys = MasterKeys([OLD])
    assert repr(OLD[1])[2:-1] not in repr(keys)
    with pytest.raises(SealedError) as caught:
        keys.open(replace(keys.seal(b"secret", PLACE), sealed=b"x" * 40), PLACE)
    assert caught.value.__cause__ is None
    assert "secret" not in repr(caught.value)
