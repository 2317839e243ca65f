"""Socializer: events in, exact frames out, without I/O; then clients of the running system."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import LogEvent, MessageCreated, ResponseCancelled, ResponseCompleted, ResponseStarted
from chat.messages import Answer, AnswerState, Message, Role
from gateway.dialects.socializer import SocializerRenderer, session_name
from gateway.frame import Frame
from launcher.stack import Stack

from ..client import Response, Socket, http
from ..conftest import System
from ..story import Story
from ..worker import Turn

EIGHT_PM_US = round(datetime(2025, 10, 1, 20, tzinfo=UTC).timestamp()) * 1_000_000
"""The document's moment."""
SCRIPT = Path(__file__).parents[4] / "examples" / "test_ai_chat_websocket.py"
ORIGIN = "https://ok.example"
"""What CORS_ORIGINS names."""


def at(seconds: float) -> int:
    return EIGHT_PM_US + round(seconds * 1_000_000)


def renderer(now_s: float = 99.0) -> SocializerRenderer:
    return SocializerRenderer(lambda: at(now_s))


def contents(frames: Sequence[Frame]) -> list[dict[str, object]]:
    return [dict(frame.content) for frame in frames]


def timed(event: LogEvent, began_s: float = 0.0, took_s: float = 0.0) -> LogEvent:
    """The event with times, which a Story leaves out."""
    match event:
        case MessageCreated() | ResponseStarted():
            return replace(event, message=replace(event.message, created_at_us=at(began_s)))
        case ResponseCompleted():
            return replace(event, answer=replace(event.answer, duration_s=took_s))
        case _:
            return event


def play(*events: LogEvent, subject: SocializerRenderer | None = None) -> list[dict[str, object]]:
    subject = subject or renderer()
    return [content for event in events for content in contents(subject.render(event))]


def ai_response(message: str, second: float = 0) -> dict[str, object]:
    return {"type": "ai_response", "message": message, "timestamp": f"2025-10-01T20:00:{second:09.6f}"}


def error(message: str, second: float = 0) -> dict[str, object]:
    return {"type": "error", "message": message, "timestamp": f"2025-10-01T20:00:{second:09.6f}"}


def said(second: float, message_id: str = "u") -> Message:
    return Message(message_id, "chat-1", Role.USER, "Hi", at(second))


def answered(
    content: str, began_s: float, took_s: float = 1.0, state: AnswerState = AnswerState.COMPLETED, failure: str = ""
) -> Message:
    broken = Failure(ErrorCode.PROVIDER_UNAVAILABLE, failure) if failure else None
    answer = Answer(state, duration_s=took_s, failure=broken)
    return Message(f"a-{content}", "chat-1", Role.ASSISTANT, content, at(began_s), answer=answer)


def test_a_whole_answer_is_the_documents_frame() -> None:
    story = Story()
    frames = play(
        timed(story.ask()),
        timed(story.start()),
        story.say("Hello! "),
        story.say("How can I help you today?"),
        timed(story.complete(), took_s=1),
    )
    assert frames == [
        {
            "type": "ai_response",
            "message": "Hello! How can I help you today?",
            "timestamp": "2025-10-01T20:00:01.000000",
        }
    ]
    assert list(frames[0]) == ["type", "message", "timestamp"]


def test_a_stopped_answer_is_what_was_said_so_far() -> None:
    story = Story()
    assert play(timed(story.start(), 2), story.say("Hel"), story.cancel()) == [ai_response("Hel", 2)]


def test_an_answer_stopped_before_it_began_is_empty_and_has_its_questions_time() -> None:
    story = Story()
    assert play(timed(story.ask(), 3), story.cancel()) == [ai_response("", 3)]


def test_a_turn_stopped_while_it_waited_leaves_the_answer_under_way_alone() -> None:
    story = Story()
    subject = renderer()
    assert play(timed(story.start(), 1), story.say("Hello"), subject=subject) == []
    waiting = ResponseCancelled("another", 0)
    assert play(waiting, subject=subject) == [ai_response("", 1)]
    assert play(story.say(" you"), timed(story.complete(), took_s=1), subject=subject) == [ai_response("Hello you", 2)]


