"""The benchmark's readers see each delta once, however the bytes were cut."""

from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bench.timestamps import TimestampReader
from bench.websocket_client import WebSocketClient

TEXT = b'<p>0000000000000100 lorem 0000000000000200 ipsum 12 0000000000000300 dolor","x'


@given(st.lists(st.integers(0, len(TEXT)), max_size=6))
def test_timestamps_are_found_once_each_wherever_the_text_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    lags = array("q")
    reader = TimestampReader(lags)
    for start, end in pairwise(edges):
        reader.read(TEXT[start:end], 1000)
    assert list(lags) == [900, 800, 700]
    assert reader.count == 3


HANDSHAKE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
MESSAGES = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 70_000]
FRAMES = b"".join(
    b"\x81" + (bytes((len(m),)) if len(m) < 126 else b"\x7e" + len(m).to_bytes(2, "big")) + m for m in MESSAGES[:4]
)
FRAMES += b"\x81\x7f" + len(MESSAGES[4]).to_bytes(8, "big") + MESSAGES[4] + b"\x88\x02\x03\xe9"


@given(st.lists(st.integers(0, len(HANDSHAKE + FRAMES)), max_size=8))
def test_frames_are_read_whole_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    octets = HANDSHAKE + FRAMES
    seen: list[bytes] = []
    ends: list[int] = []
    opened: list[bool] = []
    client = WebSocketClient(
        "host", "/", on_open=lambda: opened.append(True), on_message=seen.append, on_end=ends.append
    )
    edges = [0, *sorted(cuts), len(octets)]
    for start, end in pairwise(edges):
        client.data_received(octets[start:end])
    assert opened == [True]
    assert seen == MESSAGES
    assert ends == [1001]
