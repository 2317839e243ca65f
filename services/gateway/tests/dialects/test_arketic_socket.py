"""Arketic's WebSocket without a system: how long a visit lasts, and what frames ask for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from chat.errors import SwitchboardError
from chat.events import Typing
from chat.messages import Chat
from gateway.auth import LEEWAY_S, Doorkeeper
from gateway.dialect import Reply, Stop, Tell
from gateway.dialects.arketic.reading import Readings
from gateway.dialects.arketic.socket import ArketicSocket, ArketicVisit
from gateway.settings import Credentials

SECRET = "s" * 32
NOW_S = 1_704_110_400.5
"""2024-01-01T12:00:00Z, and a bit"""


class FakeSessions:
    """Everybody takes part in every chat."""

    async def get_chat(self, chat_id: str, dialect: str, *, user_id: str = "") -> Chat:
        return Chat(chat_id, dialect, user_id)


class FakeUsers:
    """Takes what is noted."""

    async def put_profile(self, user_id: str, dialect: str, attributes: Any) -> None:
        return


@dataclass
class FakeServices:
    """What the socket needs of the gateway."""

    sessions: FakeSessions = field(default_factory=FakeSessions)
    users: FakeUsers = field(default_factory=FakeUsers)
    doorkeeper: Doorkeeper = field(default_factory=lambda: Doorkeeper(Credentials((), SECRET, "", "")))

    def now_s(self) -> float:
        return NOW_S


@dataclass
class FakeHandshake:
    """A client's request."""

    query: Mapping[str, str]
    path: Mapping[str, str] = field(default_factory=lambda: {"chat_id": "c1"})

    def header(self, name: str) -> str | None:
        return None

    def cookie(self, name: str) -> str | None:
        return None


def socket() -> ArketicSocket:
    services = FakeServices()
    return ArketicSocket(services, Readings(services.users, services.now_s))  # type: ignore[arg-type]


async def admitted(**query: str) -> ArketicVisit:
    expires = int(time.time()) + 60
    token = jwt.encode({"sub": "user-456", "username": "johndoe", "exp": expires}, SECRET)
    visit = await socket().admit(FakeHandshake({"token": token, **query}))
    assert visit.expires_at_s == expires + LEEWAY_S
    return visit


async def test_a_visit_ends_after_five_silent_minutes_and_with_its_token() -> None:
    visit = await admitted()
    assert visit.idle_s == 300


async def test_the_welcome_is_as_printed() -> None:
    [frame] = (await admitted()).greeting
    assert frame.content == {
        "type": "welcome",
        "message": "Connected to chat",
        "chat_id": "c1",
        "user_id": "user-456",
        "username": "johndoe",
        "timestamp": "2024-01-01T12:00:00Z",
        "server_time": "2024-01-01T12:00:00Z",
    }


async def test_what_clients_send_asks_for_what_the_document_says() -> None:
    visit = await admitted()
    pong = await socket().read('{"type": "ping", "timestamp": "2024-01-01T11:59:45Z"}', visit)
    assert isinstance(pong, Reply)
    assert [frame.content for frame in pong.frames] == [
        {"type": "pong", "timestamp": "2024-01-01T11:59:45Z", "server_time": "2024-01-01T12:00:00Z"}
    ]
    assert await socket().read('{"type": "heartbeat", "timestamp": "2024-01-01T12:00:00Z"}', visit) == Reply(())
    assert await socket().read('{"type": "cancel"}', visit) == Stop("c1")
    typing = Typing("user-456", "johndoe", round(NOW_S * 1_000_000))
    assert await socket().read('{"type": "typing"}', visit) == Tell("c1", typing)
    # Within the same second nobody is told again.
    assert await socket().read('{"type": "typing"}', visit) == Reply(())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ping",
        "[]",
        "{}",
        '{"type": null}',
        '{"type": "message", "content": "Hi"}',
        '{"type": "ping", "timestamp": 5}',
        '{"type": "ping", "timestamp": "' + "x" * 65 + '"}',
        '{"type": "cancel", "message_id": 5}',
        '{"type": "cancel", "message_id": "no id"}',
    ],
)
async def test_what_is_no_frame_of_the_document_is_refused(text: str) -> None:
    with pytest.raises(SwitchboardError):
        await socket().read(text, await admitted())
