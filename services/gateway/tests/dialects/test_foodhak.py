"""Foodhak: events in, exact frames out, without I/O; then clients of the running system, the document's own first."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
import pytest_asyncio
from chat.events import LogEvent, ResponseCompleted
from chat.messages import Answer, AnswerState, Message, Role, Source
from gateway.dialect import Renderer, Services
from gateway.dialects.foodhak import FoodhakSocket
from gateway.named_sessions import NamedSessions
from launcher.stack import Stack
from switchboard.session.v1 import session_pb2

from ..client import Response, Socket, http
from ..conftest import System
from ..story import Story
from ..worker import Turn

EXAMPLE = Path(__file__).parents[4] / "examples" / "foodhak_chat.py"
SOURCES = (Source("doc-7", "Almonds and LDL", 0.81), Source("doc-9", "Nuts", 0.5))

# As the document prints them.
START = """
curl -X POST https://ai-foodhak.com/chat/start_session \\
  -H "Authorization: Bearer <API_KEY>" \\
  -H "Content-Type: application/json" \\
  -d '{"user_id": "USER123", "user_name": "Alex"}'
"""
END = """
curl -X POST https://ai-foodhak.com/chat/end_session \\
  -H "Authorization: Bearer <API_KEY>" \\
  -H "Content-Type: application/json" \\
  -d '{"user_id": "USER123"}'
"""
HEALTH = "curl https://ai-foodhak.com/health"
SAMPLE = """
import websockets
import asyncio

async def chat():
    uri = "wss://ai-foodhak.com/ws/USER123"
    async with websockets.connect(uri) as ws:
        await ws.send("Are almonds okay for my cholesterol?")
        async for msg in ws:
            print(msg)

asyncio.run(chat())
"""


def renderer(*, sources: bool = False) -> Renderer:
    # Nothing of it is asked for services.
    return FoodhakSocket(cast("Services", None), cast("NamedSessions", None)).renderer(sources, "chat-1")


def play(*events: LogEvent, subject: Renderer | None = None) -> list[dict[str, object]]:
    subject = subject or renderer()
    return [dict(frame.content) for event in events for frame in subject.render(event)]


def streaming(content: str) -> dict[str, object]:
    return {"type": "streaming", "content": content}


def stop(content: str, **more: object) -> dict[str, object]:
    return {"type": "message_stop", "content": content, **more}


def error(message: str) -> dict[str, object]:
    return {"type": "error", "message": message}


def informed(event: LogEvent, sources: Sequence[Source] = SOURCES, *, without: bool = False) -> LogEvent:
    """The event of a whole answer, with what is known of where it came from."""
    assert isinstance(event, ResponseCompleted)
    return replace(event, answer=replace(event.answer, sources=tuple(sources), without_knowledge=without))


def test_an_answer_begins_streams_and_ends_in_the_whole() -> None:
    story = Story()
    assert play(story.ask(), story.start(), story.say("Yes, "), story.say("**almonds**"), story.complete()) == [
        {"type": "message_start"},
        streaming("<p>Yes, "),
        streaming("<strong>almonds"),
        streaming("</strong></p>"),
        stop("<p>Yes, <strong>almonds</strong></p>"),
    ]


def test_a_failed_answer_ends_in_one_error_frame_behind_well_formed_html() -> None:
    story = Story()
    assert play(story.start(), story.say("Yes"), story.fail("Please try again.")) == [
        {"type": "message_start"},
        streaming("<p>Yes"),
        streaming("</p>"),
        error("Please try again."),
    ]


def test_who_knows_nothing_is_shown_each_answer_from_its_beginning() -> None:
    running = Message("a", "chat-1", Role.ASSISTANT, "So far", 0, answer=Answer(AnswerState.RUNNING))
    assert [dict(frame.content) for frame in renderer().snapshot([running])] == [
        {"type": "message_start"},
        streaming("<p>So far"),
    ]


def test_sources_are_told_to_who_asks_for_them_alone() -> None:
    story = Story()
    events = [story.start(), story.say("Yes"), informed(story.complete())]
    assert play(*events)[-1] == stop("<p>Yes</p>")
    assert play(*events, subject=renderer(sources=True))[-1] == stop(
        "<p>Yes</p>",
        sources=[
            {"id": "doc-7", "title": "Almonds and LDL", "score": 0.81},
            {"id": "doc-9", "title": "Nuts", "score": 0.5},
        ],
    )


def test_who_asks_for_sources_is_told_when_there_was_nobody_to_ask() -> None:
    story = Story()
    events = [story.start(), story.say("Yes"), informed(story.complete(), (), without=True)]
    assert play(*events)[-1] == stop("<p>Yes</p>")
    assert play(*events, subject=renderer(sources=True))[-1] == stop("<p>Yes</p>", sources=[], knowledge="unavailable")


def test_a_stopped_answer_has_no_sources_to_tell_of() -> None:
    story = Story()
    assert play(story.start(), story.say("Yes"), story.cancel(), subject=renderer(sources=True))[-1] == stop(
        "<p>Yes</p>", sources=[]
    )


def test_an_ended_answer_shown_again_has_its_sources_still() -> None:
    answer = Answer(AnswerState.COMPLETED, sources=SOURCES[:1])
    ended = Message("a", "chat-1", Role.ASSISTANT, "Yes", 0, answer=answer)
    frames = renderer(sources=True).snapshot([ended])
    assert dict(frames[-1].content) == stop(
        "<p>Yes</p>", sources=[{"id": "doc-7", "title": "Almonds and LDL", "score": 0.81}]
    )


# The running system from here on.


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def opened() -> AsyncIterator[Stack]:
    """Everything, with Foodhak's WebSocket open, as the document's bare sample wants it."""
    async with Stack(environment={"FOODHAK_OPEN_WS": "true"}) as stack:
        await stack.wait_serving()
        yield stack


class Guest:
    """One product's user."""

    def __init__(self, system: System, user: str = "") -> None:
        self.system = system
        self.user = user or f"user {uuid.uuid4()}"

    async def post(self, verb: str, *, key: str | None = None, **more: Any) -> Response:
        url = f"{self.system.urls[0]}/chat/{verb}"
        return await http("POST", url, {"user_id": self.user, **more}, key=self.system.key if key is None else key)

    async def start(self) -> Any:
        started = await self.post("start_session", user_name="Alex")
        assert started.status == 200, started
        return started.body

    def path(self, replica: int = 0) -> str:
        return f"{self.system.urls[replica].replace('http', 'ws')}/ws/{quote(self.user, safe='')}"

    async def answer(self, text: str = "Yes") -> Turn:
        turn = await self.system.worker.claim(await self.system.worker.chat_of("foodhak", self.user))
        await turn.say(text)
        await turn.complete()
        return turn

    async def profile(self, method: str, body: Any = None, *, key: str | None = None) -> Response:
        url = f"{self.system.urls[0]}/chat/users/{quote(self.user, safe='')}/profile"
        return await http(method, url, body, key=self.system.key if key is None else key)


