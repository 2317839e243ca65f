"""A day's budget of tokens: who has used it up is refused until the next day, and nobody else is."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from launcher.stack import Stack
from session import keys
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, usage_pb2, usage_pb2_grpc

from .client import SessionClient
from .conftest import Running
from .records import Records, redis_of
from .test_limits import acquire, begin, new_chat, new_name, refusal, release, subject
from .test_usage_by_day import add, attempt, record, spent

DAY_S = 86_400
BUDGET = 20_000
MESSAGE = "today's budget of 20,000 tokens is used up; it begins anew at 00:00 UTC"
BUDGETED = {"RATE_LIMITS": "on", "SWITCHBOARD__LIMITS__USER__TOKENS_A_DAY": str(BUDGET)}


@pytest.fixture(scope="module", params=["server", "cluster"])
def budgeted(request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(request.getfixturevalue("cluster") if request.param == "cluster" else None, **BUDGETED)
    yield running
    running.close()


def left_of_the_day_s(running: Running, name: str) -> float:
    with redis_of(running, keys.limited("user", name)) as redis:
        seconds, micros = redis.time()
        return DAY_S - (seconds + micros / 1e6) % DAY_S


def counted(running: Running, kind: str, name: str) -> list[str]:
    """What of a subject's limits is in use."""
    root = keys.limited(kind, name)
    with redis_of(running, root) as redis:
        return [part for part in ("next", "answers") if redis.exists(f"{root}:{part}")]


async def tokens_a_day(records: Records, user: str) -> int:
    return (await records.call("ReadUsage", usage_pb2.ReadUsageRequest(user_id=user))).tokens_a_day


async def history(records: Records, chat_id: str) -> int:
    return len((await records.call("ListMessages", session_pb2.ListMessagesRequest(chat_id=chat_id))).messages)


def test_it_is_used_up_by_the_last_token_of_it_and_nothing_is_stored_until_the_next_day(budgeted: Running) -> None:
    user = new_name()
    both = Records(budgeted, 0), Records(budgeted, 1)
    chat_id = budgeted.wait(new_chat(both[0], user))

    async def spend() -> None:
        assert await tokens_a_day(both[0], user) == BUDGET
        await add(both[0], record(user, attempt(spent(BUDGET - 101, 100))))
        await begin(both[1], chat_id, user, without_answer=True)
        await add(both[1], record(user, attempt(spent(0, 1, estimated=True))))

    async def be_refused() -> list[float]:
        waits: list[float] = []
        for work in (
            begin(both[0], chat_id, user),
            begin(both[1], chat_id, user, user=user),
            begin(both[0], chat_id, user, without_answer=True, idempotency_key="new"),
            acquire(both[1], subject("user", user)),
        ):
            refused = await refusal(work)
            assert refused.message == MESSAGE
            assert refused.retry_after_s is not None
            waits.append(refused.retry_after_s)
        assert await history(both[0], chat_id) == 1
        return waits

    budgeted.wait(spend())
    root = keys.limited("user", user)
    with redis_of(budgeted, root) as redis:
        redis.delete(f"{root}:next")
    most = left_of_the_day_s(budgeted, user)
    waits = budgeted.wait(be_refused())
    least = left_of_the_day_s(budgeted, user)
    assert most >= waits[0] >= waits[1] >= waits[2] >= waits[3] >= least
    assert counted(budgeted, "user", user) == []

    with redis_of(budgeted, root) as redis:
        (name,) = redis.scan_iter(f"{root}:used:*", count=10_000)
        redis.rename(name, f"{root}:used:{int(name.rpartition(b':')[2]) - 1}")
    assert budgeted.wait(begin(both[0], chat_id, user)).turn_id


def test_what_the_user_s_own_key_paid_for_is_not_of_it(budgeted: Running) -> None:
    async def scenario() -> None:
        user, records = new_name(), Records(budgeted)
        who = subject("user", user)
        await add(records, record(user, attempt(spent(10 * BUDGET), own_key=True), attempt(), attempt(spent(1))))
        await acquire(records, who)
        await add(records, record(user, attempt(spent(BUDGET - 1), model="another")))
        await refusal(acquire(records, who))

    budgeted.wait(scenario())


