"""Walks through Arketic's "Complete Chat Flow" from outside: its curl lines and its WebSocket sample, in their order.

Needs Python 3.11 and `pip install websockets`.

    python arketic_client.py --url http://localhost:8000 --token "$TOKEN" "Can you explain Python decorators?"

Makes a chat, connects to it, sends the message, shows the answer as it comes, then reads the history, tests the
connection, asks once more over HTTP, and asks the model without a chat. Exits with 0 when all of it worked, 1 when
something did not, 2 when it was called wrongly.
"""

import argparse
import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

QUESTION = "Can you explain Python decorators?"
NEW_CHAT = {
    "title": "Python Learning Chat",
    "description": "Chat about Python programming",
    "ai_model": "gpt-4",
    "system_prompt": "You are a Python programming tutor",
    "temperature": 0.7,
    "max_tokens": 2048,
}


class FailedError(Exception):
    """The server did not do what its document says."""


class Api:
    """Arketic's HTTP endpoints, for one user."""

    def __init__(self, url: str, token: str, timeout_s: float) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/chat"
        self._token = token
        self._timeout_s = timeout_s

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; its answer, decoded. Raises: FailedError."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, content, headers, method=method)  # noqa: S310
        return await asyncio.to_thread(self._send, request)

    def address(self, chat_id: str) -> str:
        """Where a chat's WebSocket is."""
        return f"ws{self._url.removeprefix('http')}/chats/{chat_id}/ws?token={quote(self._token, safe='')}"

    def _send(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            raise FailedError(f"{request.method} {request.selector}: {error.code} {said}") from error


async def hear(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Waits for a frame of this type, showing the answer meanwhile. Raises: FailedError when the answer fails."""
    while True:
        frame: dict[str, Any] = json.loads(await socket.recv())
        match frame["type"]:
            case "ai_response_chunk":
                print(frame["chunk"], end="", flush=True)
            case "new_message":
                print(f"{frame['message']['sender_id']}: {frame['message']['content']}", flush=True)
            case "ai_error":
                raise FailedError(frame["error"])
        if frame["type"] == kind:
            return frame


async def walk(api: Api, question: str, timeout_s: float) -> None:
    """The whole way. Raises: FailedError, and what fails below."""
    chat = await api.call("POST", "/chats", NEW_CHAT)
    print(f"made chat {chat['id']}", flush=True)
    async with asyncio.timeout(timeout_s):
        socket = await connect(api.address(chat["id"]), max_size=None)
    async with socket:
        async with asyncio.timeout(timeout_s):
            await hear(socket, "welcome")
            await socket.send(json.dumps({"type": "ping", "timestamp": datetime.now(UTC).isoformat()}))
            await hear(socket, "pong")
        print("connected", flush=True)
        await api.call("POST", f"/chats/{chat['id']}/messages", {"content": question, "message_type": "USER"})
        async with asyncio.timeout(timeout_s):
            answer = (await hear(socket, "ai_response_complete"))["message"]
        print(f"\n({answer['ai_model_used']}, {answer['tokens_used']} tokens, {answer['processing_time_ms']} ms)")
    history = await api.call("GET", f"/chats/{chat['id']}?limit=50")
    if history["messages"][-1]["content"] != answer["content"]:
        raise FailedError("the history does not hold the answer")
    print(f"the history holds {len(history['messages'])} messages", flush=True)
    print((await api.call("POST", "/test/connection"))["message"], flush=True)
    body = {"message": "Can you explain how neural networks work?", "stream": False, "save_to_history": True}
    given = await api.call("POST", f"/chats/{chat['id']}/ai-message", body)
    print(given["data"]["ai_response"]["content"], flush=True)
    body = {"message": "Explain machine learning in simple terms", "stream": True, "save_to_history": True}
    started = await api.call("POST", f"/chats/{chat['id']}/ai-message", body)
    print(f"answer {started['data']['ai_message_id']} goes over the WebSocket", flush=True)
    tried = {
        "message": "What are the benefits of using direct OpenAI API for AI applications?",
        "model": "gpt-4",
        "temperature": 0.7,
        "system_prompt": "You are an expert in AI development. Provide detailed technical explanations.",
    }
    print((await api.call("POST", "/openai/test", tried))["data"]["response"]["content"], flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Walks through the chat API.")
    parser.add_argument("--url", default="http://localhost:8000", help="default: %(default)s")
    parser.add_argument("--token", default=os.environ.get("TOKEN", ""), help="a user's JWT; default: $TOKEN")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for each answer; default: 60")
    parser.add_argument("question", nargs="?", default=QUESTION, help="what to ask; default: %(default)r")
    given = parser.parse_args(arguments)
    if not given.token:
        parser.error("a token is needed: --token, or TOKEN in the environment (make token USER=you prints one)")
    try:
        asyncio.run(walk(Api(given.url, given.token, given.timeout), given.question, given.timeout))
    except FailedError as error:
        print(f"failed: {error}", file=sys.stderr)
    except ConnectionClosed as closed:
        received = closed.rcvd
        how = f"{received.code} ({received.reason})" if received else "without a word"
        print(f"failed: the server closed the connection: {how}", file=sys.stderr)
    except TimeoutError:
        print(f"failed: nothing came within {given.timeout:g} s", file=sys.stderr)
    except (OSError, InvalidHandshake, InvalidURI) as error:
        print(f"failed: cannot connect: {error}", file=sys.stderr)
    else:
        print("everything worked", flush=True)
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
