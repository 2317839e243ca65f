"""Pacing: few streams are never held; under load, sockets are read together."""

import asyncio
from typing import Any

import pytest
from llm_worker.pacer import LONGEST_TICK_S, UNPACED_STREAMS, Pacer, tick_s


class Socket(asyncio.ReadTransport):
    """Notes whether it is read."""

    def __init__(self, seat: int) -> None:
        super().__init__()
        self.seat = seat
        self.reading = True
        self.closing = False
        self.resumed: list[int] = []
        """The seats that were read again, in order."""

    def pause_reading(self) -> None:
        assert not self.closing
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading = True
        self.resumed.append(self.seat)

    def is_closing(self) -> bool:
        return self.closing


def enter(pacer: Pacer, streams: int) -> list[Socket]:
    return [Socket(pacer.enter()) for _ in range(streams)]


def test_the_tick_grows_with_the_streams_and_ends_at_forty_milliseconds() -> None:
    ticks = [tick_s(streams) for streams in range(1000)]
    assert ticks == sorted(ticks)
    assert tick_s(UNPACED_STREAMS) == 0
    assert tick_s(50) == 0.024
    assert tick_s(200) == tick_s(999) == LONGEST_TICK_S


async def test_few_streams_are_never_held() -> None:
    pacer = Pacer()
    sockets = enter(pacer, UNPACED_STREAMS)
    for socket in sockets:
        pacer.hold(socket, socket.seat)
    assert all(socket.reading for socket in sockets)


async def test_under_load_all_sockets_wait_and_are_read_in_the_same_tick() -> None:
    pacer = Pacer()
    sockets = enter(pacer, 60)
    for socket in sockets:
        pacer.hold(socket, socket.seat)
    assert not any(socket.reading for socket in sockets)
    while not sockets[0].reading:
        assert not any(socket.reading for socket in sockets)
        await asyncio.sleep(0)
    assert all(socket.reading for socket in sockets)


async def test_very_many_sockets_are_read_in_groups_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    beats: list[float] = []
    call_at = loop.call_at

    def noting(when: float, *call: Any, **options: Any) -> asyncio.TimerHandle:
        beats.append(when)
        return call_at(when, *call, **options)

    monkeypatch.setattr(loop, "call_at", noting)
    resumed: list[int] = []
    pacer = Pacer()
    sockets = enter(pacer, 200)
    for socket in sockets:
        socket.resumed = resumed
        pacer.hold(socket, socket.seat)
    monkeypatch.undo()
    while len(resumed) < 200:
        await asyncio.sleep(0)
    # However late the loop comes to them.
    groups = [{seat % 4 for seat in resumed[start : start + 50]} for start in range(0, 200, 50)]
    assert sorted(map(tuple, groups)) == [(0,), (1,), (2,), (3,)]
    # Holding all of them may take longer than until a beat: then the next one is waited for.
    gaps = [(later - beats[0]) / (LONGEST_TICK_S / 4) for later in beats]
    assert len(beats) == 4
    assert sorted(round(gap) % 4 for gap in gaps) == [0, 1, 2, 3]
    assert all(abs(gap - round(gap)) < 0.01 for gap in gaps)


async def test_a_stream_that_ends_leaves_its_socket_readable() -> None:
    pacer = Pacer()
    sockets = enter(pacer, 60)
    for socket in sockets:
        pacer.hold(socket, socket.seat)
    pacer.leave(sockets[0])
    assert sockets[0].reading
    assert pacer.streams == 59


async def test_a_socket_that_closed_meanwhile_is_left_alone() -> None:
    pacer = Pacer()
    sockets = enter(pacer, 60)
    for socket in sockets:
        pacer.hold(socket, socket.seat)
    sockets[0].closing = True
    while not sockets[1].reading:
        await asyncio.sleep(0)
    assert not sockets[0].reading
