"""Limits hold over all replicas, count what was stored and nothing else, and see by themselves which answers ended."""

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from launcher.stack import Stack
from launcher.valkey_cluster import ValkeyCluster
from session import keys
from session.limiter import BEGINNING_MS
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import limit_pb2, limit_pb2_grpc, session_pb2

from .client import Refused, SessionClient, Worker
from .conftest import Running
from .records import Records, redis_of

# A window so long that no test lives to see one more message allowed.
WINDOW_S, MESSAGES, ANSWERS = 36_000, 20, 3
KEY_MESSAGES, KEY_ANSWERS = 30, 5
INTERVAL_US = WINDOW_S * 1_000_000 // MESSAGES
LIMITS = {
    "RATE_LIMITS": "on",
    "SWITCHBOARD__LIMITS__USER__MESSAGES": str(MESSAGES),
    "SWITCHBOARD__LIMITS__USER__WINDOW_S": str(WINDOW_S),
    "SWITCHBOARD__LIMITS__USER__ANSWERS": str(ANSWERS),
    "SWITCHBOARD__LIMITS__KEY__MESSAGES": str(KEY_MESSAGES),
    "SWITCHBOARD__LIMITS__KEY__WINDOW_S": str(WINDOW_S),
    "SWITCHBOARD__LIMITS__KEY__ANSWERS": str(KEY_ANSWERS),
}


@pytest.fixture(scope="module", params=["server", "cluster"])
def limited(request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(request.getfixturevalue("cluster") if request.param == "cluster" else None, **LIMITS)
    yield running
    running.close()


def new_name() -> str:
    return f"subject {uuid.uuid4()}"


async def new_chat(records: Records, owner: str) -> str:
    chat = chat_pb2.Chat(id=str(uuid.uuid4()), dialect="test", owner_id=owner)
    await records.call("CreateChat", session_pb2.CreateChatRequest(chat=chat))
    return chat.id


async def begin(
    records: Records, chat_id: str, sender: str, *, user: str = "", key: str = "", **fields: Any
) -> session_pb2.BeginTurnResponse:
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="hello", sender_id=sender)
    request = session_pb2.BeginTurnRequest(chat_id=chat_id, message=message, **fields)
    return await records.call("BeginTurn", request, user=user, key=key)


def subject(kind: str, name: str) -> limit_pb2.Subject:
    return limit_pb2.Subject(kind=limit_pb2.SubjectKind.Value(f"SUBJECT_KIND_{kind.upper()}"), id=name)


async def acquire(
    records: Records, *subjects: limit_pb2.Subject, answer: str = "", lasts_s: int = 60
) -> limit_pb2.RateLimit:
    request = limit_pb2.AcquireRequest(
        subjects=subjects, answer_id=answer or str(uuid.uuid4()), lasts=Duration(seconds=lasts_s)
    )
    return (await records.call("Acquire", request)).limit


async def release(records: Records, answer: str, *subjects: limit_pb2.Subject) -> None:
    await records.call("Release", limit_pb2.ReleaseRequest(subjects=subjects, answer_id=answer))


