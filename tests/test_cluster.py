"""The whole system on a Redis Cluster: an answer reaches its reader, also when a master dies in the middle of it."""

import uuid

import redis.asyncio
from launcher.stack import Stack
from launcher.valkey_cluster import ValkeyCluster

from .faye import FayeChat, FayeReader, question

HELLO = "<p>hello</p>"


async def test_an_answer_reaches_a_faye_client_although_the_master_of_its_chat_dies() -> None:
    async with (
        ValkeyCluster() as cluster,
        Stack(sessions=2, gateways=2, redis_url=cluster.url, environment=cluster.environment) as stack,
    ):
        await stack.wait_serving()
        chat = FayeChat(stack, f"cluster-{uuid.uuid4()}")
        await chat.post("start_session")
        readers = [FayeReader(chat), FayeReader(chat)]
        for gateway, reader in enumerate(readers):
            await reader.connect(gateway)
        await readers[0].send(question(text="hello"))
        for reader in readers:
            assert await reader.read_to_end() == HELLO
        await readers[0].send(question(deltas=250, delta_chars=9, interval_ms=10))
        for reader in readers:
            reader.shown = ""
            for _ in range(20):
                await reader.read()
        for url, node in zip(cluster.urls[:3], cluster.nodes[:3], strict=True):
            async with redis.asyncio.Redis.from_url(url) as server:
                has_chat = await server.keys("*:messages")
            if has_chat:
                await node.kill()
        for reader in readers:
            # After its reset a reader is shown the chat's last answers anew.
            while (whole := await reader.read_to_end(40)) == HELLO:
                reader.shown = ""
            assert reader.shown == whole == (await chat.history(1))[3]["content"]
            assert reader.resets == 1
            await reader.close()
