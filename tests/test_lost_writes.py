"""Redis comes back without the last things that it had acknowledged, as a promoted replica or a power cut leaves it."""

import asyncio
import shutil
import uuid
from pathlib import Path

import pytest
from launcher.stack import Stack

from .faye import FayeChat, FayeReader, question

PLAN = question(first_token_ms=1500, deltas=200, delta_chars=9, interval_ms=10)


async def undisturbed(stack: Stack) -> str:
    """What the simulator answers to PLAN."""
    chat = FayeChat(stack, f"quiet-{uuid.uuid4()}")
    await chat.post("start_session")
    reader = FayeReader(chat)
    await reader.connect(0)
    await reader.send(PLAN)
    whole = await reader.read_to_end()
    await reader.close()
    return whole


def texts_stored(directory: Path) -> int:
    return sum(path.read_bytes().count(b"APPEND") for path in directory.rglob("*.aof"))


@pytest.mark.parametrize("frames_kept", [0, 20])
async def test_an_answer_is_whole_whatever_redis_forgot_of_it(frames_kept: int, tmp_path: Path) -> None:
    async with Stack(appendfsync="always") as stack:
        await stack.wait_serving()
        expected = await undisturbed(stack)
        directory, copy = stack.data_dir / "redis", tmp_path / "copy"
        texts_before = texts_stored(directory)
        chat = FayeChat(stack, f"lost-{uuid.uuid4()}")
        await chat.post("start_session")
        reader = FayeReader(chat)
        await reader.connect(0)
        await reader.send(PLAN)
        while len(await chat.history()) < 1:
            await asyncio.sleep(0.01)
        for _ in range(frames_kept):
            await reader.read()
        shutil.copytree(directory, copy)
        assert (texts_stored(copy) > texts_before) == (frames_kept > 0), "copied at another moment"
        for _ in range(20):
            await reader.read()
        assert stack.redis is not None
        await stack.redis.kill()
        shutil.rmtree(directory)
        shutil.copytree(copy, directory)
        await stack.redis.start()
        whole = await reader.read_to_end(40)
        assert whole == expected
        assert reader.shown == whole
        assert reader.resets == 1
        history = await chat.history()
        assert [message["role"] for message in history] == ["user", "assistant"]
        assert history[1]["content"] == whole
        await reader.close()
