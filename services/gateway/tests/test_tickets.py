"""Tickets: good for exactly what they were issued for."""

import re
import string
from collections.abc import Mapping

import pytest
from chat.errors import ErrorCode, SwitchboardError
from gateway.tickets import Tickets

NOW = 1_000_000.0
ISSUED = {"purpose": "p", "subject": "ada", "bound_to": "session-1"}


def issue(*secrets: str, **changed: str) -> str:
    return Tickets(secrets or ("secret",)).issue(**(ISSUED | changed), expires_at_s=NOW + 60.5)


def opened(ticket: str, *secrets: str, now_s: float = NOW, changed: Mapping[str, str] = ISSUED) -> float:
    wanted = {**ISSUED, **changed}
    return Tickets(secrets or ("secret",)).open(wanted["purpose"], ticket, wanted["subject"], wanted["bound_to"], now_s)


def test_a_ticket_is_good_on_every_replica_until_its_time() -> None:
    assert opened(issue()) == NOW + 60
    assert opened(issue(), now_s=NOW + 59) == NOW + 60
    with pytest.raises(SwitchboardError, match="expired") as caught:
        opened(issue(), now_s=NOW + 60)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize("changed", [{"purpose": "q"}, {"subject": "eve"}, {"bound_to": "session-2"}])
def test_it_is_good_for_nothing_else(changed: dict[str, str]) -> None:
    with pytest.raises(SwitchboardError):
        opened(issue(), changed=changed)


def test_what_is_signed_can_be_parted_in_one_way_only() -> None:
    with pytest.raises(SwitchboardError):
        opened(issue(subject="ad", bound_to="asession-1"))


@pytest.mark.parametrize(
    "forge",
    [
        lambda ticket: "",
        lambda ticket: ".",
        lambda ticket: ticket.replace("1000060", "1000061"),
        lambda ticket: "0" + ticket,
        lambda ticket: "+" + ticket,
        lambda ticket: ticket.replace("1", "\N{ARABIC-INDIC DIGIT ONE}", 1),
        lambda ticket: "9" * 5000 + ".x",
        lambda ticket: ticket + "=",
        lambda ticket: ticket[:-1],
        lambda ticket: ticket.partition(".")[0] + ".",
        lambda ticket: ticket + "\udcff\N{SNOWMAN}",
    ],
)
def test_a_forged_one_is_refused(forge: object) -> None:
    assert callable(forge)
    with pytest.raises(SwitchboardError) as caught:
        opened(forge(issue()))
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


def test_in_a_rotation_of_secrets_the_first_signs_and_all_are_believed() -> None:
    assert opened(issue("old"), "new", "old") == opened(issue("new", "old"), "new") == NOW + 60
    for ticket, secret in ((issue("old"), "new"), (issue("new", "old"), "old")):
        with pytest.raises(SwitchboardError):
            opened(ticket, secret)


def test_a_url_takes_it_as_it_is_and_it_tells_nothing() -> None:
    ticket = issue(subject="a/b?c \N{SNOWMAN}")
    assert re.fullmatch(f"[{string.ascii_letters}{string.digits}_.-]+", ticket)
    assert "secret" not in ticket
    assert "session" not in ticket
