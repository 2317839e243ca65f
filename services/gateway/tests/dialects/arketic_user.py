"""A user of Arketic's API in tests: requests by HTTP, and visits to a chat's WebSocket."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from launcher.stack import Stack

from ..client import Response, Socket, http

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PREFIX = "/api/v1/chat"
CHAT_KEYS = [
    "id",
    "title",
    "description",
    "chat_type",
    "ai_model",
    "ai_persona",
    "message_count",
    "last_activity_at",
    "created_at",
    "is_private",
    "tags",
]
MESSAGE_KEYS = [
    "id",
    "chat_id",
    "sender_id",
    "content",
    "message_type",
    "ai_model_used",
    "tokens_used",
    "processing_time_ms",
    "status",
    "created_at",
    "is_edited",
]


class Visit:
    """A stay on a chat's WebSocket, from behind the welcome on."""

    def __init__(self, socket: Socket, welcome: dict[str, Any]) -> None:
        self.socket = socket
        self.welcome = welcome

    async def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = await self.socket.receive()
        return frame

    async def receive_until(self, *kinds: str) -> list[dict[str, Any]]:
        """All frames up to the first of these types."""
        frames = [await self.receive()]
        while frames[-1]["type"] not in kinds:
            frames.append(await self.receive())
        return frames

    async def present(self) -> Visit:
        """Known to see all that is said from now on."""
        await self.socket.send('{"type": "ping", "timestamp": "2024-01-01T12:00:00Z"}')
        assert (await self.receive())["type"] == "pong"
        return self

    async def close(self) -> None:
        await self.socket.close()


class User:
    """Somebody with a token."""

    def __init__(self, stack: Stack, user_id: str) -> None:
        self.stack = stack
        self.id = user_id
        self.token = stack.secrets.user_token(user_id)

    async def ask(self, method: str, path: str, body: Any = None, *, replica: int = 0, **headers: str) -> Response:
        """A path that begins with /api is taken as it is."""
        path = path if path.startswith("/api") else PREFIX + path
        sent = {"authorization": f"Bearer {self.token}"} | {name.replace("_", "-"): headers[name] for name in headers}
        return await http(method, self.stack.gateway_urls[replica] + path, body, headers=sent)

    async def good(self, method: str, path: str, body: Any = None, *, replica: int = 0, **headers: str) -> Any:
        response = await self.ask(method, path, body, replica=replica, **headers)
        assert response.status == 200, response
        return response.body

    async def make_chat(self, **fields: Any) -> str:
        made = await self.good("POST", "/chats", {"title": "Chat", **fields})
        return str(made["id"])

    async def say(self, chat_id: str, content: str, **fields: Any) -> Any:
        return await self.good("POST", f"/chats/{chat_id}/messages", {"content": content, **fields})

    async def history(self, chat_id: str, query: str = "") -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = (await self.good("GET", f"/chats/{chat_id}{query}"))["messages"]
        return messages

    def address(self, chat_id: str, *, replica: int = 0, **query: str) -> str:
        url = self.stack.gateway_urls[replica].replace("http", "ws")
        return f"{url}{PREFIX}/chats/{chat_id}/ws?{urlencode({'token': self.token, **query})}"

    async def visit(self, chat_id: str, *, replica: int = 0, small: bool = False, **query: str) -> Visit:
        socket = await Socket.open(self.address(chat_id, replica=replica, **query), small=small)
        welcome = await socket.receive()
        assert welcome["type"] == "welcome", welcome
        return Visit(socket, welcome)
