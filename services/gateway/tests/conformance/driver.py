"""How the conformance suite speaks a dialect that chats over WebSockets: one driver a dialect, found by `DRIVERS`."""

from __future__ import annotations

import json
import re
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from launcher.stack import Stack
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from ..client import Response, Socket, http
from ..worker import Worker


@dataclass(frozen=True)
class Heard:
    """A frame in the suite's words. kind: "delta" (text to add), "end" (the whole text), "error", "reset", "greeting":
    no part of an answer's text, such as a welcome.

    `whole`: of an end that no deltas went before.
    """

    kind: str
    text: str
    position: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Place:
    """A chat to connect to. `name` is what the dialect knows it by."""

    name: str
    path: str
    headers: dict[str, str]


class Driver(Protocol):
    """What the suite needs to know of one dialect. `streams`: whether an answer's deltas go before its end."""

    name: str
    streams: bool

    async def enter(self, stack: Stack) -> Place:
        """Makes a chat that a client may enter, in which nothing was said yet."""
        ...

    async def chat_id(self, worker: Worker, place: Place) -> str:
        """What the session service knows the chat by, asked from it."""
        ...

    def stranger(self) -> Place:
        """A place where the client's credential is not good."""
        ...

    async def stop(self, url: str, key: str, place: Place) -> Response:
        """Stops the answer under way."""
        ...

    async def end(self, stack: Stack, place: Place) -> Response:
        """Ends the chat for good; 404 when there is none. Where the dialect can't, the session service is told to."""
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


@runtime_checkable
class SpeaksByHttp(Protocol):
    """A dialect in which messages are not sent over the WebSocket."""

    longest: int
    """Of a message, in characters."""

    async def say(self, url: str, place: Place, text: str, key: str) -> Response:
        """Says something; `key` makes it repeatable, if it is not empty."""
        ...


class ArketicDriver:
    """apis/arketic.md, with every delta as it comes; a place's name is the chat's id."""

    name = "arketic"
    streams = True
    longest = 50_000
    chats = "/api/v1/chat/chats"

    async def enter(self, stack: Stack) -> Place:
        headers = {"authorization": f"Bearer {stack.secrets.user_token(f'user {uuid.uuid4()}')}"}
        made = await http("POST", f"{stack.gateway_urls[0]}{self.chats}", {"title": "Chat"}, headers=headers)
        assert made.status == 200, made
        return Place(made.body["id"], f"{self.chats}/{made.body['id']}/ws?full_content=false", headers)

    async def chat_id(self, worker: Worker, place: Place) -> str:
        request = session_pb2.GetChatRequest(chat_id=place.name, dialect=self.name)
        return str((await worker.call(worker.session.GetChat, request)).chat.id)

    def stranger(self) -> Place:
        return Place("", f"{self.chats}/{uuid.uuid4()}/ws?token=of.bad.news", {})

    async def stop(self, url: str, key: str, place: Place) -> Response:
        chat = f"{url}{self.chats}/{place.name}"
        history = await http("GET", f"{chat}?limit=1", headers=place.headers)
        message_id = history.body["messages"][-1]["id"]
        return await http("POST", f"{chat}/messages/{message_id}/cancel", headers=place.headers)

    async def end(self, stack: Stack, place: Place) -> Response:
        return await http("DELETE", f"{stack.gateway_urls[0]}{self.chats}/{place.name}", headers=place.headers)

    async def say(self, url: str, place: Place, text: str, key: str) -> Response:
        headers = place.headers | ({"idempotency-key": key} if key else {})
        return await http("POST", f"{url}{self.chats}/{place.name}/messages", {"content": text}, headers=headers)

    def message(self, text: str) -> str:
        return json.dumps({"type": "ping", "timestamp": text})

    def junk(self) -> list[str | bytes]:
        return ["Hello", "", b"binary", "[]", "null", "{}", '{"type": 5}', '{"type": "message", "content": "Hi"}']

    def hear(self, frame: dict[str, Any]) -> Heard:
        position = frame.pop("position", "")
        match frame:
            case {"type": "reset"}:
                heard, keys = Heard("reset", "", position), 1
            case {"type": "ai_response_chunk", "message_id": str(), "chat_id": str(), "chunk": str(text)} if text:
                heard, keys = Heard("delta", text, position), 4
            case {"type": "ai_response_complete", "message": {"status": "FAILED"}}:
                # What failed is said by the frame behind it.
                heard, keys = Heard("greeting", "", position), 2
            case {"type": "ai_response_complete", "message": {"content": str(text)}}:
                heard, keys = Heard("end", text, position), 2
            case {"type": "ai_error", "error": str(text), "error_code": str(), "timestamp": str()} if text:
                heard, keys = Heard("error", text, position), 5
            case {"type": "ai_response_start" | "new_message", "message": dict()}:
                heard, keys = Heard("greeting", "", position), 2
            case {"type": "pong"}:
                heard, keys = Heard("greeting", "pong", position), 3
            case {"type": "welcome", "message": "Connected to chat"}:
                heard, keys = Heard("greeting", "", position), 7
            case _:
                raise AssertionError(frame)
        assert len(frame) == keys, frame
        return heard

    def seen(self, shown: str) -> str:
        return shown


