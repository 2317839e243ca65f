"""Users' own provider keys: revealed to workers, bound to their place, and in the clear nowhere else."""

import asyncio
import base64
import itertools
import uuid
from collections.abc import Iterator

import msgpack
import pytest
from session import keys
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import limit_pb2, session_pb2, user_pb2

from .client import Refused
from .conftest import Running
from .records import Records, all_values, redis_of

KEY = "sk-0123456789abcdef"


async def put(records: Records, user: str, provider: str = "openai", key: str = KEY) -> user_pb2.ProviderKey:
    request = user_pb2.PutProviderKeyRequest(user_id=user, provider=provider, key=key)
    return (await records.call("PutProviderKey", request)).provider_key


async def delete(records: Records, user: str, provider: str = "openai") -> None:
    await records.call("DeleteProviderKey", user_pb2.DeleteProviderKeyRequest(user_id=user, provider=provider))


async def reveal(records: Records, user: str) -> dict[str, str]:
    request = user_pb2.RevealProviderKeysRequest(user_id=user)
    return dict((await records.call("RevealProviderKeys", request, token=records.worker_token)).keys)


async def unreadable(records: Records, user: str) -> list[str]:
    request = user_pb2.RevealProviderKeysRequest(user_id=user)
    return list((await records.call("RevealProviderKeys", request, token=records.worker_token)).unreadable)


async def listed(records: Records, user: str) -> list[tuple[str, int]]:
    response = await records.call("ListProviderKeys", user_pb2.ListProviderKeysRequest(user_id=user))
    return [(one.provider, one.version) for one in response.provider_keys]


def new_user() -> str:
    return f"user {uuid.uuid4()}"


def test_no_users_name_reaches_what_is_kept_of_another_users_keys(running: Running) -> None:
    records = Records(running)

    async def scenario() -> None:
        # Both lie in one partition, so that their keys' names differ by nothing but the users'.
        names = (f"{new_user()}" for _ in itertools.count())
        user, other = next(
            (name, f"{name}{suffix}")
            for name in names
            for suffix in (":versions", ":records")
            if keys.partition(name) == keys.partition(f"{name}{suffix}")
        )
        assert (await put(records, user)).version == 1
        assert await reveal(records, other) == {}
        assert await unreadable(records, other) == []
        assert (await put(records, other, key="sk-of-another")).version == 1
        assert (await put(records, user)).version == 2
        assert await reveal(records, user) == {"openai": KEY}
        assert await reveal(records, other) == {"openai": "sk-of-another"}

    running.wait(scenario())


def test_a_key_is_listed_without_itself_and_revealed_to_workers(running: Running) -> None:
    async def scenario() -> None:
        first, second = Records(running, 0), Records(running, 1)
        user = new_user()
        assert await listed(first, user) == []
        assert await reveal(first, user) == {}
        stored = await put(first, user)
        assert (stored.provider, stored.version, stored.HasField("updated_at")) == ("openai", 1, True)
        await put(second, user, "anthropic", "sk-ant-12345678")
        assert await listed(second, user) == [("anthropic", 1), ("openai", 1)]
        assert await reveal(second, user) == {"openai": KEY, "anthropic": "sk-ant-12345678"}
        assert (await put(second, user, key="sk-another-one")).version == 2
        assert (await reveal(first, user))["openai"] == "sk-another-one"

    running.wait(scenario())


def test_a_version_never_comes_twice_also_not_after_a_deletion(running: Running) -> None:
    async def scenario() -> None:
        records = Records(running)
        user = new_user()
        await put(records, user)
        await put(records, user)
        await delete(records, user)
        await delete(records, user)
        assert await listed(records, user) == []
        assert await reveal(records, user) == {}
        assert (await put(records, user)).version == 3

    running.wait(scenario())


def test_of_many_that_replace_a_key_at_once_each_gets_its_own_version(running: Running) -> None:
    async def scenario() -> None:
        both = [Records(running, 0), Records(running, 1)]
        user = new_user()
        stored = await asyncio.gather(*(put(both[n % 2], user, key=f"sk-number-{n}") for n in range(6)))
        versions = [one.version for one in stored]
        assert sorted(versions) == [1, 2, 3, 4, 5, 6]
        assert await reveal(both[0], user) == {"openai": f"sk-number-{versions.index(6)}"}

    running.wait(scenario())


