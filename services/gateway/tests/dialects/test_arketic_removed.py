"""Whoever is removed from a chat reads nothing that is said afterwards, however the removal meets their connection."""

from __future__ import annotations

import asyncio
import signal
import uuid

import pytest
from launcher.stack import Stack

from ..client import Socket
from ..conftest import System
from .arketic_user import User

live = pytest.mark.asyncio(loop_scope="session")
TRIES = 32
AT_ONCE = 8


async def told(socket: Socket) -> tuple[list[str], int | None]:
    """The types of all frames up to the close, and its code."""
    frames, code, _ = await socket.closing()
    return [frame["type"] for frame in frames], code


@live
async def test_who_is_removed_while_they_connect_reads_nothing_said_afterwards(system: System) -> None:
    owner, bob = (User(system.stack, f"{name}/{uuid.uuid4()}") for name in ("owner", "bob"))

    async def once(number: int) -> tuple[list[str], int | None]:
        chat_id = await owner.make_chat(chat_type="GROUP", ai_model=None)
        await owner.good("POST", f"/chats/{chat_id}/participants", {"user_id": bob.id})
        removal = owner.good("DELETE", f"/chats/{chat_id}/participants/{bob.id}")
        # In either order, so that the removal meets the connection at every point.
        if number % 2:
            socket, _ = await asyncio.gather(Socket.open(bob.address(chat_id)), removal)
        else:
            _, socket = await asyncio.gather(removal, Socket.open(bob.address(chat_id)))
        await owner.say(chat_id, "secret")
        return await told(socket)

    for _ in range(TRIES // AT_ONCE):
        for types, code in await asyncio.gather(*(once(number) for number in range(AT_ONCE))):
            assert types in (["ai_error"], ["welcome", "ai_error"])
            assert code == 1008


async def test_who_was_removed_while_events_were_lost_is_told_and_gets_no_snapshot() -> None:
    environment = {"RATE_LIMITS": "off", "LLM_WORKER_ADDR": "127.0.0.1:1"}
    async with Stack(workers=0, gateways=2, simulator=False, environment=environment) as stack:
        await stack.wait_serving()
        assert stack.redis is not None
        owner, bob, eve = (User(stack, name) for name in ("owner", "bob", "eve"))
        alone, shared = [await owner.make_chat(chat_type="GROUP", ai_model=None) for _ in range(2)]
        for chat_id, user in ((alone, bob), (shared, bob), (shared, eve)):
            await owner.good("POST", f"/chats/{chat_id}/participants", {"user_id": user.id})
        removed = [await (await bob.visit(chat_id)).present() for chat_id in (alone, shared)]
        stays = await (await eve.visit(shared)).present()
        for chat_id in (alone, shared):
            await owner.say(chat_id, "before")
        for visit in (*removed, stays):
            assert (await visit.receive())["message"]["content"] == "before"
        # The gateway hears nothing of what happens now, nor later: its stream breaks, and the log begins anew.
        stack.gateways[0].send_signal(signal.SIGSTOP)
        try:
            await stack.sessions[0].restart()
            await serving(owner)
            for chat_id in (alone, shared):
                await owner.good("DELETE", f"/chats/{chat_id}/participants/{bob.id}", replica=1)
                await owner.good("POST", f"/chats/{chat_id}/messages", {"content": "secret"}, replica=1)
            await stack.redis.restart()
            await serving(owner)
        finally:
            stack.gateways[0].send_signal(signal.SIGCONT)
        for visit in removed:
            assert await told(visit.socket) == (["ai_error"], 1008)
        assert (await stays.receive())["message"]["content"] == "secret"
        await owner.good("POST", f"/chats/{shared}/messages", {"content": "more"}, replica=1)
        assert (await stays.receive())["message"]["content"] == "more"
        await stays.close()


async def serving(user: User) -> None:
    """Returns once chats can be read again."""
    async with asyncio.timeout(30):
        while (await user.ask("GET", "/chats", replica=1)).status != 200:
            await asyncio.sleep(0.05)
