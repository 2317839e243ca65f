"""The WebSocket application without a server: ASGI messages in, bytes and closes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest
import uvloop
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.position import Position
from fastapi import APIRouter
from gateway.dialect import Command, Dialect, Handshake, Say, Visit
from gateway.frame import Frame
from gateway.hub import Hub
from gateway.limits import CHATS_AT_ONCE
from gateway.ports import Begun, ChangeBatch, Followed, Sessions, TurnState, Utterance
from gateway.records import Connections
from gateway.settings import Limits
from gateway.ws import PIPE, WebSockets, when_to_return

from .fakes import CHAT, FakeLog, FakeSessions, FakeStream, batch
from .plain import PlainSocket
from .story import Story

LIMITS = Limits(
    message_bytes=100,
    outbox_bytes=1000,
    connections=3,
    body_bytes=1000,
    bodies_bytes=10**6,
    head_s=1,
    stall_s=1,
    keep_alive_s=1,
)


class FakePipe:
    """Takes what is written while it has room."""

    def __init__(self) -> None:
        self.has_room = True
        self.on_room: Callable[[], None] | None = None
        self.on_oversize: Callable[[], bytes] | None = None
        self.frames: list[Any] = []
        self.closed: int | None = None
        self.news = asyncio.Event()

    def write(self, data: bytes) -> None:
        assert self.closed is None
        self.frames.append(orjson.loads(data[4 if data[1] == 126 else 2 :]))
        self.news.set()

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or code
        self.news.set()

    def make_room(self) -> None:
        self.has_room = True
        if self.on_room is not None:
            self.on_room()


class FakeTurns:
    """Remembers what was said; refuses what it is told to."""

    def __init__(self) -> None:
        self.said: list[Utterance] = []
        self.refusal: SwitchboardError | None = None

    async def begin(self, utterance: Utterance) -> Begun:
        if self.refusal is not None:
            raise self.refusal
        self.said.append(utterance)
        story = Story()
        return Begun(story._message(1, ""), "t", "a", Position("e0", 1), TurnState.DUE, False)  # type: ignore[arg-type]


class StoppingSessions(FakeSessions):
    """Remembers what was stopped."""

    def __init__(self) -> None:
        super().__init__(FakeLog())
        self.stopped: list[tuple[str, str]] = []

    async def cancel_turn(self, chat_id: str, *, turn_id: str = "", cancelled_by: str = "") -> tuple[str, ...]:
        self.stopped.append((chat_id, cancelled_by))
        return ()


class RefusingSocket(PlainSocket):
    """Refuses, or breaks, as its path says."""

    path = "/refuse/{how}"

    async def admit(self, handshake: Handshake) -> Visit:
        if handshake.path["how"] == "broken":
            raise ZeroDivisionError
        raise SwitchboardError(ErrorCode[handshake.path["how"]], "no")


class ExactSocket(RefusingSocket):
    """A path that the one with a variable would match too."""

    path = "/plain/exact"

    async def admit(self, handshake: Handshake) -> Visit:
        return Visit(user_id="exact", greeting=(Frame({"type": "exact"}),))


class TimedSocket(PlainSocket):
    """Lets in for a while; `visit` says for how long."""

    path = "/timed"

    def __init__(self) -> None:
        self.visit = Visit("somebody")

    async def admit(self, handshake: Handshake) -> Visit:
        return self.visit


class ManySocket(PlainSocket):
    """What is said names the chat that it is said in."""

    path = "/many"

    async def admit(self, handshake: Handshake) -> Visit:
        return Visit(user_id="somebody")

    async def read(self, text: str, visit: Visit) -> Command:
        return Say(text, "question")


class MakingSocket(PlainSocket):
    """Each connection has a chat of its own, made for its first message; `api` is the key that was shown."""

    path = "/making"

    def __init__(self) -> None:
        self.made: list[str] = []
        self.undone: list[str] = []
        self.failure_of_undo: SwitchboardError | None = None

    async def admit(self, handshake: Handshake) -> Visit:
        return Visit(user_id="somebody")

    async def read(self, text: str, visit: Visit) -> Command:
        if self.made:
            return Say(CHAT, text, key_id="api")
        self.made.append(CHAT)
        return Say(CHAT, text, key_id="api", undo=self._undo)

    async def _undo(self) -> None:
        self.undone.append(self.made.pop())
        if self.failure_of_undo is not None:
            raise self.failure_of_undo


class Connected:
    """One client, as the server shows it to the application."""

    def __init__(self, application: WebSockets, path: str, query: str = "") -> None:
        self.pipe = FakePipe()
        self.sent: list[Any] = []
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        scope = {"path": path, "query_string": query.encode(), "headers": [], "extensions": {PIPE: self.pipe}}
        self.task = asyncio.create_task(application(scope, self._incoming.get, self._send))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def code(self) -> int | None:
        """The close code; None: it is open."""
        return self.pipe.closed

    def say(self, text: str | None) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    async def leave(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self.task


class Scene:
    """The application over a hub that runs and a log in memory."""

    def __init__(self) -> None:
        self.sessions = StoppingSessions()
        self.turns = FakeTurns()
        self.hub = Hub(cast("Sessions", self.sessions), linger_s=0, jitter=lambda: 0.5)
        self.timed = TimedSocket()
        self.making = MakingSocket()
        self.now_s = 1_000_000.0
        sockets = (PlainSocket(), RefusingSocket(), ExactSocket(), self.timed, self.making)
        self.application = WebSockets(
            [Dialect("plain", APIRouter(), sockets), Dialect("many", APIRouter(), (ManySocket(),))],
            hub=self.hub,
            turns=self.turns,
            sessions=cast("Sessions", self.sessions),
            limits=LIMITS,
            now_s=lambda: self.now_s,
        )
        self.stream = FakeStream()

    async def follow_all(self) -> None:
        """Follows what is asked for, without end."""
        while True:
            for chat_id in (await self.stream.followed.get())[0]:
                follow = Followed(chat_id, self.sessions.log.position)
                self.stream.batches.put_nowait(ChangeBatch(followed=[follow]))

    async def follow(self) -> None:
        while CHAT not in (await self.stream.followed.get())[0]:
            pass
        self.stream.batches.put_nowait(batch(followed=self.sessions.log.position))
        await settled()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    running = asyncio.create_task(made.hub.run())
    try:
        made.stream = await made.sessions.streams.get()
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_nothing_is_said_before_its_answer_can_be_heard() -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}")
        client.say("question")
        await settled()
        assert here.turns.said == []
        await here.follow()
        assert here.turns.said == [Utterance(CHAT, "question", "somebody")]
        await client.leave()


async def test_each_command_goes_where_it_belongs() -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}", "client_id=me")
        await here.follow()
        for text in ("one", "ping", "stop", "bad", "two"):
            client.say(text)
        await settled()
        assert [(one.content, one.key) for one in here.turns.said] == [("one", "me:1"), ("two", "me:2")]
        assert here.sessions.stopped == [(CHAT, "somebody")]
        assert client.pipe.frames == [{"type": "pong"}, {"type": "error", "text": "bad"}]
        await client.leave()


@pytest.mark.parametrize(
    ("code", "keys"),
    [
        (ErrorCode.RATE_LIMITED, ["me:1", "me:2"]),
        (ErrorCode.QUEUE_FULL, ["me:1", "me:2"]),
        # It may be stored under its number, which is therefore used up.
        (ErrorCode.UNAVAILABLE, ["me:1", "me:3"]),
        (ErrorCode.DEADLINE_EXCEEDED, ["me:1", "me:3"]),
    ],
)
async def test_a_message_that_is_refused_for_certain_has_no_number(code: ErrorCode, keys: list[str]) -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}", "client_id=me")
        await here.follow()
        for text, refusal in (("one", None), ("two", SwitchboardError(code, "no")), ("three", None)):
            here.turns.refusal = refusal
            client.say(text)
            await settled()
        assert [(one.content, one.key) for one in here.turns.said] == list(zip(("one", "three"), keys, strict=True))
        await client.leave()


async def test_a_chat_made_for_a_message_that_is_refused_is_taken_back_and_shown_to_nobody() -> None:
    async with scene() as here:
        client = Connected(here.application, "/making", "client_id=me")
        here.turns.refusal = SwitchboardError(ErrorCode.RATE_LIMITED, "wait")
        client.say("one")
        await settled()
        assert (here.making.undone, here.making.made, here.hub.chats) == ([CHAT], [], 0)
        here.making.failure_of_undo = SwitchboardError(ErrorCode.UNAVAILABLE, "down")
        client.say("two")
        await settled()
        assert client.pipe.frames == [{"type": "error", "text": "wait"}] * 2
        here.turns.refusal = None
        client.say("three")
        await settled()
        assert here.making.undone == [CHAT, CHAT]
        assert here.turns.said == [Utterance(CHAT, "three", "somebody", "me:1", key_id="api")]
        await client.leave()


async def test_who_speaks_first_in_a_chat_made_for_it_hears_all_of_the_answer() -> None:
    async with scene() as here:
        client, story, log = Connected(here.application, "/making"), Story(), here.sessions.log
        # The answer has ended before anybody can read it.
        for event in (story.ask(), story.start(), story.say("Yes"), story.complete()):
            log.append(event)
        client.say("question")
        await settled()
        await here.follow()
        assert client.pipe.frames == [{"type": "delta", "text": "Yes."}, {"type": "stop", "text": "Yes."}]
        await client.leave()


async def test_a_chat_stays_when_nobody_knows_what_became_of_the_message_it_was_made_for() -> None:
    async with scene() as here:
        client = Connected(here.application, "/making")
        here.turns.refusal = SwitchboardError(ErrorCode.UNAVAILABLE, "down")
        client.say("one")
        await settled()
        assert (here.making.undone, here.hub.chats) == ([], 1)
        await client.leave()


async def test_what_session_refuses_is_told_and_the_connection_stays() -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}")
        await here.follow()
        here.turns.refusal = SwitchboardError(ErrorCode.QUEUE_FULL, "wait")
        client.say("question")
        await settled()
        assert client.pipe.frames == [{"type": "error", "text": "wait"}]
        assert client.pipe.closed is None
        await client.leave()


@pytest.mark.parametrize(
    ("how", "code"),
    [("UNAUTHENTICATED", 1008), ("NOT_FOUND", 1008), ("UNAVAILABLE", 1013), ("INTERNAL", 1011), ("broken", 1011)],
)
async def test_who_is_not_let_in_is_told_why_after_the_handshake(how: str, code: int) -> None:
    async with scene() as here:
        client = Connected(here.application, f"/refuse/{how}")
        await settled()
        assert client.sent == [{"type": "websocket.accept"}]
        assert [frame["type"] for frame in client.pipe.frames] == ["error"]
        assert client.pipe.closed == code
        await client.leave()


async def test_a_path_without_variables_is_meant_more_exactly() -> None:
    async with scene() as here:
        client = Connected(here.application, "/plain/exact")
        await settled()
        assert client.pipe.frames == [{"type": "exact"}]
        await client.leave()


async def test_an_unknown_path_is_404() -> None:
    async with scene() as here:
        client = Connected(here.application, "/nowhere")
        await client.task
        assert client.sent[0]["status"] == 404


async def test_a_bad_client_id_is_refused() -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}", "client_id=a%20b")
        await settled()
        assert client.pipe.closed == 1008
        await client.leave()


async def test_one_connection_too_many_is_told_to_come_later() -> None:
    async with scene() as here:
        clients = [Connected(here.application, f"/plain/{CHAT}") for _ in range(LIMITS.connections + 1)]
        await settled()
        assert [client.pipe.closed for client in clients] == [None] * LIMITS.connections + [1013]
        for client in clients[:-1]:
            await client.leave()
        again = Connected(here.application, f"/plain/{CHAT}")
        await settled()
        assert again.pipe.closed is None
        await again.leave()
        assert here.application.connections == 0


async def test_what_does_not_fit_waits_until_there_is_room_and_comes_as_one() -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}")
        await here.follow()
        client.pipe.has_room = False
        story, log = Story(), here.sessions.log
        for event in (story.ask(), story.start(), story.say("a"), story.say("b")):
            here.stream.batches.put_nowait(batch(log.append(event)))
            await settled()
        assert client.pipe.frames == []
        client.pipe.make_room()
        assert client.pipe.frames == [{"type": "delta", "text": "ab"}]
        await client.leave()


async def test_a_drain_closes_each_at_its_own_moment_and_takes_nobody_new() -> None:
    async with scene() as here:
        clients = [Connected(here.application, f"/plain/{CHAT}") for _ in range(3)]
        await settled()
        moments = iter((0.6, 0.0, 0.3))
        draining = asyncio.create_task(here.application.drain(1.0, lambda: next(moments)))
        for closed in range(1, 4):
            news = [asyncio.create_task(client.pipe.news.wait()) for client in clients if client.pipe.closed is None]
            await asyncio.wait(news, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            for task in news:
                task.cancel()
            assert [client.pipe.closed for client in clients].count(1001) == closed
        await draining
        late = Connected(here.application, f"/plain/{CHAT}")
        await settled()
        assert late.pipe.closed == 1001
        for client in clients:
            await client.leave()
        await here.application.emptied()


async def test_a_client_that_leaves_is_followed_no_longer() -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}")
        await here.follow()
        await client.leave()
        async with asyncio.timeout(5):
            assert (await here.stream.followed.get())[1] == [CHAT]


async def test_last_words_for_a_message_over_the_servers_own_limit() -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}")
        await settled()
        assert client.pipe.on_oversize is not None
        assert b'"error"' in client.pipe.on_oversize()
        await client.leave()


class Clock:
    """The event loop's own, which can be put forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        true_time = loop.time
        self.ahead_s = 0.0
        monkeypatch.setattr(loop, "time", lambda: true_time() + self.ahead_s)

    async def forward(self, seconds: float) -> None:
        self.ahead_s += seconds
        await settled()


