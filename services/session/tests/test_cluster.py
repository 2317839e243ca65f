"""What a Redis Cluster does to chats when a part of it dies, freezes or moves: nothing, to those in its other parts."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
import pytest
import redis.asyncio
from launcher.stack import Stack
from launcher.valkey_cluster import SLOTS, ValkeyCluster
from session import keys
from session.redis_link import BEAT
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, usage_pb2, usage_pb2_grpc

from .client import Refused, SessionClient, Stream, Worker

SHARDS = 3


class Shards:
    """A cluster of its own, two replicas of the service on it, and a client for each."""

    def __init__(self, cluster: ValkeyCluster, stack: Stack, clients: list[SessionClient]) -> None:
        self.cluster = cluster
        self.stack = stack
        self.clients = clients
        self.shard_of = {index: keys.slot(index) * SHARDS // SLOTS for index in range(keys.PARTITIONS)}

    async def usage(self, method: str, request: Any, replica: int = 0) -> Any:
        """Calls the usage service of one replica."""
        client = self.clients[replica]
        stub: Any = usage_pb2_grpc.UsageServiceStub(client.channel)
        try:
            return await getattr(stub, method)(request, metadata=client.metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            raise Refused(error) from None

    async def chat_in(self, shard: int) -> str:
        """A new chat in a shard, by the number of its first master."""
        while True:
            chat_id = await self.clients[0].new_chat()
            if self.shard_of[keys.partition(chat_id)] == shard:
                return chat_id

    def address(self, number: int) -> list[Any]:
        """Of a server, as log lines name it."""
        parts = urlsplit(self.cluster.urls[number])
        return [parts.hostname, parts.port]

    def server(self, number: int) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(self.cluster.urls[number])


@asynccontextmanager
async def shards() -> AsyncIterator[Shards]:
    async with (
        ValkeyCluster(shards=SHARDS) as cluster,
        Stack(
            sessions=2,
            workers=0,
            gateways=0,
            simulator=False,
            redis_url=cluster.url,
            environment={"RATE_LIMITS": "off", **cluster.environment},
        ) as stack,
    ):
        token = stack.secrets.internal_token
        clients = [await SessionClient.open(address, token) for address in stack.session_addresses]
        yield Shards(cluster, stack, clients)
        for client in clients:
            await client.close()


@pytest.fixture(scope="module")
async def whole() -> AsyncIterator[Shards]:
    """For tests that kill and freeze nothing."""
    async with shards() as given:
        yield given


async def follow(client: SessionClient, chat_id: str) -> Stream:
    stream = client.stream("Subscribe")
    await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
    assert (await stream.receive()).subscribed[0].chat_id == chat_id
    return stream


async def told_of_loss(stream: Stream) -> None:
    async with asyncio.timeout(20):
        while not (await stream.receive()).lost:
            pass


async def insist(call: Callable[[], Awaitable[Any]]) -> tuple[Any, int]:
    """What a careful caller gets, and how often it was refused before that."""
    async with asyncio.timeout(20):
        for refusals in itertools.count():
            try:
                return await call(), refusals
            except Refused as refused:
                assert refused.reason == "UNAVAILABLE"
                # As it is told, though sooner.
                await asyncio.sleep(0.02)
    raise AssertionError


class Talk:
    """A conversation of keyed messages, over both replicas in turn, each repeated until it is acknowledged."""

    def __init__(self, shards: Shards, chat_id: str) -> None:
        self.shards = shards
        self.chat_id = chat_id
        self.acknowledged = 0
        self.refusals = 0
        self.ended = False
        self._more = asyncio.Event()

    async def send(self, number: int) -> None:
        client = self.shards.clients[number % 2]

        async def begin() -> Any:
            return await client.begin(self.chat_id, f"m{number}", idempotency_key=f"k{number}", without_answer=True)

        self.refusals += (await insist(begin))[1]

    async def run(self) -> None:
        while not self.ended:
            await self.send(self.acknowledged)
            self.acknowledged += 1
            self._more.set()

    async def reach(self, number: int) -> None:
        async with asyncio.timeout(20):
            while self.acknowledged < number:
                self._more.clear()
                await self._more.wait()

    async def is_whole(self) -> bool:
        """Whether each message, all of them said once more, is in the history once."""
        for number in range(self.acknowledged):
            await self.send(number)
        contents = [message.content for message in await self.shards.clients[1].history(self.chat_id)]
        return sorted(contents) == sorted(f"m{number}" for number in range(self.acknowledged))


async def test_a_killed_masters_chats_go_on_in_a_new_epoch_each_send_once_and_the_others_notice_nothing() -> None:
    async with shards() as given:
        talks = [Talk(given, await given.chat_in(shard)) for shard in range(SHARDS)]
        streams = [await follow(client, talks[0].chat_id) for client in given.clients]
        before = (await given.clients[0].read(talks[0].chat_id)).position
        async with asyncio.TaskGroup() as tasks:
            for talk in talks:
                tasks.create_task(talk.run())
            for talk in talks:
                await talk.reach(20)
            await given.cluster.nodes[0].kill()
            at_death = [talk.acknowledged for talk in talks]
            # Those of the other shards go on while this one's wait: its next ones come when there is a new master.
            await talks[1].reach(at_death[1] + 20)
            await talks[2].reach(at_death[2] + 20)
            assert talks[0].acknowledged <= at_death[0] + 1
            await talks[0].reach(at_death[0] + 20)
            for talk in talks:
                talk.ended = True
        assert talks[0].refusals > 0
        assert [talk.refusals for talk in talks[1:]] == [0, 0]
        for talk in talks:
            assert await talk.is_whole()
        reading = await given.clients[1].read(talks[0].chat_id, before)
        assert reading.HasField("snapshot")
        assert reading.position.epoch != before.epoch
        for stream in streams:
            await told_of_loss(stream)
            await stream.send(session_pb2.SubscribeRequest(add=[talks[0].chat_id]))
            assert (await stream.receive()).subscribed[0].position.epoch == reading.position.epoch
        await given.clients[0].begin(talks[0].chat_id, "followed")
        for stream in streams:
            assert (await stream.receive()).events[0].events[0].message_created.message.content == "followed"
            await stream.close()
        check = session_pb2.CheckStoreRequest()
        assert (await given.clients[0].call("CheckStore", check)).connected


async def test_a_frozen_shard_holds_up_nobody_elses_appends_lists_or_leases() -> None:
    async with shards() as given:
        client = given.clients[0]
        workers: list[Worker] = []
        for shard in range(SHARDS):
            chat_id = await given.chat_in(shard)
            await client.begin(chat_id)
            turn = await client.claim(chat_id)
            assert turn is not None
            workers.append(Worker(client, turn))
        late = await given.chat_in(2)
        silent = asyncio.ensure_future(given.stack.sessions[1].next_event("subscription_lost", 20))
        for number in (0, SHARDS):
            given.cluster.nodes[number].send_signal(signal.SIGSTOP)
        # All in one request, the frozen shard's first.
        stream = client.stream("Publish")
        appends = [
            session_pb2.Append(lease=worker.turn.lease, sequence=1, opened=1, events=[worker.start_event()])
            for worker in workers
        ]
        await stream.send(session_pb2.PublishRequest(appends=appends))
        answered: list[str] = []
        while len(answered) < 2:
            for result in (await stream.receive()).results:
                assert not result.error
                answered.append(result.turn_id)
        assert set(answered) == {worker.turn.lease.turn_id for worker in workers[1:]}
        # Renewed in one request: the one that is lost is found out, and the frozen shard's is not taken for lost.
        claims = client.stream("ClaimTurns")
        lost = session_pb2.Lease(chat_id=late, turn_id="none", lease_id="none", fence=1)
        leases = [*(worker.turn.lease for worker in workers), lost]
        await claims.send(session_pb2.ClaimTurnsRequest(worker_id="w", renew=leases))
        assert [lease.turn_id for lease in (await claims.receive()).revoked] == ["none"]
        # What time has brought in the other shards is found: this turn's deadline.
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="x")
        request = session_pb2.BeginTurnRequest(chat_id=late, message=message)
        request.deadline.FromSeconds(1)
        begun = await client.call("BeginTurn", request)
        state = session_pb2.GetTurnRequest(chat_id=late, turn_id=begun.turn_id)
        async with asyncio.timeout(10):
            while (await client.call("GetTurn", state)).state != session_pb2.TURN_STATE_FAILED:
                await asyncio.sleep(0.05)
        assert not (await client.call("CheckStore", session_pb2.CheckStoreRequest())).connected
        # No connection broke: what was not heard for too long is given up.
        line = await silent
        assert (line.fields["reasons"], line.fields["address"]) == (["TimeoutError"], given.address(0))
        await stream.close()
        await claims.close()


async def test_a_frozen_masters_chats_go_on_at_its_replica_and_their_followers_with_them() -> None:
    async with shards() as given:
        chat_id = await given.chat_in(0)
        stream = await follow(given.clients[1], chat_id)
        given.cluster.nodes[0].send_signal(signal.SIGSTOP)
        await insist(lambda: given.clients[0].begin(chat_id, "after", idempotency_key="k"))
        await told_of_loss(stream)
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        assert (await stream.receive()).subscribed
        given.cluster.nodes[0].send_signal(signal.SIGCONT)
        await insist(lambda: given.clients[0].begin(chat_id, "last", idempotency_key="l"))
        seen: list[str] = []
        while "last" not in seen:
            for batch in (await stream.receive()).events:
                seen.extend(event.message_created.message.content for event in batch.events)
        assert [message.content for message in await given.clients[1].history(chat_id)] == ["after", "last"]
        await stream.close()


async def test_a_subscription_that_breaks_is_made_anew_for_its_shard_and_misses_nothing(whole: Shards) -> None:
    chats = [await whole.chat_in(shard) for shard in range(SHARDS)]
    streams = [await follow(whole.clients[0], chat_id) for chat_id in chats]
    server = whole.server(0)
    for round_number in range(3):
        up = asyncio.ensure_future(whole.stack.sessions[0].next_event("subscription_up"))
        await server.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
        for chat_id in chats:
            # Announced to nobody of that shard, but where the connection was back sooner.
            await whole.clients[1].begin(chat_id, f"m{round_number}", without_answer=True)
        for stream in streams:
            batch = (await stream.receive()).events[0]
            assert batch.first.offset == round_number + 1
            assert batch.events[0].message_created.message.content == f"m{round_number}"
        line = await up
        assert line.fields["partitions"] == list(whole.shard_of.values()).count(0)
    await server.aclose()
    for stream in streams:
        await stream.close()


Take = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def moving(given: Shards, partition: int, source: int, target: int) -> AsyncIterator[Take]:
    """A slot on its way, as `valkey-cli --cluster reshard` takes it; `take` moves one key, the end all the others."""
    slot = keys.slot(partition)
    given.shard_of[partition] = target
    here, there = given.server(source), given.server(target)
    ids = [await server.execute_command("CLUSTER", "MYID") for server in (here, there)]
    await there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    await here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    at = there.connection_pool.connection_kwargs

    async def take(name: str) -> None:
        to = (at["host"], at["port"], "", 0, 5000, "AUTH", at["password"], "KEYS")
        await here.execute_command("MIGRATE", *to, name)

    yield take
    while names := await here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
        await take(names[0])
    for server in (there, here):
        await server.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        await server.aclose()


async def move_key_by_key(given: Shards, partition: int, source: int, target: int) -> None:
    async with moving(given, partition, source, target):
        pass


async def move_at_once(given: Shards, partition: int, source: int, target: int) -> None:
    """As Valkey 9 does it by itself."""
    slot = keys.slot(partition)
    given.shard_of[partition] = target
    here, there = given.server(source), given.server(target)
    name = await there.execute_command("CLUSTER", "MYID")
    await here.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)
    async with asyncio.timeout(20):
        while (await here.execute_command("CLUSTER", "GETSLOTMIGRATIONS"))[0][b"state"] != b"success":
            await asyncio.sleep(0.02)
    await here.aclose()
    await there.aclose()


async def look(talk: Talk) -> None:
    """Reads what takes one plain command: that is never refused, wherever the key is."""
    while not talk.ended:
        await talk.shards.clients[0].call("GetChat", session_pb2.GetChatRequest(chat_id=talk.chat_id))


async def test_a_slot_that_moves_there_and_back_takes_its_chats_along_whole(whole: Shards) -> None:
    chat_id = await whole.chat_in(0)
    talk = Talk(whole, chat_id)
    for move, source, target in ((move_key_by_key, 0, 1), (move_at_once, 1, 0)):
        talk.ended = False
        stream = await follow(whole.clients[1], chat_id)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk.run())
            tasks.create_task(look(talk))
            await talk.reach(talk.acknowledged + 20)
            await move(whole, keys.partition(chat_id), source, target)
            await talk.reach(talk.acknowledged + 20)
            talk.ended = True
        assert await talk.is_whole()
        # Another server's history: its followers begin again there.
        await told_of_loss(stream)
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        assert (await stream.receive()).subscribed
        # Heard of by its announcement: the other replica made it.
        await talk.send(talk.acknowledged)
        talk.acknowledged += 1
        batch = (await stream.receive()).events[0]
        assert batch.events[0].message_created.message.content == f"m{talk.acknowledged - 1}"
        await stream.close()


async def test_a_position_from_before_a_slot_went_away_and_came_back_is_told_to_be_of_another_time(
    whole: Shards,
) -> None:
    client = whole.clients[0]
    chat_id = await whole.chat_in(2)
    for number in range(3):
        await client.begin(chat_id, f"a{number}", without_answer=True)
    before = (await client.read(chat_id)).position
    await move_at_once(whole, keys.partition(chat_id), 2, 0)
    await insist(lambda: client.begin(chat_id, "b", idempotency_key="b", without_answer=True))
    await move_at_once(whole, keys.partition(chat_id), 0, 2)
    for number in range(5):
        await insist(lambda n=number: client.begin(chat_id, f"c{n}", idempotency_key=f"c{n}", without_answer=True))  # type: ignore[misc]
    reading = await client.read(chat_id, before)
    assert reading.position.epoch != before.epoch
    contents = [message.content for message in reading.snapshot.messages]
    assert contents == ["a0", "a1", "a2", "b", "c0", "c1", "c2", "c3", "c4"]


async def test_what_may_have_been_done_is_not_done_again(whole: Shards) -> None:
    client = whole.clients[0]
    chat_id, other = await whole.chat_in(1), await whole.chat_in(2)
    server = whole.server(1)
    await server.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
    sending = asyncio.ensure_future(client.begin(chat_id, "x"))
    for _ in range(50):
        # It is with the server by the time that these are answered.
        await client.call("GetChat", session_pb2.GetChatRequest(chat_id=other))
    await server.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
    await server.execute_command("CLIENT", "UNPAUSE")
    with pytest.raises(Refused, match="UNAVAILABLE"):
        await sending
    assert not await client.history(chat_id)
    await server.aclose()


async def test_heartbeats_travel_over_every_shard(whole: Shards) -> None:
    async def hear(shard: int) -> None:
        server = whole.server(shard)
        pubsub = server.pubsub()
        await pubsub.ssubscribe(keys.channel(min(index for index, at in whole.shard_of.items() if at == shard)))
        for _ in range(3):
            while (message := await pubsub.get_message(timeout=None))["type"] != "smessage":
                pass
            assert message["data"] == BEAT
        await pubsub.aclose()
        await server.aclose()

    async with asyncio.timeout(10):
        await asyncio.gather(*map(hear, range(SHARDS)))


@pytest.mark.parametrize("suffix", ["", ":log", ":messages"])
async def test_what_is_sent_to_a_chat_that_is_torn_between_two_servers_is_refused_whole(
    whole: Shards, suffix: str
) -> None:
    client = whole.clients[0]
    chat_id = await whole.chat_in(1)
    await client.begin(chat_id, "before", without_answer=True)
    async with moving(whole, keys.partition(chat_id), 1, 2) as take:
        await take(keys.chat(chat_id) + suffix)
        # One key is in one place, and can be asked for there.
        assert (await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))).chat.id == chat_id
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await client.begin(chat_id, "torn")
    after = await client.begin(chat_id, "after")
    assert after.message.sequence == 2
    assert [message.content for message in await client.history(chat_id)] == ["before", "after"]


async def test_an_answer_goes_on_while_its_slot_moves(whole: Shards) -> None:
    client = whole.clients[0]
    chat_id = await whole.chat_in(0)
    await client.begin(chat_id)
    turn = await client.claim(chat_id)
    assert turn is not None
    worker = Worker(client, turn)
    await worker.say("0 ")
    moving = asyncio.ensure_future(move_key_by_key(whole, keys.partition(chat_id), 0, 1))
    said = 1
    after = 20
    while after:
        result = await worker.say(f"{said} ")
        if result.error:
            assert result.error == chat_pb2.ERROR_CODE_UNAVAILABLE
            # What is not acknowledged is sent again unchanged.
            worker.sequence -= 1
            continue
        assert not result.HasField("text_length"), "nothing of it is lost"
        said += 1
        after -= moving.done()
    await moving
    assert not (await worker.complete()).error
    history = await whole.clients[1].history(chat_id)
    assert history[-1].content == "".join(f"{number} " for number in range(said))


def spent(user: str, number: int) -> usage_pb2.UsageRecord:
    attempt = chat_pb2.Attempt(provider="p", model="m", usage=chat_pb2.Usage(input_tokens=1))
    return usage_pb2.UsageRecord(id=f"{user}:{number}", user_id=user, attempts=[attempt])


async def tokens(given: Shards, user: str) -> tuple[int, int]:
    days = (await given.usage("ReadUsage", usage_pb2.ReadUsageRequest(user_id=user), 1)).days
    return days[0].answers, days[0].budget_tokens


async def test_usage_that_was_refused_for_a_dead_shard_and_is_told_again_counts_once_in_all_of_them() -> None:
    async with shards() as given:
        users = [f"user{number}" for number in range(60)]
        assert {given.shard_of[keys.partition(user)] for user in users} == set(range(SHARDS))
        first = [spent(user, number) for user in users for number in range(5)]
        await given.usage("RecordUsage", usage_pb2.RecordUsageRequest(records=first))
        await given.cluster.nodes[0].kill()
        again = usage_pb2.RecordUsageRequest(records=[spent(user, number) for user in users for number in range(10)])
        _, refusals = await insist(lambda: given.usage("RecordUsage", again))
        assert refusals > 0
        await given.usage("RecordUsage", again, 1)
        assert {await tokens(given, user) for user in users} == {(10, 10)}


async def test_usage_is_counted_once_while_its_slot_moves(whole: Shards) -> None:
    user = next(user for user in map(str, itertools.count()) if whole.shard_of[keys.partition(user)] == 0)
    await whole.usage("RecordUsage", usage_pb2.RecordUsageRequest(records=[spent(user, 0)]))
    moving = asyncio.ensure_future(move_key_by_key(whole, keys.partition(user), 0, 1))
    told, after = 1, 20
    while after:
        request = usage_pb2.RecordUsageRequest(records=[spent(user, told), spent(user, told - 1)])
        await insist(lambda r=request, n=told: whole.usage("RecordUsage", r, n % 2))  # type: ignore[misc]
        told += 1
        after -= moving.done()
    await moving
    assert await tokens(whole, user) == (told, told)
