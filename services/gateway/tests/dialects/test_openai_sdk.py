"""OpenAI's own client against the whole system: gateway, worker, simulated providers."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import uuid
from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio
from launcher.stack import Stack
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

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


PROVIDERS = ["anthropic", "openai", "grok"]
WEATHER: openai.types.chat.ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How the weather is.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLS = [
    {"name": "weather", "arguments": '{"city": "Oslo"}'},
    {"name": "weather", "arguments": '{"city": "Rome"}'},
]


async def plan(whole: Stack, provider: str, *plans: object) -> None:
    """What a provider says to the next requests, one after another."""
    await http("PUT", f"{whole.simulator_url}/sim/plans/{provider}", {"plans": plans, "then": None})


async def model_of(client: openai.AsyncOpenAI, provider: str) -> str:
    return next(model.id for model in (await client.models.list()).data if model.owned_by == provider)


async def shown(whole: Stack, marker: str) -> str:
    """What the provider was shown in its last call with that marker, and the parameters beside it."""
    record = await http("GET", f"{whole.simulator_url}/sim/requests")
    calls = [json.dumps([entry["messages"], entry["parameters"]]) for entry in record.body["requests"]]
    return [call for call in calls if marker in call][-1]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_tools_go_round_with_every_provider(whole: Stack, client: openai.AsyncOpenAI, provider: str) -> None:
    await plan(whole, provider, {"tool_calls": CALLS}, {"text": "Rain in Oslo, sun in Rome."})
    model, marker = await model_of(client, provider), str(uuid.uuid4())
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": f"How is the weather? {marker}"},
    ]
    asked = await client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    message = asked.choices[0].message
    assert asked.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert message.tool_calls is not None
    given = [call.function for call in message.tool_calls if call.type == "function"]
    assert [(one.name, json.loads(one.arguments)) for one in given] == [
        ("weather", {"city": "Oslo"}),
        ("weather", {"city": "Rome"}),
    ]
    # As agents do: the SDK's own object goes back, a result for each call behind it.
    messages.append(message.to_dict())  # type: ignore[arg-type]
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": f"{what} there"}
        for call, what in zip(message.tool_calls, ("rain", "sun"), strict=True)
    ]
    answer = await client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "Rain in Oslo, sun in Rome."
    assert answer.choices[0].message.tool_calls is None
    seen = await shown(whole, marker)
    assert all(part in seen for part in ("rain there", "sun there", "Oslo", "Rome", "How the weather is."))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_streamed_tool_calls_are_put_together_by_the_sdk(
    whole: Stack, client: openai.AsyncOpenAI, provider: str
) -> None:
    class Weather(BaseModel):
        city: str

    await plan(whole, provider, {"text": "Let me see.", "reasoning": "Two cities.", "tool_calls": CALLS})
    tool = openai.pydantic_function_tool(Weather, name="weather")
    async with client.chat.completions.stream(
        model=await model_of(client, provider), messages=[{"role": "user", "content": "Hi"}], tools=[tool]
    ) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_completion()
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.parsed_arguments for event in done] == [Weather(city="Oslo"), Weather(city="Rome")]
    choice = final.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    assert (choice.message.model_extra or {})["reasoning_content"] == "Two cities."
    calls = choice.message.tool_calls or []
    assert [call.function.parsed_arguments for call in calls] == [Weather(city="Oslo"), Weather(city="Rome")]
    assert len({call.id for call in calls}) == 2


async def test_a_tool_that_was_named_is_asked_for(whole: Stack, client: openai.AsyncOpenAI) -> None:
    for provider in PROVIDERS:
        answer = await client.chat.completions.create(
            model=await model_of(client, provider),
            messages=[{"role": "user", "content": "Hi"}],
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "weather"}},
            parallel_tool_calls=False,
        )
        calls = answer.choices[0].message.tool_calls or []
        assert [call.function.name for call in calls if call.type == "function"] == ["weather"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_models_reasoning_stands_beside_the_answer(
    whole: Stack, client: openai.AsyncOpenAI, provider: str
) -> None:
    await plan(whole, provider, {"text": "Four.", "reasoning": "Two and two."})
    answer = await ask(client, "Hi", await model_of(client, provider))
    message = answer.choices[0].message
    assert message.content == "Four."
    assert (message.model_extra or {})["reasoning_content"] == "Two and two."
    without = (await ask(client, simulate(text="Four."), await model_of(client, provider))).choices[0].message
    assert "reasoning_content" not in (without.model_extra or {})


def see(marker: str, *urls: str) -> list[ChatCompletionMessageParam]:
    pictures = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    content = [{"type": "text", "text": f"{marker} {simulate(text='A cat.')}"}, *pictures]
    return [{"role": "user", "content": content}]  # type: ignore[typeddict-item,misc,list-item]


def png(size: int) -> str:
    return f"data:image/png;base64,{base64.b64encode(bytes(size)).decode()}"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_model_is_shown_pictures(whole: Stack, client: openai.AsyncOpenAI, provider: str) -> None:
    marker, model = str(uuid.uuid4()), await model_of(client, provider)
    urls = ("https://example.com/cat.png", png(30))
    answer = await client.chat.completions.create(model=model, messages=see(marker, *urls))
    assert answer.choices[0].message.content == "A cat."
    seen = await shown(whole, marker)
    assert "https://example.com/cat.png" in seen
    assert base64.b64encode(bytes(30)).decode() in seen


async def test_the_largest_picture_goes_through_and_two_of_them_are_refused_by_their_size(
    client: openai.AsyncOpenAI,
) -> None:
    model, largest = (await client.models.list()).data[0].id, png(3 * 1024 * 1024)
    answer = await client.chat.completions.create(model=model, messages=see("", largest))
    assert answer.choices[0].message.content == "A cat."
    with pytest.raises(openai.APIStatusError) as refused:
        await client.chat.completions.create(model=model, messages=see("", largest, largest))
    assert refused.value.status_code == 413
    assert refused.value.code == "too_large"


async def test_a_bad_picture_is_a_bad_request_error_that_says_where(client: openai.AsyncOpenAI) -> None:
    model = (await client.models.list()).data[0].id
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=model, messages=see("", "https://ok.example/", "http://no.example/"))
    assert refused.value.param == "messages.0.content.2.image_url"