EXPIRED = {"type": "error", "text": "The token has expired; connect again with a new one."}


@pytest.mark.asyncio(loop_scope="function")
async def test_whose_token_expires_is_told_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    async with scene() as here:
        here.timed.visit = Visit("somebody", expires_at_s=here.now_s + 200_000)
        client = Connected(here.application, "/timed")
        await settled()
        for seconds in (100_000.0, 99_999.0):
            here.now_s += seconds
            await clock.forward(seconds)
            client.say("ping")
            await settled()
        assert client.pipe.frames == [{"type": "pong"}] * 2
        here.now_s += 2
        await clock.forward(2)
        assert client.pipe.frames[2:] == [EXPIRED]
        assert client.pipe.closed == 1008
        await client.leave()


def test_a_token_may_name_a_time_that_nobody_will_see() -> None:
    async def visit() -> None:
        async with scene() as here:
            here.timed.visit = Visit("somebody", expires_at_s=float(1 << 40))
            client = Connected(here.application, "/timed")
            client.say("ping")
            await settled()
            assert (client.pipe.frames, client.pipe.closed) == ([{"type": "pong"}], None)
            await client.leave()

    uvloop.run(visit())


async def test_what_is_said_after_a_token_has_expired_is_refused() -> None:
    async with scene() as here:
        here.timed.visit = Visit("somebody", expires_at_s=here.now_s + 60)
        client = Connected(here.application, "/timed")
        await settled()
        # Its timer has not been at work yet: a machine that slept, say.
        here.now_s += 61
        client.say("ping")
        client.say("stop")
        await settled()
        assert client.pipe.frames == [EXPIRED]
        assert client.pipe.closed == 1008
        assert here.sessions.stopped == []
        await client.leave()


