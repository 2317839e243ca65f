"""Dialects are found by being there."""

from gateway.registry import find_dialects

from .conformance.driver import DRIVERS, WITHOUT_SOCKETS


def test_every_module_of_dialects_is_one() -> None:
    assert list(find_dialects()) == ["arketic", "elogrants", "faye", "foodhak", "openai_compat", "socializer"]


def test_every_dialect_is_held_to_the_conformance_suite() -> None:
    assert set(find_dialects()) == set(DRIVERS) | WITHOUT_SOCKETS