def test_only_the_workers_token_reveals_and_it_opens_nothing_else(running: Running) -> None:
    async def scenario() -> None:
        records = Records(running)
        user = new_user()
        await put(records, user)
        request = user_pb2.RevealProviderKeysRequest(user_id=user)
        for token, reason in ((None, "PERMISSION_DENIED"), ("", "UNAUTHENTICATED"), ("guess", "UNAUTHENTICATED")):
            with pytest.raises(Refused) as refused:
                await records.call("RevealProviderKeys", request, token=token)
            assert refused.value.reason == reason
            assert KEY not in str(refused.value)
        with pytest.raises(Refused) as refused:
            await records.call("RevealProviderKeys", request, token=records.worker_token, user="somebody else")
        assert refused.value.reason == "PERMISSION_DENIED"
        others = {
            "ListProviderKeys": user_pb2.ListProviderKeysRequest(user_id=user),
            "CheckStore": session_pb2.CheckStoreRequest(),
        }
        for method, other in others.items():
            with pytest.raises(Refused) as refused:
                await records.call(method, other, token=records.worker_token)
            assert refused.value.reason == "UNAUTHENTICATED"

    running.wait(scenario())


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": ""},
        {"provider": ""},
        {"provider": "open ai"},
        {"key": "short-1"},
        {"key": "x" * 513},
        {"key": "sk-with a space"},
        {"key": "sk-with-a-newline\n"},
        {"key": "sk-schlüssel"},
    ],
)
def test_what_breaks_its_range_is_refused_and_not_repeated(running: Running, fields: dict[str, str]) -> None:
    request = user_pb2.PutProviderKeyRequest(**{"user_id": "u", "provider": "openai", "key": KEY, **fields})
    with pytest.raises(Refused) as refused:
        running.wait(Records(running).call("PutProviderKey", request))
    assert refused.value.reason == "INVALID_ARGUMENT"
    assert request.key not in str(refused.value)


def stored_record(running: Running, user: str, provider: str = "openai") -> bytes:
    key = keys.provider_keys(user)
    with redis_of(running, key) as redis:
        record = redis.hget(f"{key}:records", provider)
    assert record is not None
    return record


def store_record(running: Running, user: str, record: bytes, provider: str = "openai") -> None:
    key = keys.provider_keys(user)
    with redis_of(running, key) as redis:
        redis.hset(f"{key}:records", provider, record)


def test_two_users_keys_that_were_swapped_open_for_neither(running: Running) -> None:
    one, other = new_user(), new_user()
    records = Records(running)
    running.wait(put(records, one, key="sk-of-the-one"))
    running.wait(put(records, other, key="sk-of-the-other"))
    ours, theirs = stored_record(running, one), stored_record(running, other)
    store_record(running, one, theirs)
    store_record(running, other, ours)
    assert running.wait(reveal(records, one)) == running.wait(reveal(records, other)) == {}
    assert running.wait(unreadable(records, one)) == ["openai"]
    store_record(running, one, ours)
    assert running.wait(reveal(records, one)) == {"openai": "sk-of-the-one"}


def test_a_key_that_was_moved_to_another_provider_does_not_open_and_the_rest_does(running: Running) -> None:
    user = new_user()
    records = Records(running)
    running.wait(put(records, user))
    store_record(running, user, stored_record(running, user), "evil")
    assert running.wait(reveal(records, user)) == {"openai": KEY}
    assert running.wait(unreadable(records, user)) == ["evil"]


def test_a_key_under_another_version_s_number_does_not_open(running: Running) -> None:
    user = new_user()
    records = Records(running)
    running.wait(put(records, user))
    version, updated_at, envelope = msgpack.unpackb(stored_record(running, user))
    for other in (2, 0, -1, "1", None):
        store_record(running, user, msgpack.packb([other, updated_at, envelope]))
        assert running.wait(reveal(records, user)) == {}
    for time in (-1, 2**64 - 1, "now"):
        store_record(running, user, msgpack.packb([version, time, envelope]))
        assert running.wait(listed(records, user)) == []
    store_record(running, user, msgpack.packb([version, updated_at, envelope]))
    assert running.wait(reveal(records, user)) == {"openai": KEY}


def test_a_record_that_was_changed_anywhere_does_not_open(running: Running) -> None:
    user = new_user()
    records = Records(running)
    running.wait(put(records, user))
    record = stored_record(running, user)
    # From the envelope on; before it stand the version, which is bound, and the time, which is not.
    start = record.index(msgpack.unpackb(record)[2])
    for index in [*range(start, start + 30), *range(start + 30, len(record), 7), len(record) - 1]:
        store_record(running, user, record[:index] + bytes([record[index] ^ 1]) + record[index + 1 :])
        assert running.wait(reveal(records, user)) == {}, index
    store_record(running, user, b"")
    assert running.wait(reveal(records, user)) == running.wait(listed_as_dict(records, user)) == {}


