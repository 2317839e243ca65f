"""OpenAI's own client against the whole system: gateway, worker, simulated providers."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import uuid
from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio
from launcher.stack import Stack

from ..client import http

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def client(whole: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{whole.gateway_urls[0]}/v1", api_key=whole.secrets.api_key, max_retries=0
    ) as made:
        yield made


def simulate(**plan: object) -> str:
    return f"[[sim {json.dumps(plan)}]]"


async def ask(client: openai.AsyncOpenAI, content: str, model: str = "") -> openai.types.chat.ChatCompletion:
    model = model or (await client.models.list()).data[0].id
    return await client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])


async def test_the_models_are_listed_and_each_is_found(client: openai.AsyncOpenAI) -> None:
    models = (await client.models.list()).data
    assert models
    for model in models:
        assert await client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no-such-model")


async def test_a_whole_answer_is_read(client: openai.AsyncOpenAI) -> None:
    answer = await ask(client, simulate(text="Hello there"))
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


async def test_a_streamed_answer_is_read_with_its_usage(client: openai.AsyncOpenAI) -> None:
    model = (await client.models.list()).data[0].id
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": simulate(text="Hello there, how are you?")}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hello there, how are you?"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_user_token_is_as_good_as_a_key(whole: Stack) -> None:
    token = whole.secrets.user_token("alice")
    async with openai.AsyncOpenAI(base_url=f"{whole.gateway_urls[0]}/v1", api_key=token, max_retries=0) as client:
        assert (await ask(client, simulate(text="Hello"))).choices[0].message.content == "Hello"


async def test_a_bad_key_is_an_authentication_error(whole: Stack) -> None:
    async with openai.AsyncOpenAI(base_url=f"{whole.gateway_urls[0]}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"


async def test_an_unknown_model_is_a_not_found_error(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await ask(client, "Hi", model="no-such-model")
    assert caught.value.code == "model_not_found"


async def test_an_unsupported_wish_is_a_bad_request_error_that_names_it(client: openai.AsyncOpenAI) -> None:
    model = (await client.models.list()).data[0].id
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], n=2)
    assert caught.value.param == "n"


@pytest.mark.parametrize(
    "body", [b"{", {}, {"model": "m"}, {"model": "m", "messages": []}, {"model": "m", "messages": 1}]
)
async def test_a_malformed_body_is_400_in_openais_form(whole: Stack, body: object) -> None:
    url = f"{whole.gateway_urls[0]}/v1/chat/completions"
    refused = await http("POST", url, body, key=whole.secrets.api_key)
    assert refused.status == 400
    assert set(refused.body["error"]) == {"message", "type", "param", "code"}


async def ended(whole: Stack, marker: str) -> str:
    """How the provider's call with that marker ended, once it has."""
    while True:
        record = await http("GET", f"{whole.simulator_url}/sim/requests")
        outcomes = [entry["outcome"] for entry in record.body["requests"] if marker in json.dumps(entry["messages"])]
        if outcomes and outcomes[-1] != "open":
            return str(outcomes[-1])


SLOW = {"deltas": 1000, "interval_ms": 50}


async def test_a_client_that_leaves_a_stream_ends_the_providers_call(whole: Stack, client: openai.AsyncOpenAI) -> None:
    marker = str(uuid.uuid4())
    model = (await client.models.list()).data[0].id
    content = f"{marker} {simulate(**SLOW)}"
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], stream=True
    )
    await anext(aiter(stream))
    await stream.close()
    async with asyncio.timeout(20):
        assert await ended(whole, marker) == "client_closed"


async def test_a_client_that_leaves_before_the_whole_answer_ends_the_providers_call(
    whole: Stack, client: openai.AsyncOpenAI
) -> None:
    marker = str(uuid.uuid4())
    asking = asyncio.create_task(ask(client, f"{marker} {simulate(**SLOW)}"))
    async with asyncio.timeout(20):
        while marker not in json.dumps((await http("GET", f"{whole.simulator_url}/sim/requests")).body):
            pass
        asking.cancel()
        assert await ended(whole, marker) == "client_closed"


async def test_a_client_that_leaves_before_the_first_token_ends_the_providers_call(
    whole: Stack, client: openai.AsyncOpenAI
) -> None:
    marker = str(uuid.uuid4())
    model = (await client.models.list()).data[0].id
    content = f"{marker} {simulate(text='late', first_token_ms=15_000)}"
    asking = asyncio.create_task(
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}], stream=True)
    )
    async with asyncio.timeout(10):
        while marker not in json.dumps((await http("GET", f"{whole.simulator_url}/sim/requests")).body):
            pass
        asking.cancel()
        assert await ended(whole, marker) == "client_closed"


async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off_and_the_providers_call_with_it() -> None:
    async with Stack(environment={"STALL_SECONDS": "0.5"}) as stack:
        await stack.wait_serving()
        marker = str(uuid.uuid4())
        content = f"{marker} {simulate(deltas=20_000, delta_chars=4_000, interval_ms=1)}"
        body = {"model": "claude", "stream": True, "messages": [{"role": "user", "content": content}]}
        data = json.dumps(body).encode()
        head = f"Authorization: Bearer {stack.secrets.api_key}\r\nContent-Length: {len(data)}"
        with socket.create_connection(("127.0.0.1", stack.gateway_ports[0])) as client:
            client.sendall(
                f"POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode()
                + data
            )
            async with asyncio.timeout(30):
                assert await ended(stack, marker) == "client_closed"


async def test_a_drain_lets_a_stream_end() -> None:
    async with Stack(environment={"DRAIN_SECONDS": "10"}) as stack:
        await stack.wait_serving()
        base_url = f"{stack.gateway_urls[0]}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key=stack.secrets.api_key, max_retries=0) as client:
            model = (await client.models.list()).data[0].id
            content = simulate(text="one two three four five six seven eight", interval_ms=100)
            stream = await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": content}], stream=True
            )
            text = (await anext(stream)).choices[0].delta.content or ""
            stack.gateways[0].send_signal(signal.SIGTERM)
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
        assert text == "one two three four five six seven eight"
        assert await stack.gateways[0].wait_ended() == 0


async def test_a_stream_that_breaks_for_good_is_an_error_and_never_a_short_answer(client: openai.AsyncOpenAI) -> None:
    model = (await client.models.list()).data[0].id
    content = simulate(sticky=True, text="one two three four five six", cut_after=2)
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], stream=True
    )
    with pytest.raises(openai.APIError, match=r"provider|answer"):
        async for _ in stream:
            pass
