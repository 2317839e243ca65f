"""Pacing: few streams are never held; under load, sockets are read together."""

import asyncio

from llm_worker.pacer import LONGEST_TICK_S, UNPACED_STREAMS, Pacer, tick_s


class Socket(asyncio.ReadTransport):
    """Notes whether it is read."""

    def __init__(self, seat: int) -> None:
        super().__init__()
        self.seat = seat
        self.reading = True
        self.closing = False

    def pause_reading(self) -> None:
        assert not self.closing
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading = True

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


async def test_very_many_sockets_are_read_in_groups_one_after_another() -> None:
    pacer = Pacer()
    sockets = enter(pacer, 200)
    for socket in sockets:
        pacer.hold(socket, socket.seat)
    sizes: list[int] = []
    while sum(sizes) < 200:
        await asyncio.sleep(0)
        read = sum(socket.reading for socket in sockets) - sum(sizes)
        if read:
            sizes.append(read)
    assert sizes == [50, 50, 50, 50]


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
