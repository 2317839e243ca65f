"""The examples that no dialect's own tests run, against the whole system, as a user would run them."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path

import pytest
from launcher.stack import Stack

from .client import http

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES = Path(__file__).parents[3] / "examples"
PLAN = f"[[sim {json.dumps({'text': 'Hello, **you**.'})}]]"


async def run(example: str, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / example),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_faye_answers_in_html(whole: Stack) -> None:
    common = ("--url", whole.gateway_urls[0], "--session-token", str(uuid.uuid4()))
    answered = await run("faye_chat.py", *common, "--key", whole.secrets.api_key, PLAN)
    assert answered == (0, "<p>Hello, <strong>you</strong>.</p>\n", "")
    assert (await run("faye_chat.py", *common, "--key", "wrong", PLAN))[0] == 1


async def test_elogrants_answers_and_keeps_what_was_said(whole: Stack) -> None:
    url, token = whole.gateway_urls[0], whole.secrets.user_token(f"user {uuid.uuid4()}")
    status, out, err = await run("elogrants_chat.py", "--url", url, "--token", token, PLAN)
    assert (status, err) == (0, "")
    answer, session = out.splitlines()
    assert answer == "Hello, **you**."
    assert session.endswith(": 2 messages")
    status, _, err = await run("elogrants_chat.py", "--url", url, "--token", "wrong", PLAN)
    assert (status, err) == (1, "failed: The user token is not valid.\n")


async def test_openais_own_client_needs_another_address_and_nothing_else(whole: Stack) -> None:
    common = ("--url", whole.gateway_urls[0], "--key")
    status, out, err = await run("openai_client.py", *common, whole.secrets.api_key, PLAN)
    assert (status, err) == (0, "")
    models, answer = out.splitlines()
    assert models.startswith("models: ")
    assert answer == "Hello, **you**."
    assert (await run("openai_client.py", *common, "wrong", PLAN))[0] == 1


async def test_openais_own_client_runs_the_tools_that_a_model_asks_for(whole: Stack) -> None:
    call = {"name": "time_in", "arguments": '{"zone": "Nowhere/At all"}'}
    plans = {"plans": [{"tool_calls": [call]}, {"text": "Nobody knows."}], "then": None}
    await http("PUT", f"{whole.simulator_url}/sim/plans/anthropic", plans)
    common = ("--url", whole.gateway_urls[0], "--model", "claude", "--key")
    status, out, err = await run("openai_tools.py", *common, whole.secrets.user_token(f"user {uuid.uuid4()}"))
    assert (status, err) == (0, "")
    assert out.splitlines()[:2] == [
        'time_in({"zone": "Nowhere/At all"}) -> There is no such time zone.',
        "Nobody knows.",
    ]
    assert (await run("openai_tools.py", *common, "wrong"))[0] == 1