async def refusal(work: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        await work
    assert (refused.value.reason, refused.value.status.name) == ("RATE_LIMITED", "RESOURCE_EXHAUSTED")
    return refused.value


def used(running: Running, kind: str, name: str) -> tuple[int, int]:
    """Messages, by whole intervals, and answers under way."""
    root = keys.limited(kind, name)
    interval_us = WINDOW_S * 1_000_000 // {"user": MESSAGES, "key": KEY_MESSAGES}[kind]
    with redis_of(running, root) as redis:
        seconds, micros = redis.time()
        ahead_us = int(redis.get(f"{root}:next") or 0) - seconds * 1_000_000 - micros
        return max(0, -(-ahead_us // interval_us)), redis.zcard(f"{root}:answers")


def test_a_burst_then_one_after_each_interval(limited: Running) -> None:
    user = new_name()
    both = Records(limited, 0), Records(limited, 1)
    chat_id = limited.wait(new_chat(both[0], user))

    async def burst() -> None:
        for number in range(MESSAGES):
            begun = await begin(both[number % 2], chat_id, user, without_answer=True)
            assert (begun.limit.name, begun.limit.quota, begun.limit.window.seconds) == ("user", MESSAGES, WINDOW_S)
            assert begun.limit.remaining == MESSAGES - 1 - number
            reset_us = begun.limit.reset.ToMicroseconds()
            assert number * INTERVAL_US < reset_us <= (number + 1) * INTERVAL_US
        refused = await refusal(begin(both[0], chat_id, user, without_answer=True))
        assert refused.message == f"too many messages from this user: {MESSAGES} in {WINDOW_S} s may be; wait a moment"
        assert refused.retry_after_s is not None
        assert 0 < refused.retry_after_s <= INTERVAL_US / 1e6
        assert (
            len((await both[0].call("ListMessages", session_pb2.ListMessagesRequest(chat_id=chat_id))).messages) == 20
        )

    async def one_more() -> None:
        assert (await begin(both[1], chat_id, user, without_answer=True)).limit.remaining == 0
        await refusal(begin(both[0], chat_id, user, without_answer=True))

    limited.wait(burst())
    root = keys.limited("user", user)
    for _ in range(2):
        with redis_of(limited, root) as redis:
            assert 0 < redis.pttl(f"{root}:next") <= WINDOW_S * 1000
            redis.decrby(f"{root}:next", INTERVAL_US)
        limited.wait(one_more())


def test_after_redis_clock_was_set_back_nobody_waits_for_longer_than_a_window(limited: Running) -> None:
    user = new_name()
    records = Records(limited)
    chat_id = limited.wait(new_chat(records, user))
    root = keys.limited("user", user)
    with redis_of(limited, root) as redis:
        # As it stands when the clock was 100 windows ahead.
        redis.set(f"{root}:next", (redis.time()[0] + 100 * WINDOW_S) * 1_000_000)

    async def look() -> float | None:
        return (await refusal(begin(records, chat_id, user, without_answer=True))).retry_after_s

    for _ in range(2):
        retry_after_s = limited.wait(look())
        assert retry_after_s is not None
        assert retry_after_s <= INTERVAL_US / 1_000_000
    assert used(limited, "user", user) == (MESSAGES, 0)
    with redis_of(limited, root) as redis:
        assert redis.pttl(f"{root}:next") <= WINDOW_S * 1000


def test_the_acting_user_counts_or_else_the_sender_and_nobody_s_message_is_nobody_s(limited: Running) -> None:
    async def scenario() -> None:
        records = Records(limited)
        user, sender = new_name(), new_name()
        chat_id = await new_chat(records, user)
        begun = await begin(records, chat_id, user, user=user, without_answer=True)
        assert begun.limit.remaining == MESSAGES - 1
        # To answer once more names no sender.
        again = session_pb2.BeginTurnRequest(chat_id=chat_id, answer_again=begun.message.id)
        assert (await records.call("BeginTurn", again, user=user)).limit.remaining == MESSAGES - 2
        assert (await begin(records, chat_id, user, without_answer=True)).limit.remaining == MESSAGES - 3
        assert (await begin(records, chat_id, sender, without_answer=True)).limit.remaining == MESSAGES - 1
        assert not (await begin(records, chat_id, "", without_answer=True)).HasField("limit")

    limited.wait(scenario())


def test_the_nearest_of_a_user_s_and_a_key_s_limits_is_told(limited: Running) -> None:
    async def scenario() -> None:
        records = Records(limited)
        key, user = f"key-{uuid.uuid4()}", new_name()
        chat_id = await new_chat(records, user)
        assert (await begin(records, chat_id, user, key=key, without_answer=True)).limit.name == "user"
        for _ in range(KEY_MESSAGES - 5):
            await begin(records, chat_id, "", key=key, without_answer=True)
        limit = (await begin(records, chat_id, user, key=key, without_answer=True)).limit
        assert (limit.name, limit.quota, limit.remaining) == ("key", KEY_MESSAGES, 3)

    limited.wait(scenario())


def test_a_repeat_is_not_counted_and_is_answered_when_nothing_is_left(limited: Running) -> None:
    user = new_name()
    records = Records(limited)
    chat_id = limited.wait(new_chat(records, user))

    async def scenario() -> None:
        first = await begin(records, chat_id, user, idempotency_key="k")
        again = await begin(records, chat_id, user, idempotency_key="k")
        assert again.repeated
        assert not again.HasField("limit")
        for _ in range(MESSAGES - 1):
            await begin(records, chat_id, user, without_answer=True)
        await refusal(begin(records, chat_id, user, without_answer=True))
        again = await begin(records, chat_id, user, idempotency_key="k")
        assert (again.repeated, again.message, again.turn_id) == (True, first.message, first.turn_id)
        await refusal(begin(records, chat_id, user, idempotency_key="another"))

    limited.wait(scenario())
    assert used(limited, "user", user) == (MESSAGES, 1)


def test_what_was_not_stored_is_not_counted(limited: Running) -> None:
    user, key = new_name(), f"key-{uuid.uuid4()}"
    records = Records(limited)

    async def scenario() -> None:
        with pytest.raises(Refused) as refused:
            await begin(records, "unknown", user, key=key)
        assert refused.value.reason == "NOT_FOUND"

    limited.wait(scenario())
    assert used(limited, "user", user) == used(limited, "key", key) == (0, 0)


@pytest.mark.parametrize("end", ["completed", "cancelled", "deleted"])
def test_an_answer_that_ended_is_under_way_no_longer_without_anybody_s_word(limited: Running, end: str) -> None:
    user = new_name()
    records = Records(limited)
    client = limited.clients[0]

    async def fill() -> list[str]:
        chats = [await new_chat(records, user) for _ in range(ANSWERS + 1)]
        for chat_id in chats[:ANSWERS]:
            await begin(records, chat_id, user)
        refused = await refusal(begin(records, chats[-1], user))
        assert refused.message == "too many answers are under way for this user: 3 may be; wait for one to end"
        assert refused.retry_after_s
        # A message alone asks for none.
        await begin(records, chats[-1], user, without_answer=True)
        match end:
            case "completed":
                turn = await client.claim(chats[0])
                assert turn is not None
                worker = Worker(client, turn)
                await worker.say("an answer")
                await refusal(begin(records, chats[-1], user))
                await worker.complete()
            case "cancelled":
                await records.call("CancelTurn", session_pb2.CancelTurnRequest(chat_id=chats[1]))
            case _:
                await records.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chats[2]))
        return chats

    chats = limited.wait(fill())
    if end == "deleted":
        # Of a turn that is nowhere to be found it is not known for a while whether it is about to begin.
        limited.wait(refusal(begin(records, chats[-1], user)))
        root = keys.limited("user", user)
        with redis_of(limited, root) as redis:
            for answer in redis.zrange(f"{root}:answers", 0, -1):
                redis.zincrby(f"{root}:answers", -BEGINNING_MS - 1, answer)

    async def one_more() -> None:
        begun = await begin(Records(limited, 1), chats[-1], user)
        assert begun.turn_id
        await refusal(begin(records, chats[-1], user))

    limited.wait(one_more())
    assert used(limited, "user", user)[1] == ANSWERS


def test_both_subjects_are_counted_or_neither(limited: Running) -> None:
    user, key = new_name(), f"key-{uuid.uuid4()}"
    records = Records(limited)
    both = subject("user", user), subject("key", key)

    async def scenario() -> None:
        for number in range(KEY_ANSWERS):
            await acquire(records, both[1], answer=f"a{number}")
        for order in (both, both[::-1]):
            refused = await refusal(acquire(records, *order))
            assert "this key" in refused.message
        await release(records, "a0", *both)
        await acquire(records, *both, answer="a0")

    limited.wait(scenario())
    assert used(limited, "user", user) == (1, 1)
    assert used(limited, "key", key) == (KEY_ANSWERS + 1, KEY_ANSWERS)


def test_of_fifty_at_once_as_many_get_through_as_may(limited: Running) -> None:
    user, key = new_name(), f"key-{uuid.uuid4()}"
    replicas = Records(limited, 0), Records(limited, 1)

    async def count(work: list[Any]) -> int:
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert all(isinstance(each, Refused) and each.reason == "RATE_LIMITED" for each in refused), refused
        return len(outcomes) - len(refused)

    async def answers(*subjects: limit_pb2.Subject) -> int:
        return await count([acquire(replicas[n % 2], *subjects) for n in range(50)])

    async def messages(sender: str) -> int:
        chat_id = await new_chat(replicas[0], sender)
        return await count([begin(replicas[n % 2], chat_id, sender, without_answer=True) for n in range(50)])

    assert limited.wait(answers(subject("key", key))) == KEY_ANSWERS
    assert limited.wait(messages(user)) == MESSAGES
    # Two that lie apart may refuse for each other's sake; they let through no more than may, and leave nothing over.
    pair = new_name(), f"key-{uuid.uuid4()}"
    through = limited.wait(answers(subject("user", pair[0]), subject("key", pair[1])))
    assert through <= ANSWERS
    assert limited.cluster or through == ANSWERS
    assert used(limited, "user", pair[0]) == used(limited, "key", pair[1]) == (through, through)


def test_an_answer_without_a_turn_counts_once_until_it_is_released_or_its_time_is_over(limited: Running) -> None:
    user = new_name()
    records = Records(limited)
    who = subject("user", user)

    async def fill() -> None:
        for answer in ("a", "b", "c"):
            await acquire(records, who, answer=answer)
        # The same answer again, in a full house.
        assert (await acquire(records, who, answer="c", lasts_s=3600)).remaining == MESSAGES - 4
        await refusal(acquire(records, who, answer="d"))
        for _ in range(2):
            await release(Records(limited, 1), "a", who)
        await acquire(records, who, answer="d", lasts_s=1)
        await refusal(acquire(records, who, answer="e"))

    limited.wait(fill())
    root = keys.limited("user", user)
    with redis_of(limited, root) as redis:
        # The keys live for as long as the longest, and no longer.
        assert 3500 < redis.ttl(f"{root}:answers") <= 3600
        redis.zincrby(f"{root}:answers", -1000, "d")
    limited.wait(acquire(records, who, answer="e"))
    assert used(limited, "user", user)[1] == 3


@pytest.mark.parametrize(
    "request_",
    [
        limit_pb2.AcquireRequest(answer_id="a", lasts=Duration(seconds=1)),
        limit_pb2.AcquireRequest(subjects=[subject("user", "u")], answer_id="a"),
        limit_pb2.AcquireRequest(subjects=[subject("user", "u")], answer_id="a", lasts=Duration(seconds=3601)),
        limit_pb2.AcquireRequest(subjects=[subject("user", "u")], answer_id="a|b", lasts=Duration(seconds=1)),
        limit_pb2.AcquireRequest(subjects=[subject("user", "")], answer_id="a", lasts=Duration(seconds=1)),
        limit_pb2.AcquireRequest(subjects=[subject("user", "u")] * 2, answer_id="a", lasts=Duration(seconds=1)),
        limit_pb2.AcquireRequest(subjects=[limit_pb2.Subject(id="u")], answer_id="a", lasts=Duration(seconds=1)),
    ],
)
def test_what_breaks_its_range_is_refused(running: Running, request_: limit_pb2.AcquireRequest) -> None:
    with pytest.raises(Refused) as refused:
        running.wait(Records(running).call("Acquire", request_))
    assert refused.value.reason == "INVALID_ARGUMENT"


@pytest.mark.parametrize("user", ["%", "%zz", "%ff", "x" * 201])
def test_an_acting_user_that_can_t_be_one_is_refused(running: Running, user: str) -> None:
    client = running.clients[0]

    async def scenario() -> str:
        metadata = [*client.metadata, ("x-switchboard-user", user)]
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="hello")
        request = session_pb2.BeginTurnRequest(chat_id="c", message=message)
        call = client.stub.BeginTurn(request, metadata=metadata, timeout=10)
        return str(await call.details())

    assert "x-switchboard-user" in running.wait(scenario())


