"""A client of Foodhak's chat: starts a user's session, asks questions over the WebSocket, prints the answers' HTML.

Needs Python 3.11 and `pip install websockets`.

    python foodhak_chat.py --url http://localhost:8000 --key "$API_KEY" --user USER123 --name Alex "Can I eat peanuts?"

The session stays open for the next time, unless `--end` is given. Exits with 0 when everything was answered, 1 when
something was not, 2 when it was called wrongly.
"""

import argparse
import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI


class FailedError(Exception):
    """The server refused, or did not do what its document says."""


def post(url: str, key: str, body: dict[str, str], timeout_s: float) -> Any:
    """Posts JSON with the API key; returns the answer. Raises: FailedError; OSError: nobody is there."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise FailedError(f"{error.code}: {error.read().decode(errors='replace')}") from error


async def ask(socket: ClientConnection, question: str) -> str:
    """Sends a question and prints the answer as it comes; returns the whole. Raises: FailedError."""
    await socket.send(question)
    printed = ""
    while True:
        frame = json.loads(await socket.recv())
        match frame["type"]:
            case "message_start":
                printed = ""
            case "streaming":
                printed += frame["content"]
                print(frame["content"], end="", flush=True)
            case "message_stop":
                whole = str(frame["content"])
                # An answer that had to begin anew on the way: only the last frame has it as it is.
                print("" if printed == whole else f"\n{whole}", flush=True)
                return whole
            case "error":
                raise FailedError(frame["message"])


async def chat(websocket_url: str, questions: Sequence[str], timeout_s: float) -> None:
    """Has each question answered before it asks the next. Raises: FailedError, and what fails below."""
    # The URL is all that is needed: start_session has put a ticket for this session into it.
    async with asyncio.timeout(timeout_s):
        socket = await connect(websocket_url, max_size=None)
    async with socket:
        for question in questions:
            print(f"you: {question}", flush=True)
            async with asyncio.timeout(timeout_s):
                await ask(socket, question)


def run(given: argparse.Namespace) -> None:
    """One visit. Raises: FailedError, and what fails below."""
    base = given.url.rstrip("/")
    user = {"user_id": given.user}
    session = post(f"{base}/chat/start_session", given.key, {**user, "user_name": given.name}, given.timeout)
    for message in session["conversation_history"]:
        print(f"earlier, {message['role']}: {message['content']}", flush=True)
    asyncio.run(chat(session["websocket_url"], given.questions, given.timeout))
    if given.end:
        print(post(f"{base}/chat/end_session", given.key, user, given.timeout)["message"], flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Asks Foodhak's assistant.")
    parser.add_argument("--url", default="http://localhost:8000", help="default: %(default)s")
    parser.add_argument("--key", default=os.environ.get("API_KEY", ""), help="the API key; default: $API_KEY")
    parser.add_argument("--user", required=True, help="the user's id")
    parser.add_argument("--name", default="", help="the user's name")
    parser.add_argument("--end", action="store_true", help="end the session afterwards, and forget its history")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for each answer; default: 60")
    parser.add_argument("questions", nargs="*", default=["Are almonds okay for my cholesterol?"])
    given = parser.parse_args(arguments)
    if not given.key:
        parser.error("an API key is needed: --key, or API_KEY in the environment")
    try:
        run(given)
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
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