def test_a_failed_answer_is_one_error() -> None:
    story = Story()
    assert play(timed(story.start(), 4), story.say("Hel"), story.fail("Please try again.")) == [
        error("Please try again.", 4)
    ]
    assert play(timed(story.ask(), 5), story.fail("No.")) == [error("No.", 5)]


def test_a_restarted_answer_is_what_it_ended_as() -> None:
    story = Story()
    events = [timed(story.start()), story.say("Wrong"), story.restart(), story.say("Right"), story.complete()]
    assert play(*events) == [ai_response("Right")]


def test_who_resumes_mid_answer_gets_all_of_it() -> None:
    story, subject = Story(), renderer(now_s=7)
    story.answer_id, story.text = "a", "Hello "
    subject.resume("Hello ")
    # No event told when it began.
    assert play(story.say("you"), story.complete(), subject=subject) == [ai_response("Hello you", 7)]


def test_one_answer_leaves_nothing_to_the_next() -> None:
    story, subject = Story(), renderer()
    play(timed(story.start()), story.say("one"), story.complete(), subject=subject)
    assert subject._answer is None
    assert play(timed(story.start(), 8), story.say("two"), story.complete(), subject=subject) == [ai_response("two", 8)]


@pytest.mark.parametrize(
    ("messages", "frames"),
    [
        ([], []),
        ([said(0)], []),
        ([said(0), answered("one", 1, 2)], [ai_response("one", 3)]),
        ([said(0), answered("one", 1, 2), said(9)], []),
        ([said(0), answered("one", 1, 2), said(9), answered("two", 10)], [ai_response("two", 11)]),
        # The second thing was said while the first was still answered; then the client went.
        (
            [said(0), answered("one", 1, 9), said(5), answered("two", 10)],
            [ai_response("one", 10), ai_response("two", 11)],
        ),
        ([said(0), said(1), answered("one", 2), answered("two", 4)], [ai_response("one", 3), ai_response("two", 5)]),
        ([said(0), answered("", 1, 1, AnswerState.FAILED, "No.")], [error("No.", 2)]),
        ([said(0), answered("Hel", 1, 0, AnswerState.CANCELLED)], [ai_response("Hel", 1)]),
        # Nobody knows when a stopped answer ended: it comes again rather than never.
        ([said(0), answered("Hel", 1, 0, AnswerState.CANCELLED), said(9)], [ai_response("Hel", 1)]),
        ([said(0), answered("Hel", 1, 0, AnswerState.RUNNING)], []),
        ([answered("one", 1)], [ai_response("one", 2)]),
    ],
)
def test_who_connects_is_told_what_it_may_not_have_heard(
    messages: list[Message], frames: list[dict[str, object]]
) -> None:
    assert contents(renderer().snapshot(messages)) == frames


def test_the_answer_under_way_at_a_snapshot_comes_when_it_ends() -> None:
    story, subject = Story(), renderer()
    assert contents(subject.snapshot([said(0), answered("Hello", 1, 0, AnswerState.RUNNING)])) == []
    story.answer_id, story.text = "a-Hello", "Hello"
    assert play(story.say(" you"), timed(story.complete(), took_s=2), subject=subject) == [ai_response("Hello you", 3)]


@pytest.mark.parametrize(
    ("now", "frames"),
    [
        ([said(0), answered("Hello", 1, 0, AnswerState.RUNNING)], []),
        ([said(0), answered("Hello", 1, 1)], [ai_response("Hello", 2)]),
        (
            [said(0), answered("Hello", 1, 1), said(3, "u2"), answered("two", 4), said(8, "u3")],
            [ai_response("Hello", 2), ai_response("two", 5)],
        ),
        ([said(0)], [error("The answer was lost on our side. Please ask again.", 1)]),
    ],
)
def test_who_waits_for_an_answer_gets_it_although_events_were_lost(
    now: list[Message], frames: list[dict[str, object]]
) -> None:
    subject = renderer()
    subject.snapshot([said(0), answered("Hello", 1, 0, AnswerState.RUNNING)])
    assert contents(subject.resync(now)) == frames