def test_switched_off_nothing_is_counted_or_refused(running: Running) -> None:
    user = new_name()
    records = Records(running)

    async def scenario() -> None:
        chat_id = await new_chat(records, user)
        assert not (await begin(records, chat_id, user)).HasField("limit")
        request = limit_pb2.AcquireRequest(subjects=[subject("user", user)], answer_id="a", lasts=Duration(seconds=1))
        assert not (await records.call("Acquire", request)).HasField("limit")
        await release(records, "a", subject("user", user))

    running.wait(scenario())
    assert used(running, "user", user) == (0, 0)


async def test_where_a_subject_s_part_of_redis_is_away_messages_go_uncounted_and_the_others_are_told() -> None:
    async with (
        ValkeyCluster() as cluster,
        Stack(
            sessions=1,
            workers=0,
            gateways=0,
            simulator=False,
            redis_url=cluster.url,
            environment={**LIMITS, **cluster.environment},
        ) as stack,
    ):
        client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
        shards = len(cluster.urls) // 2
        user = next(user for user in map(str, range(1000)) if keys.partition(user) < keys.PARTITIONS // shards)
        while True:
            chat_id = await client.new_chat()
            if keys.partition(chat_id) > keys.PARTITIONS - keys.PARTITIONS // shards:
                break
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="hello", sender_id=user)
        request = session_pb2.BeginTurnRequest(chat_id=chat_id, message=message, idempotency_key="k")
        assert (await client.call("BeginTurn", request)).limit.remaining == MESSAGES - 1
        await cluster.nodes[0].kill()
        await cluster.nodes[shards].kill()
        request.idempotency_key = "another"
        begun = await client.call("BeginTurn", request)
        assert begun.turn_id
        assert not begun.HasField("limit")
        acquire_request = limit_pb2.AcquireRequest(
            subjects=[subject("user", user)], answer_id="a", lasts=Duration(seconds=1)
        )
        stub: Any = limit_pb2_grpc.LimitServiceStub(client.channel)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Acquire(acquire_request, metadata=client.metadata, timeout=10)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        await client.close()


