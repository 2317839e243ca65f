"""Turns reach workers, one worker each, whatever happens to the worker or to the replica it talks to."""

import asyncio
import random
import time

import pytest
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import SessionClient, Stream, Worker
from .conftest import Running

ON_A_SERVER = pytest.mark.parametrize("alone", ["server"], indirect=True)
"""For what waits ten seconds for a lease, and does not do so in another way on a cluster."""


async def join(client: SessionClient, credit: int) -> Stream:
    """A worker's stream that the service has taken note of: it has answered a renewal of a lease that never was."""
    stream = client.stream("ClaimTurns")
    marker = session_pb2.Lease(chat_id="none", turn_id="none", lease_id="none", fence=1)
    await stream.send(session_pb2.ClaimTurnsRequest(worker_id="w", credit=credit, renew=[marker]))
    revoked = (await stream.receive()).revoked
    assert [lease.turn_id for lease in revoked] == ["none"]
    return stream


async def claimed(stream: Stream) -> session_pb2.ClaimedTurn:
    while True:
        response = await stream.receive()
        if response.claimed:
            return response.claimed[0]


def test_a_turn_goes_to_a_worker_of_the_same_replica_in_the_same_step(alone: Running) -> None:
    async def scenario() -> None:
        client = alone.clients[0]
        stream = await join(client, 1)
        chat_id = await client.new_chat()
        begun = await client.begin(chat_id)
        assert begun.state == session_pb2.TURN_STATE_RUNNING
        assert (await claimed(stream)).lease.turn_id == begun.turn_id
        await stream.close()

    alone.wait(scenario())


def test_a_turn_goes_to_a_worker_of_another_replica(alone: Running) -> None:
    async def scenario() -> None:
        stream = await join(alone.clients[1], 1)
        chat_id = await alone.clients[0].new_chat()
        begun = await alone.clients[0].begin(chat_id)
        assert begun.state == session_pb2.TURN_STATE_DUE
        assert (await claimed(stream)).lease.turn_id == begun.turn_id
        await stream.close()

    alone.wait(scenario())


def test_a_worker_gets_no_more_turns_than_it_has_credit_for(alone: Running) -> None:
    async def scenario() -> None:
        client = alone.clients[0]
        stream = await join(client, 2)
        chats = [await client.new_chat() for _ in range(4)]
        states = [(await client.begin(chat_id)).state for chat_id in chats]
        assert states == [session_pb2.TURN_STATE_RUNNING] * 2 + [session_pb2.TURN_STATE_DUE] * 2
        got = {(await claimed(stream)).lease.chat_id}
        while len(got) < 2:
            got.add((await claimed(stream)).lease.chat_id)
        await stream.send(session_pb2.ClaimTurnsRequest(credit=2))
        while len(got) < 4:
            got |= {turn.lease.chat_id for turn in (await stream.receive()).claimed}
        assert got == set(chats)
        await stream.close()

    alone.wait(scenario())


def test_a_worker_is_told_of_a_stop_made_on_another_replica(alone: Running) -> None:
    async def scenario() -> None:
        stream = await join(alone.clients[0], 1)
        chat_id = await alone.clients[0].new_chat()
        await alone.clients[0].begin(chat_id)
        turn = await claimed(stream)
        await Worker(alone.clients[0], turn).say("so far")
        request = session_pb2.CancelTurnRequest(chat_id=chat_id, cancelled_by="owner")
        assert list((await alone.clients[1].call("CancelTurn", request)).turn_ids) == [turn.lease.turn_id]
        assert [lease.lease_id for lease in (await stream.receive()).revoked] == [turn.lease.lease_id]
        assert (await alone.clients[0].history(chat_id))[-1].content == "so far"
        assert not (await alone.clients[1].call("CancelTurn", request)).turn_ids, "a second stop finds nothing"
        await stream.close()

    alone.wait(scenario())


