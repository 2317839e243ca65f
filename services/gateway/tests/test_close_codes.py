"""The table of close codes."""

import pytest
from chat.errors import ErrorCode
from gateway import close_codes
from gateway.close_codes import Close, Reconnect

ALL = [value for value in vars(close_codes).values() if isinstance(value, Close)]


@pytest.mark.parametrize("close", ALL, ids=lambda close: f"{close.code}")
def test_a_reason_fits_into_a_close_frame(close: Close) -> None:
    assert len(close.reason.encode()) <= 123


def test_every_failure_closes_somehow_and_is_explained() -> None:
    assert all(close_codes.close_of(code).explained for code in ErrorCode)


def test_nobody_is_told_to_come_back_to_what_will_be_refused_again() -> None:
    told = {close.code: close.reconnect for close in ALL}
    assert {code for code, reconnect in told.items() if reconnect is Reconnect.NEVER} == {1000, 1008, 1009}
    assert told[1001] is Reconnect.NOW
    assert told[4408] is Reconnect.LATER
