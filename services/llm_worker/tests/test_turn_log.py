"""A turn's appends: whatever a log answers, what it holds in the end is the answer."""

import asyncio
from dataclasses import dataclass

import pytest
from chat import codec
from chat.errors import ErrorCode, Failure
from chat.events import (
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
)
from chat.messages import Answer, AnswerState, Message, Role
from hypothesis import given
from hypothesis import strategies as st
from llm_worker.turn_log import MAX_DELTA_CHARS, MAX_WAITING_BYTES, Settled, TurnLog
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

LEASE = session_pb2.Lease(chat_id="c", turn_id="t", lease_id="l", fence=3)
BLANK = Message("a", "c", Role.ASSISTANT, "", 0, answer=Answer(AnswerState.RUNNING))
WHOLE = Answer(AnswerState.COMPLETED)


def made(text_before: str | None = None) -> TurnLog:
    return TurnLog(LEASE, "a", text_before=text_before)


def append_of(turn: TurnLog) -> session_pb2.Append | None:
    request = session_pb2.PublishRequest()
    return request.appends[0] if turn.put_next(request) else None


def events_of(append: session_pb2.Append | None) -> list[object]:
    assert append is not None, "there is nothing to say"
    return [codec.event_from_proto(event) for event in append.events]


def settle(turn: TurnLog, append: session_pb2.Append | None, **result: object) -> Settled:
    assert append is not None
    return turn.settle(session_pb2.AppendResult(lease_id="l", sequence=append.sequence, **result))  # type: ignore[arg-type]


async def test_the_first_append_says_that_the_answer_begins_and_its_first_text() -> None:
    turn = made()
    assert append_of(turn) is None
    turn.start(BLANK)
    turn.write("Hé")
    append = append_of(turn)
    assert append is not None
    assert (append.lease, append.sequence) == (LEASE, 1)
    assert events_of(append) == [ResponseStarted(BLANK), ResponseDelta("a", 0, "Hé")]


async def test_one_append_is_under_way_and_the_next_takes_all_that_came_meanwhile_as_one_delta() -> None:
    turn = made()
    turn.start(BLANK)
    turn.write("Hé")
    first = append_of(turn)
    turn.write("l")
    turn.write("lo")
    assert append_of(turn) is None
    assert settle(turn, first) is Settled.GO_ON
    turn.end(WHOLE)
    second = append_of(turn)
    assert events_of(second) == [ResponseDelta("a", 3, "llo"), ResponseCompleted("a", 6, WHOLE)]
    assert second is not None
    assert second.sequence == 2
    assert not turn.done.done()
    settle(turn, second)
    assert turn.done.result() is True


async def test_a_turn_that_fails_before_its_answer_began_says_only_that() -> None:
    turn = made()
    broken = Answer(AnswerState.FAILED, failure=Failure(ErrorCode.NO_API_KEY, "No key."))
    turn.end(broken)
    assert events_of(append_of(turn)) == [ResponseFailed("a", 0, broken)]


async def test_the_answer_of_a_dead_worker_goes_on_behind_its_last_character() -> None:
    turn = made("Hé")
    turn.start(BLANK)
    assert turn.text == "Hé"
    turn.write("llo")
    turn.end(WHOLE)
    append = append_of(turn)
    assert events_of(append) == [ResponseDelta("a", 3, "llo"), ResponseCompleted("a", 6, WHOLE)]
    assert append is not None
    assert append.opened == 0


async def test_text_of_a_dead_worker_that_the_log_lost_is_said_again() -> None:
    turn = made("Hél")
    turn.start(BLANK)
    turn.write("lo")
    settle(turn, append_of(turn), text_length=1)
    assert events_of(append_of(turn)) == [ResponseDelta("a", 1, "éllo")]


async def test_the_answer_of_a_dead_worker_is_restarted_where_it_can_not_go_on() -> None:
    turn = made("Hal")
    turn.start(BLANK)
    turn.restart()
    turn.write("Hello")
    turn.end(WHOLE)
    assert events_of(append_of(turn)) == [
        ResponseRestarted("a"),
        ResponseDelta("a", 0, "Hello"),
        ResponseCompleted("a", 5, WHOLE),
    ]


async def test_an_answer_restarts_while_its_text_is_under_way() -> None:
    turn = made()
    turn.start(BLANK)
    turn.write("Hal")
    first = append_of(turn)
    turn.write("lo")
    turn.restart()
    turn.write("Hello")
    assert turn.text == "Hello"
    settle(turn, first)
    second = append_of(turn)
    assert events_of(second) == [ResponseRestarted("a"), ResponseDelta("a", 0, "Hello")]
    assert second is not None
    assert second.opened == 2


async def test_an_answer_that_nobody_has_seen_is_restarted_without_a_word() -> None:
    turn = made()
    turn.start(BLANK)
    turn.write("Hal")
    turn.restart()
    turn.write("Hello")
    assert events_of(append_of(turn)) == [ResponseStarted(BLANK), ResponseDelta("a", 0, "Hello")]


async def test_what_the_log_says_of_void_text_takes_nothing_from_the_new() -> None:
    turn = made()
    turn.start(BLANK)
    turn.write("Hal")
    settle(turn, append_of(turn))
    turn.write("lo")
    under_way = append_of(turn)
    turn.restart()
    turn.write("Hello")
    settle(turn, under_way, text_length=1)
    assert events_of(append_of(turn)) == [ResponseRestarted("a"), ResponseDelta("a", 0, "Hello")]


async def test_a_restart_gives_room_again() -> None:
    turn = made()
    turn.start(BLANK)
    turn.write("x" * MAX_WAITING_BYTES)
    room = turn.write("y")
    turn.restart()
    assert room is not None
    assert room.done()
    assert turn.write("z") is None