async def refused(url: str, **headers: str) -> str:
    """What a client is told that is not let in."""
    socket = await Socket.open(url, headers=headers)
    frames, code, _ = await socket.closing()
    assert code == 1008
    assert [set(frame) for frame in frames] == [{"type", "message"}]
    assert frames[0]["type"] == "error"
    return str(frames[0]["message"])


async def enter(url: str, **headers: str) -> Socket:
    """Known to be let in."""
    socket = await Socket.open(url, headers=headers)
    await socket.send(" ")
    assert await socket.receive() == error("The message is empty.")
    return socket


async def hear_answer(socket: Socket) -> list[Any]:
    frames = [await socket.receive()]
    while frames[-1]["type"] not in ("message_stop", "error"):
        frames.append(await socket.receive())
    return frames


async def curl(command: str, stack: Stack) -> Response:
    """A line of the document, with our host and key."""
    line = command.replace("https://ai-foodhak.com", stack.gateway_urls[0]).replace("<API_KEY>", stack.secrets.api_key)
    words = iter(shlex.split(line.replace("\\\n", ""))[1:])
    method, url, body, headers = "GET", "", None, {}
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d":
                body = next(words).encode()
            case _:
                url = word
    return await http(method, url, body, headers=headers)


async def test_the_documents_own_lines_hold_with_only_host_and_key_changed(opened: Stack) -> None:
    url = opened.gateway_urls[0].replace("http", "ws")
    started = await curl(START, opened)
    assert started.status == 200
    assert list(started.body) == [
        "session_key",
        "user_id",
        "user_name",
        "status",
        "conversation_history",
        "websocket_url",
    ]
    key = started.body.pop("session_key")
    assert key.startswith("user:USER123:")
    assert uuid.UUID(key.removeprefix("user:USER123:"))
    assert started.body == {
        "user_id": "USER123",
        "user_name": "Alex",
        "status": "Session started successfully",
        "conversation_history": [],
        "websocket_url": f"{url}/ws/USER123",
    }
    sample = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SAMPLE.replace("wss://ai-foodhak.com", url),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert sample.stdout is not None
    async with asyncio.timeout(60):
        frames = [json.loads(await sample.stdout.readline())]
        while frames[-1]["type"] not in ("message_stop", "error"):
            frames.append(json.loads(await sample.stdout.readline()))
        assert [frames[0], *{frame["type"] for frame in frames[1:-1]}] == [{"type": "message_start"}, "streaming"]
        assert frames[-1]["type"] == "message_stop"
        assert "".join(frame["content"] for frame in frames[1:-1]) == frames[-1]["content"] != ""
        again = (await curl(START, opened)).body
        assert again["session_key"] == key
        assert again["conversation_history"] == [
            {"role": "user", "content": "Are almonds okay for my cholesterol?"},
            {"role": "assistant", "content": frames[-1]["content"]},
        ]
        ended = await curl(END, opened)
        assert (ended.status, ended.body) == (200, {"message": "Session ended successfully"})
        # Its loop ends with its session, by a close that is no error.
        assert (await sample.stdout.read(), await sample.wait()) == (b"", 0)
    assert (await curl(HEALTH, opened)).body == {"status": "healthy", "redis": "connected"}
    assert (await curl(END, opened)).status == 404