class FayeDriver:
    """apis/faye.md."""

    name = "faye"
    streams = True

    async def enter(self, stack: Stack) -> Place:
        url, key = stack.gateway_urls[0], stack.secrets.api_key
        token = f"token {uuid.uuid4()}"
        started = await http("POST", f"{url}/faye/chat/start_session", {"unique_token": token}, key=key)
        assert started.status == 200, started
        return Place(token, started.body["websocket_url"].removeprefix(url.replace("http", "ws")), {})

    async def chat_id(self, worker: Worker, place: Place) -> str:
        return await worker.chat_of(self.name, place.name)

    def stranger(self) -> Place:
        return Place("", f"/ws/faye/{uuid.uuid4()}", {})

    async def stop(self, url: str, key: str, place: Place) -> Response:
        return await http("POST", f"{url}/faye/chat/stop", {"unique_token": place.name}, key=key)

    async def end(self, stack: Stack, place: Place) -> Response:
        url, key = stack.gateway_urls[0], stack.secrets.api_key
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


class FoodhakDriver:
    """apis/foodhak.md, by the websocket_url that start_session gives, ticket included."""

    name = "foodhak"
    streams = True

    async def enter(self, stack: Stack) -> Place:
        url, key = stack.gateway_urls[0], stack.secrets.api_key
        user = f"user {uuid.uuid4()}"
        body = {"user_id": user, "user_name": "Alex"}
        started = await http("POST", f"{url}/chat/start_session", body, key=key)
        assert started.status == 200, started
        return Place(user, started.body["websocket_url"].removeprefix(url.replace("http", "ws")), {})

    async def chat_id(self, worker: Worker, place: Place) -> str:
        return await worker.chat_of(self.name, place.name)

    def stranger(self) -> Place:
        return Place("", f"/ws/{uuid.uuid4()}?ticket={uuid.uuid4()}.2000000000.news", {})

    async def stop(self, url: str, key: str, place: Place) -> Response:
        return await http("POST", f"{url}/chat/stop", {"user_id": place.name}, key=key)

    async def end(self, stack: Stack, place: Place) -> Response:
        url, key = stack.gateway_urls[0], stack.secrets.api_key
        return await http("POST", f"{url}/chat/end_session", {"user_id": place.name}, key=key)

    def message(self, text: str) -> str:
        return text

    def junk(self) -> list[str | bytes]:
        return ["", "   ", b"binary"]

    def hear(self, frame: dict[str, Any]) -> Heard:
        if frame.get("type") == "message_start":
            assert set(frame) <= {"type", "position"}, frame
            return Heard("greeting", "", frame.get("position", ""))
        return FayeDriver().hear(frame)  # of the same form

    def seen(self, shown: str) -> str:
        return re.sub(r"<[^>]*>", "", shown)