def test_who_has_heard_everything_hears_nothing_old_when_events_were_lost() -> None:
    subject = renderer()
    messages = [said(0), answered("one", 1)]
    subject.snapshot(messages)
    assert subject.resync(messages) == []
    assert contents(subject.resync([*messages, said(5, "u2"), answered("two", 6)])) == [ai_response("two", 7)]


def test_every_conversation_has_a_name_of_its_own_that_is_short_enough() -> None:
    names = [("a", "b"), ("a/b", "c"), ("a", "b" * 300), ("a", "b" * 301), ("a" * 200, "b"), ("ä" * 99, "ö")]
    made = [session_name(user, client) for user, client in names]
    assert len(set(made)) == len(made)
    assert all(1 <= len(name.encode()) <= 200 for name in made)
    with pytest.raises(SwitchboardError):
        session_name("a", "b\0")


# From here on: the running system.


class Guest:
    """A user with one client, who comes and goes."""

    def __init__(self, system: System, *, user: str = "", client_id: str = "") -> None:
        self.system = system
        self.user = user or f"user {uuid.uuid4()}"
        self.client_id = client_id or f"client-{uuid.uuid4()}"
        self.token = system.stack.secrets.user_token(self.user)

    async def open(
        self, *, replica: int = 0, query: str = "", headers: Mapping[str, str] | None = None, token: bool = True
    ) -> Socket:
        url = f"{self.system.urls[replica].replace('http', 'ws')}/ws/ai/ai-chat/{self.client_id}?{query}"
        return await Socket.open(f"{url}&token={self.token}" if token else url, headers=dict(headers or {}))

    async def enter(self, *, replica: int = 0, query: str = "") -> Socket:
        socket = await self.open(replica=replica, query=query)
        assert (await socket.receive())["type"] == "system"
        return socket

    async def turn(self) -> Turn:
        worker = self.system.worker
        return await worker.claim(await worker.chat_of("socializer", f"{self.user}/{self.client_id}"))

    async def answer(self, text: str) -> None:
        turn = await self.turn()
        await turn.say(text)
        await turn.complete()

    async def stop(self, *, replica: int = 0) -> Response:
        url = f"{self.system.urls[replica]}/ai/chat/{self.client_id}/stop"
        return await http("POST", url, key=self.token)


async def say(socket: Socket, text: str) -> None:
    await socket.send(json.dumps({"content": text}))


async def hear(socket: Socket) -> tuple[str, str]:
    frame = await socket.receive()
    return frame["type"], frame["message"]


def is_recent(timestamp: str) -> bool:
    moment = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=UTC)
    return len(timestamp) == 26 and abs((datetime.now(UTC) - moment).total_seconds()) < 60


async def test_the_welcome_is_the_documents(system: System) -> None:
    ada = Guest(system, user=f"ada-{uuid.uuid4()}")
    socket = await ada.open()
    frame = await socket.receive()
    assert list(frame) == ["type", "message", "timestamp"]
    assert frame["type"] == "system"
    assert frame["message"] == f"Welcome to AI Chat, {ada.user}! How can I assist you today?"
    assert is_recent(frame["timestamp"])
    await socket.close()


async def test_every_way_to_show_the_token_lets_in(system: System) -> None:
    guest = Guest(system)
    cookie = {"cookie": f"theme=dark; access_token={guest.token}"}
    bad = {"cookie": "access_token=bad", "authorization": "Bearer bad"}
    for headers, query in (
        (cookie, ""),
        ({"cookie": f'a@b=c; state={{"x": [1]}}; access_token={guest.token}; a(b'}, ""),
        ({"authorization": f"Bearer {guest.token}"}, ""),
        ({**cookie, "authorization": "Bearer bad"}, ""),
        (bad, f"token={guest.token}"),
        ({**cookie, "origin": ORIGIN}, ""),
        (
            {"authorization": f"Bearer {guest.token}", "cookie": "access_token=bad", "origin": "https://evil.example"},
            "",
        ),
        ({"origin": "https://evil.example"}, f"token={guest.token}"),
    ):
        socket = await guest.open(query=query, headers=headers, token=False)
        assert (await hear(socket))[0] == "system"
        await socket.close()


