"""What one chat, one caller or a failing Redis must not do to all the others."""

import asyncio

import pytest
import redis.asyncio
from launcher.stack import Stack
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import Refused, SessionClient, Worker, log_events
from .conftest import Running


def test_a_chat_of_many_long_messages_is_claimed_and_read_in_pieces_that_fit(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        start = (await client.read(chat_id)).position
        for _ in range(12):
            await client.begin(chat_id, "x" * (1024 * 1024 - 10), without_answer=True)
        begun = await client.begin(chat_id, "and now?")
        turn = await client.claim(chat_id)
        assert turn is not None
        assert turn.context[-1].id == begun.message.id
        assert turn.ByteSize() < 2 * 1024 * 1024
        request = session_pb2.ListMessagesRequest(chat_id=chat_id, from_end=True)
        page = await client.call("ListMessages", request)
        assert (page.total, page.messages[-1].content, len(page.messages)) == (13, "and now?", 4)
        assert (await client.read(chat_id)).snapshot.messages[-1].content == "and now?"
        events = []
        position = start
        while len(events) < 13:
            reading = await client.read(chat_id, position)
            assert reading.events
            events.extend(log_events(reading.events))
            position = reading.position
        assert len(events) == 13
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chat_id))

    running.wait(scenario())


def test_an_edited_answer_can_still_be_resumed(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("äöü ")
        half = (await client.read(chat_id)).position
        await worker.say("äöü ")
        await worker.complete()
        edit = session_pb2.EditMessageRequest(chat_id=chat_id, message_id=turn.answer_id, content="xäö")
        await client.call("EditMessage", edit)
        reading = await client.read(chat_id, half)
        assert reading.snapshot.messages[-1].content == "xäö"

    running.wait(scenario())


def test_an_append_that_was_refused_is_refused_again(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("abc")
        worker.length += 1
        assert (await worker.complete()).text_length == 3
        assert worker.last is not None
        assert (await client.publish(worker.last))[0].text_length == 3

    running.wait(scenario())


def test_a_turns_last_append_can_be_repeated_when_the_next_turn_has_ended_too(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        last: list[session_pb2.Append] = []
        for _ in range(3):
            await client.begin(chat_id)
            turn = await client.claim(chat_id)
            assert turn is not None
            worker = Worker(client, turn)
            await worker.say("abc")
            assert not (await worker.complete()).error
            assert worker.last is not None
            last.append(worker.last)
        before = (await client.read(chat_id)).position
        assert [one.error for one in await client.publish(*last)] == [0, 0, 0]
        assert (await client.read(chat_id)).position == before
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chat_id))
        assert [one.error for one in await client.publish(*last)] == [chat_pb2.ERROR_CODE_LEASE_LOST] * 3

    running.wait(scenario())


def test_a_message_id_is_taken_once(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        message = chat_pb2.Message(id="mine", role=chat_pb2.ROLE_USER, content="x")
        request = session_pb2.BeginTurnRequest(chat_id=chat_id, message=message)
        await client.call("BeginTurn", request)
        with pytest.raises(Refused, match="ALREADY_EXISTS"):
            await client.call("BeginTurn", request)
        assert len(await client.history(chat_id)) == 1

    running.wait(scenario())


def test_followers_that_come_and_go_while_a_chat_is_first_read_take_nothing_from_each_other(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        store = redis.asyncio.Redis.from_url(running.stack.redis_url)
        for _ in range(3):
            chat_id = await client.new_chat()
            first, second = client.stream("Subscribe"), client.stream("Subscribe")
            await store.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
            await first.send(session_pb2.SubscribeRequest(add=[chat_id]))
            await second.send(session_pb2.SubscribeRequest(add=[chat_id]))
            for _ in range(20):
                # Answered without Redis, and behind what was asked for before.
                with pytest.raises(Refused, match="INVALID_ARGUMENT"):
                    await client.call("GetChat", session_pb2.GetChatRequest())
            await first.close()
            await store.execute_command("CLIENT", "UNPAUSE")
            assert (await second.receive()).subscribed[0].chat_id == chat_id
            await client.begin(chat_id, without_answer=True)
            assert (await second.receive()).events[0].first.offset == 1
            await second.close()
        await store.aclose()

    running.wait(scenario())


async def test_a_chat_that_vanished_does_not_stop_the_others_deadlines() -> None:
    async with Stack(sessions=1, workers=0, gateways=0, simulator=False) as stack:
        client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
        store = redis.asyncio.Redis.from_url(stack.redis_url)
        gone, chat_id = await client.new_chat(), await client.new_chat()
        for name in (gone, chat_id):
            message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="x")
            request = session_pb2.BeginTurnRequest(chat_id=name, message=message)
            request.deadline.FromSeconds(1)
            begun = await client.call("BeginTurn", request)
        [root] = [key async for key in store.scan_iter(f"*c:{gone}/")]
        await store.delete(root)
        state = session_pb2.GetTurnRequest(chat_id=chat_id, turn_id=begun.turn_id)
        async with asyncio.timeout(10):
            while (await client.call("GetTurn", state)).state != session_pb2.TURN_STATE_FAILED:
                await asyncio.sleep(0.05)
        while [key async for key in store.scan_iter("*deadlines")] or [key async for key in store.scan_iter("*due")]:
            await asyncio.sleep(0.05)
        await store.aclose()
        await client.close()


async def test_a_redis_that_is_full_refuses_work_and_ends_nothing() -> None:
    async with Stack(sessions=1, workers=0, gateways=0, simulator=False) as stack:
        client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
        store = redis.asyncio.Redis.from_url(stack.redis_url)
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await store.config_set("maxmemory", "1")
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await client.begin(chat_id)
        assert (await worker.say("text")).error == chat_pb2.ERROR_CODE_UNAVAILABLE
        await store.config_set("maxmemory", "0")
        worker.sequence -= 1
        assert not (await worker.say("text")).error
        await store.aclose()
        await client.close()
