"""A client that gives positions misses nothing and gets nothing twice, whatever gateway it comes back to."""

import asyncio
import random
import uuid

from launcher.stack import Stack

from .faye import FayeChat, FayeReader, question

CHATS = 20
CUTS = 10


async def test_over_200_random_cuts_nothing_is_missed_and_nothing_comes_twice(pair: Stack) -> None:
    async def one_chat(seed: int) -> None:
        chooser = random.Random(seed)
        chat = FayeChat(pair, f"resume-{uuid.uuid4()}")
        await chat.post("start_session", chooser.randrange(2))
        cut_often, undisturbed = FayeReader(chat), FayeReader(chat)
        await undisturbed.connect(chooser.randrange(2))
        await cut_often.connect(chooser.randrange(2))
        # Longer than the slowest machine takes for the cuts; stopped when they are made.
        await cut_often.send(question(deltas=6000, delta_chars=9, interval_ms=10))
        watching = asyncio.create_task(undisturbed.read_to_end(60))
        for _ in range(CUTS):
            # A few frames here, and then the line is cut; sometimes before the first one.
            for _ in range(chooser.randrange(6)):
                frame = await cut_often.read(60)
                assert frame["type"] == "streaming", frame
            await cut_often.cut()
            await cut_often.connect(chooser.randrange(2))
        await chat.post("stop", chooser.randrange(2))
        whole = await cut_often.read_to_end(60)
        assert cut_often.shown == whole
        assert await watching == whole
        assert undisturbed.shown == whole
        assert cut_often.resets == 0
        history = await chat.history(chooser.randrange(2))
        assert [said["role"] for said in history] == ["user", "assistant"]
        assert history[1]["content"] == whole
        await undisturbed.close()
        await cut_often.close()

    await asyncio.gather(*(one_chat(seed) for seed in range(CHATS)))


async def test_who_joins_in_the_middle_gets_the_text_so_far_and_then_the_rest(pair: Stack) -> None:
    chat = FayeChat(pair, f"join-{uuid.uuid4()}")
    await chat.post("start_session")
    first, second = FayeReader(chat), FayeReader(chat)
    await first.connect(0)
    await first.send(question(deltas=80, delta_chars=9, interval_ms=10))
    for _ in range(20):
        await first.read()
    await second.connect(1)
    whole = await second.read_to_end()
    assert second.shown == whole
    assert len(second.frames) < 80, "the text so far comes as one frame"
    assert await first.read_to_end() == whole
    await first.close()
    await second.close()


async def test_an_answer_can_be_stopped_from_anywhere_and_keeps_what_was_said(pair: Stack) -> None:
    chat = FayeChat(pair, f"stop-{uuid.uuid4()}")
    await chat.post("start_session")
    reader = FayeReader(chat)
    await reader.connect(0)
    await reader.send(question(deltas=5000, delta_chars=9, interval_ms=10))
    for _ in range(10):
        await reader.read()
    await chat.post("stop", gateway=1)
    whole = await reader.read_to_end()
    assert reader.shown == whole
    history = await chat.history(1)
    assert history[1]["content"] == whole
    await reader.send(question(deltas=5, interval_ms=1))
    again = FayeReader(chat)
    again.position = reader.position
    assert await reader.read_to_end() != whole
    await reader.close()


async def test_messages_sent_during_an_answer_are_answered_in_order_after_it(pair: Stack) -> None:
    chat = FayeChat(pair, f"queue-{uuid.uuid4()}")
    await chat.post("start_session")
    reader = FayeReader(chat)
    await reader.connect(1)
    for text in ("one", "two", "three"):
        await reader.send(question(text=text, interval_ms=5))
    assert [await reader.read_to_end() for _ in range(3)] == ["<p>one</p>", "<p>two</p>", "<p>three</p>"]
    await reader.close()