async def test_who_shows_no_good_token_is_told_so_and_closed_with_1008(system: System) -> None:
    guest = Guest(system)
    cookie = {"cookie": f"access_token={guest.token}"}
    key = {"authorization": f"Bearer {system.key}"}
    for headers, query in (
        ({}, ""),
        ({}, "token=bad"),
        (cookie, "token=bad"),
        (key, ""),
        ({**cookie, "origin": "https://evil.example"}, ""),
        ({**cookie, "origin": "null"}, ""),
    ):
        socket = await guest.open(query=query, headers=headers, token=False)
        frames, code, _ = await socket.closing()
        assert [list(frame) for frame in frames] == [["type", "message", "timestamp"]]
        assert (frames[0]["type"], code) == ("error", 1008)
        assert is_recent(frames[0]["timestamp"])


async def test_extra_keys_are_ignored_and_the_content_is_said_as_it_stands(system: System) -> None:
    guest = Guest(system)
    socket = await guest.enter()
    await socket.send(json.dumps({"content": " Hello, AI! ", "type": "message", "client": 5}))
    await guest.answer("Hello!")
    assert await hear(socket) == ("ai_response", "Hello!")
    chat_id = await system.worker.chat_of("socializer", f"{guest.user}/{guest.client_id}")
    assert (await system.worker.history(chat_id))[0] == " Hello, AI! "
    await socket.close()


async def test_what_was_answered_while_the_client_was_away_comes_behind_the_welcome(system: System) -> None:
    guest = Guest(system)
    socket = await guest.enter()
    await say(socket, "first")
    turn = await guest.turn()
    await say(socket, "second")
    await say(socket, "")
    assert (await hear(socket))[0] == "error"  # and so both were taken
    await socket.close()
    await turn.say("one")
    await turn.complete()
    await guest.answer("two")
    for replica in (0, 1):
        socket = await guest.enter(replica=replica)
        assert [await hear(socket), await hear(socket)] == [("ai_response", "one"), ("ai_response", "two")]
        await socket.close()


async def test_an_answer_under_way_comes_when_it_ends_to_old_and_new_readers_alike(system: System) -> None:
    guest = Guest(system)
    old = await guest.enter()
    await say(old, "question")
    turn = await guest.turn()
    await turn.say("one ")
    late = [await guest.enter(replica=replica) for replica in (0, 1)]
    for socket in late:
        await socket.send("junk")
        assert (await hear(socket))[0] == "error"
    await turn.say("two")
    await turn.complete()
    frames = [await socket.receive() for socket in (old, *late)]
    assert frames[0]["message"] == "one two"
    assert frames == [frames[0]] * 3
    for socket in (old, *late):
        await socket.close()


async def test_who_knows_its_position_hears_nothing_twice(system: System) -> None:
    guest = Guest(system)
    socket = await guest.enter(query="positions=true")
    heard: list[dict[str, Any]] = []
    for text in ("one", "two", "three"):
        await say(socket, "question")
        await guest.answer(text)
        heard.append(await socket.receive())
    await socket.close()
    for index, frame in enumerate(heard):
        again = await guest.enter(replica=index % 2, query=f"after={frame['position']}")
        rest = [(await hear(again))[1] for _ in heard[index + 1 :]]
        assert rest == ["one", "two", "three"][index + 1 :]
        await again.send("junk")
        assert (await hear(again))[0] == "error"
        await again.close()