class ElograntsDriver:
    """apis/elogrants.md, with the deltas that `?stream=true` adds."""

    name = "elogrants"
    streams = True

    async def enter(self, stack: Stack) -> Place:
        # The dialect stores a session with its first message.
        user, session_id = f"user {uuid.uuid4()}", str(uuid.uuid4())
        chat = chat_pb2.Chat(id=session_id, dialect=self.name, owner_id=user)
        async with Worker(stack.session_target, stack.secrets.internal_token) as worker:
            await worker.call(worker.session.CreateChat, session_pb2.CreateChatRequest(chat=chat))
        headers = {"authorization": f"Bearer {stack.secrets.user_token(user)}"}
        return Place(session_id, f"/ws/chat/?stream=true&session_id={session_id}", headers)

    async def chat_id(self, worker: Worker, place: Place) -> str:
        request = session_pb2.GetChatRequest(chat_id=place.name, dialect=self.name)
        return str((await worker.call(worker.session.GetChat, request)).chat.id)

    def stranger(self) -> Place:
        return Place("", "/ws/chat/", {"authorization": "Bearer of.bad.news"})

    async def stop(self, url: str, key: str, place: Place) -> Response:
        return await http("POST", f"{url}/chat/sessions/{place.name}/stop", headers=place.headers)

    async def end(self, stack: Stack, place: Place) -> Response:
        url = f"{stack.gateway_urls[0]}/chat/sessions/{place.name}/messages"
        response = await http("GET", url, headers=place.headers)
        if response.status == 200:
            async with Worker(stack.session_target, stack.secrets.internal_token) as worker:
                request = session_pb2.DeleteChatRequest(chat_id=place.name, reason="ended")
                await worker.call(worker.session.DeleteChat, request)
        return response

    def message(self, text: str) -> str:
        return json.dumps({"message": text})

    def junk(self) -> list[str | bytes]:
        return ["Hello", "", b"binary", "[]", "null", "{}", '{"message": 5}', '{"message": " "}', '{"message": null}']

    def hear(self, frame: dict[str, Any]) -> Heard:
        position = frame.pop("position", "")
        match frame:
            case {"type": "reset"}:
                assert len(frame) == 1, frame
                return Heard("reset", "", position)
            case {"delta": str(text), "session_id": str()} if text:
                heard = Heard("delta", text, position)
            case {"message": str(text), "session_id": str()}:
                heard = Heard("end", text, position)
            case {"error": str(text), "session_id": str() | None} if text:
                heard = Heard("error", text, position)
            case _:
                raise AssertionError(frame)
        assert len(frame) == 2, frame
        return heard

    def seen(self, shown: str) -> str:
        return shown


