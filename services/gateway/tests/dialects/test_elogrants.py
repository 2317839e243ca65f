"""elogrants: events in, exact frames out, without I/O; and what the document says, over the running system."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import pytest
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import LogEvent, ResponseCancelled, ResponseFailed
from chat.messages import Answer, AnswerState, Message, Role
from gateway.dialect import Services
from gateway.dialects.elogrants import ElograntsRenderer, ElograntsSocket, ElograntsVisit
from gateway.frame import Frame, coalesce
from gateway.limits import CHATS_AT_ONCE
from hypothesis import given
from hypothesis import strategies as st
from launcher.stack import Stack

from ..client import Response, Socket, http
from ..conftest import System
from ..story import Story

live = pytest.mark.asyncio(loop_scope="session")
PATHS = ["/ws/chat/", "/ws/chat"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def contents(frames: Sequence[Frame]) -> list[dict[str, object]]:
    return [dict(frame.content) for frame in frames]


def fresh(*, stream: bool = True) -> ElograntsRenderer:
    return ElograntsRenderer("chat-1", stream=stream)


def play(renderer: ElograntsRenderer, *events: LogEvent) -> list[dict[str, object]]:
    return [content for event in events for content in contents(renderer.render(event))]


def whole(text: str, session_id: str = "chat-1") -> dict[str, object]:
    return {"message": text, "session_id": session_id}


def delta(text: str, session_id: str = "chat-1") -> dict[str, object]:
    return {"delta": text, "session_id": session_id}


def error(text: str, session_id: str | None = "chat-1") -> dict[str, object]:
    return {"error": text, "session_id": session_id}


def assistant(content: str, state: AnswerState, message_id: str = "a1", failure: Failure | None = None) -> Message:
    return Message(message_id, "chat-1", Role.ASSISTANT, content, 0, 2, answer=Answer(state, failure=failure))


def test_an_answer_is_one_frame_with_the_models_own_text() -> None:
    story = Story()
    events = [story.ask(), story.start(), story.say("Yes, "), story.say("**tofu** <b>"), story.complete()]
    assert play(fresh(stream=False), *events) == [whole("Yes, **tofu** <b>")]


def test_who_wants_deltas_gets_them_before_it() -> None:
    story = Story()
    events = [story.ask(), story.start(), story.say("Yes, "), story.say("**tofu**"), story.complete()]
    assert play(fresh(), *events) == [delta("Yes, "), delta("**tofu**"), whole("Yes, **tofu**")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stopped_answer_ends_in_what_was_said(stream: bool) -> None:
    story = Story()
    assert play(fresh(stream=stream), story.start(), story.say("Yes"), story.cancel())[-1] == whole("Yes")
    assert play(fresh(stream=stream), story.ask(), story.cancel()) == [whole("")]


def test_a_failed_answer_is_one_error_frame() -> None:
    story = Story()
    assert play(fresh(stream=False), story.start(), story.say("Yes"), story.fail("Try again.")) == [error("Try again.")]
    assert play(fresh(), story.start(), story.say("Yes"), story.fail("Try again.")) == [
        delta("Yes"),
        error("Try again."),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_restarted_answer_has_its_truth_in_the_last_frame(stream: bool) -> None:
    story = Story()
    events = [story.start(), story.say("Wrong"), story.restart(), story.say("Right"), story.complete()]
    assert play(fresh(stream=stream), *events)[-1] == whole("Right")


@pytest.mark.parametrize("waiting", ["cancelled", "failed"])
def test_a_turn_that_ends_while_it_waits_leaves_the_answer_under_way_as_it_is(waiting: str) -> None:
    story = Story()
    why = Failure(ErrorCode.DEADLINE_EXCEEDED, "Too late.")
    ended: LogEvent = ResponseCancelled("a2", 0)
    if waiting == "failed":
        ended = ResponseFailed("a2", 0, Answer(AnswerState.FAILED, failure=why))
    before = [story.ask(), story.start(), story.say("one "), story.ask("second")]
    after = [ended, story.say("two"), story.complete()]
    expected = [whole("") if waiting == "cancelled" else error("Too late."), whole("one two")]
    assert play(fresh(stream=False), *before, *after) == expected
    resumed = fresh(stream=False)
    resumed.resume("one ")
    assert play(resumed, *after) == expected


def test_one_answer_leaves_nothing_to_the_next() -> None:
    story, renderer = Story(), fresh(stream=False)
    play(renderer, story.start(), story.say("one"), story.fail())
    assert play(renderer, story.ask(), story.start(), story.say("two"), story.complete()) == [whole("two")]
    assert renderer._answer is None


@given(st.text(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_deltas_add_up_to_the_whole_whatever_the_chunking(text: str, cuts: list[int]) -> None:
    story = Story()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges) if start < end]
    frames = play(fresh(), story.start(), *[story.say(piece) for piece in pieces], story.complete())
    assert "".join(str(frame["delta"]) for frame in frames[:-1]) == frames[-1]["message"] == text


@given(st.text(min_size=1, max_size=60), st.integers(0, 60), st.booleans())
def test_a_renderer_that_resumes_goes_on_as_one_that_was_there_from_the_start(
    text: str, cut: int, stream: bool
) -> None:
    story = Story()
    start, before, after = story.start(), story.say(text[:cut]), story.say(text[cut:])
    there, resumed = fresh(stream=stream), fresh(stream=stream)
    play(there, start, before)
    resumed.resume(text[:cut])
    rest = [after, story.complete()]
    assert play(resumed, *rest) == play(there, *rest)


def test_a_snapshot_shows_answers_as_if_they_came_now_and_goes_on_with_the_one_under_way() -> None:
    messages = [
        Message("q", "chat-1", Role.USER, "Hi", 0, 1),
        assistant("Hello", AnswerState.COMPLETED),
        assistant("Half", AnswerState.FAILED, failure=Failure(ErrorCode.UNAVAILABLE, "Broken.")),
        assistant("So far", AnswerState.RUNNING, "a9"),
    ]
    streaming, plain = fresh(), fresh(stream=False)
    assert contents(streaming.snapshot(messages)) == [
        delta("Hello"),
        whole("Hello"),
        delta("Half"),
        error("Broken."),
        delta("So far"),
    ]
    assert contents(plain.snapshot(messages)) == [whole("Hello"), error("Broken.")]
    story = Story()
    story.answer_id, story.text = "a9", "So far"
    rest = [story.say(" so good"), story.complete()]
    assert play(streaming, *rest) == [delta(" so good"), whole("So far so good")]
    assert play(plain, *rest) == [whole("So far so good")]


@pytest.mark.parametrize(
    ("now", "frames"),
    [
        (assistant("Yes, tofu", AnswerState.RUNNING, "m1"), [delta(" tofu")]),
        (assistant("Yes,", AnswerState.RUNNING, "m1"), []),
        (assistant("Nonsense", AnswerState.RUNNING, "m1"), []),
        (assistant("Yes, tofu", AnswerState.COMPLETED, "m1"), [delta(" tofu"), whole("Yes, tofu")]),
        (assistant("No", AnswerState.COMPLETED, "m1"), [whole("No")]),
        (None, [error("The answer was lost on our side. Please ask again.")]),
    ],
)
def test_a_reader_that_can_not_forget_is_put_right(now: Message | None, frames: list[dict[str, object]]) -> None:
    story, streaming, plain = Story(), fresh(), fresh(stream=False)
    events = [story.start(), story.say("Yes,")]
    play(streaming, *events)
    play(plain, *events)
    messages = [Message("q", "chat-1", Role.USER, "Hi", 0, 1), *([now] if now is not None else [])]
    assert contents(streaming.resync(messages)) == frames
    assert contents(plain.resync(messages)) == [frame for frame in frames if "delta" not in frame]


def test_a_reader_that_resumed_mid_answer_knows_which_answer_it_was_by_the_next_delta() -> None:
    renderer, story = fresh(), Story()
    story.start()
    renderer.resume("Yes")
    play(renderer, story.say(","))
    other = assistant("Another answer", AnswerState.COMPLETED, "m9")
    now = assistant("Yes, tofu", AnswerState.RUNNING, "m1")
    assert contents(renderer.resync([now, other])) == [delta(" tofu")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_reader_whose_answer_had_no_word_yet_when_events_were_lost_gets_it_all(stream: bool) -> None:
    renderer = fresh(stream=stream)
    play(renderer, Story().start())
    now = assistant("Yes, tofu", AnswerState.COMPLETED, "m1")
    assert contents(renderer.resync([now])) == [*([delta("Yes, tofu")] if stream else []), whole("Yes, tofu")]


def test_a_reader_that_waits_for_nothing_hears_of_no_old_answer_but_of_one_under_way() -> None:
    assert fresh().resync([assistant("Old", AnswerState.COMPLETED)]) == []
    assert contents(fresh().resync([assistant("New", AnswerState.RUNNING)])) == [delta("New")]


@pytest.mark.parametrize("begun", [True, False])
def test_every_answer_that_ended_while_events_were_lost_is_shown_once(begun: bool) -> None:
    story, renderer = Story(), fresh(stream=False)
    asked = [Message(f"m{number}", "chat-1", Role.USER, "?", 0, number) for number in (1, 2)]
    play(renderer, story.ask(), story.ask())
    if begun:
        play(renderer, story.start(), story.say("fi"))
    now = [
        assistant("old", AnswerState.COMPLETED, "a0"),
        *asked,
        assistant("first", AnswerState.COMPLETED, "m3"),
        assistant("second", AnswerState.COMPLETED, "m4"),
        assistant("", AnswerState.FAILED, "m5", Failure(ErrorCode.UNAVAILABLE, "Broken.")),
        assistant("so far", AnswerState.RUNNING, "m6"),
    ]
    assert contents(renderer.resync(now)) == [whole("first"), whole("second"), error("Broken.")]


def test_deltas_of_two_sessions_on_one_connection_are_never_merged() -> None:
    def merge(frames: Sequence[Frame]) -> Frame:
        first = frames[0].content
        return Frame({**first, "delta": "".join(str(frame.content["delta"]) for frame in frames)})

    one, two = Story(), Story()
    here, there = ElograntsRenderer("chat-1", stream=True), ElograntsRenderer("chat-2", stream=True)
    frames = [
        *here.render(one.say("a")),
        *here.render(one.say("b")),
        *there.render(two.say("c")),
        *here.render(one.say("d")),
    ]
    assert contents(coalesce(frames, merge)) == [delta("ab"), delta("c", "chat-2"), delta("d")]


class Person:
    """A user of the running system."""

    def __init__(self, stack: Stack, name: str = "") -> None:
        self.stack = stack
        self.name = name or f"user-{uuid.uuid4()}"
        self.headers = {"authorization": f"Bearer {stack.secrets.user_token(self.name)}"}

    async def connect(self, query: str = "", *, path: str = "/ws/chat/", replica: int = 0) -> Socket:
        url = self.stack.gateway_urls[replica].replace("http", "ws")
        return await Socket.open(f"{url}{path}{query}", headers=self.headers)

    async def begin(self, query: str = "", *, path: str = "/ws/chat/") -> tuple[Socket, str]:
        """A connection with a new session, and its id."""
        client = await self.connect(query, path=path)
        first = await client.receive()
        assert list(first) == ["session_id"]
        assert str(uuid.UUID(first["session_id"])) == first["session_id"]
        return client, first["session_id"]

    async def get(self, path: str) -> Response:
        return await http("GET", f"{self.stack.gateway_urls[0]}{path}", headers=self.headers)

    async def post(self, path: str) -> Response:
        return await http("POST", f"{self.stack.gateway_urls[0]}{path}", headers=self.headers)


async def say(client: Socket, message: Any, **more: Any) -> None:
    await client.send(json.dumps({"message": message, **more}))


async def answer(system: System, session_id: str, *texts: str) -> None:
    """The worker answers what was asked."""
    turn = await system.worker.claim(session_id)
    for text in texts:
        await turn.say(text)
    await turn.complete()


@live
@pytest.mark.parametrize("path", PATHS)
async def test_the_documents_flow_runs_as_printed(system: System, path: str) -> None:
    client, session_id = await Person(system.stack).begin(path=path)
    await say(client, "Hello AI!", session_id=session_id)
    await answer(system, session_id, "Hello! How can I ", "assist you today?")
    assert await client.receive() == whole("Hello! How can I assist you today?", session_id)
    await say(client, "And now?")
    await answer(system, session_id, "Now, too.")
    assert await client.receive() == whole("Now, too.", session_id)
    await client.close()


@live
@pytest.mark.parametrize("path", PATHS)
async def test_a_session_is_continued_by_its_id_without_history(system: System, path: str) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin()
    await say(client, "one")
    await answer(system, session_id, "first")
    await client.receive()
    await client.close()
    again = await person.connect(f"?session_id={session_id}", path=path, replica=1)
    await say(again, "two", something="else")
    await answer(system, session_id, "second")
    assert await again.receive() == whole("second", session_id)
    assert await system.worker.history(session_id) == ["one", "first", "two", "second"]
    await again.close()


@live
async def test_who_comes_mid_answer_gets_it_whole_or_the_text_so_far_and_the_rest(system: System) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin("?stream=true")
    await say(client, "question")
    turn = await system.worker.claim(session_id)
    await turn.say("so ", "far")
    assert await client.receive() == delta("so far", session_id)
    plain = await person.connect(f"?session_id={session_id}", replica=1)
    streaming = await person.connect(f"?session_id={session_id}&stream=true", replica=1)
    assert await streaming.receive() == delta("so far", session_id)
    # An error frame: it is known to listen.
    await plain.send("{}")
    assert list(await plain.receive()) == ["error", "session_id"]
    await turn.say(" so good")
    await turn.complete()
    for reader in (client, streaming):
        assert await reader.receive() == delta(" so good", session_id)
        assert await reader.receive() == whole("so far so good", session_id)
    assert await plain.receive() == whole("so far so good", session_id)
    for reader in (client, plain, streaming):
        await reader.close()


@live
async def test_who_resumes_mid_answer_gets_frames_of_its_session(system: System) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin("?stream=true&positions=true")
    await say(client, "question")
    turn = await system.worker.claim(session_id)
    await turn.say("one ")
    position = (await client.receive())["position"]
    await turn.say("two")
    again = await person.connect(f"?session_id={session_id}&after={position}")
    await turn.complete()
    assert await again.receive() == whole("one two", session_id)
    await client.close()
    await again.close()


@live
async def test_a_frames_session_beats_the_connections_and_each_answer_names_its_own(system: System) -> None:
    person = Person(system.stack)
    first, one = await person.begin()
    await say(first, "in one")
    await answer(system, one, "answer one")
    await first.receive()
    second, two = await person.begin()
    await say(second, "in one again", session_id=one)
    await answer(system, one, "again one")
    assert await second.receive() == whole("again one", one)
    assert await first.receive() == whole("again one", one)
    await say(second, "in two", session_id=None)
    await answer(system, two, "answer two")
    assert await second.receive() == whole("answer two", two)
    assert await system.worker.history(one) == ["in one", "answer one", "in one again", "again one"]
    assert await system.worker.history(two) == ["in two", "answer two"]
    await first.close()
    await second.close()


@live
async def test_a_session_is_stored_at_its_first_message(system: System) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin()
    assert (await person.get("/chat/sessions")).body == []
    early = await person.connect(f"?session_id={session_id}")
    assert await early.closing() == ([error("unknown session", None)], 1008, "refused: the frame before says why")
    await client.send('{"message": ""}')
    assert list(await client.receive()) == ["error", "session_id"]
    assert (await person.get("/chat/sessions")).body == []
    await say(client, "  Who gives\n grants? " + "x" * 100)
    await answer(system, session_id, "Many.")
    await client.receive()
    [entry] = (await person.get("/chat/sessions")).body
    assert TIME.fullmatch(entry.pop("created_at"))
    assert TIME.fullmatch(entry.pop("last_activity_at"))
    title = ("Who gives grants? " + "x" * 100)[:80]
    assert entry == {"session_id": session_id, "title": title, "message_count": 2}
    await client.close()


@live
async def test_another_users_session_is_as_unknown_as_one_that_never_was(system: System) -> None:
    owner, other = Person(system.stack), Person(system.stack)
    theirs, session_id = await owner.begin()
    await say(theirs, "secret")
    await answer(system, session_id, "answer")
    await theirs.receive()
    for asked in (session_id, str(uuid.uuid4()), "%2F..%00", "x" * 129):
        refused = await other.connect(f"?session_id={asked}")
        assert (await refused.closing())[:2] == ([error("unknown session", None)], 1008)
    client, own = await other.begin()
    for wanted in (session_id, str(uuid.uuid4()), "/../\x00", "x" * 129):
        await say(client, "let me in", session_id=wanted)
        assert await client.receive() == error("unknown session", wanted)
        if wanted.isprintable() and "/" not in wanted:
            for path in (f"/chat/sessions/{wanted}/messages", f"/chat/sessions/{wanted}"):
                assert (await other.get(path)).status == 404
            stopped = await other.post(f"/chat/sessions/{wanted}/stop")
            assert (stopped.status, stopped.body) == (404, {"error": "unknown session"})
    assert await system.worker.history(session_id) == ["secret", "answer"]
    await say(client, "mine")
    await answer(system, own, "yours")
    assert await client.receive() == whole("yours", own)
    await theirs.close()
    await client.close()


@live
async def test_a_chat_of_another_dialect_is_no_session(system: System) -> None:
    url = system.urls[0]
    token = f"user-{uuid.uuid4()}"
    await http("POST", f"{url}/faye/chat/start_session", {"unique_token": token}, key=system.key)
    # Faye's chats belong to their tokens, which may be what a user is called.
    chat_id = await system.worker.chat_of("faye", token)
    refused = await Person(system.stack, token).connect(f"?session_id={chat_id}")
    assert (await refused.closing())[:2] == ([error("unknown session", None)], 1008)


@live
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("header", [None, "Bearer x.y.z", "Bearer ", "Basic abc", "key"])
async def test_a_missing_or_bad_token_is_explained_and_refused(system: System, path: str, header: str | None) -> None:
    if header == "key":
        header = f"Bearer {system.key}"
    headers = {"authorization": header} if header else None
    client = await Socket.open(f"{system.urls[0].replace('http', 'ws')}{path}", headers=headers)
    frames, code, _ = await client.closing()
    assert [list(frame) for frame in frames] == [["error", "session_id"]]
    assert code == 1008
    for url in ("/chat/sessions", "/chat/sessions/x/messages"):
        response = await http("GET", f"{system.urls[0]}{url}", headers=headers)
        assert (response.status, list(response.body)) == (401, ["error"])
        assert response.headers["www-authenticate"] == "Bearer"


@live
@pytest.mark.parametrize(
    "frame",
    [
        "",
        "Hello",
        "{",
        "[]",
        '"Hello"',
        "null",
        "{}",
        '{"session_id": "x"}',
        '{"message": ""}',
        '{"message": " \\n"}',
        '{"message": 5}',
        '{"message": "\\ud800"}',
        '{"message": "Hi", "session_id": 5}',
        "[" * 5000,
        b"binary",
    ],
)
async def test_what_can_not_be_taken_gets_an_error_frame_and_the_connection_stays(
    system: System, frame: str | bytes
) -> None:
    client, session_id = await Person(system.stack).begin()
    await client.send(frame)
    told = await client.receive()
    assert list(told) == ["error", "session_id"]
    assert told["session_id"] == session_id
    await say(client, "question")
    await answer(system, session_id, "answer")
    assert await client.receive() == whole("answer", session_id)
    await client.close()


@live
async def test_too_large_a_message_names_the_session_it_was_for_and_closes(system: System) -> None:
    client, session_id = await Person(system.stack).begin()
    await say(client, "x" * 70_000)
    frames, code, _ = await client.closing()
    assert ([frame["session_id"] for frame in frames], code) == ([session_id], 1009)


@live
async def test_a_refused_message_names_the_session_it_was_for(system: System) -> None:
    person = Person(system.stack)
    client, one = await person.begin()
    await say(client, "question")
    await answer(system, one, "answer")
    await client.receive()
    await client.close()
    client, two = await person.begin()
    for number in range(30):
        await say(client, f"question {number}", session_id=one)
    refused = await client.receive()
    assert (list(refused), refused["session_id"]) == (["error", "session_id"], one)
    while (await person.post(f"/chat/sessions/{one}/stop")).body["message"] == "Answer stopped":
        pass
    await say(client, "")
    while (told := await client.receive())["session_id"] == one:
        assert list(told) in (["error", "session_id"], ["message", "session_id"])
    assert (list(told), told["session_id"]) == (["error", "session_id"], two)
    await client.close()


@live
async def test_a_wish_that_is_none_is_refused(system: System) -> None:
    client = await Person(system.stack).connect("?stream=maybe")
    assert (await client.closing())[:2] == ([error("stream must be true or false", None)], 1008)


@live
async def test_history_comes_over_http_oldest_first_in_pages(system: System) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin()
    for number in range(3):
        await say(client, f"question {number}")
        await answer(system, session_id, f"answer {number}")
        await client.receive()
    await say(client, "stopped before a word")
    assert (await person.post(f"/chat/sessions/{session_id}/stop")).body == {
        "message": "Answer stopped",
        "session_id": session_id,
    }
    assert await client.receive() == whole("", session_id)
    await say(client, "last question")
    turn = await system.worker.claim(session_id)
    await turn.say("under way")
    url = f"/chat/sessions/{session_id}/messages"
    page = (await person.get(url)).body
    assert list(page) == ["session_id", "messages", "total"]
    assert page["session_id"] == session_id
    assert all(TIME.fullmatch(message.pop("created_at")) for message in page["messages"])
    expected = [
        {"role": role, "content": f"{content} {number}"}
        for number in range(3)
        for role, content in (("user", "question"), ("assistant", "answer"))
    ]
    expected += [{"role": "user", "content": text} for text in ("stopped before a word", "last question")]
    assert page["messages"] == expected
    paged, offset = [], 0
    while offset < page["total"]:
        more = (await person.get(f"{url}?limit=2&offset={offset}")).body
        assert len(more["messages"]) <= 2
        paged += [message["content"] for message in more["messages"]]
        offset += 2
    assert paged == [message["content"] for message in expected]
    await turn.complete()
    assert (await client.receive())["message"] == "under way"
    assert (await person.get(f"{url}?limit=1000")).body["messages"][-1]["content"] == "under way"
    assert (await person.get(f"{url}?offset=1000")).body["messages"] == []
    await client.close()


@live
async def test_a_page_of_messages_too_long_for_one_answer_of_ours_is_still_whole(system: System) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin()
    await say(client, "question")
    turn = await system.worker.claim(session_id)
    await turn.say("first")
    await turn.complete()
    await client.receive()
    for _ in range(6):
        await say(client, "more")
        turn = await system.worker.claim(session_id)
        for _ in range(9):
            await turn.say("z" * 100_000)
        await turn.complete()
        await client.receive()
    messages = (await person.get(f"/chat/sessions/{session_id}/messages")).body["messages"]
    assert [len(message["content"]) for message in messages] == [8, 5] + [4, 900_000] * 6
    await client.close()


@live
async def test_a_page_with_more_text_than_one_answer_may_have_says_where_to_go_on(system: System) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin()
    answers = 20
    for _ in range(answers):
        await say(client, "more")
        turn = await system.worker.claim(session_id)
        for _ in range(9):
            await turn.say("z" * 100_000)
        await turn.complete()
        await client.receive()
    url = f"/chat/sessions/{session_id}/messages?limit=1000"
    first = (await person.get(url)).body
    assert list(first) == ["session_id", "messages", "total", "next_offset"]
    assert first["next_offset"] == len(first["messages"]) < first["total"] == 2 * answers
    rest = (await person.get(f"{url}&offset={first['next_offset']}")).body
    assert list(rest) == ["session_id", "messages", "total"]
    lengths = [len(message["content"]) for page in (first, rest) for message in page["messages"]]
    assert lengths == [4, 900_000] * answers
    await client.close()


@live
async def test_sessions_are_listed_by_their_last_activity_in_pages(system: System) -> None:
    person = Person(system.stack)
    made: list[str] = []
    for _ in range(3):
        client, session_id = await person.begin()
        await say(client, "question")
        await answer(system, session_id, "answer")
        await client.receive()
        await client.close()
        made.insert(0, session_id)
    listed = (await person.get("/chat/sessions")).body
    assert [entry["session_id"] for entry in listed] == made
    first, second = [(await person.get(f"/chat/sessions?limit=2&offset={offset}")).body for offset in (0, 2)]
    assert first + second == listed


@live
async def test_a_stopped_answer_keeps_what_was_said(system: System) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin("?stream=true")
    await say(client, "question")
    turn = await system.worker.claim(session_id)
    await turn.say("so far")
    assert await client.receive() == delta("so far", session_id)
    url = f"/chat/sessions/{session_id}/stop"
    assert (await person.post(url)).body == {"message": "Answer stopped", "session_id": session_id}
    assert await client.receive() == whole("so far", session_id)
    assert (await person.post(url)).body == {"message": "There was no answer to stop", "session_id": session_id}
    await client.close()


@live
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/chat/sessions?limit=0", 422),
        ("GET", "/chat/sessions?limit=1001", 422),
        ("GET", "/chat/sessions?offset=-1", 422),
        ("GET", "/chat/sessions/x/messages?limit=many", 422),
        ("GET", "/chat/sessions/x/messages", 404),
        ("GET", "/chat/sessions/x/nothing", 404),
        ("DELETE", "/chat/sessions", 405),
    ],
)
async def test_failures_over_http_have_the_dialects_form(system: System, method: str, path: str, status: int) -> None:
    response = await http(method, f"{system.urls[0]}{path}", headers=Person(system.stack).headers)
    assert (response.status, list(response.body)) == (status, ["error"])
    assert isinstance(response.body["error"], str)


@live
async def test_a_repeated_message_is_in_the_history_once(system: System) -> None:
    person = Person(system.stack)
    client, session_id = await person.begin("?client_id=mine")
    await say(client, "once")
    await answer(system, session_id, "answer")
    await client.receive()
    await client.close()
    again = await person.connect(f"?client_id=mine&session_id={session_id}")
    await say(again, "once")
    await say(again, "new")
    await answer(system, session_id, "another")
    assert await again.receive() == whole("another", session_id)
    assert await system.worker.history(session_id) == ["once", "answer", "new", "another"]
    await again.close()


@live
async def test_the_real_worker_answers_in_one_frame(whole: Stack) -> None:
    client, session_id = await Person(whole).begin()
    await say(client, "Hello AI!")
    frame = await client.receive()
    assert list(frame) == ["message", "session_id"]
    assert frame["message"]
    assert frame["session_id"] == session_id
    await client.close()


@pytest.mark.parametrize("session_id", ["", "another"])
async def test_a_session_too_many_on_one_connection_is_refused_before_anything_is_stored(session_id: str) -> None:
    known = tuple(f"session-{number}" for number in range(CHATS_AT_ONCE))
    visit = ElograntsVisit(user_id="ada", session_id="own", known=known)
    # Nothing is asked of the other services: there are none here.
    socket = ElograntsSocket("/ws/chat/", cast("Services", None))
    with pytest.raises(SwitchboardError, match="another connection") as caught:
        await socket.read(json.dumps({"message": "Hi", "session_id": session_id}), visit)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert visit.known == known
