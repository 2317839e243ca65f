"""A history read page by page, where the session service gives fewer long messages than it is asked for."""

from collections.abc import Sequence
from typing import cast

import pytest
from chat.messages import Message, Role
from gateway.history_pages import HISTORY_BYTES, history_pages, read_history
from gateway.ports import Sessions

PAGE_BYTES = 4 * 1024 * 1024


class FakeSessions:
    """One chat's messages; counts what was read of them to give what was given."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.messages = [
            Message(f"m{number}", "chat-1", Role.USER, "x" * length, 0, number) for number, length in enumerate(lengths)
        ]
        self.calls = 0
        self.bytes_read = 0

    async def list_messages(
        self, chat_id: str, *, limit: int, offset: int = 0, from_end: bool = True, user_id: str = ""
    ) -> tuple[Message, ...]:
        assert 1 <= limit <= 1_000
        self.calls += 1
        found = self.messages[::-1] if from_end else self.messages
        given: list[Message] = []
        octets = 0
        for message in found[offset : offset + limit]:
            self.bytes_read += len(message.content)
            octets += len(message.content)
            if not given or octets <= PAGE_BYTES:
                given.append(message)
        return tuple(given[::-1] if from_end else given)

    @property
    def port(self) -> Sessions:
        return cast("Sessions", self)


@pytest.mark.parametrize("from_end", [True, False])
@pytest.mark.parametrize("lengths", [[], [5], [5] * 20, [5] * 2_345, [1_000_000] * 7, [900_000, *[10] * 50] * 3])
async def test_what_is_asked_for_comes_whole_and_in_order(lengths: list[int], from_end: bool) -> None:
    sessions = FakeSessions(lengths)
    for limit, offset in ((1, 0), (200, 0), (5_000, 0), (5_000, 3), (3, 2), (0, 0)):
        got = await read_history(sessions.port, "chat-1", limit=limit, offset=offset, from_end=from_end)
        ids = [message.id for message in sessions.messages]
        wanted = ids[::-1][offset : offset + limit][::-1] if from_end else ids[offset : offset + limit]
        assert [message.id for message in got] == wanted


@pytest.mark.parametrize("length", [10, 4_000, 50_000, 200_000, 900_000, 5_000_000])
async def test_long_histories_cost_what_they_hold_and_not_the_square_of_it(length: int) -> None:
    sessions = FakeSessions([length] * 1_000)
    pages = [page async for page in history_pages(sessions.port, "chat-1", limit=1_000, from_end=False)]
    assert sum(len(page) for page in pages) == 1_000
    whole = length * 1_000
    assert sessions.bytes_read <= 3 * whole + 20 * length
    # Short messages come in few pages.
    assert sessions.calls <= 10 + 2 * whole // PAGE_BYTES + (1_000 if length > PAGE_BYTES else 0)


@pytest.mark.parametrize("from_end", [True, False])
async def test_no_more_text_is_held_at_once_than_an_answer_may_have(from_end: bool) -> None:
    sessions = FakeSessions([500_000] * 100)
    got = await read_history(sessions.port, "chat-1", limit=100, offset=10, from_end=from_end)
    assert len(got) == HISTORY_BYTES // 500_000
    # Those next to the offset, so that who goes on behind them misses none.
    ids = [message.id for message in sessions.messages]
    assert [message.id for message in got] == (ids[90 - len(got) : 90] if from_end else ids[10 : 10 + len(got)])
    assert len(await read_history(FakeSessions([HISTORY_BYTES * 2] * 3).port, "chat-1", limit=3)) == 1
