"""HTTP as clients and probes see it, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, cast

import httpx2
import pytest
from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import JSONResponse
from gateway.auth import Caller
from gateway.dialect import Dialect, Shape
from gateway.http import Readiness, event_stream, guarded_router, http_application
from gateway.ports import Sessions
from launcher.stack import Stack
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .client import http
from .conftest import NOBODY, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

START = "/faye/chat/start_session"


async def test_the_service_welcomes_and_is_alive_ready_and_healthy(system: System) -> None:
    url = system.urls[0]
    assert (await http("GET", f"{url}/")).status == 200
    assert (await http("GET", f"{url}/livez")).status == 200
    assert (await http("GET", f"{url}/readyz")).status == 200
    health = await http("GET", f"{url}/health")
    assert (health.status, health.body) == (200, {"status": "healthy", "redis": "connected"})


async def test_a_session_is_started_in_the_documents_words(system: System) -> None:
    token = f"token-{uuid.uuid4()}"
    url = system.urls[0]
    started = await http("POST", url + START, {"unique_token": token, "extra": 1}, key=system.key)
    assert started.status == 200
    key = started.body.pop("session_key")
    assert key.startswith(f"unique_token:{token}:")
    assert uuid.UUID(key.rpartition(":")[2])
    assert started.body == {
        "unique_token": token,
        "status": "Session started successfully",
        "conversation_history": [],
        "websocket_url": f"{url.replace('http', 'ws')}/ws/faye/{token}",
    }


async def test_a_session_that_is_open_comes_back_with_its_history_as_it_was_shown(system: System) -> None:
    token = f"token-{uuid.uuid4()}"
    first = await http("POST", system.urls[0] + START, {"unique_token": token}, key=system.key)
    async with connect(first.body["websocket_url"]) as client:
        await client.send("Is **tofu** <healthy>?")
        turn = await system.worker.claim(await system.worker.chat_of("faye", token))
        await turn.say("Yes, **tofu** is")
        again = await http("POST", system.urls[1] + START, {"unique_token": token}, key=system.key)
        question = {"role": "user", "content": "Is **tofu** <healthy>?"}
        assert again.body["conversation_history"] == [question]
        await turn.complete()
        again = await http("POST", system.urls[1] + START, {"unique_token": token}, key=system.key)
    answer = {"role": "assistant", "content": "<p>Yes, <strong>tofu</strong> is</p>"}
    assert again.body["conversation_history"] == [question, answer]
    assert again.body["session_key"] == first.body["session_key"]


async def test_a_session_that_was_ended_is_another_when_it_is_started_again(system: System) -> None:
    token, url = f"token-{uuid.uuid4()}", system.urls[0]
    first = await http("POST", url + START, {"unique_token": token}, key=system.key)
    ended = await http("POST", f"{url}/faye/chat/end_session", {"unique_token": token}, key=system.key)
    assert (ended.status, ended.body) == (200, {"message": "Session ended successfully"})
    for path in ("end_session", "stop"):
        assert (await http("POST", f"{url}/faye/chat/{path}", {"unique_token": token}, key=system.key)).status == 404
    second = await http("POST", url + START, {"unique_token": token}, key=system.key)
    assert second.body["session_key"] != first.body["session_key"]


@pytest.mark.parametrize("token", ["x" * 200, "mañana \N{SNOWMAN}", "a@b+c&d=e;f,(g)!~", "...", "a.b:c"])
async def test_the_websocket_url_leads_to_the_session_whatever_the_token(system: System, token: str) -> None:
    started = await http("POST", system.urls[0] + START, {"unique_token": token}, key=system.key)
    assert started.status == 200
    async with connect(started.body["websocket_url"]) as client:
        await client.send("")
        assert '"error"' in str(await client.recv())
    await http("POST", f"{system.urls[0]}/faye/chat/end_session", {"unique_token": token}, key=system.key)


async def test_behind_a_proxy_the_websocket_url_is_what_its_client_can_reach(system: System) -> None:
    body = {"unique_token": "proxied"}
    headers = {"X-Forwarded-Proto": "https", "Host": "chat.example"}
    started = await http("POST", system.urls[0] + START, body, key=system.key, headers=headers)
    assert started.body["websocket_url"] == "wss://chat.example/ws/faye/proxied"


@pytest.mark.parametrize("key", ["", "wrong", "Bearer"])
@pytest.mark.parametrize("path", ["start_session", "end_session", "stop"])
async def test_without_a_good_key_there_is_nothing_but_401(system: System, path: str, key: str) -> None:
    refused = await http("POST", f"{system.urls[0]}/faye/chat/{path}", b"not json", key=key)
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert isinstance(refused.body["detail"], str)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        {},
        {"unique_token": ""},
        {"unique_token": 7},
        {"unique_token": "a/b"},
        {"unique_token": "a\nb"},
        {"unique_token": "x" * 201},
        *({"unique_token": token} for token in (" ", " a", "a ", ".", "..", "a\\b", "a?b", "a#b", "%2e%2e", "a%20b")),
    ],
)
async def test_a_malformed_body_is_422_and_says_where(system: System, body: object) -> None:
    refused = await http("POST", system.urls[0] + START, body, key=system.key)
    assert refused.status == 422
    assert all({"loc", "msg", "type"} == set(entry) for entry in refused.body["detail"])


TOO_LARGE = b"x" * (6 * 1024 * 1024 + 1)


async def test_a_body_too_large_is_refused_before_it_is_read(system: System) -> None:
    refused = await http("POST", system.urls[0] + START, TOO_LARGE, key=system.key)
    assert refused.status == 413


@pytest.mark.parametrize("path", [START, "/v1/chat/completions"])
async def test_a_body_without_a_length_is_too_large_all_the_same(system: System, path: str) -> None:
    headers = {"authorization": f"Bearer {system.key}", "content-type": "application/json"}

    async def chunks() -> AsyncIterator[bytes]:
        yield TOO_LARGE

    async with httpx2.AsyncClient(base_url=system.urls[0], headers=headers) as client:
        assert (await client.post(path, content=chunks())).status_code == 413


ASK = "/chat/completions"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "", None, 404),
        ("POST", "/nowhere", {}, 404),
        ("DELETE", "/models", None, 405),
        ("POST", ASK, b"{", 400),
        ("POST", ASK, b'"\xff"', 400),
        ("POST", ASK, b"[" * 100_000, 400),
        ("POST", ASK, {"model": 1}, 400),
        ("POST", ASK, TOO_LARGE, 413),
    ],
)
async def test_what_never_reaches_a_route_fails_in_the_form_of_its_paths_dialect(
    system: System, method: str, path: str, body: object, status: int
) -> None:
    refused = await http(method, f"{system.urls[0]}/v1{path}", body, key=system.key)
    assert refused.status == status
    assert set(refused.body) == {"error"}
    assert set(refused.body["error"]) == {"message", "type", "param", "code"}
    assert refused.body["error"]["type"] == "invalid_request_error"
    assert refused.body["error"]["param"] in (None, "model")
    assert (refused.headers.get("allow") is not None) == (status == 405)


@pytest.mark.parametrize(("path", "status"), [("/v1nowhere", 404), ("/faye/nowhere", 404), ("/health/x", 404)])
async def test_elsewhere_it_fails_plainly(system: System, path: str, status: int) -> None:
    refused = await http("POST", system.urls[0] + path, {}, key=system.key)
    assert (refused.status, refused.body) == (status, {"detail": "Not Found"})


def shape(name: str) -> Shape:
    return lambda error: JSONResponse({name: type(error).__name__})


def router(prefix: str) -> APIRouter:
    made = APIRouter(prefix=prefix)

    @made.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    return made


def in_process(*dialects: Dialect) -> httpx2.AsyncClient:
    application = http_application(
        dialects,
        sessions=cast("Sessions", None),
        readiness=cast("Readiness", None),
        cors_origins=(),
        body_bytes=200_000,
        bodies_bytes=100_000,
        forwarded_allow_ips="",
    )
    transport = httpx2.ASGITransport(application, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize("path", ["/a/broken", "/a/x", "/ab/x", "/a/b/broken", "/a/b", "/a/bc", "/c"])
async def test_of_several_dialects_the_longest_path_says_the_form(path: str) -> None:
    expected = {"/a/broken": "outer", "/a/x": "outer", "/a/bc": "outer", "/a/b/broken": "inner", "/a/b": "inner"}
    dialects = [
        Dialect("outer", router("/a"), errors={"/a": shape("outer")}),
        Dialect("inner", router("/a/b"), errors={"/a/b": shape("inner")}),
    ]
    async with in_process(*dialects) as client:
        (form,) = (await client.get(path)).json()
    assert form == expected.get(path, "detail")


async def test_a_stream_does_not_keep_the_body_that_it_answers() -> None:
    async def admit(credential: str) -> Caller:
        return Caller()

    made = guarded_router("/a", "a", admit)

    @made.post("/stream")
    async def stream(request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
        keeper = weakref.ref(request)

        async def events() -> AsyncGenerator[bytes, None]:
            yield b"kept: "
            yield str(keeper() is not None).encode()

        return await event_stream(request, events())

    async with in_process(Dialect("a", made)) as client:
        assert (await client.post("/a/stream", json={"a": "b"})).text == "kept: False"


async def test_all_large_bodies_together_are_bounded_until_their_answers_begin() -> None:
    async def admit(credential: str) -> Caller:
        return Caller()

    made = guarded_router("/a", "a", admit)
    entered, go_on = asyncio.Semaphore(0), asyncio.Event()

    @made.post("/wait")
    async def wait(body: Annotated[dict[str, str], Body()]) -> dict[str, int]:
        entered.release()
        await go_on.wait()
        return {"length": len(body["text"])}

    async with in_process(Dialect("a", made)) as client, asyncio.TaskGroup() as tasks:
        large = {"text": "x" * 150_000}
        first = tasks.create_task(client.post("/a/wait", json=large))
        await entered.acquire()
        refused = await client.post("/a/wait", json=large)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "try again" in refused.json()["detail"]
        small = tasks.create_task(client.post("/a/wait", json={"text": "x" * 60_000}))
        await entered.acquire()
        go_on.set()
        assert (await first).json() == {"length": 150_000}
        assert (await small).json() == {"length": 60_000}
        for _ in range(5):
            assert (await client.post("/a/wait", json=large)).status_code == 200
            assert (await client.post("/a/wait", json={"text": "x" * 200_000})).status_code == 413
            assert (await client.post("/a/wait", json={"no": 5})).status_code == 422


async def test_browsers_of_an_allowed_origin_may_read_and_no_others(system: System) -> None:
    for origin, allowed in (("https://ok.example", "https://ok.example"), ("https://evil.example", None)):
        answer = await http("GET", f"{system.urls[0]}/", headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed


async def test_a_websocket_where_there_is_none_is_404(system: System) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{system.urls[0].replace('http', 'ws')}/ws/nowhere/at/all")
    assert caught.value.response.status_code == 404


async def test_without_redis_it_is_unhealthy_and_without_session_not_ready() -> None:
    async with Stack(workers=0, simulator=False, environment=NOBODY) as stack:
        await stack.wait_serving()
        url = stack.gateway_urls[0]
        assert stack.redis is not None
        await stack.redis.kill()
        sick = await http("GET", f"{url}/health")
        assert (sick.status, sick.body) == (503, {"status": "unhealthy", "redis": "disconnected"})
        await stack.sessions[0].kill()
        assert (await http("GET", f"{url}/health")).status == 503
        assert (await http("GET", f"{url}/readyz")).status == 503
        assert (await http("GET", f"{url}/livez")).status == 200


NEEDED = {"API_KEY": "key", "INTERNAL_TOKEN": "token", "PATH": os.environ["PATH"]}


async def run(variables: dict[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env=variables, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, errors.decode()


@pytest.mark.parametrize(("name", "value"), [("GATEWAY_PORT", "http"), ("JWT_SECRET", "too-short")])
async def test_a_bad_setting_ends_the_start_with_one_sentence_that_names_it(name: str, value: str) -> None:
    code, errors = await run({**NEEDED, name: value})
    assert code == 2
    assert name in errors
    assert value not in errors or name != "JWT_SECRET"
    assert errors.count("\n") == 1


async def test_a_taken_port_ends_the_start_with_one_sentence_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, errors = await run({**NEEDED, "GATEWAY_PORT": port})
    assert code == 1
    assert "GATEWAY_PORT" in errors
    assert port in errors
    assert errors.count("\n") == 1
