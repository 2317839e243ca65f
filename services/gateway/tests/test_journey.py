"""One journey through everything: the documents' own samples, against real worker and simulated provider."""

from __future__ import annotations

import json

import pytest
from launcher.stack import Stack
from websockets.asyncio.client import connect

from .client import http

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_fayes_document_holds_as_it_is_printed(whole: Stack) -> None:
    url, key = whole.gateway_urls[0], whole.secrets.api_key
    body = {"unique_token": "YOUR_SESSION_TOKEN"}
    started = await http("POST", f"{url}/faye/chat/start_session", body, key=key)
    assert started.body["websocket_url"] == f"{url.replace('http', 'ws')}/ws/faye/YOUR_SESSION_TOKEN"
    frames = []
    async with connect(f"{url.replace('http', 'ws')}/ws/faye/YOUR_SESSION_TOKEN") as client:
        await client.send('What are some high-protein vegan foods? [[sim {"text": "* Tofu\\n* Tempeh\\n"}]]')
        async for message in client:
            frames.append(json.loads(message))
            if frames[-1]["type"] != "streaming":
                break
    assert {frame["type"] for frame in frames[:-1]} == {"streaming"}
    assert frames[-1]["type"] == "message_stop"
    assert "".join(frame["content"] for frame in frames[:-1]) == frames[-1]["content"]
    assert "<li>Tofu</li>" in frames[-1]["content"]
    ended = await http("POST", f"{url}/faye/chat/end_session", body, key=key)
    assert ended.body == {"message": "Session ended successfully"}
    assert (await http("GET", f"{url}/health")).body == {"status": "healthy", "redis": "connected"}


async def test_an_answer_under_way_is_stopped_and_its_provider_with_it(whole: Stack) -> None:
    url, key = whole.gateway_urls[0], whole.secrets.api_key
    body = {"unique_token": "stopped"}
    started = await http("POST", f"{url}/faye/chat/start_session", body, key=key)
    async with connect(started.body["websocket_url"]) as client:
        await client.send('[[sim {"deltas": 1000, "interval_ms": 20}]]')
        first = json.loads(await client.recv())
        assert first["type"] == "streaming"
        stopped = await http("POST", f"{url}/faye/chat/stop", body, key=key)
        assert stopped.body == {"message": "Answer stopped"}
        shown = first["content"]
        while (frame := json.loads(await client.recv()))["type"] == "streaming":
            shown += frame["content"]
        assert frame == {"type": "message_stop", "content": shown}


@pytest.mark.parametrize("repeated", [0, 30, 10_000])
async def test_a_cut_in_the_middle_costs_no_word_and_doubles_none(whole: Stack, repeated: int) -> None:
    url, key = whole.gateway_urls[0], whole.secrets.api_key
    token = f"cut-{repeated}"
    started = await http("POST", f"{url}/faye/chat/start_session", {"unique_token": token}, key=key)
    text = "Beans:\n\n" + "".join(f"* bean {n} is **good** & cheap\n" for n in range(30))
    plans = {
        "anthropic": [{"text": text, "cut_after": 70, "interval_ms": 1}],
        "grok": [{"text": text, "goes_on": repeated, "error_after": 20, "interval_ms": 1}],
        "openai": [{"text": text, "goes_on": repeated, "interval_ms": 1}],
    }
    for provider, queue in plans.items():
        body = {"plans": queue, "then": None}
        assert (await http("PUT", f"{whole.simulator_url}/sim/plans/{provider}", body)).status == 200
    shown = ""
    async with connect(started.body["websocket_url"]) as client:
        await client.send("Which beans?")
        while (frame := json.loads(await client.recv()))["type"] == "streaming":
            shown += frame["content"]
    assert frame["type"] == "message_stop"
    assert shown == frame["content"]
    assert [f"bean {n} is <strong>good</strong>" in shown for n in range(30)] == [True] * 30
    assert shown.count("<li>") == shown.count("bean ") == 30
    opened = await http("POST", f"{url}/faye/chat/start_session", {"unique_token": token}, key=key)
    assert opened.body["conversation_history"][-1] == {"role": "assistant", "content": shown}


async def test_what_a_provider_refuses_is_told_and_the_client_may_go_on(whole: Stack) -> None:
    url, key = whole.gateway_urls[0], whole.secrets.api_key
    started = await http("POST", f"{url}/faye/chat/start_session", {"unique_token": "refused"}, key=key)
    async with connect(started.body["websocket_url"]) as client:
        # A fault of another kind would cool the shared system's targets down.
        plans = {"plans": [{"code": "content_policy"}, {"text": "Fine"}], "then": None}
        assert (await http("PUT", f"{whole.simulator_url}/sim/plans/anthropic", plans)).status == 200
        await client.send("First")
        frame = json.loads(await client.recv())
        assert frame["type"] == "error"
        assert set(frame) == {"type", "message"}
        await client.send("Second")
        while (frame := json.loads(await client.recv()))["type"] == "streaming":
            pass
        assert frame == {"type": "message_stop", "content": "<p>Fine</p>"}
