"""Tries Socializer's AI chat from outside: lets itself in with a token, says something, shows what is answered.

The script that `apis/socializer.md` promises. Needs Python 3.11 and `pip install websockets`.

    python test_ai_chat_websocket.py --url ws://localhost:8000 --token "$TOKEN" "Hello, AI!" "What can you do?"

Exits with 0 when everything was answered, 1 when something was not, 2 when it was called wrongly.
"""

import argparse
import asyncio
import json
import os
import sys
import uuid
from collections.abc import Sequence
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

QUESTIONS = ("Hello, AI!", "What can you help me with?")


class FailedError(Exception):
    """The server did not do what its document says."""


async def hear(socket: ClientConnection, kind: str) -> str:
    """Waits for a frame of this kind, prints it and returns its message. Raises: FailedError for any other."""
    frame = json.loads(await socket.recv())
    print(f"{frame['timestamp']}  {frame['type']}: {frame['message']}", flush=True)
    if frame["type"] != kind:
        raise FailedError(f"expected {kind!r}, got {frame['type']!r}")
    return str(frame["message"])


async def chat(url: str, token: str, client_id: str, questions: Sequence[str], timeout_s: float) -> None:
    """Connects, and has each question answered before it asks the next. Raises: FailedError, and what fails below."""
    address = f"{url.rstrip('/')}/ws/ai/ai-chat/{quote(client_id, safe='')}?token={quote(token, safe='')}"
    async with asyncio.timeout(timeout_s):
        socket = await connect(address, max_size=None)
    async with socket:
        print(f"connected as client {client_id}", flush=True)
        async with asyncio.timeout(timeout_s):
            await hear(socket, "system")
        for question in questions:
            print(f"you: {question}", flush=True)
            await socket.send(json.dumps({"content": question}))
            async with asyncio.timeout(timeout_s):
                await hear(socket, "ai_response")


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Tries the AI chat over its WebSocket.")
    parser.add_argument("--url", default="ws://localhost:8000", help="default: %(default)s")
    parser.add_argument("--token", default=os.environ.get("TOKEN", ""), help="a user's JWT; default: $TOKEN")
    parser.add_argument("--client-id", help="the conversation to come back to; default: a new one")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for each answer; default: 60")
    parser.add_argument("questions", nargs="*", help=f"what to say; default: {' '.join(map(repr, QUESTIONS))}")
    given = parser.parse_args(arguments)
    if not given.token:
        parser.error("a token is needed: --token, or TOKEN in the environment (make token USER=you prints one)")
    client_id = given.client_id or f"client-{uuid.uuid4().hex[:9]}"
    try:
        asyncio.run(chat(given.url, given.token, client_id, given.questions or QUESTIONS, given.timeout))
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
        print("everything was answered", flush=True)
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
