"""How the conformance suite speaks a dialect that chats over WebSockets: one driver a dialect, found by `DRIVERS`."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

from ..client import Response, Socket, http


@dataclass(frozen=True)
class Heard:
    """A frame in the suite's words. kind: "delta" (text to add), "end" (the whole text), "error", "reset"."""

    kind: str
    text: str
    position: str = ""


@dataclass(frozen=True)
class Place:
    """A chat to connect to. `name` is what the session service knows it by."""

    name: str
    path: str
    headers: dict[str, str]


class Driver(Protocol):
    """What the suite needs to know of one dialect."""

    name: str

    async def enter(self, url: str, key: str) -> Place:
        """Makes a chat that a client may enter."""
        ...

    def stranger(self) -> Place:
        """A place where the client's credential is not good."""
        ...

    async def stop(self, url: str, key: str, place: Place) -> Response:
        """Stops the answer under way."""
        ...

    async def end(self, url: str, key: str, place: Place) -> Response:
        """Ends the chat for good."""
        ...

    def message(self, text: str) -> str:
        """A frame that says something."""
        ...

    def junk(self) -> list[str | bytes]:
        """Frames that are answered with an error frame, and nothing else."""
        ...

    def hear(self, frame: dict[str, Any]) -> Heard:
        """A frame from the gateway; fails when it is not of the dialect."""
        ...

    def seen(self, shown: str) -> str:
        """What a person reads of what was shown."""
        ...


class FayeDriver:
    """apis/faye.md."""

    name = "faye"

    async def enter(self, url: str, key: str) -> Place:
        token = f"token {uuid.uuid4()}"
        started = await http("POST", f"{url}/faye/chat/start_session", {"unique_token": token}, key=key)
        assert started.status == 200, started
        return Place(token, started.body["websocket_url"].removeprefix(url.replace("http", "ws")), {})

    def stranger(self) -> Place:
        return Place("", f"/ws/faye/{uuid.uuid4()}", {})

    async def stop(self, url: str, key: str, place: Place) -> Response:
        return await http("POST", f"{url}/faye/chat/stop", {"unique_token": place.name}, key=key)

    async def end(self, url: str, key: str, place: Place) -> Response:
        return await http("POST", f"{url}/faye/chat/end_session", {"unique_token": place.name}, key=key)

    def message(self, text: str) -> str:
        return text

    def junk(self) -> list[str | bytes]:
        return ["", "   ", b"binary"]

    def hear(self, frame: dict[str, Any]) -> Heard:
        position = frame.pop("position", "")
        match frame:
            case {"type": "streaming", "content": str(text)}:
                heard = Heard("delta", text, position)
            case {"type": "message_stop", "content": str(text)}:
                heard = Heard("end", text, position)
            case {"type": "error", "message": str(text)} if text:
                heard = Heard("error", text, position)
            case {"type": "reset"}:
                heard = Heard("reset", "", position)
            case _:
                raise AssertionError(frame)
        assert len(frame) == (1 if heard.kind == "reset" else 2), frame
        return heard

    def seen(self, shown: str) -> str:
        return re.sub(r"<[^>]*>", "", shown)


DRIVERS: dict[str, Driver] = {driver.name: driver for driver in (FayeDriver(),)}
WITHOUT_SOCKETS = frozenset({"openai_compat"})


class Visitor:
    """A client in a chat, in the suite's words."""

    def __init__(self, driver: Driver, socket: Socket) -> None:
        self.driver = driver
        self.socket = socket

    async def hear(self) -> Heard:
        return self.driver.hear(await self.socket.receive())

    async def hear_answer(self) -> list[Heard]:
        """Everything up to an answer's end or an error."""
        heard = [await self.hear()]
        while heard[-1].kind not in ("end", "error"):
            heard.append(await self.hear())
        return heard

    async def hear_text(self, text: str) -> list[Heard]:
        """Everything until a person has read at least this text."""
        heard: list[Heard] = []
        while text not in self.driver.seen(shown(heard)):
            heard.append(await self.hear())
        return heard

    async def say(self, text: str) -> None:
        await self.socket.send(self.driver.message(text))


def shown(heard: list[Heard]) -> str:
    return "".join(one.text for one in heard if one.kind == "delta")
