"""A chat's usage: what its answers took, each counted once, when it ends."""

from session import keys
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import SessionClient, Worker
from .conftest import Running
from .records import redis_of


async def claimed(client: SessionClient, chat_id: str) -> Worker:
    turn = await client.claim(chat_id)
    assert turn is not None
    return Worker(client, turn)


async def usage(client: SessionClient, chat_id: str) -> chat_pb2.Usage:
    return (await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))).chat.usage


def test_it_is_the_sum_over_all_answers_that_ended(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        chat = (await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))).chat
        assert not chat.HasField("usage")

        begun = await client.begin(chat_id)
        worker = await claimed(client, chat_id)
        await worker.say("x")
        assert not (await usage(client, chat_id)).input_tokens, "not before the end"
        await worker.complete(chat_pb2.Usage(input_tokens=10, output_tokens=1, cost_nano_usd=7))
        assert worker.last is not None
        await client.publish(worker.last, worker.last)
        assert await usage(client, chat_id) == chat_pb2.Usage(input_tokens=10, output_tokens=1, cost_nano_usd=7), (
            "counted once"
        )

        await client.begin(chat_id, ephemeral=True)
        await (await claimed(client, chat_id)).complete(
            chat_pb2.Usage(input_tokens=200, output_tokens=20, cost_nano_usd=60)
        )
        await client.begin(chat_id)
        await (await claimed(client, chat_id)).fail(chat_pb2.Usage(input_tokens=3000))
        await client.begin(chat_id)
        await (await claimed(client, chat_id)).fail()
        assert await usage(client, chat_id) == chat_pb2.Usage(input_tokens=3210, output_tokens=21, cost_nano_usd=67)
        await client.again(chat_id, begun.message.id)
        guessed = chat_pb2.Usage(input_tokens=40_000, output_tokens=400, estimated=True, cost_nano_usd=500)
        await (await claimed(client, chat_id)).complete(guessed)
        whole = chat_pb2.Usage(input_tokens=43_210, output_tokens=421, estimated=True, cost_nano_usd=567)
        assert await usage(client, chat_id) == whole

        listing = session_pb2.ListChatsRequest(user_id="owner", dialect="test")
        listed = (await client.call("ListChats", listing)).chats[0]
        update = session_pb2.UpdateChatRequest(chat=chat_pb2.Chat(id=chat_id, usage=chat_pb2.Usage(input_tokens=1)))
        updated = (await client.call("UpdateChat", update)).chat
        await client.begin(chat_id)
        worker = await claimed(client, chat_id)
        assert [listed.id, listed.usage, updated.usage, worker.turn.chat.usage] == [chat_id, whole, whole, whole]
        await client.call("CancelTurn", session_pb2.CancelTurnRequest(chat_id=chat_id))
        assert await usage(client, chat_id) == whole

    running.wait(scenario())


def test_a_chat_of_the_time_before_costs_were_counted_goes_on_from_none(running: Running) -> None:
    client = running.clients[0]

    async def answered(chat_id: str) -> chat_pb2.Usage:
        await client.begin(chat_id)
        worker = await claimed(client, chat_id)
        await worker.complete(chat_pb2.Usage(input_tokens=1, output_tokens=2, cost_nano_usd=3))
        return await usage(client, chat_id)

    chat_id = running.wait(client.new_chat())
    running.wait(answered(chat_id))
    with redis_of(running, keys.chat(chat_id)) as redis:
        assert redis.hdel(keys.chat(chat_id), "cost_nano_usd")
    assert running.wait(usage(client, chat_id)) == chat_pb2.Usage(input_tokens=1, output_tokens=2)
    assert running.wait(answered(chat_id)) == chat_pb2.Usage(input_tokens=2, output_tokens=4, cost_nano_usd=3)


def test_nobody_makes_a_chat_with_tokens_spent_and_no_count_is_too_high(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat = chat_pb2.Chat(id="thrifty", dialect="test", owner_id="owner", usage=chat_pb2.Usage(input_tokens=9))
        made = (await client.call("CreateChat", session_pb2.CreateChatRequest(chat=chat))).chat
        assert not made.HasField("usage")
        for _ in range(2):
            await client.begin("thrifty")
            worker = await claimed(client, "thrifty")
            most = chat_pb2.Usage(input_tokens=2**64 - 1, cost_nano_usd=2**64 - 1)
            assert not (await worker.complete(most)).error
        spent = await usage(client, "thrifty")
        assert (spent.input_tokens, spent.cost_nano_usd) == (2 * 10**12, 2 * 10**12)
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id="thrifty"))

    running.wait(scenario())
