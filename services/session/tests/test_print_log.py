"""The readable log of a chat, as an operator gets it."""

import os
import subprocess
import sys

import pytest

from .client import Worker
from .conftest import Running


def printed(running: Running, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **running.environment, "REDIS_URL": running.stack.redis_url}
    command = [sys.executable, "-m", "session.print_log", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("with_text", [True, False])
def test_a_log_is_printed_event_by_event_with_or_without_what_was_said(running: Running, with_text: bool) -> None:
    async def scenario() -> str:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await client.begin(chat_id, "a question")
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("an answer")
        await worker.complete()
        return chat_id

    chat_id = running.wait(scenario())
    done = printed(running, chat_id, *([] if with_text else ["--no-text"]))
    assert done.returncode == 0, done.stderr
    kinds = [line.split()[1] for line in done.stdout.splitlines()[3:]]
    assert kinds == ["message_created", "response_started", "response_delta", "response_completed"]
    assert ("a question" in done.stdout, "an answer" in done.stdout) == (with_text, with_text)
    assert "3+4 tokens" in done.stdout


def test_an_unknown_chat_is_one_clear_sentence(running: Running) -> None:
    done = printed(running, "unknown")
    assert (done.returncode, done.stderr.strip()) == (1, "session.print_log: no such chat")
    assert "no session is open" in printed(running, "faye/unknown").stderr