@ON_A_SERVER
def test_a_dead_workers_turn_is_claimed_by_another_with_the_text_so_far(alone: Running) -> None:
    async def scenario() -> None:
        client = alone.clients[0]
        dead = await join(client, 1)
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        first = await claimed(dead)
        lost = Worker(client, first)
        await lost.say("half ")
        await dead.close()
        began = time.monotonic()
        other = await join(alone.clients[1], 1)
        async with asyncio.timeout(15):
            while True:
                try:
                    second = await claimed(other)
                    break
                except TimeoutError:
                    continue
        assert time.monotonic() - began < 13, "a lease of 10 s, and a look at what is due every second"
        assert (second.lease.turn_id, second.text, second.started, second.claims) == (
            first.lease.turn_id,
            "half ",
            True,
            2,
        )
        assert second.lease.fence > first.lease.fence
        assert (await lost.say("late")).error == chat_pb2.ERROR_CODE_LEASE_LOST
        heir = Worker(alone.clients[1], second)
        await heir.say("whole")
        await heir.complete()
        assert (await client.history(chat_id))[-1].content == "half whole"
        await other.close()

    alone.wait(scenario())


@ON_A_SERVER
def test_a_renewed_lease_is_not_given_to_anybody_else(alone: Running) -> None:
    async def scenario() -> None:
        client = alone.clients[0]
        stream = await join(client, 1)
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        turn = await claimed(stream)
        for _ in range(12):
            await stream.send(session_pb2.ClaimTurnsRequest(renew=[turn.lease]))
            # The lease's own time is what is being tested: it must be seen to pass.
            await asyncio.sleep(1)
            assert await alone.clients[1].claim(chat_id) is None
        assert not (await Worker(client, turn).say("still mine")).error
        await stream.close()

    alone.wait(scenario())


def test_a_turn_that_nobody_answers_fails_at_its_deadline_and_the_next_one_begins(alone: Running) -> None:
    async def scenario() -> None:
        client = alone.clients[0]
        chat_id = await client.new_chat()
        stream = client.stream("Subscribe")
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        await stream.receive()
        request = session_pb2.BeginTurnRequest(
            chat_id=chat_id, message=chat_pb2.Message(role=chat_pb2.ROLE_USER, content="hello")
        )
        request.deadline.FromSeconds(1)
        first = await client.call("BeginTurn", request)
        second = await client.begin(chat_id)
        assert second.state == session_pb2.TURN_STATE_QUEUED
        kinds: list[str] = []
        while "response_failed" not in kinds:
            for batch in (await stream.receive()).events:
                kinds.extend(str(event.WhichOneof("kind")) for event in batch.events)
        assert kinds == ["message_created", "message_created", "response_failed"]
        state = session_pb2.GetTurnRequest(chat_id=chat_id, turn_id=first.turn_id)
        assert (await client.call("GetTurn", state)).state == session_pb2.TURN_STATE_FAILED
        turn = await client.claim(chat_id)
        assert turn is not None
        assert turn.lease.turn_id == second.turn_id
        assert [message.content for message in turn.context] == ["hello", "hello"]
        await stream.close()

    alone.wait(scenario())


def test_a_context_ends_at_the_turns_own_message_and_holds_the_answers_before_it(alone: Running) -> None:
    async def scenario() -> None:
        client = alone.clients[0]
        chat_id = await client.new_chat()
        for text in ("one", "two", "three"):
            await client.begin(chat_id, text)
        seen = []
        for text in ("1", "2", "3"):
            turn = await client.claim(chat_id)
            assert turn is not None
            seen.append([message.content for message in turn.context])
            worker = Worker(client, turn)
            await worker.say(text)
            await worker.complete()
        assert seen == [["one"], ["one", "1", "two"], ["one", "1", "two", "2", "three"]]

    alone.wait(scenario())


def test_a_caller_that_goes_away_leaves_no_turn_to_a_worker_that_was_never_told(alone: Running) -> None:
    async def scenario() -> None:
        client = alone.clients[0]
        stream = await join(client, 1000)
        chats = [await client.new_chat() for _ in range(100)]
        chooser = random.Random(3)
        for chat_id in chats:
            message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="x")
            call = client.stub.BeginTurn(
                session_pb2.BeginTurnRequest(chat_id=chat_id, message=message), metadata=client.metadata
            )
            waiting = asyncio.ensure_future(call.wait_for_connection())
            await asyncio.sleep(chooser.random() * 0.002)
            call.cancel()
            waiting.cancel()
        stored = {chat_id for chat_id in chats if await client.history(chat_id)}
        assert len(stored) > 0, "some got through before they were given up"
        claims: dict[str, int] = {}
        while claims.keys() != stored:
            for turn in (await stream.receive()).claimed:
                claims[turn.lease.chat_id] = turn.claims
        assert set(claims.values()) == {1}, "handed out by its first claim, not when that had run out"
        await stream.close()

    alone.wait(scenario())