@pytest.mark.asyncio(loop_scope="function")
async def test_who_is_silent_for_too_long_is_closed_and_any_frame_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    async with scene() as here:
        here.timed.visit = Visit("somebody", idle_s=300)
        client = Connected(here.application, "/timed")
        await settled()
        for text in ("ping", None, "bad", "stop"):
            await clock.forward(200)
            client.say(text)
            await settled()
        frames = len(client.pipe.frames)
        await clock.forward(299)
        assert client.code() is None
        await clock.forward(2)
        assert client.code() == 4408
        assert len(client.pipe.frames) == frames
        await client.leave()


@pytest.mark.asyncio(loop_scope="function")
async def test_nobody_watches_the_clock_for_who_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    async with scene() as here:
        here.timed.visit = Visit("somebody", idle_s=300, expires_at_s=here.now_s + 300)
        client = Connected(here.application, "/timed")
        await settled()
        await client.leave()
        here.now_s += 400
        await clock.forward(400)
        assert (client.pipe.frames, client.pipe.closed) == ([], None)


async def test_one_connection_shows_so_many_chats_and_no_more() -> None:
    async with scene() as here:
        following = asyncio.create_task(here.follow_all())
        client = Connected(here.application, "/many")
        for number in range(CHATS_AT_ONCE + 1):
            client.say(f"chat-{number}")
        async with asyncio.timeout(20):
            while not client.pipe.frames:
                await client.pipe.news.wait()
        assert [one.chat_id for one in here.turns.said] == [f"chat-{number}" for number in range(CHATS_AT_ONCE)]
        assert "another connection" in client.pipe.frames[0]["text"]
        client.say("chat-0")
        await settled()
        assert here.turns.said[-1].chat_id == "chat-0"
        assert (len(client.pipe.frames), client.pipe.closed) == (1, None)
        following.cancel()
        await client.leave()


