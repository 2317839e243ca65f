"""Usage over HTTP, in process: whose it is, which days, and what it looks like."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from decimal import Decimal
from typing import Any, cast

import httpx2
import pytest
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Usage
from gateway.dialect import Services
from gateway.dialects import openai_compat
from gateway.records import DayUsage, ModelUsage, UserUsage

from ..test_rate_limits import FakeDoor, application

SPENT = Usage(900, 120, False, 1_234_000)
DAY = DayUsage("2026-11-20", 3, SPENT, 1020, (ModelUsage("anthropic", "claude-x", True, 4, SPENT),))
NOON = 1_795_176_000.0
"""Of 2026-11-20, in UTC."""


class FakeUsages:
    """Remembers what it was asked."""

    def __init__(self, used: UserUsage | SwitchboardError) -> None:
        self.used = used
        self.asked: list[tuple[str, str, str, str]] = []

    async def read(self, user_id: str, first_day: str, last_day: str, *, acting_id: str) -> UserUsage:
        self.asked.append((user_id, first_day, last_day, acting_id))
        if isinstance(self.used, SwitchboardError):
            raise self.used
        return self.used


@asynccontextmanager
async def client(usages: FakeUsages) -> AsyncIterator[httpx2.AsyncClient]:
    given = {"usages": usages, "doorkeeper": FakeDoor(), "now_s": lambda: NOON}
    services = Services(**cast("Any", dict.fromkeys(each.name for each in fields(Services)) | given))
    transport = httpx2.ASGITransport(application(openai_compat.dialect(services)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def read(usages: FakeUsages, who: str, **query: str) -> httpx2.Response:
    async with client(usages) as at:
        return await at.get("/v1/usage", params=query, headers={"authorization": f"Bearer {who}"})


async def test_days_are_told_with_their_cost_in_dollars() -> None:
    usages = FakeUsages(UserUsage((DAY,), 100_000))
    told = await read(usages, "ada", **{"from": "2026-11-01", "to": "2026-11-20"})
    spent = {"input_tokens": 900, "output_tokens": 120, "total_tokens": 1020, "cost_usd": 0.001234, "estimated": False}
    model = {"provider": "anthropic", "model": "claude-x", "own_key": True, "attempts": 4, **spent}
    assert told.status_code == 200
    assert told.json() == {
        "object": "list",
        "user": "ada",
        "tokens_a_day": 100_000,
        "data": [{"day": "2026-11-20", "answers": 3, **spent, "budget_tokens": 1020, "models": [model]}],
    }
    assert '"cost_usd":0.001234' in told.text


@pytest.mark.parametrize("nano", [1, 999_999_999, 1_000_000_001, 123_456_789_012_345, 8_388_607_999_999_999])
async def test_no_billionth_of_a_dollar_is_lost(nano: int) -> None:
    day = DayUsage("2026-11-20", 1, Usage(1, 1, False, nano), 0, ())
    told = await read(FakeUsages(UserUsage((day,), None)), "ada")
    assert json.loads(told.text, parse_float=Decimal)["data"][0]["cost_usd"] * 10**9 == nano


@pytest.mark.parametrize(
    ("who", "query", "asked", "user"),
    [
        ("ada", {}, ("ada", "2026-11-20", "2026-11-20", "ada"), "ada"),
        ("ada", {"user": "ada"}, ("ada", "2026-11-20", "2026-11-20", "ada"), "ada"),
        ("ada", {"to": "2026-11-02"}, ("ada", "2026-11-02", "2026-11-02", "ada"), "ada"),
        ("ada", {"from": "2025-11-20"}, ("ada", "2025-11-20", "2026-11-20", "ada"), "ada"),
        ("ada", {"from": "2024-02-29", "to": "2024-03-01"}, ("ada", "2024-02-29", "2024-03-01", "ada"), "ada"),
        ("key-1", {"user": "ada"}, ("ada", "2026-11-20", "2026-11-20", ""), "ada"),
        ("key-1", {}, ("", "2026-11-20", "2026-11-20", ""), None),
    ],
)
async def test_a_user_reads_their_own_usage_and_an_api_key_anybodys(
    who: str, query: dict[str, str], asked: tuple[str, ...], user: str | None
) -> None:
    usages = FakeUsages(UserUsage((), None))
    told = await read(usages, who, **query)
    assert told.json() == {"object": "list", "user": user, "tokens_a_day": None, "data": []}
    assert usages.asked == [asked]


async def test_nobody_reads_another_users_usage() -> None:
    usages = FakeUsages(UserUsage((), None))
    refused = await read(usages, "ada", user="bob")
    assert refused.status_code == 403
    assert refused.json()["error"] == {
        "message": "A user's token reads that user's own usage.",
        "type": "invalid_request_error",
        "param": "user",
        "code": "permission_denied",
    }
    assert usages.asked == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *(
            ({name: day}, name)
            for name in ("from", "to")
            for day in (
                "yesterday",
                "20261120",
                "2026-W47-5",
                "2026-11-31",
                "2026-1-1",
                "1790000000",
                "2026-11-20T00:00",
            )
        ),
        ({"from": "2026-11-21"}, "from"),
        ({"from": "2026-11-20", "to": "2026-11-19"}, "from"),
        ({"from": "2025-11-19", "to": "2026-11-20"}, "from"),
        ({"from": "0001-01-01", "to": "9999-12-31"}, "from"),
        ({"user": "a" * 201}, "user"),
        ({"user": "a\nb"}, "user"),
    ],
)
async def test_what_is_wrong_in_the_query_is_named(query: dict[str, str], param: str) -> None:
    usages = FakeUsages(UserUsage((), None))
    refused = await read(usages, "key-1", **query)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert usages.asked == []


async def test_the_first_day_of_the_calendar_is_a_day() -> None:
    usages = FakeUsages(UserUsage((), None))
    assert (await read(usages, "ada", **{"from": "0001-01-01", "to": "0001-01-02"})).status_code == 200


async def test_an_outage_is_503() -> None:
    down = SwitchboardError(ErrorCode.UNAVAILABLE, "down")
    assert (await read(FakeUsages(down), "ada")).status_code == 503