class SocializerDriver:
    """apis/socializer.md. A place's name is the user's id."""

    name = "socializer"
    streams = False
    client_id = "client-k3j9x2m4q"

    async def enter(self, stack: Stack) -> Place:
        # The dialect stores a conversation with its first message.
        user = f"user {uuid.uuid4()}"
        request = session_pb2.OpenSessionRequest(
            dialect=self.name, name=f"{user}/{self.client_id}", chat=chat_pb2.Chat(owner_id=user)
        )
        async with Worker(stack.session_target, stack.secrets.internal_token) as worker:
            await worker.call(worker.session.OpenSession, request)
        headers = {"authorization": f"Bearer {stack.secrets.user_token(user)}"}
        return Place(user, f"/ws/ai/ai-chat/{self.client_id}", headers)

    async def chat_id(self, worker: Worker, place: Place) -> str:
        return await worker.chat_of(self.name, f"{place.name}/{self.client_id}")

    def stranger(self) -> Place:
        return Place("", f"/ws/ai/ai-chat/{self.client_id}?token=of.bad.news", {})

    async def stop(self, url: str, key: str, place: Place) -> Response:
        return await http("POST", f"{url}/ai/chat/{self.client_id}/stop", headers=place.headers)

    async def end(self, stack: Stack, place: Place) -> Response:
        response = await self.stop(stack.gateway_urls[0], "", place)
        if response.status == 200:
            async with Worker(stack.session_target, stack.secrets.internal_token) as worker:
                request = session_pb2.CloseSessionRequest(dialect=self.name, name=f"{place.name}/{self.client_id}")
                await worker.call(worker.session.CloseSession, request)
        return response

    def message(self, text: str) -> str:
        return json.dumps({"content": text})

    def junk(self) -> list[str | bytes]:
        return ["Hello", "", b"binary", "[]", "null", "{}", '{"content": 5}', '{"content": " "}', '{"message": "Hi"}']

    def hear(self, frame: dict[str, Any]) -> Heard:
        position = frame.pop("position", "")
        if frame == {"type": "reset"}:
            return Heard("reset", "", position)
        assert list(frame) == ["type", "message", "timestamp"], frame
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", frame["timestamp"]), frame
        match frame:
            case {"type": "system", "message": str(text)} if text.startswith("Welcome to AI Chat, "):
                return Heard("greeting", text, position)
            case {"type": "ai_response", "message": str(text)}:
                return Heard("end", text, position, whole=True)
            case {"type": "error", "message": str(text)} if text:
                return Heard("error", text, position)
            case _:
                raise AssertionError(frame)

    def seen(self, shown: str) -> str:
        return shown


DRIVERS: dict[str, Driver] = {
    driver.name: driver
    for driver in (ArketicDriver(), ElograntsDriver(), FayeDriver(), FoodhakDriver(), SocializerDriver())
}
WITHOUT_SOCKETS = frozenset({"openai_compat"})


class Visitor:
    """A client in a chat, in the suite's words."""

    def __init__(self, driver: Driver, socket: Socket, url: str, place: Place, client_id: str = "") -> None:
        self.driver = driver
        self.socket = socket
        self.url = url
        self.place = place
        self.client_id = client_id
        self.said = 0
        self.kept: deque[Heard] = deque()
        """Heard already, or refused over HTTP."""

    async def hear(self) -> Heard:
        """The next frame that is no greeting."""
        while True:
            heard = self.kept.popleft() if self.kept else self.driver.hear(await self.socket.receive())
            if heard.kind != "greeting":
                return heard

    async def hear_answer(self) -> list[Heard]:
        """Everything up to an answer's end or an error."""
        heard = [await self.hear()]
        while heard[-1].kind not in ("end", "error"):
            heard.append(await self.hear())
        return heard

    async def hear_text(self, text: str) -> list[Heard]:
        """Everything until a person has read at least this text; nothing where answers come whole."""
        heard: list[Heard] = []
        while self.driver.streams and text not in self.driver.seen(shown(heard)):
            heard.append(await self.hear())
        return heard

    async def say(self, text: str) -> None:
        if not isinstance(self.driver, SpeaksByHttp):
            await self.socket.send(self.driver.message(text))
            return
        if not self.said:
            await self._be_there()
        self.said += 1
        key = f"{self.client_id}:{self.said}" if self.client_id else ""
        response = await self.driver.say(self.url, self.place, text, key)
        if response.status != 200:
            self.kept.append(Heard("error", response.body["detail"]))

    async def _be_there(self) -> None:
        """What is said over HTTP overtakes a WebSocket that is still on its way in."""
        await self.socket.send(self.driver.message("now"))
        while (heard := self.driver.hear(await self.socket.receive())).text != "pong":
            self.kept.append(heard)


def shown(heard: list[Heard]) -> str:
    return "".join(one.text for one in heard if one.kind == "delta" or one.whole)
