"""A long chat costs its own readers what they get, and nobody else anything: what is not returned is not fetched."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from session import keys
from session.stored import CONTEXT_BYTES, PAGE_BYTES
from switchboard.session.v1 import session_pb2

from .client import SessionClient, Worker
from .conftest import Running
from .records import redis_of

LONG = 512 * 1024
"""Of one message, in bytes. Twenty of them are over every bound."""
ASIDE = 64 * 1024


@contextmanager
def told_by_redis(running: Running, chat_id: str, at_most: int) -> Iterator[None]:
    """What the server that has the chat sends meanwhile is no more than this."""
    with redis_of(running, keys.chat(chat_id)) as redis:
        before = redis.info("stats")["total_net_output_bytes"]
        yield
        told = redis.info("stats")["total_net_output_bytes"] - before
    assert told <= at_most + ASIDE, f"{told:,} bytes"


async def long_chat(client: SessionClient, texts: int = 20) -> str:
    chat_id = await client.new_chat()
    for number in range(texts):
        await client.begin(chat_id, f"{number:04}" + "x" * (LONG - 4), without_answer=True)
    return chat_id


def starts(messages: object) -> list[str]:
    return [message.content[:4] for message in messages]  # type: ignore[attr-defined]


def test_a_claim_fetches_the_newest_that_fit_into_a_context(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await long_chat(client)
        await client.begin(chat_id, "last")
        with told_by_redis(running, chat_id, CONTEXT_BYTES):
            turn = await client.claim(chat_id)
        assert turn is not None
        assert starts(turn.context) == ["0019", "last"]
        await Worker(client, turn).fail()

    running.wait(scenario())


def test_a_long_answer_takes_its_question_along_or_stays_away_with_it(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        for number in range(3):
            await client.begin(chat_id, f"q{number}" + "x" * LONG)
            await client.answer(chat_id, f"a{number}" + "y" * (LONG - 10_000))
        await client.begin(chat_id, "last")
        assert [text[:4] for text in await client.answer(chat_id, "fine")] == ["q2xx", "a2yy", "last"]
        await client.begin(chat_id, "z" * LONG)
        assert [text[:4] for text in await client.answer(chat_id, "fine")] == ["last", "fine", "zzzz"]

    running.wait(scenario())


@pytest.mark.parametrize("from_end", [False, True])
def test_a_page_is_cut_where_it_is_fetched(running: Running, from_end: bool) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await long_chat(client)
        listing = session_pb2.ListMessagesRequest(chat_id=chat_id, limit=1000, from_end=from_end)
        with told_by_redis(running, chat_id, PAGE_BYTES):
            page = await client.call("ListMessages", listing)
        sevens = range(13, 20) if from_end else range(7)
        assert starts(page.messages) == [f"{number:04}" for number in sevens]
        assert page.total == 20
        listing.offset = 7
        assert len((await client.call("ListMessages", listing)).messages) == 7

    running.wait(scenario())


def test_a_snapshot_and_the_events_behind_a_position_are_cut_where_they_are_fetched(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        start = (await client.read(chat_id)).position
        for number in range(40):
            await client.begin(chat_id, f"{number:04}" + "x" * (LONG - 4), without_answer=True)
        with told_by_redis(running, chat_id, PAGE_BYTES):
            snapshot = await client.read(chat_id)
        assert starts(snapshot.snapshot.messages) == [f"{number:04}" for number in range(33, 40)]
        seen: list[str] = []
        while start != snapshot.position:
            with told_by_redis(running, chat_id, PAGE_BYTES):
                reading = await client.read(chat_id, start)
            seen.extend(starts(event.message_created.message for event in reading.events))
            start = reading.position
        assert seen == [f"{number:04}" for number in range(40)]

    running.wait(scenario())


def test_an_edited_text_and_the_one_under_way_are_measured_too(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "short", without_answer=True)
        edit = session_pb2.EditMessageRequest(chat_id=chat_id, message_id=first.message.id, content="e" * 1024 * 1024)
        await client.call("EditMessage", edit)
        await client.begin(chat_id, "tell me")
        turn = await client.claim(chat_id)
        assert turn is not None
        assert starts(turn.context) == ["tell"], "the edited one leaves no room"
        worker = Worker(client, turn)
        for _ in range(4):
            assert not (await worker.say("t" * 1024 * 1000)).error
        listing = session_pb2.ListMessagesRequest(chat_id=chat_id, limit=1000)
        page = (await client.call("ListMessages", listing)).messages
        assert [len(message.content) for message in page] == [1024 * 1024, len("tell me")]
        listing.from_end = True
        page = (await client.call("ListMessages", listing)).messages
        assert [len(message.content) for message in page] == [len("tell me"), 4 * 1024 * 1000]
        assert len((await client.read(chat_id)).snapshot.messages) == 2
        await worker.complete()

    running.wait(scenario())


def test_however_often_it_was_answered_again_the_conversation_is_context(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await client.begin(chat_id, "my name is Ann")
        await client.answer(chat_id, "hello Ann")
        joke = await client.begin(chat_id, "tell a joke")
        for number in range(260):
            if number:
                await client.again(chat_id, joke.message.id)
            context = await client.answer(chat_id, f"joke {number}")
        assert context == ["my name is Ann", "hello Ann", "tell a joke"]
        await client.begin(chat_id, "what is my name?")
        assert await client.answer(chat_id, "Ann") == [
            "my name is Ann",
            "hello Ann",
            "tell a joke",
            "joke 259",
            "what is my name?",
        ]

    running.wait(scenario())


def test_a_chat_that_is_older_than_the_list_of_what_was_asked_keeps_its_conversation(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "one")
        await client.answer(chat_id, "1")
        await client.begin(chat_id, "two")
        await client.answer(chat_id, "2")
        root = keys.chat(chat_id)
        with redis_of(running, root) as redis:
            redis.delete(f"{root}:asked")
            redis.hdel(root, "bytes", "made", "revision")
        await client.begin(chat_id, "three")
        assert await client.answer(chat_id, "3") == ["one", "1", "two", "2", "three"]
        await client.again(chat_id, first.message.id)
        assert await client.answer(chat_id, "another 1") == ["one"]
        await client.begin(chat_id, "between us", ephemeral=True, idempotency_key="k")
        assert (await client.begin(chat_id, "between us", ephemeral=True, idempotency_key="k")).repeated
        whole = ["one", "another 1", "two", "2", "three", "3", "between us"]
        assert await client.answer(chat_id, "!") == whole
        listing = session_pb2.ListMessagesRequest(chat_id=chat_id)
        assert len((await client.call("ListMessages", listing)).messages) == 7
        assert (await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))).chat.revision == 1

    running.wait(scenario())