async def test_who_says_too_much_is_told_when_to_go_on_and_closed_when_it_goes_on_before() -> None:
    async with scene() as here:
        client = Connected(here.application, f"/plain/{CHAT}")
        await here.follow()
        refusal = SwitchboardError(ErrorCode.RATE_LIMITED, "too many messages", retry_after_s=11.2)

        async def flood(messages: int) -> None:
            for _ in range(messages):
                client.say("question")
            await settled()

        here.turns.refusal = refusal
        await flood(10)
        here.turns.refusal = None
        await flood(1)
        here.turns.refusal = refusal
        await flood(10)
        assert client.code() is None
        assert client.pipe.frames == [{"type": "error", "text": "too many messages. Try again in 12 s."}] * 20
        await flood(5)
        assert client.code() == 1008
        assert len(client.pipe.frames) == 21
        await client.leave()


async def test_clients_are_counted_by_dialect_and_by_chat() -> None:
    async with scene() as here:
        headcount = here.application.headcount
        assert headcount.count() == {"plain": Connections(0, {}), "many": Connections(0, {})}
        clients = [Connected(here.application, path) for path in (f"/plain/{CHAT}", "/plain/exact", "/many")]
        await here.follow()
        assert headcount.changed.is_set()
        assert headcount.count() == {"plain": Connections(2, {CHAT: 1}), "many": Connections(1, {})}
        await clients.pop().leave()
        clients.append(Connected(here.application, "/refuse/NOT_FOUND"))
        await settled()
        assert clients[-1].pipe.closed == 1008
        assert headcount.count() == {"plain": Connections(2, {CHAT: 1}), "many": Connections(0, {})}
        for client in clients:
            await client.leave()
        assert headcount.count() == {"plain": Connections(0, {}), "many": Connections(0, {})}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (11.1, "12 s"), (120, "120 s"), (121, "3 minutes"), (7200, "120 minutes"), (7201, "3 hours")],
)
def test_when_to_return_is_said_as_people_say_it(seconds: float, said: str) -> None:
    failure = when_to_return(Failure(ErrorCode.RATE_LIMITED, "Too many messages.", seconds))
    assert failure.message == f"Too many messages. Try again in {said}."
