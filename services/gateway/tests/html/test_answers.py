"""Answers as HTML frames, where dialects differ or nothing else reaches: `test_faye.py` has the frames themselves."""

from collections.abc import Mapping, Sequence

import pytest
from chat.errors import ErrorCode, Failure
from chat.events import LogEvent, ResponseCancelled, ResponseFailed
from chat.messages import Answer, AnswerState, Message, Role
from gateway.frame import Frame
from gateway.html.answers import HtmlAnswers
from gateway.html.history import history_of

from ..story import Story


def shown(frames: Sequence[Frame]) -> list[tuple[object, ...]]:
    return [tuple(frame.content.values()) for frame in frames]


def play(subject: HtmlAnswers, *events: LogEvent) -> list[tuple[object, ...]]:
    return [frame for event in events for frame in shown(subject.render(event))]


def message(message_id: str, role: Role, content: str = "", state: AnswerState = AnswerState.COMPLETED) -> Message:
    answer = Answer(state) if role is Role.ASSISTANT else None
    return Message(message_id, "chat-1", role, content, 0, answer=answer)


def begun() -> HtmlAnswers:
    return HtmlAnswers(begins=True)


def test_message_start_comes_once_and_before_all_else_of_an_answer() -> None:
    story = Story()
    events = [story.ask(), story.start(), story.say("No"), story.restart(), story.say("Yes"), story.complete()]
    frames = play(begun(), *events)
    assert [frame[0] for frame in frames].count("message_start") == 1
    assert frames[0] == ("message_start",)
    assert frames[-1] == ("message_stop", "<p>Yes</p>")


def test_an_answer_without_a_word_yet_has_begun_for_who_comes_now_as_well() -> None:
    subject = begun()
    running = message("a", Role.ASSISTANT, state=AnswerState.RUNNING)
    assert shown(subject.snapshot([running])) == [("message_start",)]
    story = Story()
    story.answer_id = "a"
    assert play(subject, story.say("Yes"), story.complete()) == [
        ("streaming", "<p>Yes"),
        ("streaming", "</p>"),
        ("message_stop", "<p>Yes</p>"),
    ]


def test_who_resumes_in_an_answer_is_not_told_again_that_it_began() -> None:
    story, subject = Story(), begun()
    story.start()
    subject.resume("")
    assert play(subject, story.say("Yes")) == [("streaming", "<p>Yes")]


def test_an_answer_that_never_began_has_no_message_start() -> None:
    story = Story()
    assert play(begun(), story.ask(), story.cancel()) == [("message_stop", "")]
    assert play(begun(), story.ask(), story.fail("Too late.")) == [("error", "Too late.")]


@pytest.mark.parametrize(
    ("ended", "frame"),
    [
        (ResponseCancelled("waiting", 0), ("message_stop", "")),
        (
            ResponseFailed(
                "waiting",
                0,
                Answer(AnswerState.FAILED, failure=Failure(ErrorCode.DEADLINE_EXCEEDED, "It waited too long.")),
            ),
            ("error", "It waited too long."),
        ),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_a_turn_that_ended_while_it_waited_leaves_the_answer_under_way_alone(
    ended: LogEvent, frame: tuple[str, str], resumed: bool
) -> None:
    story, subject = Story(), HtmlAnswers()
    started, first = story.start(), story.say("**Yes")
    if resumed:
        subject.resume(story.text)
        play(subject, story.say(", "))
    else:
        play(subject, started, first)
    assert play(subject, ended) == [frame]
    assert play(subject, story.say("tofu"), story.complete())[-1] == (
        "message_stop",
        f"<p><strong>Yes{', ' if resumed else ''}tofu</strong></p>",
    )


def test_who_asked_hears_the_answer_that_came_and_went_while_events_were_lost() -> None:
    story, subject = Story(), begun()
    play(subject, story.ask())
    old, asked = message("old", Role.ASSISTANT, "Old"), message("m1", Role.USER)
    assert shown(subject.resync([old, asked, message("new", Role.ASSISTANT, "New")])) == [
        ("message_start",),
        ("streaming", "<p>New"),
        ("streaming", "</p>"),
        ("message_stop", "<p>New</p>"),
    ]


def test_who_hears_one_answer_gets_its_end_and_then_the_next_from_its_beginning() -> None:
    story, subject = Story(), begun()
    play(subject, story.ask(), story.start(), story.say("Yes, "))
    messages = [
        message("m1", Role.USER),
        message("m2", Role.ASSISTANT, "Yes, tofu"),
        message("m3", Role.USER),
        message("m4", Role.ASSISTANT, "Or", AnswerState.RUNNING),
    ]
    assert shown(subject.resync(messages)) == [
        ("streaming", "tofu"),
        ("streaming", "</p>"),
        ("message_stop", "<p>Yes, tofu</p>"),
        ("message_start",),
        ("streaming", "<p>Or"),
    ]


def test_message_stop_has_the_fields_that_the_dialect_gives_it() -> None:
    def state(answer: Answer | None) -> Mapping[str, object]:
        return {"state": None if answer is None else answer.state.name}

    story = Story()
    ends = []
    for end in (story.complete, story.cancel, story.fail):
        events = [story.start(), story.restart(), story.say("Yes"), end()]
        ends += [frame for frame in play(HtmlAnswers(more=state), *events) if frame[0] == "message_stop"]
    assert [frame[2] for frame in ends] == ["COMPLETED", None, "FAILED"]
    stopped = message("a", Role.ASSISTANT, "Yes", AnswerState.CANCELLED)
    assert shown(HtmlAnswers(more=state).snapshot([stopped]))[-1] == ("message_stop", "<p>Yes</p>", "CANCELLED")


def test_an_idle_renderer_holds_no_answer() -> None:
    story, subject = Story(), HtmlAnswers()
    play(subject, story.start(), story.say("x" * 1000), story.complete())
    assert subject._answer is None


def test_a_history_has_what_was_said_and_answers_that_ended_with_a_word() -> None:
    messages = [
        message("1", Role.USER, "<b>Hi</b>"),
        message("2", Role.ASSISTANT, "**Hello**"),
        message("3", Role.SYSTEM, "Be brief."),
        message("4", Role.ASSISTANT, ""),
        message("5", Role.ASSISTANT, "So far", AnswerState.RUNNING),
    ]
    assert [(one.role, one.content) for one in history_of(messages)] == [
        ("user", "<b>Hi</b>"),
        ("assistant", "<p><strong>Hello</strong></p>"),
    ]
