"""What waits for a slow client: bounded, in order, merged."""

from collections.abc import Sequence
from itertools import pairwise

from gateway.frame import Frame, coalesce
from gateway.outbox import MERGED_BYTES, Outbox
from hypothesis import given
from hypothesis import strategies as st

from .plain import PlainSocket, delta

MERGE = PlainSocket().merge


def measure(frame: Frame) -> int:
    return len(frame.encoded(False, bytes))


def drain(outbox: Outbox) -> list[Frame]:
    frames = []
    while (frame := outbox.take()) is not None:
        frames.append(frame)
    return frames


def text(frames: Sequence[Frame]) -> str:
    return "".join(str(frame.content["text"]) for frame in frames)


FRAMES = st.lists(st.tuples(st.booleans(), st.text(max_size=5)), max_size=300).map(
    lambda parts: [delta(content) if merges else Frame({"type": "stop", "text": content}) for merges, content in parts]
)


@given(FRAMES, st.lists(st.integers(0, 20), max_size=20))
def test_what_comes_out_is_what_went_in_whatever_was_taken_between(frames: list[Frame], pauses: list[int]) -> None:
    outbox = Outbox(10**9, MERGE, measure)
    out: list[Frame] = []
    waits = iter(pauses)
    left = next(waits, None)
    for frame in frames:
        assert outbox.put(frame)
        if left == 0:
            out += filter(None, [outbox.take()])
            left = next(waits, None)
        elif left is not None:
            left -= 1
    out += drain(outbox)
    assert text(out) == text(frames)
    assert [frame.content for frame in out if not frame.run] == [frame.content for frame in frames if not frame.run]
    assert not outbox


@given(FRAMES)
def test_coalescing_keeps_the_text_and_leaves_no_two_frames_of_a_run_together(frames: list[Frame]) -> None:
    made = coalesce(frames, MERGE)
    assert text(made) == text(frames)
    assert all(not (one.run and one.run == other.run) for one, other in pairwise(made))


def test_a_merged_frame_stands_at_the_position_of_its_last() -> None:
    outbox = Outbox(10**9, MERGE, measure)
    for offset in range(1, 101):
        frame = delta("x")
        frame.stamp("e0", offset)
        outbox.put(frame)
    assert [(frame.offset, len(text([frame]))) for frame in drain(outbox)] == [(100, 100)]


def test_a_thousand_waiting_deltas_are_held_as_a_few_frames() -> None:
    outbox = Outbox(10**9, MERGE, measure)
    for _ in range(1000):
        outbox.put(delta("word "))
    assert len(outbox._frames) < 64 + 1000 // 63


def test_what_is_merged_ahead_of_time_keeps_its_order_however_much_was_taken_before() -> None:
    for taken_after in range(130):
        outbox = Outbox(10**9, MERGE, measure)
        out = []
        for number in range(260):
            outbox.put(delta(f"{number} "))
            if number == taken_after:
                out += drain(outbox)
        assert text(out + drain(outbox)).split() == [str(number) for number in range(260)]


def test_large_frames_that_are_taken_in_parts_stay_whole() -> None:
    outbox = Outbox(10**9, MERGE, measure)
    out = []
    for number in range(200):
        outbox.put(delta(f"{number:02000} "))
        if number % 50 == 49:
            out += [frame for frame in [outbox.take()] if frame is not None]
    assert [int(word) for word in text(out + drain(outbox)).split()] == list(range(200))


def test_a_frame_that_does_not_fit_is_refused_and_the_bound_holds() -> None:
    outbox = Outbox(1000, MERGE, measure)
    taken = 0
    while outbox.put(Frame({"type": "stop", "text": "x" * 50})):
        taken += 1
    assert taken == 1000 // measure(Frame({"type": "stop", "text": "x" * 50}))


def test_an_empty_outbox_takes_a_frame_of_any_size() -> None:
    outbox = Outbox(10, MERGE, measure)
    assert outbox.put(delta("x" * 100))


def test_a_merged_frame_ends_when_it_has_grown_large() -> None:
    outbox = Outbox(10**9, MERGE, measure)
    for _ in range(300):
        outbox.put(delta("x" * 1024))
    sizes = [measure(frame) for frame in drain(outbox)]
    assert len(sizes) > 1
    assert max(sizes) < 3 * MERGED_BYTES


def repeating(content: str) -> Frame:
    return Frame({"type": "all", "text": content}, run="all")


def the_last(frames: Sequence[Frame]) -> Frame:
    return repeating(str(frames[-1].content["text"]))


def test_frames_that_repeat_what_went_before_them_wait_as_one_where_they_would_not_fit() -> None:
    outbox = Outbox(10_000, the_last, measure)
    for length in range(100, 9_000, 100):
        assert outbox.put(repeating("x" * length))
    assert outbox.put(Frame({"type": "stop", "text": "y" * 900}))
    assert [str(frame.content["text"])[:1] for frame in drain(outbox)] == ["x", "y"]


def test_frames_that_repeat_nothing_are_refused_where_merging_does_not_help() -> None:
    outbox = Outbox(10_000, MERGE, measure)
    taken = 0
    while outbox.put(delta("x" * 500)):
        taken += 1
    assert 15 <= taken <= 20
