"""What answers have cost is summed by user and day, each record once, whichever way it comes."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session import keys
from session.usage import KEPT_DAYS, MOST_DAYS
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import usage_pb2

from .client import Refused
from .conftest import Running
from .records import Records, redis_of

FAILED = chat_pb2.Failure(code=chat_pb2.ERROR_CODE_PROVIDER_UNAVAILABLE, message="down", retryable=True)


def new_user() -> str:
    return f"user {uuid.uuid4()}"


def spent(input_tokens: int, output_tokens: int = 0, cost: int = 0, *, estimated: bool = False) -> chat_pb2.Usage:
    return chat_pb2.Usage(
        input_tokens=input_tokens, output_tokens=output_tokens, cost_nano_usd=cost, estimated=estimated
    )


def attempt(
    usage: chat_pb2.Usage | None = None, *, provider: str = "openai", model: str = "gpt-4o", own_key: bool = False
) -> chat_pb2.Attempt:
    failure = FAILED if usage is None else None
    return chat_pb2.Attempt(provider=provider, model=model, own_key=own_key, usage=usage, failure=failure)


def record(user: str, *attempts: chat_pb2.Attempt, record_id: str = "") -> usage_pb2.UsageRecord:
    return usage_pb2.UsageRecord(id=record_id or str(uuid.uuid4()), user_id=user, attempts=attempts)


async def add(records: Records, *given: usage_pb2.UsageRecord, **caller: str) -> None:
    await records.call("RecordUsage", usage_pb2.RecordUsageRequest(records=given), **caller)


async def read(
    records: Records, whose: str, first: str | date = "", last: str | date = "", **caller: str
) -> list[usage_pb2.DayUsage]:
    request = usage_pb2.ReadUsageRequest(user_id=whose, from_day=str(first), to_day=str(last))
    return list((await records.call("ReadUsage", request, **caller)).days)


def redis_day(running: Running, user: str) -> date:
    """Today, by the clock of the user's Redis."""
    with redis_of(running, keys.limited("user", user)) as redis:
        return datetime.fromtimestamp(redis.time()[0], UTC).date()


async def lately(records: Records, user: str) -> Counter[tuple[str, ...]]:
    """All that was counted, whether or not a day began amidst the test."""
    now = datetime.now(UTC).date()
    sums: Counter[tuple[str, ...]] = Counter()
    for day in await read(records, user, now - timedelta(days=3), now + timedelta(days=3)):
        sums["answers",] += day.answers
        sums["budget",] += day.budget_tokens
        for model in day.models:
            name = (model.provider, model.model, str(model.own_key))
            sums[*name, "attempts"] += model.attempts
            for field, value in model.usage.ListFields():
                sums[*name, field.name] += value
    return sums


def expected(records: Iterable[usage_pb2.UsageRecord]) -> Counter[tuple[str, ...]]:
    """As `lately`, of these records."""
    sums: Counter[tuple[str, ...]] = Counter()
    for one in records:
        sums["answers",] += 1
        for made in one.attempts:
            name = (made.provider, made.model, str(made.own_key))
            sums[*name, "attempts"] += 1
            for field, value in made.usage.ListFields():
                sums[*name, field.name] += value
            if not made.own_key:
                sums["budget",] += made.usage.input_tokens + made.usage.output_tokens
    for name in [name for name in sums if name[-1] == "estimated"]:
        sums[name] = 1
    return sums


def test_answers_are_summed_by_model_on_the_day_by_redis_clock(running: Running) -> None:
    user = new_user()
    first, second = Records(running, 0), Records(running, 1)

    async def scenario() -> list[usage_pb2.DayUsage]:
        assert await read(first, user) == []
        await add(
            first,
            record(user, attempt(provider="grok"), attempt(spent(100, 20, 3_000))),
            record(user, attempt(spent(7, 8, estimated=True), model="gpt-4o", own_key=True)),
        )
        await add(second, record(user, attempt(spent(1_000, 200, 2**53 + 1)), attempt()), record(user))
        return await read(second, user)

    before = redis_day(running, user)
    days = running.wait(scenario())
    assert days[0].day in (before.isoformat(), redis_day(running, user).isoformat())
    cost = 3_000 + 10**12
    assert days == [
        usage_pb2.DayUsage(
            day=days[0].day,
            answers=4,
            usage=spent(1_107, 228, cost, estimated=True),
            budget_tokens=1_320,
            models=[
                usage_pb2.ModelUsage(provider="grok", model="gpt-4o", attempts=1, usage=spent(0)),
                usage_pb2.ModelUsage(provider="openai", model="gpt-4o", attempts=3, usage=spent(1_100, 220, cost)),
                usage_pb2.ModelUsage(
                    provider="openai", model="gpt-4o", own_key=True, attempts=1, usage=spent(7, 8, estimated=True)
                ),
            ],
        )
    ]