async def test_users_and_clients_have_conversations_of_their_own(system: System) -> None:
    ada = Guest(system)
    bob = Guest(system, client_id=ada.client_id)
    other = Guest(system, user=ada.user)
    sockets = [await guest.enter() for guest in (ada, bob, other)]
    await say(sockets[0], "question")
    await ada.answer("for ada")
    assert await hear(sockets[0]) == ("ai_response", "for ada")
    for socket in sockets[1:]:
        await socket.send("junk")
        assert (await hear(socket))[0] == "error"
    stopped = await bob.stop()
    assert (stopped.status, stopped.body["message"]) == (404, "There is no conversation of this client_id.")
    for socket in sockets:
        await socket.close()


async def test_who_only_looks_in_leaves_nothing_behind(system: System) -> None:
    guest = Guest(system)
    for replica in (0, 1):
        socket = await guest.enter(replica=replica)
        await socket.send("junk")
        assert (await hear(socket))[0] == "error"
        await socket.close()
    assert (await guest.stop()).status == 404
    socket = await guest.enter()
    await say(socket, "question")
    await guest.answer("answer")
    assert await hear(socket) == ("ai_response", "answer")
    assert (await guest.stop()).body["message"] == "There was no answer to stop"
    await socket.close()


async def test_an_answer_is_stopped_over_http_in_the_dialects_form(system: System) -> None:
    guest = Guest(system)
    unknown = await guest.stop()
    assert (unknown.status, list(unknown.body)) == (404, ["type", "message", "timestamp"])
    socket = await guest.enter()
    await say(socket, "question")
    await (await guest.turn()).say("so far")
    stopped = await guest.stop(replica=1)
    assert (stopped.status, list(stopped.body)) == (200, ["type", "message", "timestamp"])
    assert (stopped.body["type"], stopped.body["message"]) == ("system", "Answer stopped")
    assert await hear(socket) == ("ai_response", "so far")
    await socket.close()


async def test_every_failure_below_the_http_path_has_the_dialects_form(system: System) -> None:
    for method, path, key, status in (
        ("POST", "/ai/chat/c/stop", "", 401),
        ("POST", "/ai/chat/c/stop", system.key, 401),
        ("GET", "/ai/chat/c/stop", "", 405),
        ("POST", "/ai/chat/c", "", 404),
    ):
        response = await http(method, f"{system.urls[0]}{path}", key=key)
        assert (response.status, list(response.body)) == (status, ["type", "message", "timestamp"])
        assert response.body["type"] == "error"
        assert is_recent(response.body["timestamp"])


async def test_no_log_line_holds_a_token(system: System) -> None:
    guest = Guest(system)
    socket = await guest.enter()
    await say(socket, "question")
    await guest.answer("answer")
    await hear(socket)
    await socket.close()
    await guest.stop()
    assert not [line for line in system.lines if guest.token in line.raw]


async def run(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_script_that_the_document_promises_has_its_questions_answered(whole: Stack) -> None:
    url, token = whole.gateway_urls[0].replace("http", "ws"), whole.secrets.user_token("ada")
    plan = f"[[sim {json.dumps({'text': 'Hello, ada.'})}]]"
    status, out, err = await run("--url", url, "--token", token, plan, plan)
    assert (status, err) == (0, "")
    lines = [line.split("  ", 1)[-1] for line in out.splitlines()]
    assert lines[1] == "system: Welcome to AI Chat, ada! How can I assist you today?"
    assert lines.count("ai_response: Hello, ada.") == 2
    assert lines[-1] == "everything was answered"
    status, out, _ = await run("--url", url, "--token", token)
    assert (status, out.count("ai_response: ")) == (0, 2)


async def test_the_script_tells_what_failed_by_its_status(system: System) -> None:
    url = system.urls[0].replace("http", "ws")
    status, out, err = await run("--url", url, "--token", "bad")
    assert (status, "  error: " in out, "failed: " in err) == (1, True, True)
    assert (await run("--url", "ws://127.0.0.1:1", "--token", "bad"))[0] == 1
    assert (await run("--url", url, "--token", ""))[0] == 2