def test_a_repeat_is_answered_when_nothing_is_left(budgeted: Running) -> None:
    async def scenario() -> None:
        user, records = new_name(), Records(budgeted)
        chat_id = await new_chat(records, user)
        first = await begin(records, chat_id, user, idempotency_key="k")
        await add(records, record(user, attempt(spent(BUDGET))))
        again = await begin(records, chat_id, user, idempotency_key="k")
        assert (again.repeated, again.message, again.turn_id) == (True, first.message, first.turn_id)
        await refusal(begin(records, chat_id, user, idempotency_key="another"))
        assert await history(records, chat_id) == 1

    budgeted.wait(scenario())


def test_it_is_each_user_s_own_and_a_key_and_nobody_have_none(budgeted: Running) -> None:
    async def scenario() -> None:
        user, other, records = new_name(), new_name(), Records(budgeted)
        chat_id = await new_chat(records, user)
        everything = attempt(spent(BUDGET))
        await add(records, record(user, everything), record("", everything))
        await refusal(begin(records, chat_id, user))
        assert (await begin(records, chat_id, other)).turn_id
        assert (await begin(records, chat_id, "", key=user)).turn_id
        assert (await begin(records, chat_id, "")).turn_id
        assert await tokens_a_day(records, "") == 0

    budgeted.wait(scenario())


def test_a_key_is_not_counted_where_the_user_s_budget_refuses(budgeted: Running) -> None:
    user, key = new_name(), f"key-{uuid.uuid4()}"
    records = Records(budgeted)
    both = subject("user", user), subject("key", key)
    budgeted.wait(add(records, record(user, attempt(spent(BUDGET)))))
    for order in (both, both[::-1]):
        assert budgeted.wait(refusal(acquire(records, *order))).message == MESSAGE
    assert counted(budgeted, "user", user) == counted(budgeted, "key", key) == []


def test_answers_under_way_may_go_beyond_it_and_all_of_it_counts(budgeted: Running) -> None:
    async def scenario() -> None:
        user = new_name()
        both = Records(budgeted, 0), Records(budgeted, 1)
        who = subject("user", user)
        answers = [str(number) for number in range(3)]
        for answer in answers:
            await acquire(both[0], who, answer=answer)
        given = [record(user, attempt(spent(BUDGET - 1))) for _ in answers]
        await asyncio.gather(*(add(both[number % 2], one) for number, one in enumerate(given)))
        for answer in answers:
            await release(both[1], answer, who)
        assert (await refusal(acquire(both[1], who))).message == MESSAGE
        request = usage_pb2.ReadUsageRequest(user_id=user)
        assert (await both[0].call("ReadUsage", request)).days[0].budget_tokens == 3 * (BUDGET - 1)

    budgeted.wait(scenario())


@pytest.mark.parametrize(
    ("variables", "budget"),
    [
        ({"SWITCHBOARD__LIMITS__USER__TOKENS_A_DAY": str(BUDGET + 1)}, BUDGET + 1),
        ({"SWITCHBOARD__LIMITS__USER__TOKENS_A_DAY": "0"}, 0),
        ({"RATE_LIMITS": "off"}, 0),
    ],
    ids=["raised", "none", "limits off"],
)
def test_a_service_that_is_told_of_more_lets_through_who_was_refused(
    budgeted: Running, variables: dict[str, str], budget: int
) -> None:
    user = new_name()
    records = Records(budgeted)
    budgeted.wait(add(records, record(user, attempt(spent(BUDGET)))))
    budgeted.wait(refusal(acquire(records, subject("user", user))))

    async def scenario() -> None:
        async with Stack(
            sessions=1,
            workers=0,
            gateways=0,
            simulator=False,
            redis_url=budgeted.cluster.url if budgeted.cluster else budgeted.stack.redis_url,
            environment={**budgeted.environment, **variables},
        ) as stack:
            client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
            chat_id = await client.new_chat()
            message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="hello", sender_id=user)
            begun = await client.call("BeginTurn", session_pb2.BeginTurnRequest(chat_id=chat_id, message=message))
            assert begun.turn_id
            stub: Any = usage_pb2_grpc.UsageServiceStub(client.channel)
            request = usage_pb2.ReadUsageRequest(user_id=user)
            usage = await stub.ReadUsage(request, metadata=client.metadata, timeout=10)
            assert (usage.tokens_a_day, usage.days[0].budget_tokens) == (budget, BUDGET)
            await client.close()

    budgeted.wait(scenario())
