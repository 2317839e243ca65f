"""What answers have cost, and the day's budget of tokens, through the whole system: read over HTTP, told to clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from launcher.stack import Stack

from .client import TIMEOUT_S, Response, Socket, http
from .conformance.driver import DRIVERS, Visitor

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUDGET = "today's budget of 1 tokens is used up; it begins anew at 00:00 UTC"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def frugal() -> AsyncIterator[Stack]:
    """One token a day: after their first answer, users have used it up."""
    limits = {"SWITCHBOARD__LIMITS__USER__TOKENS_A_DAY": "1", "SWITCHBOARD__LIMITS__USER__MESSAGES": "10000"}
    async with Stack(environment=limits) as stack:
        await stack.wait_serving()
        yield stack


async def ask(stack: Stack, key: str, text: str = "Hi", model: str = "claude") -> Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return await http("POST", f"{stack.gateway_urls[0]}/v1/chat/completions", body, key=key)


async def usage(stack: Stack, key: str, query: str = "") -> Any:
    """A user's usage, once there is any."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            told = await http("GET", f"{stack.gateway_urls[0]}/v1/usage{query}", key=key)
            assert told.status == 200, told
            if told.body["data"]:
                return told.body
            await asyncio.sleep(0.1)


async def test_what_an_answer_has_cost_is_read_by_its_user_and_by_an_api_key(frugal: Stack) -> None:
    token = frugal.secrets.user_token("ann/ü")
    plan = json.dumps({"text": "Hello", "usage": {"input_tokens": 1000, "output_tokens": 50}})
    assert (await ask(frugal, token, f"[[sim {plan}]]")).status == 200
    told = await usage(frugal, token)
    assert (told["user"], told["tokens_a_day"]) == ("ann/ü", 1)
    [day] = told["data"]
    [model] = day["models"]
    spent = {"input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050, "estimated": False}
    assert {name: day[name] for name in spent} == spent
    assert (day["answers"], day["budget_tokens"]) == (1, 1050)
    assert (model["provider"], model["own_key"], model["attempts"]) == ("anthropic", False, 1)
    assert model["cost_usd"] == day["cost_usd"] > 0
    assert await usage(frugal, frugal.secrets.api_key, "?user=ann%2F%C3%BC") == told


async def test_answers_to_an_api_key_are_nobodys_and_have_no_budget(frugal: Stack) -> None:
    key = frugal.secrets.api_key
    assert (await ask(frugal, key)).status == 200
    told = await usage(frugal, key)
    assert (told["user"], told["tokens_a_day"]) == (None, None)
    assert (await ask(frugal, key)).status == 200


async def test_over_http_a_budget_that_is_used_up_is_429_and_says_when_there_is_more(frugal: Stack) -> None:
    token = frugal.secrets.user_token("bob")
    assert (await ask(frugal, token)).status == 200
    await usage(frugal, token)
    refused = await ask(frugal, token)
    assert refused.status == 429
    assert refused.body["error"]["message"] == BUDGET
    assert refused.body["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert refused.headers["ratelimit"] == f'"user";r=0;t={refused.headers["retry-after"]}'
    async with openai.AsyncOpenAI(base_url=f"{frugal.gateway_urls[0]}/v1", api_key=token, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError, match="budget"):
            await client.chat.completions.create(model="claude", messages=[{"role": "user", "content": "Hi"}])
    assert (await ask(frugal, frugal.secrets.user_token("carol"))).status == 200


@pytest.mark.parametrize("name", DRIVERS)
async def test_in_a_chat_a_budget_that_is_used_up_is_an_error_that_says_so(frugal: Stack, name: str) -> None:
    driver, url = DRIVERS[name], frugal.gateway_urls[0]
    place = await driver.enter(frugal)
    socket = await Socket.open(f"ws{url[4:]}{place.path}", headers=place.headers)
    visitor = Visitor(driver, socket, url, place)
    ends = []
    async with asyncio.timeout(TIMEOUT_S):
        while "error" not in ends:
            await visitor.say("Hi")
            heard = await visitor.hear_answer()
            ends.append(heard[-1].kind)
    assert ends[0] == "end"
    assert heard[-1].text.startswith(BUDGET)
    assert name == "arketic" or "Try again in " in heard[-1].text
    await socket.close()
