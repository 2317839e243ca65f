"""A client of elogrants' chat: begins a session over the WebSocket, asks a question, then reads the history over HTTP.

Needs Python 3.11 and `pip install websockets`.

    python elogrants_chat.py --url http://localhost:8000 --token "$TOKEN" "Hello AI!"

Exits with 0 when the question was answered and stands in the history, 1 when not.
"""

import argparse
import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import connect


async def ask(url: str, token: str, question: str) -> tuple[str, str]:
    """Prints the answer as it comes; returns the new session's id, and the whole answer. Raises: RuntimeError."""
    address = f"ws{url.rstrip('/').removeprefix('http')}/ws/chat/?stream=true"
    headers = {"Authorization": f"Bearer {token}"}
    async with asyncio.timeout(60), connect(address, additional_headers=headers, max_size=None) as socket:
        first = json.loads(await socket.recv())
        if "error" in first:
            raise RuntimeError(first["error"])
        await socket.send(json.dumps({"message": question, "session_id": first["session_id"]}))
        while True:
            frame = json.loads(await socket.recv())
            if "error" in frame:
                raise RuntimeError(frame["error"])
            if "message" in frame:
                print()
                return frame["session_id"], frame["message"]
            print(frame["delta"], end="", flush=True)


def history(url: str, token: str, session_id: str) -> Any:
    """The session's messages, oldest first."""
    address = f"{url.rstrip('/')}/chat/sessions/{session_id}/messages"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        return json.load(response)["messages"]


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Asks elogrants' AI one question.")
    parser.add_argument("--url", default="http://localhost:8000", help="default: %(default)s")
    parser.add_argument("--token", default=os.environ.get("TOKEN", ""), help="a user's JWT; default: $TOKEN")
    parser.add_argument("question", nargs="?", default="Hello AI!")
    given = parser.parse_args(arguments)
    try:
        session_id, answer = asyncio.run(ask(given.url, given.token, given.question))
    except RuntimeError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    messages = history(given.url, given.token, session_id)
    print(f"session {session_id}: {len(messages)} messages")
    return 0 if messages[-1]["content"] == answer else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