async def test_where_nobody_can_go_on_the_answer_of_a_dead_worker_keeps_its_text() -> None:
    turn = made("Há")
    broken = Answer(AnswerState.FAILED, failure=Failure(ErrorCode.PROVIDER_UNAVAILABLE, "Down."))
    turn.end(broken)
    assert events_of(append_of(turn)) == [ResponseFailed("a", 3, broken)]


async def test_an_append_of_which_nothing_is_known_is_repeated_unchanged() -> None:
    turn = made()
    turn.start(BLANK)
    turn.write("Hello")
    append = append_of(turn)
    before = append.SerializeToString() if append else b""
    turn.write(", you")
    assert settle(turn, append, error=chat_pb2.ERROR_CODE_UNAVAILABLE) is Settled.REPEAT
    assert turn.under_way is not None
    assert turn.under_way.SerializeToString() == before


@pytest.mark.parametrize("error", [chat_pb2.ERROR_CODE_LEASE_LOST, chat_pb2.ERROR_CODE_INVALID_ARGUMENT])
async def test_a_lost_turn_says_nothing_more(error: "chat_pb2.ErrorCode.ValueType") -> None:
    turn = made()
    turn.start(BLANK)
    turn.write("Hello")
    settle(turn, append_of(turn), error=error)
    assert turn.done.result() is False
    turn.write("more")
    assert append_of(turn) is None


async def test_a_result_for_another_append_is_passed_over() -> None:
    turn = made()
    turn.start(BLANK)
    append = append_of(turn)
    assert turn.settle(session_pb2.AppendResult(sequence=7)) is Settled.NOTHING
    assert turn.under_way is append


async def test_unacknowledged_text_is_bounded_and_its_end_wakes_the_writer() -> None:
    turn = made()
    turn.start(BLANK)
    assert turn.write("x" * MAX_WAITING_BYTES) is None
    room = turn.write("y")
    assert room is not None
    while not room.done():
        settle(turn, append_of(turn))
    assert turn.write("z") is None


async def test_a_long_text_goes_in_several_appends() -> None:
    turn = made()
    turn.start(BLANK)
    turn.write("x" * (MAX_DELTA_CHARS + 5))
    turn.end(WHOLE)
    settle(turn, append_of(turn))
    assert events_of(append_of(turn)) == [
        ResponseDelta("a", MAX_DELTA_CHARS, "xxxxx"),
        ResponseCompleted("a", MAX_DELTA_CHARS + 5, WHOLE),
    ]


@dataclass(frozen=True)
class Stored:
    """What one append made of an answer, in the session service's words."""

    text: bytes
    started: bool
    opened: int = 0
    sequence: int = 0
    ended: bool = False


class Log:
    """A chat's log that can lose its last appends, as the session service describes it."""

    def __init__(self, text: str | None) -> None:
        self.kept = [Stored((text or "").encode(), started=text is not None)]

    @property
    def last(self) -> Stored:
        return self.kept[-1]

    def take(self, append: session_pb2.Append) -> dict[str, object]:
        now = self.last
        if append.sequence <= now.sequence:
            return {}
        if append.opened not in (append.sequence, now.opened):
            return {"unopened": True}
        text, started = now.text, now.started
        if isinstance(events_of(append)[0], ResponseRestarted) and not started:
            return {"unopened": True}
        for event in events_of(append):
            match event:
                case ResponseStarted():
                    assert not started
                    started = True
                case ResponseRestarted():
                    assert started
                    text = b""
                case ResponseDelta() | ResponseCompleted() if not started:
                    raise AssertionError("an answer that has not begun")
                case ResponseDelta():
                    if event.text_offset != len(text):
                        return {"text_length": len(now.text)}
                    text += event.text.encode()
                case ResponseCompleted():
                    if event.text_length != len(text):
                        return {"text_length": len(now.text)}
        ended = isinstance(events_of(append)[-1], ResponseCompleted)
        self.kept.append(Stored(text, started, append.opened, append.sequence, ended))
        return {}

    def lose(self, appends: int) -> None:
        """Redis failed over to a replica that lacks the last entries."""
        self.kept = self.kept[: max(1, len(self.kept) - appends)]


STEPS = st.one_of(
    st.tuples(st.just("write"), st.text(min_size=1, max_size=6)),
    st.tuples(st.just("publish"), st.booleans()),
    st.tuples(st.just("lose"), st.integers(1, 4)),
    st.tuples(st.just("unknown"), st.booleans()),
    st.tuples(st.just("restart"), st.booleans()),
)


@given(st.one_of(st.none(), st.text(max_size=8)), st.lists(STEPS, max_size=40))
def test_whatever_the_log_loses_it_holds_the_answer_in_the_end(
    before: str | None, steps: list[tuple[str, object]]
) -> None:
    async def scenario() -> None:
        turn, log, said = made(before), Log(before), before or ""
        turn.start(BLANK)

        def publish(*, applied: bool = True, known: bool = True) -> None:
            append = turn.under_way or append_of(turn)
            if append is None:
                return
            result = log.take(append) if applied else {}
            settle(turn, append, **(result if known else {"error": chat_pb2.ERROR_CODE_UNAVAILABLE}))

        for step, value in steps:
            if step == "write":
                said += str(value)
                turn.write(str(value))
            elif step == "restart":
                said = ""
                turn.restart()
            elif step == "lose":
                log.lose(int(value))  # type: ignore[call-overload]
            else:
                publish(applied=bool(value) or step == "publish", known=step == "publish")
        turn.end(WHOLE)
        while not turn.done.done():
            publish()
        assert log.last.started
        assert (log.last.text.decode(), log.last.ended) == (said, True)

    asyncio.run(scenario())
