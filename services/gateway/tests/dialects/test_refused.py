"""What is left of a message that is over a limit: nothing, over a running system with limits that are soon used up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from launcher.stack import Stack
from switchboard.session.v1 import session_pb2

from ..client import Socket, http
from ..worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="session")
LIMITS = {"USER__MESSAGES": "1", "USER__WINDOW_S": "3600.0", "KEY__MESSAGES": "2", "KEY__WINDOW_S": "3600.0"}


class Limited:
    """A system that takes one message of each user, and two of each API key; answers come from nobody."""

    def __init__(self, stack: Stack, worker: Worker) -> None:
        self.url = stack.gateway_urls[0]
        self.worker = worker
        self.key = stack.secrets.api_key
        self._stack = stack

    def headers(self, user_id: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._stack.secrets.user_token(user_id)}"}

    async def connect(self, path: str, **headers: str) -> Socket:
        return await Socket.open(f"ws{self.url[4:]}{path}", headers=headers)

    async def sessions(self, user_id: str) -> list[Any]:
        listed = await http("GET", f"{self.url}/chat/sessions", headers=self.headers(user_id))
        assert listed.status == 200
        return list(listed.body)

    async def knows(self, dialect: str, name: str) -> bool:
        """Whether the session service has a session of that name."""
        request = session_pb2.GetSessionRequest(dialect=dialect, name=name)
        try:
            await self.worker.call(self.worker.session.GetSession, request)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return False
        return True


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited() -> AsyncIterator[Limited]:
    environment = {f"SWITCHBOARD__LIMITS__{name}": value for name, value in LIMITS.items()}
    environment["LLM_WORKER_ADDR"] = "127.0.0.1:1"
    async with Stack(workers=0, simulator=False, environment=environment) as stack:
        await stack.wait_serving()
        async with Worker(stack.session_target, stack.secrets.internal_token) as worker:
            yield Limited(stack, worker)


async def test_a_first_message_that_is_refused_leaves_no_elogrants_session(limited: Limited) -> None:
    first = await limited.connect("/ws/chat/", **limited.headers("eve"))
    taken = (await first.receive())["session_id"]
    await first.send(json.dumps({"message": "taken"}))
    turn = await limited.worker.claim(taken)
    await turn.complete()
    await first.receive()
    second = await limited.connect("/ws/chat/", **limited.headers("eve"))
    refused = (await second.receive())["session_id"]
    for _ in range(2):
        await second.send(json.dumps({"message": "refused"}))
        frame = await second.receive()
        assert frame["session_id"] == refused
        assert "Try again in" in frame["error"]
        assert [entry["session_id"] for entry in await limited.sessions("eve")] == [taken]
    # It goes on with another session meanwhile, and is still there.
    await second.send(json.dumps({"message": "refused too", "session_id": taken}))
    assert (await second.receive())["session_id"] == taken
    for client in (first, second):
        await client.close()


async def test_a_first_message_that_is_refused_leaves_no_socializer_conversation(limited: Limited) -> None:
    spent = await limited.connect("/ws/ai/ai-chat/one", **limited.headers("uma"))
    other = await limited.connect("/ws/ai/ai-chat/two", **limited.headers("uma"))
    for client in (spent, other):
        assert (await client.receive())["type"] == "system"
    await spent.send(json.dumps({"content": "taken"}))
    turn = await limited.worker.claim(await limited.worker.chat_of("socializer", "uma/one"))
    await turn.complete()
    await spent.receive()
    for _ in range(2):
        await other.send(json.dumps({"content": "refused"}))
        assert "Try again in" in (await other.receive())["message"]
        assert [await limited.knows("socializer", f"uma/{name}") for name in ("one", "two")] == [True, False]
    for client in (spent, other):
        await client.close()


async def test_an_api_key_that_is_shown_on_a_websocket_is_counted_and_a_ticket_is_not(limited: Limited) -> None:
    async def said(user_id: str, *, by_key: bool) -> str:
        """The first frame that tells what became of a message."""
        started = await http("POST", f"{limited.url}/chat/start_session", {"user_id": user_id}, key=limited.key)
        ticket = str(started.body["websocket_url"]).partition("?")[2]
        query, headers = ("", {"authorization": f"Bearer {limited.key}"}) if by_key else (f"?{ticket}", {})
        client = await limited.connect(f"/ws/{user_id}{query}", **headers)
        await client.send("Hi")
        chat_id = await limited.worker.chat_of("foodhak", user_id)
        if "refused" not in user_id:
            await (await limited.worker.claim(chat_id)).complete()
        frame = await client.receive()
        await client.close()
        return str(frame["type"])

    assert [await said(f"by-key-{number}", by_key=True) for number in range(2)] == ["message_start"] * 2
    assert await said("by-ticket", by_key=False) == "message_start"
    assert await said("refused", by_key=True) == "error"