def test_models_keep_apart_whatever_they_are_called_and_come_in_their_order(running: Running) -> None:
    odd = [("", ""), ("a", "b|c"), ("a|b", "c"), ("answers", "budget"), ("n", "ü\x00\n[]{}\u2028"), ("z", "y" * 200)]
    names = sorted(odd)

    async def scenario() -> None:
        user = f"{{7}}:used:20777 {uuid.uuid4()}"
        made = [
            attempt(spent(number), provider=provider, model=model) for number, (provider, model) in enumerate(names)
        ]
        await add(Records(running), record(user, *reversed(made)), record(user, *made))
        (day,) = await read(Records(running, 1), user)
        assert [(model.provider, model.model) for model in day.models] == names
        assert [model.usage.input_tokens for model in day.models] == [2 * number for number in range(len(names))]

    running.wait(scenario())


def test_a_record_counts_once_within_an_hour_over_all_replicas(running: Running) -> None:
    user = new_user()
    given = record(user, attempt(spent(5, 6, 7)))
    other = record(user, attempt(spent(1)))
    both = Records(running, 0), Records(running, 1)

    async def again() -> usage_pb2.DayUsage:
        await add(both[0], given, given)
        # The first record of an id counts; what comes under it later is a repeat, whatever it says.
        await add(both[1], record(user, attempt(spent(1_000)), record_id=given.id))
        await add(both[1], given, other, given)
        return (await read(both[0], user))[0]

    def pass_an_hour() -> None:
        root = keys.limited("user", user)
        prefix = f"{keys.tag(keys.partition(user))}recorded:"
        with redis_of(running, root) as redis:
            for name in sorted(redis.scan_iter(f"{prefix}*", count=10_000)):
                hour = int(name.decode().removeprefix(prefix))
                assert 3600 <= redis.ttl(name) <= 7200
                redis.rename(name, f"{prefix}{hour - 1}")

    sums = [(running.wait(again()).answers, running.wait(again()).usage)]
    pass_an_hour()
    sums.append((running.wait(again()).answers, running.wait(again()).usage))
    assert sums == [(2, spent(6, 6, 7)), (2, spent(6, 6, 7))]
    pass_an_hour()
    assert (running.wait(again()).answers, running.wait(again()).usage) == (4, spent(12, 12, 14))


def test_days_are_read_by_range_each_for_itself_the_oldest_first(running: Running) -> None:
    user = new_user()
    root = keys.limited("user", user)
    records = Records(running)
    running.wait(add(records, record(user, attempt(spent(1)))))
    with redis_of(running, root) as redis:
        (name,) = redis.scan_iter(f"{root}:used:*", count=10_000)
        number = int(name.rpartition(b":")[2])
        assert redis.expiretime(name) == (number + 1 + KEPT_DAYS) * 86_400
        # Each day one answer more than the day after it; none two days ago.
        for ago in range(1, MOST_DAYS + 1):
            redis.copy(name, f"{root}:used:{number - ago}")
            redis.hset(f"{root}:used:{number - ago}", "answers", 1 + ago)
        redis.delete(f"{root}:used:{number - 2}")
        today = date(1970, 1, 1) + timedelta(days=number)

    async def found(first: str | date = "", last: str | date = "") -> list[int]:
        days = await read(records, user, first, last)
        agos = [(today - date.fromisoformat(day.day)).days for day in days]
        assert [day.answers for day in days] == [1 + ago for ago in agos]
        return agos

    def before(days: int) -> date:
        return today - timedelta(days=days)

    async def scenario() -> None:
        assert await found(today, today) == [0]
        assert await found(before(1), before(1)) == [1]
        assert await found(before(1)) == await found(before(1), today) == [1, 0]
        assert await found(before(2), before(2)) == []
        whole = [*range(MOST_DAYS, 2, -1), 1, 0]
        assert await found(before(MOST_DAYS - 1), today) == whole[1:]
        assert await found(before(MOST_DAYS), before(1)) == whole[:-1]
        assert await found(before(200), before(108)) == list(range(200, 107, -1))
        assert await found("0001-01-01", "0001-12-31") == await found("9998-12-31", "9999-12-31") == []
        with pytest.raises(Refused, match="to_day must be one of the 366 days") as refused:
            await found(before(MOST_DAYS), today)
        assert refused.value.reason == "INVALID_ARGUMENT"

    running.wait(scenario())


