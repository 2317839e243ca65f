"""Arketic without I/O: events in, the document's frames out; how far an answer is shown while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from chat.errors import ErrorCode, Failure
from chat.events import (
    ChatDeleted,
    ChatUpdated,
    Event,
    MessageCreated,
    MessageEdited,
    ParticipantAdded,
    ParticipantRemoved,
    Presence,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
    Typing,
    utf8_length,
)
from chat.messages import Answer, AnswerState, Chat, FinishReason, Message, Participant, ParticipantRole, Role, Usage
from gateway.dialects.arketic.pacing import SHOWN_LENGTHS, shown_length
from gateway.dialects.arketic.renderer import ArketicRenderer, Wish, error_frame, merged_chunks
from gateway.dialects.arketic.wire import Attributes
from gateway.frame import Frame, coalesce
from hypothesis import given
from hypothesis import strategies as st

CHAT = "123e4567-e89b-12d3-a456-426614174000"
NOW_US = 1_704_112_350_000_000
"""2024-01-01T12:32:30Z"""
ASKED_US = 1_704_112_260_000_000
"""2024-01-01T12:31:00Z"""
BEGAN_US = 1_704_112_275_900_000
"""2024-01-01T12:31:15Z, and most of a second that is not shown"""
WHOLE = Answer(
    AnswerState.COMPLETED, FinishReason.STOP, provider="openai", model="gpt-4", usage=Usage(6, 9), duration_s=1.25
)


def fresh(*, full: bool = True, all_events: bool = False) -> ArketicRenderer:
    return ArketicRenderer(CHAT, Wish(full_content=full, all_events=all_events), lambda: NOW_US)


def said(content: str, message_id: str = "msg-125", **more: Any) -> Message:
    return Message(message_id, CHAT, Role.USER, content, ASKED_US, 1, sender_id="user-456", **more)


def begun(content: str = "", message_id: str = "msg-126", answer: Answer | None = None) -> Message:
    running = Answer(AnswerState.RUNNING, provider="openai", model="gpt-4")
    return Message(message_id, CHAT, Role.ASSISTANT, content, BEGAN_US, 2, answer=answer or running)


def contents(frames: Sequence[Frame]) -> list[dict[str, Any]]:
    return [dict(frame.content) for frame in frames]


def play(renderer: ArketicRenderer, *events: Event) -> list[dict[str, Any]]:
    return [content for event in events for content in contents(renderer.render(event))]


def deltas(*texts: str) -> list[Event]:
    at, events = 0, []
    for text in texts:
        events.append(ResponseDelta("msg-126", at, text))
        at += utf8_length(text)
    return list(events)


def chunk(text: str, full: str | None = None) -> dict[str, Any]:
    frame = {"type": "ai_response_chunk", "message_id": "msg-126", "chat_id": CHAT, "chunk": text}
    return frame if full is None else frame | {"full_content": full}


START = {
    "type": "ai_response_start",
    "message": {
        "id": "msg-126",
        "chat_id": CHAT,
        "sender_id": None,
        "content": "",
        "message_type": "AI",
        "ai_model_used": "gpt-4",
        "created_at": "2024-01-01T12:31:15Z",
        "status": "PROCESSING",
        "is_streaming": True,
    },
}


def complete(content: str, **other: Any) -> dict[str, Any]:
    message = {
        "id": "msg-126",
        "chat_id": CHAT,
        "sender_id": None,
        "content": content,
        "message_type": "AI",
        "ai_model_used": "gpt-4",
        "tokens_used": 15,
        "processing_time_ms": 1250,
        "created_at": "2024-01-01T12:31:15Z",
        "status": "DELIVERED",
        "is_streaming": False,
    }
    return {"type": "ai_response_complete", "message": message | other}


NO_END: dict[str, Any] = {"tokens_used": None, "processing_time_ms": None}


def test_a_message_is_broadcast_as_the_document_prints_it() -> None:
    assert play(fresh(), MessageCreated(said("Hello everyone!"), "t", "msg-126")) == [
        {
            "type": "new_message",
            "message": {
                "id": "msg-125",
                "chat_id": CHAT,
                "sender_id": "user-456",
                "content": "Hello everyone!",
                "message_type": "USER",
                "created_at": "2024-01-01T12:31:00Z",
            },
        }
    ]


def test_an_answer_streams_as_the_document_prints_it() -> None:
    first, second = "Hello! I'd be happy to help you", " with your Python questions."
    events = [ResponseStarted(begun()), *deltas(first, second)]
    end = ResponseCompleted("msg-126", len(first + second), WHOLE)
    assert play(fresh(full=False), *events, end) == [START, chunk(first), chunk(second), complete(first + second)]
    frames = play(fresh(), *events, end)
    assert [frames[0], frames[-1]] == [START, complete(first + second)]
    text = ""
    for frame in frames[1:-1]:
        text += frame["chunk"]
        assert frame == chunk(frame["chunk"], text)
    assert text == first + second


def test_typing_and_errors_are_as_the_document_prints_them() -> None:
    typing = Typing("user-456", "johndoe", 1_704_112_290_000_000)
    assert play(fresh(), typing, Presence("user-456", True)) == [
        {
            "type": "typing_indicator",
            "chat_id": CHAT,
            "user_id": "user-456",
            "username": "johndoe",
            "timestamp": "2024-01-01T12:31:30Z",
        }
    ]
    failure = Failure(ErrorCode.NO_API_KEY, "No provider has a key.")
    error = {
        "type": "ai_error",
        "error": "Please set up your OpenAI API key in Settings to enable AI responses.",
        "chat_id": CHAT,
        "error_code": "no_api_key",
        "timestamp": "2024-01-01T12:32:30Z",
    }
    assert dict(error_frame(failure, CHAT, NOW_US).content) == error
    assert play(fresh(), ResponseFailed("msg-126", 0, Answer(AnswerState.FAILED, failure=failure))) == [error]


def test_a_failed_answer_ends_and_then_says_why() -> None:
    failure = Failure(ErrorCode.PROVIDER_UNAVAILABLE, "Please ask again.")
    failed = ResponseFailed("msg-126", 3, Answer(AnswerState.FAILED, failure=failure, duration_s=2.0))
    end = complete("Hal", status="FAILED", tokens_used=None, processing_time_ms=2000)
    error = {
        "type": "ai_error",
        "error": "Please ask again.",
        "chat_id": CHAT,
        "error_code": "langchain_service_unavailable",
        "timestamp": "2024-01-01T12:31:17Z",
    }
    assert play(fresh(), ResponseStarted(begun()), *deltas("Hal"), failed) == [START, chunk("Hal", "Hal"), end, error]


def test_a_stopped_answer_keeps_what_was_said() -> None:
    stopped = ResponseCancelled("msg-126", 3, "user-456")
    end = complete("Hal", status="CANCELLED", **NO_END)
    assert play(fresh(), ResponseStarted(begun()), *deltas("Hal"), stopped)[-1] == end
    [never_begun] = play(fresh(), stopped)
    assert (
        never_begun["message"] | {"ai_model_used": "gpt-4", "created_at": "2024-01-01T12:31:15Z"}
        == (complete("", status="CANCELLED", **NO_END)["message"])
    )


def test_a_turn_that_ends_before_it_began_leaves_the_answer_under_way_alone() -> None:
    renderer = fresh()
    play(renderer, ResponseStarted(begun()), *deltas("Half"))
    play(renderer, ResponseCancelled("another", 0))
    whole = ResponseCompleted("msg-126", 4, WHOLE)
    assert play(renderer, whole) == [complete("Half")]


def test_a_restarted_answer_starts_again_under_its_id() -> None:
    renderer = fresh()
    play(renderer, ResponseStarted(begun()), *deltas("Wrong"))
    frames = play(renderer, ResponseRestarted("msg-126"), *deltas("Right"), ResponseCompleted("msg-126", 5, WHOLE))
    assert frames == [START, chunk("Right", "Right"), complete("Right")]


def test_what_the_document_does_not_print_is_for_those_who_ask() -> None:
    participant = Participant("bob", "Bob", ParticipantRole.MEMBER, ASKED_US)
    attributes = Attributes("GROUP", "gpt-4", None, False, None).stored()
    chat = Chat(CHAT, "arketic", "user-456", "Title", attributes=attributes, created_at_us=ASKED_US)
    changes: list[Event] = [
        MessageEdited("msg-125", "Hi", ASKED_US),
        ParticipantAdded(participant),
        ParticipantRemoved("bob"),
        ChatUpdated(chat),
        ChatDeleted("deleted"),
    ]
    assert play(fresh(), *changes) == []
    frames = play(fresh(all_events=True), *changes)
    assert [frame["type"] for frame in frames] == [
        "message_edited",
        "participant_added",
        "participant_removed",
        "chat_updated",
        "chat_deleted",
    ]
    assert frames[0]["message"]["is_edited"] is True
    reply = MessageCreated(said("Yes", reply_to_id="msg-1", metadata={"source": "web_app"}))
    [frame] = play(fresh(all_events=True), reply)
    assert (frame["message"]["reply_to_id"], frame["message"]["message_metadata"]) == ("msg-1", {"source": "web_app"})


def test_shown_lengths_begin_at_once_and_grow_by_about_a_seventh() -> None:
    assert SHOWN_LENGTHS[:9] == (0, 1, 2, 3, 4, 5, 6, 7, 8)
    for shorter, longer in pairwise(SHOWN_LENGTHS[1:]):
        assert shorter < longer <= shorter * 8 / 7 + 1
    assert all(shown_length(length) <= length for length in range(2_000))


@pytest.mark.parametrize("size", [1, 4, 50])
@pytest.mark.parametrize("length", [1, 20, 300, 5_000, 40_000])
def test_all_chunks_together_are_at_most_about_ten_times_the_answer(length: int, size: int) -> None:
    text = "x" * length
    pieces = [text[at : at + size] for at in range(0, length, size)]
    frames = play(fresh(), ResponseStarted(begun()), *deltas(*pieces), ResponseCompleted("msg-126", length, WHOLE))
    sent = sum(len(frame["chunk"]) + len(frame["full_content"]) for frame in frames[1:-1])
    assert sent <= 10 * length
    assert frames[1]["full_content"] == text[: len(frames[1]["full_content"])] != ""
    assert frames[-2]["full_content"] == text


TEXTS = st.text(max_size=400)
CUTS = st.lists(st.integers(0, 400), max_size=6)


def cut(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(min(at, len(text)) for at in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges) if start < end]


@given(TEXTS, CUTS, st.booleans())
def test_chunks_add_up_to_the_answer_and_merge_to_the_same_whatever_the_chunking(
    text: str, cuts: list[int], full: bool
) -> None:
    renderer = fresh(full=full)
    frames = [
        frame for event in [ResponseStarted(begun()), *deltas(*cut(text, cuts))] for frame in renderer.render(event)
    ]
    frames += renderer.render(ResponseCompleted("msg-126", utf8_length(text), WHOLE))
    assert "".join(str(frame.content["chunk"]) for frame in frames[1:-1]) == text
    assert frames[-1].content["message"]["content"] == text  # type: ignore[index]
    merged = coalesce(frames, merged_chunks)
    expected = [START, chunk(text, text if full else None), complete(text)] if text else [START, complete("")]
    assert contents(merged) == expected


@given(TEXTS, st.integers(0, 400), CUTS, st.booleans())
def test_a_renderer_that_resumes_goes_on_as_one_that_was_there_from_the_start(
    text: str, at: int, cuts: list[int], full: bool
) -> None:
    before, after = text[:at], text[at:]
    there, resumed, snapshot = fresh(full=full), fresh(full=full), fresh(full=full)
    seen = play(there, ResponseStarted(begun()), *deltas(*cut(before, cuts)))
    resumed.resume(before)
    shown = contents(snapshot.snapshot([begun(before)]))
    assert "".join(frame["chunk"] for frame in shown[1:]) == "".join(frame["chunk"] for frame in seen[1:])
    rest: list[Event] = [ResponseDelta("msg-126", utf8_length(before), after)] if after else []
    end = ResponseCompleted("msg-126", utf8_length(text), WHOLE)
    expected = play(there, *rest, end)
    assert play(snapshot, *rest, end) == expected
    if before:
        got = play(resumed, *rest, end)
        # Who resumes in the middle was told of no beginning.
        got[-1]["message"]["created_at"] = "2024-01-01T12:31:15Z"
        assert got == expected


def test_a_snapshot_shows_each_message_as_if_it_came_now() -> None:
    frames = contents(fresh().snapshot([said("Hello"), begun("Hi", answer=WHOLE)]))
    assert [frame["type"] for frame in frames] == [
        "new_message",
        "ai_response_start",
        "ai_response_chunk",
        "ai_response_complete",
    ]


def test_who_missed_events_gets_the_rest_of_the_answer_and_what_was_said_since() -> None:
    renderer = fresh(full=False)
    play(renderer, MessageCreated(said("Hello")), ResponseStarted(begun()), *deltas("One "))
    now = [said("Hello"), begun("One two", answer=WHOLE), said("More", "msg-127"), begun("So f", "msg-128")]
    frames = contents(renderer.resync(now))
    assert frames[:2] == [chunk("two"), complete("One two")]
    assert [frame["type"] for frame in frames[2:]] == ["new_message", "ai_response_start", "ai_response_chunk"]


def test_who_missed_a_restart_is_shown_the_answer_anew() -> None:
    renderer = fresh()
    play(renderer, ResponseStarted(begun()), *deltas("Wrong"))
    assert contents(renderer.resync([begun("Right", answer=WHOLE)])) == [
        START,
        chunk("Right", "Right"),
        complete("Right"),
    ]


def test_an_answer_that_was_lost_is_said_to_be() -> None:
    renderer = fresh()
    play(renderer, ResponseStarted(begun()), *deltas("Half"))
    [frame] = contents(renderer.resync([]))
    assert (frame["type"], frame["error_code"]) == ("ai_error", "internal")


def test_an_idle_renderer_holds_nothing() -> None:
    renderer = fresh()
    play(renderer, ResponseStarted(begun()), *deltas("Hi"), ResponseCompleted("msg-126", 2, WHOLE))
    assert renderer._answer is None
