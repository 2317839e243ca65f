"""How clients are told of rate limits, and how an answer without a chat is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any, cast

import httpx2
import orjson
import pytest
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Answer, AnswerState, FinishReason
from fastapi import Request
from gateway.answer_limits import AnswerLimits
from gateway.auth import Caller
from gateway.dialect import Dialect, Services
from gateway.dialects import openai_compat
from gateway.http import Readiness, guarded_router, http_application, note_limit
from gateway.ports import Finished, Piece, RateLimit, Sessions, Started, Text
from gateway.prompts import GenerateRequest
from launcher.stack import Stack
from websockets.asyncio.client import connect

from .client import Socket, http

LIMIT = RateLimit("user", 60, 60.0, 41, 12.3)
ASK = {"model": "claude", "messages": [{"role": "user", "content": "Hi"}]}


class FakeLimits:
    """The session service's limits: remembers who has been counted, refuses what it is told to."""

    def __init__(self) -> None:
        self.under_way: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.refusal: SwitchboardError | None = None
        self.released = asyncio.Event()

    async def acquire(self, *, user_id: str, key_id: str, answer_id: str, lasts_s: float) -> RateLimit | None:
        self.asked.append((user_id, key_id))
        if self.refusal is not None:
            raise self.refusal
        self.under_way.append(answer_id)
        return LIMIT

    async def release(self, *, user_id: str, key_id: str, answer_id: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        if answer_id in self.under_way:
            self.under_way.remove(answer_id)
        self.released.set()


class FakeModels:
    """Answers with what is put in; None goes on for ever."""

    def __init__(self, *pieces: Piece | SwitchboardError | None) -> None:
        self.pieces = pieces
        self.generated = 0

    async def generate(self, request: GenerateRequest, *, user_id: str, **_: Any) -> AsyncIterator[Piece]:
        self.generated += 1
        for piece in self.pieces:
            if piece is None:
                await asyncio.Event().wait()
            elif isinstance(piece, SwitchboardError):
                raise piece
            else:
                yield piece


class FakeDoor:
    async def anyone(self, credential: str) -> Caller:
        return Caller(key_id=credential) if credential.startswith("key") else Caller(credential)


WHOLE = (Started("a", "m"), Text("Hi"), Finished(Answer(AnswerState.COMPLETED, FinishReason.STOP)))


def application(*dialects: Dialect) -> Any:
    return http_application(
        dialects,
        sessions=cast("Sessions", None),
        readiness=cast("Readiness", None),
        cors_origins=("https://ok.example",),
        body_bytes=10_000,
        bodies_bytes=10_000,
        forwarded_allow_ips="",
    )


@asynccontextmanager
async def client(limits: FakeLimits, models: FakeModels) -> AsyncIterator[httpx2.AsyncClient]:
    async with asyncio.TaskGroup() as tasks:
        given = {
            "models": models,
            "limits": AnswerLimits(limits, tasks),
            "doorkeeper": FakeDoor(),
            "new_id": lambda: "id",
            "now_s": lambda: 0.0,
        }
        services = Services(**cast("Any", dict.fromkeys(each.name for each in fields(Services)) | given))
        transport = httpx2.ASGITransport(application(openai_compat.dialect(services)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as made:
            yield made


async def ask(at: httpx2.AsyncClient, *, who: str = "ada", stream: bool = False) -> httpx2.Response:
    headers = {"authorization": f"Bearer {who}"}
    return await at.post("/v1/chat/completions", json={**ASK, "stream": stream}, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("who", "counted"), [("ada", ("ada", "")), ("key-1", ("", "key-1"))])
async def test_an_answer_is_counted_for_who_asks_and_is_over_when_it_has_ended(
    stream: bool, who: str, counted: tuple[str, str]
) -> None:
    limits = FakeLimits()
    async with client(limits, FakeModels(*WHOLE)) as at:
        answered = await ask(at, who=who, stream=stream)
        assert answered.status_code == 200
        assert answered.headers["ratelimit-policy"] == '"user";q=60;w=60'
        assert answered.headers["ratelimit"] == '"user";r=41;t=13'
        await limits.released.wait()
    assert limits.asked == [counted]
    assert limits.under_way == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failing_after", [0, 2])
async def test_an_answer_that_fails_is_over_as_well(stream: bool, failing_after: int) -> None:
    limits, broken = FakeLimits(), SwitchboardError(ErrorCode.PROVIDER_UNAVAILABLE, "none")
    async with client(limits, FakeModels(*WHOLE[:failing_after], broken)) as at:
        await ask(at, stream=stream)
        await limits.released.wait()
    assert limits.under_way == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("before", [0, 2])
async def test_an_answer_whose_client_goes_away_is_over_as_well(stream: bool, before: int) -> None:
    limits, gone = FakeLimits(), asyncio.Event()
    body = orjson.dumps({**ASK, "stream": stream})
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            gone.set()

    async with client(limits, FakeModels(*WHOLE[:before], None)) as at:
        transport = cast("Any", at)._transport
        headers = [(b"authorization", b"Bearer ada"), (b"content-type", b"application/json")]
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"}}
        answering = asyncio.create_task(transport.app(scope, receive, send))
        if not (stream and before):
            while not limits.under_way:
                await asyncio.sleep(0)
            gone.set()
        await answering
        async with asyncio.timeout(20):
            await limits.released.wait()
    assert limits.under_way == []


async def test_a_refusal_says_when_to_come_back_and_asks_no_model() -> None:
    limits, models = FakeLimits(), FakeModels(*WHOLE)
    limits.refusal = SwitchboardError(ErrorCode.RATE_LIMITED, "too many messages", retry_after_s=11.2)
    async with client(limits, models) as at:
        for who, name in (("ada", "user"), ("key-1", "key")):
            refused = await ask(at, who=who)
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "12"
            assert refused.headers["ratelimit"] == f'"{name}";r=0;t=12'
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert models.generated == 0


@pytest.mark.parametrize("code", [ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.INTERNAL])
async def test_without_the_limits_answers_are_made_all_the_same(
    code: ErrorCode, caplog: pytest.LogCaptureFixture
) -> None:
    limits = FakeLimits()
    limits.refusal = SwitchboardError(code, "down")
    async with client(limits, FakeModels(*WHOLE)) as at:
        for _ in range(3):
            answered = await ask(at)
            assert answered.status_code == 200
            assert "ratelimit" not in answered.headers
    assert [record.message for record in caplog.records].count("limits_unavailable") == 1


async def test_a_request_that_is_not_valid_counts_for_nothing() -> None:
    limits = FakeLimits()
    async with client(limits, FakeModels(*WHOLE)) as at:
        refused = await at.post("/v1/chat/completions", json={**ASK, "n": 2}, headers={"authorization": "Bearer ada"})
    assert refused.status_code == 400
    assert limits.asked == []


async def test_scripts_of_an_allowed_origin_may_authenticate_and_read_how_the_limit_stands() -> None:
    router = guarded_router("/a", "a", FakeDoor().anyone)

    @router.get("/noted")
    async def noted(request: Request) -> dict[str, str]:
        note_limit(request, LIMIT)
        return {}

    @router.get("/unlimited")
    async def unlimited(request: Request) -> dict[str, str]:
        note_limit(request, None)
        return {}

    transport = httpx2.ASGITransport(application(Dialect("a", router)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as at:
        origin = {"origin": "https://ok.example"}
        asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
        preflight = await at.options("/a/noted", headers={**origin, **asked})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://ok.example"
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        answer = await at.get("/a/noted", headers=origin)
        assert answer.headers["ratelimit"] == '"user";r=41;t=13'
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {"ratelimit", "ratelimit-policy", "retry-after"} <= exposed
        assert "ratelimit" not in (await at.get("/a/unlimited")).headers
        evil = await at.options("/a/noted", headers={"origin": "https://evil.example", **asked})
        assert "access-control-allow-origin" not in evil.headers


async def test_the_whole_system_limits_a_key_and_a_user_and_says_so() -> None:
    table = {"MESSAGES": "2", "WINDOW_S": "3600.0", "ANSWERS": "100"}
    limits = {f"SWITCHBOARD__LIMITS__{who}__{name}": value for who in ("USER", "KEY") for name, value in table.items()}
    async with Stack(environment=limits) as stack:
        url, key, token = stack.gateway_urls[0], stack.secrets.api_key, stack.secrets.user_token("ada")
        model = (await http("GET", f"{url}/v1/models", key=key)).body["data"][0]["id"]
        answers = [await http("POST", f"{url}/v1/chat/completions", {**ASK, "model": model}, key=key) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"key";q=2;w=3600'
        assert answers[0].headers["ratelimit"].startswith('"key";r=1;t=')
        assert answers[2].headers["ratelimit"] == f'"key";r=0;t={answers[2].headers["retry-after"]}'
        assert answers[2].body["error"]["type"] == "rate_limit_error"
        headers = {"authorization": f"Bearer {token}"}
        async with connect(f"ws{url[4:]}/ws/chat/", additional_headers=headers) as connection:
            client = Socket(connection)
            await connection.recv()
            for _ in range(13):
                await connection.send('{"message":"Hi"}')
            frames, code, _ = await client.closing()
            refusals = [frame["error"] for frame in frames if "error" in frame]
            assert len(refusals) == 11
            assert all("Try again in" in refusal for refusal in refusals)
            assert code == 1008
