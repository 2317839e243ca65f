"""A person at Faye's WebSocket, as a careful client: gives positions, reconnects to any gateway, keeps what it read."""

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import httpx2
import websockets
from launcher.stack import Stack


class FayeChat:
    """One unique_token's session, opened over HTTP, and what is stored of it."""

    def __init__(self, stack: Stack, token: str) -> None:
        self.stack = stack
        self.token = token
        self._headers = {"authorization": f"Bearer {stack.secrets.values['API_KEY'].split(',')[0]}"}

    async def post(self, what: str, gateway: int = 0) -> dict[str, Any]:
        async with httpx2.AsyncClient(base_url=self.stack.gateway_urls[gateway], headers=self._headers) as client:
            response = await client.post(f"/faye/chat/{what}", json={"unique_token": self.token}, timeout=15)
            assert response.status_code == 200, response.text
            made: dict[str, Any] = response.json()
            return made

    async def history(self, gateway: int = 0) -> list[dict[str, str]]:
        history: list[dict[str, str]] = (await self.post("start_session", gateway))["conversation_history"]
        return history


class FayeReader:
    """One device. `shown` is the HTML of the answer as frames brought it; `frames` all that came."""

    def __init__(self, chat: FayeChat) -> None:
        self.chat = chat
        self.position = ""
        self.shown = ""
        self.frames: list[dict[str, Any]] = []
        self.resets = 0
        self._socket: websockets.ClientConnection | None = None

    async def connect(self, gateway: int) -> None:
        query = {"positions": "true", **({"after": self.position} if self.position else {})}
        url = self.chat.stack.gateway_urls[gateway].replace("http://", "ws://")
        self._socket = await websockets.connect(f"{url}/ws/faye/{self.chat.token}?{urlencode(query)}", open_timeout=20)

    async def send(self, text: str) -> None:
        assert self._socket is not None
        await self._socket.send(text)

    async def read(self, timeout_s: float = 20) -> dict[str, Any]:
        """One frame. Raises: TimeoutError, websockets.ConnectionClosed."""
        assert self._socket is not None
        async with asyncio.timeout(timeout_s):
            frame: dict[str, Any] = json.loads(await self._socket.recv())
        self.frames.append(frame)
        self.position = frame.get("position", self.position)
        if frame["type"] == "streaming":
            self.shown += frame["content"]
        elif frame["type"] == "reset":
            self.resets += 1
            self.shown = ""
        return frame

    async def read_to_end(self, timeout_s: float = 20) -> str:
        """Reads until the answer has ended; returns the whole as its last frame says it."""
        while True:
            frame = await self.read(timeout_s)
            assert frame["type"] != "error", frame
            if frame["type"] == "message_stop":
                whole: str = frame["content"]
                return whole

    async def cut(self) -> None:
        """Drops the connection without a word, as a lost network does."""
        assert self._socket is not None
        self._socket.transport.abort()
        await self._socket.wait_closed()

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()


def question(**plan: Any) -> str:
    """A message that tells the simulator how to answer it."""
    return f"Tell me something. [[sim {json.dumps(plan)}]]"