async def test_an_open_deployment_still_wants_an_open_session(opened: Stack) -> None:
    url = f"{opened.gateway_urls[0].replace('http', 'ws')}/ws/{uuid.uuid4()}"
    assert "start_session" in await refused(url)


async def test_the_url_of_start_session_is_all_that_a_client_needs(system: System) -> None:
    guest = Guest(system)
    session = await guest.start()
    path, ticket = session["websocket_url"].split("?ticket=")
    assert path == guest.path()
    for url in (session["websocket_url"], f"{guest.path(replica=1)}?ticket={ticket}"):
        socket = await enter(url)
        await socket.send("Can I eat peanuts with my profile?")
        await guest.answer()
        assert await hear_answer(socket) == [
            {"type": "message_start"},
            streaming("<p>Yes"),
            streaming("</p>"),
            stop("<p>Yes</p>"),
        ]
        await socket.close()


async def test_the_api_key_lets_in_as_well_and_a_bad_one_is_not_made_good_by_a_ticket(system: System) -> None:
    guest = Guest(system)
    session = await guest.start()
    await (await enter(guest.path(), Authorization=f"Bearer {system.key}")).close()
    await (await enter(session["websocket_url"], Authorization=f"Bearer {system.key}")).close()
    assert "API key" in await refused(session["websocket_url"], Authorization="Bearer wrong")
    await guest.post("end_session")
    assert "start_session" in await refused(guest.path(), Authorization=f"Bearer {system.key}")


async def test_who_shows_nothing_good_is_refused_and_learns_nothing_of_the_session(system: System) -> None:
    guest, nobody, other = Guest(system), Guest(system), Guest(system)
    good, theirs = [(await one.start())["websocket_url"].split("?ticket=")[1] for one in (guest, other)]
    assert await refused(guest.path()) == await refused(nobody.path())
    mine, stamp, signature = good.split(".")
    tampered = signature[:-1] + ("A" if signature[-1] != "A" else "B")
    for ticket in (
        theirs,
        f"{mine}.{int(stamp) + 1}.{signature}",
        f"{mine}.{stamp}.{tampered}",
        f"{mine}.{stamp}",
        f"{uuid.uuid4()}.{stamp}.{signature}",
        f"{stamp}.{signature}",
        "nonsense",
    ):
        told = {await refused(f"{one.path()}?ticket={ticket}") for one in (guest, nobody)}
        assert len(told) == 1, told


async def test_a_ticket_ends_with_its_session(system: System) -> None:
    guest = Guest(system)
    first = await guest.start()
    inside = await enter(first["websocket_url"])
    again = await guest.start()
    assert again["session_key"] == first["session_key"]
    await guest.post("end_session")
    assert (await inside.closing())[1] == 1000
    for session in (first, again):
        assert "start_session" in await refused(session["websocket_url"])
    new = await guest.start()
    assert new["session_key"] != first["session_key"]
    for session in (first, again):
        assert "start_session" in await refused(session["websocket_url"])
    await (await enter(new["websocket_url"])).close()


