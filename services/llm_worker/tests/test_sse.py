"""Server-sent events come out whole, wherever the network cut them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_worker.sse import MAX_EVENT_BYTES, EventReader, EventTooLargeError

STREAM = (
    b'event: message_start\ndata: {"a": 1}\n\n'
    b": keep-alive\n\n"
    b'data: {"b": "\xc3\xa9"}\n\n'
    b"data: two\ndata: lines\n\n"
    b"id: 7\ndata:tight\nretry: 3\n\n"
    b"event: ping\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [b'{"a": 1}', b'{"b": "\xc3\xa9"}', b"two\nlines", b"tight", b"[DONE]"]


def read(*parts: bytes) -> list[bytes]:
    reader = EventReader()
    return [event for part in parts for event in reader.feed(part)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8), st.booleans())
def test_events_are_the_same_at_every_cut_and_with_both_line_ends(cuts: list[int], carriage_returns: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if carriage_returns else STREAM
    edges = [0, *sorted(cuts), len(stream)]
    assert read(*(stream[a:b] for a, b in pairwise(edges))) == EVENTS


def test_every_byte_on_its_own_gives_the_same_events_with_carriage_returns() -> None:
    stream = STREAM.replace(b"\n", b"\r\n")
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == EVENTS


def test_an_event_without_end_is_not_given() -> None:
    assert read(b"data: half", b" of it\n") == []


def test_an_event_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    reader = EventReader()
    with pytest.raises(EventTooLargeError):
        for _ in range(MAX_EVENT_BYTES // 1024 + 1):
            reader.feed(b"x" * 1024)