async def listed_as_dict(records: Records, user: str) -> dict[str, int]:
    return dict(await listed(records, user))


@pytest.fixture(params=["server", "cluster"])
def talkative(request: pytest.FixtureRequest) -> Iterator[Running]:
    """Logs all there is to log."""
    running = Running(
        request.getfixturevalue("cluster") if request.param == "cluster" else None, LOG_LEVEL="debug", RATE_LIMITS="on"
    )
    yield running
    running.close()


def test_a_canary_key_is_in_no_log_error_response_or_value_but_what_workers_are_told(talkative: Running) -> None:
    canary = "sk-canary-5f0d2b9c7a"
    said: list[str] = []
    records = Records(talkative)
    user = new_user()

    async def hear(method: str, request: object, **how: str) -> None:
        try:
            said.append(str(await records.call(method, request, **how)))
        except Refused as refused:
            said.append(f"{refused} {refused.__dict__}")

    async def scenario() -> None:
        chat = chat_pb2.Chat(id=str(uuid.uuid4()), dialect="test", owner_id=user)
        put_key = user_pb2.PutProviderKeyRequest(user_id=user, provider="openai", key=canary)
        await hear("PutProviderKey", put_key)
        await hear("PutProviderKey", put_key, user=user)
        await hear("PutProviderKey", put_key, user="somebody else")
        await hear("PutProviderKey", put_key, token="wrong")
        for wrong in (f"{canary} ", canary * 40):
            await hear("PutProviderKey", user_pb2.PutProviderKeyRequest(user_id=user, provider="openai", key=wrong))
        await hear("ListProviderKeys", user_pb2.ListProviderKeysRequest(user_id=user))
        await hear("RevealProviderKeys", user_pb2.RevealProviderKeysRequest(user_id=user))
        await hear("CreateChat", session_pb2.CreateChatRequest(chat=chat))
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="hello", sender_id=user)
        await hear("BeginTurn", session_pb2.BeginTurnRequest(chat_id=chat.id, message=message))
        await hear("ReadLog", session_pb2.ReadLogRequest(chat_id=chat.id, snapshot_messages=10))
        subject = limit_pb2.Subject(kind=limit_pb2.SUBJECT_KIND_USER, id=user)
        await hear("Acquire", limit_pb2.AcquireRequest(subjects=[subject], answer_id="a"))
        assert await reveal(records, user) == {"openai": canary}

    talkative.wait(scenario())
    stored = all_values(talkative)
    record = stored_record(talkative, user)
    store_record(talkative, user, record[:-1] + b"?")
    assert talkative.wait(reveal(records, user)) == {}
    lines = [str(line) for session in talkative.stack.sessions for line in session.lines]
    assert any("provider_key_closed" in line for line in lines)
    assert user.encode() in stored
    files = b"".join(
        path.read_bytes() for path in talkative.stack.data_dir.rglob("*") if path.is_file() and path.suffix != ".sock"
    )
    assert talkative.cluster or user.encode() in files
    everything = stored + files + "\n".join([*said, *lines]).encode()
    for form in (canary.encode(), base64.b64encode(canary.encode()), canary.encode().hex().encode()):
        assert form not in everything


def test_without_master_keys_nothing_is_stored_and_nothing_opens(alone: Running) -> None:
    records = Records(alone)
    user = new_user()
    alone.wait(put(records, user))
    alone.wait(alone.stack.sessions[0].restart({"MASTER_KEYS": "", "WORKER_TOKEN": ""}))
    with pytest.raises(Refused, match="The operator has set no MASTER_KEYS") as refused:
        alone.wait(put(records, user, "anthropic"))
    assert (refused.value.reason, refused.value.status.name) == ("NO_API_KEY", "FAILED_PRECONDITION")
    assert alone.wait(listed(records, user)) == [("openai", 1)]
    # Without WORKER_TOKEN nobody may.
    with pytest.raises(Refused) as refused:
        alone.wait(reveal(records, user))
    assert refused.value.reason == "UNAUTHENTICATED"
    alone.wait(alone.stack.sessions[0].restart({"WORKER_TOKEN": records.worker_token}))
    assert alone.wait(reveal(records, user)) == {}
