"""When Redis dies and comes back: a new epoch, nothing acknowledged taken for the whole, and the service goes on."""

import asyncio
import signal

from launcher.stack import Stack
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import Refused, SessionClient, Worker


async def restart_redis(stack: Stack) -> None:
    assert stack.redis is not None
    await stack.redis.kill()
    await stack.redis.start()


async def test_a_restarted_redis_gives_every_chat_a_new_epoch_and_readers_a_snapshot() -> None:
    async with Stack(sessions=1, workers=0, gateways=0, simulator=False, appendfsync="always") as stack:
        client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
        chat_id = await client.new_chat()
        stream = client.stream("Subscribe")
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        await stream.receive()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("before ")
        before = (await client.read(chat_id)).position
        await restart_redis(stack)
        # What is not acknowledged is sent again unchanged, until it is.
        while (await worker.say("after")).error == chat_pb2.ERROR_CODE_UNAVAILABLE:
            worker.sequence -= 1
            await asyncio.sleep(0.05)
        reading = await client.read(chat_id, before)
        assert reading.position.epoch != before.epoch
        assert reading.HasField("snapshot")
        assert reading.snapshot.messages[-1].content == "before after"
        lost: list[str] = []
        while not lost:
            response = await stream.receive()
            assert all(batch.first.epoch == before.epoch for batch in response.events)
            lost.extend(one.chat_id for one in response.lost)
        assert lost == [chat_id]
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        assert (await stream.receive()).subscribed[0].position == reading.position
        await worker.complete()
        batch = (await stream.receive()).events[0]
        assert (batch.first.epoch, batch.first.offset) == (reading.position.epoch, reading.position.offset + 1)
        assert (await client.history(chat_id))[-1].content == "before after"
        await stream.close()
        await client.close()


async def test_text_that_a_dying_redis_lost_is_said_to_the_worker_who_sends_it_again() -> None:
    async with Stack(sessions=1, workers=0, gateways=0, simulator=False, appendfsync="always") as stack:
        client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("kept ")
        # As if the last acknowledged text had been lost with a master: the worker is ahead of what is stored.
        worker.length += len("lost ")
        result = await worker.say("new")
        assert (result.HasField("text_length"), result.text_length) == (True, len("kept "))
        worker.length = result.text_length
        await worker.say("lost new")
        # And as if it had been lost behind the last delta.
        worker.length += len("er")
        assert (await worker.complete()).text_length == len("kept lost new")
        worker.length -= len("er")
        assert not (await worker.say("er")).error
        assert not (await worker.complete()).error
        assert (await client.history(chat_id))[-1].content == "kept lost newer"
        await client.close()


async def test_without_redis_calls_fail_with_unavailable_and_health_says_so_until_it_is_back() -> None:
    async with Stack(sessions=1, workers=0, gateways=0, simulator=False) as stack:
        client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
        chat_id = await client.new_chat()
        assert stack.redis is not None
        await stack.redis.kill()
        try:
            await client.begin(chat_id)
        except Refused as refused:
            assert (refused.reason, refused.retry_after_s) == ("UNAVAILABLE", 1.0)
        else:
            raise AssertionError("there is no Redis")
        assert not (await client.call("CheckStore", session_pb2.CheckStoreRequest())).connected
        await stack.redis.start()
        assert (await client.call("CheckStore", session_pb2.CheckStoreRequest())).connected
        await client.begin(chat_id)
        await client.close()


async def test_a_follower_of_a_service_that_was_cut_off_from_redis_misses_nothing_of_the_new_epoch() -> None:
    async with Stack(sessions=2, workers=0, gateways=0, simulator=False, appendfsync="always") as stack:
        token = stack.secrets.internal_token
        clients = [await SessionClient.open(address, token) for address in stack.session_addresses]
        chat_id = await clients[0].new_chat()
        stream = clients[1].stream("Subscribe")
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        await stream.receive()
        await restart_redis(stack)
        while True:
            try:
                await clients[0].begin(chat_id, "after", idempotency_key="k")
                break
            except Refused:
                await asyncio.sleep(0.05)
        # Lost, subscribed again, and read: the message is there exactly once, by one way or the other.
        while not (response := await stream.receive()).lost:
            assert not response.events
        assert [message.content for message in await clients[1].history(chat_id)] == ["after"]
        await stream.close()
        for client in clients:
            await client.close()


async def test_a_redis_that_freezes_is_given_up_on_and_used_again_when_it_goes_on() -> None:
    async with Stack(sessions=1, workers=0, gateways=0, simulator=False) as stack:
        client = await SessionClient.open(stack.session_addresses[0], stack.secrets.internal_token)
        chat_id = await client.new_chat()
        assert stack.redis is not None
        stack.redis.send_signal(signal.SIGSTOP)
        outcomes = await asyncio.gather(*(client.begin(chat_id, str(n)) for n in range(5)), return_exceptions=True)
        assert [getattr(outcome, "reason", "") for outcome in outcomes] == ["UNAVAILABLE"] * 5
        stack.redis.send_signal(signal.SIGCONT)
        await client.begin(chat_id, "after", idempotency_key="k")
        # Those that were given up may have been applied: that is why a careful sender gives a key.
        contents = [message.content for message in await client.history(chat_id)]
        assert contents.count("after") == 1
        await client.close()
