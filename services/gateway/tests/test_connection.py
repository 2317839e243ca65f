"""A client's connection without a socket: what goes in, what comes out, how it closes."""

import orjson
import pytest
from chat.errors import ErrorCode, Failure
from gateway import close_codes
from gateway.close_codes import Close
from gateway.connection import Connection, State, text_message
from gateway.dialect import Visit
from gateway.frame import Frame
from gateway.settings import Limits
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

from .plain import PlainSocket, delta

LIMITS = Limits(
    message_bytes=100,
    outbox_bytes=1000,
    connections=10,
    body_bytes=1000,
    bodies_bytes=10**6,
    head_s=1,
    stall_s=1,
    keep_alive_s=1,
)


def connection(*, positions: bool = False) -> Connection:
    return Connection(PlainSocket(), LIMITS, positions=positions)


def out(subject: Connection) -> list[dict[str, object]]:
    frames = []
    while (data := subject.next()) is not None:
        frames.append(orjson.loads(data[4 if data[1] == 126 else 2 :]))
    return frames


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 100_000])
def test_a_text_message_is_framed_as_the_websockets_library_frames_it(length: int) -> None:
    payload = b"x" * length
    assert text_message(payload) == WireFrame(Opcode.TEXT, payload).serialize(mask=False)


def test_a_text_is_handed_on_as_it_stands() -> None:
    subject = connection()
    assert subject.receive(" hi ") == " hi "
    assert out(subject) == []


def test_a_binary_message_gets_an_error_frame_and_the_connection_stays() -> None:
    subject = connection()
    assert subject.receive(None) is None
    assert [frame["type"] for frame in out(subject)] == ["error"]
    assert subject.state is State.OPEN


@pytest.mark.parametrize("message", ["x" * 101, "\N{SNOWMAN}" * 34])
def test_a_message_over_the_limit_gets_an_error_frame_and_then_1009(message: str) -> None:
    subject = connection()
    assert subject.receive(message) is None
    assert [frame["type"] for frame in out(subject)] == ["error"]
    assert subject.close == close_codes.TOO_LARGE


class TellingSocket(PlainSocket):
    """Says in its error frames whom they are for."""

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        return Frame({"user": visit.user_id if visit else None})


def test_a_failure_is_told_to_the_client_that_it_befell() -> None:
    subject = Connection(TellingSocket(), LIMITS)
    subject.fail(Failure(ErrorCode.QUEUE_FULL, "Wait."), stays=True)
    subject.visit = Visit("somebody")
    subject.receive("x" * 101)
    assert out(subject) == [{"user": None}, {"user": "somebody"}]


@pytest.mark.parametrize("message", ["x" * 100, "\N{SNOWMAN}" * 33])
def test_a_message_at_the_limit_is_taken(message: str) -> None:
    assert connection().receive(message) == message


@pytest.mark.parametrize(
    ("code", "close"),
    [
        (ErrorCode.UNAUTHENTICATED, close_codes.REFUSED),
        (ErrorCode.NOT_FOUND, close_codes.REFUSED),
        (ErrorCode.RATE_LIMITED, close_codes.REFUSED),
        (ErrorCode.INTERNAL, close_codes.OUR_FAULT),
        (ErrorCode.UNAVAILABLE, close_codes.OVERLOADED),
        (ErrorCode.OVERLOADED, close_codes.OVERLOADED),
    ],
)
def test_a_fatal_failure_is_explained_by_a_frame_and_closes_by_the_table(code: ErrorCode, close: Close) -> None:
    subject = connection()
    subject.fail(Failure(code, "why"), stays=False)
    assert out(subject) == [{"type": "error", "text": "why"}]
    assert subject.close == close


def test_a_failure_that_stays_leaves_the_connection_open() -> None:
    subject = connection()
    subject.fail(Failure(ErrorCode.QUEUE_FULL, "why"), stays=True)
    assert out(subject) == [{"type": "error", "text": "why"}]
    assert subject.state is State.OPEN


def test_an_orderly_end_says_nothing_but_its_close_code() -> None:
    for close in (close_codes.SESSION_ENDED, close_codes.DRAINING):
        subject = connection()
        subject.end(close)
        assert out(subject) == []
        assert subject.close == close


def test_what_waits_goes_out_before_the_close() -> None:
    subject = connection()
    subject.send([delta("last words")])
    subject.end(close_codes.SESSION_ENDED)
    assert out(subject) == [{"type": "delta", "text": "last words"}]


def test_the_first_reason_to_close_stands_and_nothing_is_taken_after_it() -> None:
    subject = connection()
    subject.end(close_codes.DRAINING)
    subject.fail(Failure(ErrorCode.INTERNAL, "why"), stays=False)
    subject.send([delta("x")])
    assert subject.receive("hi") is None
    assert subject.close == close_codes.DRAINING
    assert out(subject) == []


def test_a_client_too_slow_is_closed_with_1013_and_what_waited_is_dropped() -> None:
    subject = connection()
    for _ in range(100):
        subject.send([Frame({"type": "stop", "text": "x" * 100})])
    assert subject.close == close_codes.TOO_SLOW
    assert out(subject) == []


def test_a_position_is_shown_only_to_who_asked_and_only_where_there_is_one() -> None:
    frame = delta("x")
    frame.stamp("e0", 7, 2)
    plain, asked = connection(), connection(positions=True)
    for subject in (plain, asked):
        subject.send([frame, Frame({"type": "pong"})])
    assert out(plain) == [{"type": "delta", "text": "x"}, {"type": "pong"}]
    assert out(asked) == [{"type": "delta", "text": "x", "position": "e0:7.2"}, {"type": "pong"}]


def test_a_frame_is_encoded_once_for_all_who_get_it_alike() -> None:
    frame = delta("x")
    assert connection().encode(frame) is connection().encode(frame)


def test_an_idle_connection_keeps_no_outbox() -> None:
    subject = connection()
    subject.send([delta("x")])
    assert subject.waiting
    out(subject)
    assert not subject.waiting