def test_services_record_and_users_read_their_own(running: Running) -> None:
    async def scenario() -> None:
        records, user = Records(running), f"Zoë {uuid.uuid4()}"
        await add(records, record(user, attempt(spent(1))))
        assert len(await read(records, user, user=user)) == 1
        for asked, asking in ((user, "another"), ("", user)):
            with pytest.raises(Refused) as refused:
                await read(records, asked, user=asking)
            assert refused.value.reason == "PERMISSION_DENIED"
        with pytest.raises(Refused) as refused:
            await add(records, record(user, attempt(spent(1))), user=user)
        assert refused.value.reason == "PERMISSION_DENIED"
        with pytest.raises(Refused) as refused:
            await add(records, record(user, attempt(spent(1))), token=records.worker_token)
        assert refused.value.reason == "UNAUTHENTICATED"
        assert (await read(records, user))[0].answers == 1

    running.wait(scenario())


def test_what_nobody_who_is_known_asked_for_is_counted_too(running: Running) -> None:
    async def scenario() -> None:
        records = Records(running)
        before = await lately(records, "")
        given = record("", attempt(spent(3, 4, 5), model=str(uuid.uuid4())))
        await add(records, given)
        assert await lately(records, "") == before + expected([given])

    running.wait(scenario())


def test_no_number_is_too_high(running: Running) -> None:
    user = new_user()
    records = Records(running)
    most = spent(2**64 - 1, 2**64 - 1, 2**64 - 1)
    full = 2**63 - 2

    async def day() -> usage_pb2.DayUsage:
        return (await read(records, user))[0]

    running.wait(add(records, record(user, *[attempt(most)] * 100)))
    found = running.wait(day())
    assert (found.usage, found.budget_tokens) == (spent(10**14, 10**14, 10**14), 2 * 10**14)
    # Sums that are full stay full, and hold nothing else up.
    root = keys.limited("user", user)
    with redis_of(running, root) as redis:
        (name,) = redis.scan_iter(f"{root}:used:*", count=10_000)
        for field in redis.hkeys(name):
            redis.hset(name, field, 2**63 - 2)
        redis.hset(name, "answers", 1)
    both = record(user, attempt(most), attempt(spent(1), model="another"))
    running.wait(add(records, both, record(user, attempt(spent(2), model="another"))))
    found = running.wait(day())
    assert (found.answers, found.budget_tokens) == (3, full)
    assert [model.usage for model in found.models] == [spent(3), spent(full, full, full)]
    assert found.usage == spent(2**63 - 1, full, full)


def test_fifty_calls_at_once_add_up_exactly(running: Running) -> None:
    async def scenario() -> None:
        user = new_user()
        replicas = Records(running, 0), Records(running, 1)
        given = [record(user, attempt(spent(number, 1, 10**9 + number))) for number in range(50)]
        await asyncio.gather(*(add(replicas[number % 2], one) for number, one in enumerate(given)))
        assert await lately(replicas[0], user) == expected(given)
        # All of them once more, and as many new ones of the same answers' names.
        await asyncio.gather(*(add(replicas[number % 2], *given[number:], *given[:number]) for number in range(50)))
        assert await lately(replicas[1], user) == expected(given)

    running.wait(scenario())


def test_a_thousand_records_of_users_in_every_partition_are_one_call(running: Running) -> None:
    async def scenario() -> None:
        records = Records(running)
        users = [new_user() for _ in range(250)]
        assert len({keys.partition(user) for user in users}) > keys.PARTITIONS // 2
        given = [record(user, attempt(spent(number))) for number in range(4) for user in users]
        await add(records, *given)
        found = await asyncio.gather(*(lately(records, user) for user in users))
        assert all(sums == expected(given[index :: len(users)]) for index, sums in enumerate(found))

    running.wait(scenario())