async def test_no_log_line_holds_a_ticket(system: System) -> None:
    guest = Guest(system)
    url = (await guest.start())["websocket_url"]
    await (await enter(url)).close()
    await guest.post("end_session")
    await refused(url)
    signature = url.rpartition(".")[2]
    assert not [line for line in system.lines if signature in line.raw]


async def test_sources_come_over_the_socket_to_who_asks(system: System) -> None:
    guest = Guest(system)
    url = (await guest.start())["websocket_url"]
    asking, strict = await enter(f"{url}&sources=true"), await enter(f"{url}&sources=false")
    await strict.send("Almonds?")
    await guest.answer()
    assert (await hear_answer(asking))[-1] == stop("<p>Yes</p>", sources=[])
    assert (await hear_answer(strict))[-1] == stop("<p>Yes</p>")
    for socket in (asking, strict):
        await socket.close()
    assert await refused(f"{url}&sources=please") == "sources must be true or false"


async def test_a_session_is_started_without_a_name_and_with_fields_that_nobody_knows(system: System) -> None:
    guest = Guest(system, f"Jürgen@{uuid.uuid4()}")
    started = await guest.post("start_session", plan="premium")
    assert (started.status, started.body["user_id"], started.body["user_name"]) == (200, guest.user, "")
    assert started.body["websocket_url"].split("?")[0].endswith(f"/ws/J%C3%BCrgen%40{guest.user[-36:]}")
    await (await enter(started.body["websocket_url"])).close()


async def test_a_started_session_belongs_to_its_user_and_is_answered_by_foodhak(system: System) -> None:
    guest = Guest(system)
    await guest.start()
    chat_id = await system.worker.chat_of("foodhak", guest.user)
    request = session_pb2.GetChatRequest(chat_id=chat_id, dialect="foodhak")
    chat = (await system.worker.call(system.worker.session.GetChat, request)).chat
    assert (chat.owner_id, chat.answers.persona) == (guest.user, "foodhak")


@pytest.mark.parametrize(
    "user", ["", " u", "a/b", "a?b", "a#b", "100%", "..", "x" * 201, "tab\t", "chat", 7, None, "\ud800"]
)
async def test_an_id_that_no_url_carries_is_refused(system: System, user: object) -> None:
    body = {"user_id": user, "user_name": "Alex"}
    for verb in ("start_session", "end_session", "stop"):
        response = await http("POST", f"{system.urls[0]}/chat/{verb}", body, key=system.key)
        assert response.status == 422, response
        assert list(response.body) == ["detail"]
        assert response.body["detail"][0]["loc"] == ["body", "user_id"]


async def test_the_user_chat_is_refused_because_that_socket_is_another_apis(system: System) -> None:
    url = f"{system.urls[0].replace('http', 'ws')}/ws/chat"
    for end in ("", "/"):
        frames, code, _ = await (
            await Socket.open(url + end, headers={"Authorization": f"Bearer {system.key}"})
        ).closing()
        assert ([list(frame) for frame in frames], code) == ([["error", "session_id"]], 1008)
    told = await http("POST", f"{system.urls[0]}/chat/start_session", {"user_id": "chat"}, key=system.key)
    assert "/ws/chat is another API's" in told.body["detail"][0]["msg"]
    message = await refused(f"{system.urls[0].replace('http', 'ws')}/ws/%2E%2E", Authorization=f"Bearer {system.key}")
    assert message.startswith("user_id: ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/chat/start_session", 401),
        ("POST", "/chat/end_session", 401),
        ("POST", "/chat/stop", 401),
        ("PUT", "/chat/users/u/profile", 401),
        ("GET", "/chat/users/u/profile", 401),
        ("DELETE", "/chat/users/u/profile", 401),
        ("GET", "/chat/start_session", 405),
        ("GET", "/chat/users/u", 404),
        ("GET", "/chat/nowhere", 404),
    ],
)
async def test_every_failure_below_its_paths_has_its_form(system: System, method: str, path: str, status: int) -> None:
    response = await http(method, system.urls[0] + path, {"user_id": "u"} if method != "GET" else None, key="wrong")
    assert (response.status, list(response.body)) == (status, ["detail"])
    theirs = await http(method, f"{system.urls[0]}/chat/sessions", {} if method != "GET" else None, key="wrong")
    assert list(theirs.body) == ["error"]