def test_the_keys_of_a_deleted_chat_let_nobody_past_a_limit(limited: Running) -> None:
    user, chat_id = new_name(), str(uuid.uuid4())
    records = Records(limited)
    make = session_pb2.CreateChatRequest(chat=chat_pb2.Chat(id=chat_id, dialect="test", owner_id=user))

    async def scenario() -> None:
        await records.call("CreateChat", make)
        for number in range(MESSAGES):
            await begin(records, chat_id, user, without_answer=True, idempotency_key=f"{number}")
        assert (await begin(records, chat_id, user, without_answer=True, idempotency_key="0")).repeated
        await records.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chat_id))
        await refusal(begin(records, chat_id, user, without_answer=True, idempotency_key="0"))
        await records.call("CreateChat", make)
        for number in range(MESSAGES):
            await refusal(begin(records, chat_id, user, without_answer=True, idempotency_key=f"{number}"))
        listing = session_pb2.ListMessagesRequest(chat_id=chat_id)
        assert (await records.call("ListMessages", listing)).total == 0

    limited.wait(scenario())
    assert used(limited, "user", user)[0] == MESSAGES


def test_a_turn_counts_for_as_long_as_those_ahead_of_it_may_take(limited: Running) -> None:
    user, records = new_name(), Records(limited)

    async def scenario() -> None:
        chat_id = await new_chat(records, user)
        await begin(records, chat_id, user, deadline=Duration(seconds=3600))
        await begin(records, chat_id, user, deadline=Duration(seconds=1))

    limited.wait(scenario())
    root = keys.limited("user", user)
    with redis_of(limited, root) as redis:
        now_s = redis.time()[0]
        assert all(
            end_ms / 1000 - now_s > 8 * 3600 - 60
            for _, end_ms in redis.zrange(f"{root}:answers", 0, -1, withscores=True)
        )