def test_what_takes_more_than_one_script_call_is_counted_whole(running: Running) -> None:
    async def scenario() -> None:
        records, user = Records(running), new_user()
        given = [
            record(user, *(attempt(spent(number, 1, 1), model=f"m{model}") for model in range(100)))
            for number in range(1, 31)
        ]
        await add(records, *given)
        assert await lately(records, user) == expected(given)

    running.wait(scenario())


ATTEMPTS = st.lists(
    st.builds(
        attempt,
        st.none()
        | st.builds(
            spent, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**12), estimated=st.booleans()
        ),
        provider=st.sampled_from(["anthropic", "openai"]),
        model=st.sampled_from(["a", "b|c", "ü"]),
        own_key=st.booleans(),
    ),
    max_size=4,
)
MADE = st.lists(st.tuples(st.integers(0, 2), ATTEMPTS), min_size=1, max_size=8)
CALLS = st.lists(st.tuples(st.integers(0, 1), st.lists(st.integers(0, 7), min_size=1, max_size=12)), max_size=8)


@pytest.mark.timeout(300)
def test_however_records_are_put_together_and_repeated_each_counts_once(running: Running) -> None:
    replicas = Records(running, 0), Records(running, 1)

    @settings(
        max_examples=40 if running.cluster else 120,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(made=MADE, calls=CALLS, at_once=st.booleans())
    def law(made: list[tuple[int, list[Any]]], calls: list[tuple[int, list[int]]], at_once: bool) -> None:
        users = [new_user() for _ in range(3)]
        pool = [record(users[index], *attempts) for index, attempts in made]

        async def scenario() -> None:
            work = [add(replicas[at], *(pool[index % len(pool)] for index in call)) for at, call in calls]
            if at_once:
                await asyncio.gather(*work)
            else:
                for one in work:
                    await one
            sent = {pool[index % len(pool)].id for _, call in calls for index in call}
            for user in users:
                given = [one for one in pool if one.id in sent and one.user_id == user]
                # Counters are the same with zeros and without.
                assert await lately(replicas[0], user) == expected(given)

        running.wait(scenario())

    law()


ONE = record("u", attempt(spent(1)))


@pytest.mark.parametrize(
    ("records", "field"),
    [
        ([], "records must be 1 to 1000"),
        ([ONE] * 1001, "records must be 1 to 1000"),
        ([ONE, usage_pb2.UsageRecord(user_id="u")], r"records\.id"),
        ([usage_pb2.UsageRecord(id="no id")], r"records\.id"),
        ([record("ü" * 101)], r"records\.user_id"),
        ([record("u", *[attempt()] * 101)], r"records\.attempts are"),
        ([record("u", attempt(provider="x" * 201))], r"records\.attempts\.provider"),
        ([record("u", attempt(model="x" * 201))], r"records\.attempts\.model"),
    ],
)
def test_a_record_that_breaks_its_range_is_refused_by_name_and_nothing_is_counted(
    running: Running, records: list[usage_pb2.UsageRecord], field: str
) -> None:
    client, user = Records(running), new_user()
    given = [record(user, attempt(spent(1))), *records] if records and len(records) <= 1000 else records
    with pytest.raises(Refused, match=f"^INVALID_ARGUMENT: {field}"):
        running.wait(add(client, *given))
    assert running.wait(read(client, user)) == []


@pytest.mark.parametrize(
    ("user", "first", "last", "field"),
    [
        ("u" * 201, "", "", "user_id"),
        ("u", "yesterday", "", "from_day"),
        ("u", "20261120", "", "from_day"),
        ("u", "2026-W47-5", "", "from_day"),
        ("u", "2026-02-29", "", "from_day"),
        ("u", "2026-11-20T00:00", "", "from_day"),
        ("u", "", "0000-01-01", "to_day"),
        ("u", "", "\uff12026-11-20", "to_day"),
        ("u", "2026-11-20", "2026-11-19", "to_day"),
        ("u", "2024-01-01", "2025-01-01", "to_day"),
        ("u", "9999-12-31", "", "to_day"),
        ("u", "", "1970-01-01", "to_day"),
        ("u", "1970-01-01", "", "to_day"),
    ],
)
def test_a_range_that_can_t_be_is_refused_by_name(
    running: Running, user: str, first: str, last: str, field: str
) -> None:
    with pytest.raises(Refused, match=f"^INVALID_ARGUMENT: {field}"):
        running.wait(read(Records(running), user, first, last))