async def test_a_stop_says_whether_there_was_anything_to_stop(system: System) -> None:
    guest = Guest(system)
    assert (await guest.post("stop")).status == 404
    socket = await enter((await guest.start())["websocket_url"])
    assert (await guest.post("stop")).body == {"message": "There was no answer to stop"}
    await socket.send("Almonds?")
    turn = await system.worker.claim(await system.worker.chat_of("foodhak", guest.user))
    await turn.say("Yes")
    assert [(await socket.receive())["type"] for _ in range(2)] == ["message_start", "streaming"]
    assert (await guest.post("stop")).body == {"message": "Answer stopped"}
    assert (await hear_answer(socket))[-1] == stop("<p>Yes</p>")
    await socket.close()


async def test_a_profile_is_kept_whole_and_replaced_whole(system: System) -> None:
    guest = Guest(system, f"Jürgen {uuid.uuid4()}")
    missing = await guest.profile("GET")
    assert (missing.status, list(missing.body)) == (404, ["detail"])
    profile = {
        "diet": "vegan",
        "allergies": ["peanuts", "Sellerie Ü"],
        "cholesterol": {"ldl": 4.1, "hdl": 1, "measured": None, "fasting": True},
        "": [[], {}, -(2**53)],
    }
    assert (await guest.profile("PUT", profile)).body == {"message": "Profile stored"}
    assert (await guest.profile("GET")).body == profile
    await guest.start()
    await guest.post("end_session")
    assert (await guest.profile("GET")).body == profile
    assert (await guest.profile("PUT", {})).status == 200
    assert (await guest.profile("GET")).body == {}
    for _ in range(2):
        assert (await guest.profile("DELETE")).body == {"message": "Profile deleted"}
    assert (await guest.profile("GET")).status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 422),
        (b"null", 422),
        (b'"vegan"', 422),
        (b"not json", 422),
        (b"", 422),
        (b'{"a": NaN}', 422),
        (b'{"a": [-Infinity]}', 422),
        (b'{"a": 1e999}', 422),
        (b'{"a": 9007199254740993}', 422),
        (b'{"a": ' + b"[" * 20 + b"]" * 20 + b"}", 422),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"a": "\\ud800"}', 400),
        (b'{"a": "' + b"x" * (16 * 1024) + b'"}', 413),
        # As JSON it is 15 KB, as it is stored more than 16.
        (b'{"a": [' + b"1, " * 5_000 + b"1]}", 413),
        # Stored it would be more than goes between our services at once.
        (b'{"a": [' + b"1, " * 1_000_000 + b"1]}", 413),
        (b'{"a": "' + b"x" * (6 * 1024 * 1024) + b'"}', 413),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
async def test_a_profile_that_can_not_be_kept_as_it_is_is_refused(system: System, body: bytes, status: int) -> None:
    guest = Guest(system)
    await guest.profile("PUT", {"diet": "vegan"})
    response = await guest.profile("PUT", body)
    assert (response.status, list(response.body)) == (status, ["detail"])
    assert (await guest.profile("GET")).body == {"diet": "vegan"}


async def run(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_example_has_its_questions_answered_and_comes_back_to_them(whole: Stack) -> None:
    plan = f"[[sim {json.dumps({'text': 'Hello, **Alex**.'})}]]"
    common = ("--url", whole.gateway_urls[0], "--key", whole.secrets.api_key, "--user", f"u {uuid.uuid4()}")
    status, out, err = await run(*common, "--name", "Alex", plan, plan)
    assert (status, err) == (0, "")
    answer = "<p>Hello, <strong>Alex</strong>.</p>"
    assert out.splitlines() == [f"you: {plan}", answer, f"you: {plan}", answer]
    status, out, _ = await run(*common, "--end", plan)
    assert out.count(f"earlier, assistant: {answer}\n") == 2
    assert (status, out.splitlines()[-1]) == (0, "Session ended successfully")


async def test_the_example_tells_what_failed_by_its_status(system: System) -> None:
    status, _, err = await run("--url", system.urls[0], "--key", "wrong", "--user", "u")
    assert (status, err.startswith("failed: 401: ")) == (1, True)
    assert (await run("--url", "http://127.0.0.1:1", "--key", "k", "--user", "u"))[0] == 1
    assert (await run("--url", system.urls[0], "--key", "", "--user", "u"))[0] == 2