async def test_a_chat_whose_shard_is_frozen_opens_the_bound_on_answers_to_nobody() -> None:
    async with (
        ValkeyCluster() as cluster,
        Stack(
            sessions=1,
            workers=0,
            gateways=0,
            simulator=False,
            redis_url=cluster.url,
            environment={**LIMITS, **cluster.environment},
        ) as stack,
    ):
        client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
        shards = len(cluster.urls) // 2
        share = keys.PARTITIONS // shards
        user = next(user for user in map(str, range(1000)) if keys.partition(user) > keys.PARTITIONS - share)

        async def chat_in(partitions: range) -> str:
            while True:
                chat_id = await client.new_chat()
                if keys.partition(chat_id) in partitions:
                    return chat_id

        frozen = await chat_in(range(share))
        other = await chat_in(range(keys.PARTITIONS - share + 1, keys.PARTITIONS))

        async def send(chat_id: str) -> session_pb2.BeginTurnResponse:
            message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="hello", sender_id=user)
            return await client.call("BeginTurn", session_pb2.BeginTurnRequest(chat_id=chat_id, message=message))

        await send(frozen)
        for _ in range(ANSWERS - 1):
            await send(other)
        await refusal(send(other))
        pids = [cluster.nodes[index].pid for index in (0, shards)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(4):
                await refusal(send(other))
            # What is known to have ended makes room all the same.
            await client.call("CancelTurn", session_pb2.CancelTurnRequest(chat_id=other))
            assert (await send(other)).limit.quota == MESSAGES
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        await client.close()
