"""Faye without I/O: events in, exact frames out; frames in, commands out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import pytest
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import LogEvent
from chat.messages import Answer, AnswerState, Message, Role
from gateway.dialect import Renderer, Say, Visit
from gateway.dialects.faye import FayeSocket
from gateway.frame import Frame
from gateway.ports import DialectSession, Sessions
from hypothesis import given
from hypothesis import strategies as st

from ..story import Story

VISIT = Visit(user_id="token", chat_id="chat-1")


def contents(frames: Sequence[Frame]) -> list[dict[str, object]]:
    return [dict(frame.content) for frame in frames]


def faye() -> Renderer:
    return endpoint(FakeSessions()).renderer(None, "chat-1")


def play(*events: LogEvent, renderer: Renderer | None = None) -> list[dict[str, object]]:
    renderer = renderer or faye()
    return [content for event in events for content in contents(renderer.render(event))]


def streaming(content: str) -> dict[str, object]:
    return {"type": "streaming", "content": content}


def stop(content: str) -> dict[str, object]:
    return {"type": "message_stop", "content": content}


def error(message: str) -> dict[str, object]:
    return {"type": "error", "message": message}


def assistant(content: str, state: AnswerState, message_id: str = "a1", failure: Failure | None = None) -> Message:
    return Message(message_id, "chat-1", Role.ASSISTANT, content, 0, 2, answer=Answer(state, failure=failure))


def test_an_answer_is_streamed_as_html_and_ends_in_the_whole() -> None:
    story = Story()
    assert play(story.ask(), story.start(), story.say("Yes, "), story.say("**tofu**"), story.complete()) == [
        streaming("<p>Yes, "),
        streaming("<strong>tofu"),
        streaming("</strong></p>"),
        stop("<p>Yes, <strong>tofu</strong></p>"),
    ]


def test_a_delta_that_shows_nothing_yet_gives_no_frame() -> None:
    story = Story()
    assert play(story.start(), story.say("Yes *"), story.say("*")) == [streaming("<p>Yes ")]


def test_a_stopped_answer_keeps_what_was_said() -> None:
    story = Story()
    assert play(story.start(), story.say("Yes"), story.cancel()) == [
        streaming("<p>Yes"),
        streaming("</p>"),
        stop("<p>Yes</p>"),
    ]


def test_an_answer_stopped_before_it_began_ends_empty() -> None:
    story = Story()
    assert play(story.ask(), story.cancel()) == [stop("")]


def test_a_failed_answer_ends_in_one_error_frame_behind_well_formed_html() -> None:
    story = Story()
    assert play(story.start(), story.say("Yes"), story.fail("Please try again.")) == [
        streaming("<p>Yes"),
        streaming("</p>"),
        error("Please try again."),
    ]


def test_an_answer_that_failed_before_it_began_is_an_error_alone() -> None:
    story = Story()
    assert play(story.ask(), story.fail("Please try again.")) == [error("Please try again.")]


def test_a_restarted_answer_has_its_truth_in_the_last_frame() -> None:
    story = Story()
    events = [story.start(), story.say("Wrong"), story.restart(), story.say("Right"), story.complete()]
    assert play(*events)[-1] == stop("<p>Right</p>")


def test_a_restarted_answer_that_fails_still_tells_the_truth_first() -> None:
    story = Story()
    events = [story.start(), story.say("Wrong"), story.restart(), story.say("Right"), story.fail("Broken.")]
    assert play(*events)[-2:] == [stop("<p>Right</p>"), error("Broken.")]


def test_one_answer_leaves_nothing_to_the_next() -> None:
    story = Story()
    first = [story.start(), story.say("**one"), story.complete()]
    second = [story.ask(), story.start(), story.say("two"), story.complete()]
    assert play(*first, *second)[-1] == stop("<p>two</p>")


def test_html_by_the_model_is_let_through_by_the_list_alone() -> None:
    story = Story()
    frames = play(
        story.start(), story.say('<b>hi</b><script>alert(1)</script> <img src=x onerror="1">'), story.complete()
    )
    whole = str(frames[-1]["content"])
    assert "hi" in whole
    assert "<script" not in whole
    assert "onerror" not in whole


@given(st.text(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_streaming_frames_add_up_to_message_stop_whatever_the_chunking(text: str, cuts: list[int]) -> None:
    story = Story()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges) if start < end]
    frames = play(story.start(), *[story.say(piece) for piece in pieces], story.complete())
    assert "".join(str(frame["content"]) for frame in frames[:-1]) == frames[-1]["content"]


@given(st.text(min_size=1, max_size=60), st.integers(0, 60))
def test_a_renderer_that_resumes_goes_on_as_one_that_was_there_from_the_start(text: str, cut: int) -> None:
    story = Story()
    start, before, after = story.start(), story.say(text[:cut]), story.say(text[cut:])
    there, resumed = faye(), faye()
    play(start, before, renderer=there)
    resumed.resume(text[:cut])
    rest = [after, story.complete()]
    assert play(*rest, renderer=resumed) == play(*rest, renderer=there)


def test_a_snapshot_shows_answers_as_if_they_came_now_and_goes_on_with_the_one_under_way() -> None:
    renderer = faye()
    failure = Failure(ErrorCode.UNAVAILABLE, "Broken.")
    frames = renderer.snapshot(
        [
            Message("q", "chat-1", Role.USER, "Hi", 0, 1),
            assistant("Hello", AnswerState.COMPLETED),
            assistant("Half", AnswerState.FAILED, failure=failure),
            assistant("So far", AnswerState.RUNNING, "a9"),
        ]
    )
    assert contents(frames) == [
        streaming("<p>Hello"),
        streaming("</p>"),
        stop("<p>Hello</p>"),
        streaming("<p>Half"),
        streaming("</p>"),
        error("Broken."),
        streaming("<p>So far"),
    ]
    story = Story()
    story.answer_id, story.text = "a9", "So far"
    assert play(story.say(" so good"), story.complete(), renderer=renderer)[-1] == stop("<p>So far so good</p>")


@pytest.mark.parametrize(
    ("now", "frames"),
    [
        (assistant("Yes, tofu", AnswerState.RUNNING, "m1"), [streaming(" tofu")]),
        (assistant("Yes,", AnswerState.RUNNING, "m1"), []),
        (assistant("Ye", AnswerState.RUNNING, "m1"), []),
        (assistant("Nonsense it is", AnswerState.RUNNING, "m1"), []),
        (
            assistant("Yes, tofu", AnswerState.COMPLETED, "m1"),
            [streaming(" tofu"), streaming("</p>"), stop("<p>Yes, tofu</p>")],
        ),
        (assistant("No", AnswerState.COMPLETED, "m1"), [streaming("</p>"), stop("<p>No</p>")]),
        (None, [error("The answer was lost on our side. Please ask again.")]),
    ],
)
def test_a_reader_that_can_not_forget_is_put_right(now: Message | None, frames: list[dict[str, object]]) -> None:
    story, renderer = Story(), faye()
    play(story.start(), story.say("Yes,"), renderer=renderer)
    messages = [Message("q", "chat-1", Role.USER, "Hi", 0, 1), *([now] if now is not None else [])]
    assert contents(renderer.resync(messages)) == frames


def test_a_reader_that_waits_for_nothing_hears_nothing_of_old_answers() -> None:
    assert faye().resync([assistant("Old", AnswerState.COMPLETED)]) == []


def test_a_reader_that_waits_for_nothing_is_shown_the_answer_that_began_meanwhile() -> None:
    assert contents(faye().resync([assistant("New", AnswerState.RUNNING)])) == [streaming("<p>New")]


def test_merged_frames_are_one_streaming_frame() -> None:
    frames = [Frame(streaming("<p>a")), Frame(streaming("b"))]
    assert dict(endpoint(FakeSessions()).merge(frames).content) == streaming("<p>ab")


def test_an_error_has_its_form() -> None:
    frame = endpoint(FakeSessions()).failure(Failure(ErrorCode.QUEUE_FULL, "Wait."), None)
    assert dict(frame.content) == error("Wait.")


async def test_a_text_is_a_message_as_it_stands() -> None:
    assert await endpoint(FakeSessions()).read(" Is tofu healthy? ", VISIT) == Say("chat-1", " Is tofu healthy? ")
    assert await endpoint(FakeSessions()).read('{"type":"ping"}', VISIT) == Say("chat-1", '{"type":"ping"}')


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
async def test_an_empty_message_is_refused(text: str) -> None:
    with pytest.raises(SwitchboardError) as caught:
        await endpoint(FakeSessions()).read(text, VISIT)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


class FakeSessions:
    """Knows one session, or none."""

    def __init__(self) -> None:
        self.used = 0
        self.open = True

    async def get_session(self, dialect: str, name: str) -> DialectSession:
        if not self.open:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "no session")
        self.used += 1
        return DialectSession(dialect, name, "chat-1", "session-1")


class FakeHandshake:
    """Asks for one token."""

    query: Mapping[str, str] = {}

    def __init__(self, token: str) -> None:
        self.path: Mapping[str, str] = {"unique_token": token}

    def header(self, name: str) -> str | None:
        return None

    def cookie(self, name: str) -> str | None:
        return None


def endpoint(sessions: FakeSessions, now_s: Callable[[], float] = lambda: 0.0) -> FayeSocket:
    return FayeSocket(cast("Sessions", sessions), now_s)


async def test_who_knows_an_open_sessions_token_is_let_in() -> None:
    visit = await endpoint(FakeSessions()).admit(FakeHandshake("token"))
    assert (visit.user_id, visit.chat_id) == ("token", "chat-1")


async def test_who_knows_none_is_not() -> None:
    sessions = FakeSessions()
    sessions.open = False
    with pytest.raises(SwitchboardError) as caught:
        await endpoint(sessions).admit(FakeHandshake("token"))
    assert caught.value.code is ErrorCode.NOT_FOUND
    with pytest.raises(SwitchboardError) as caught:
        await endpoint(FakeSessions()).admit(FakeHandshake("x" * 201))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_what_is_said_over_a_long_connection_keeps_the_session_open() -> None:
    clock = [0.0]
    sessions = FakeSessions()
    subject = endpoint(sessions, lambda: clock[0])
    visit = await subject.admit(FakeHandshake("token"))
    for moment_s, used in ((1.0, 1), (3599.0, 1), (3601.0, 2), (3700.0, 2), (90_000.0, 3)):
        clock[0] = moment_s
        assert await subject.read("Hi", visit) == Say("chat-1", "Hi")
        assert sessions.used == used
    sessions.open, clock[0] = False, 200_000.0
    with pytest.raises(SwitchboardError):
        await subject.read("Hi", visit)


def test_messages_are_not_changed_by_being_shown() -> None:
    message = assistant("Hello", AnswerState.COMPLETED)
    before = replace(message)
    faye().snapshot([message])
    assert message == before
