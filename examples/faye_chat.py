"""A client of Faye's chat: starts a session, asks one question over the WebSocket, prints the answer as it comes.

Needs Python 3.11 and `pip install websockets`.

    python faye_chat.py --url http://localhost:8000 --key "$API_KEY" --session-token me "Is tofu healthy?"

Exits with 0 when the question was answered, 1 when it was not.
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


def start_session(url: str, key: str, session_token: str) -> Any:
    """Opens the session, or takes the open one."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = json.dumps({"unique_token": session_token}).encode()
    request = urllib.request.Request(f"{url.rstrip('/')}/faye/chat/start_session", body, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        return json.load(response)


async def ask(websocket_url: str, question: str) -> bool:
    """Prints the answer; whether there was one."""
    async with asyncio.timeout(60), connect(websocket_url, max_size=None) as socket:
        await socket.send(question)
        async for text in socket:
            frame = json.loads(text)
            match frame["type"]:
                case "streaming":
                    print(frame["content"], end="", flush=True)
                case "message_stop":
                    print()
                    return True
                case "error":
                    print(frame["message"], file=sys.stderr)
                    return False
    return False


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Asks Faye one question.")
    parser.add_argument("--url", default="http://localhost:8000", help="default: %(default)s")
    parser.add_argument("--key", default=os.environ.get("API_KEY", ""), help="the API key; default: $API_KEY")
    parser.add_argument("--session-token", required=True, help="names the session; the same one goes on with it")
    parser.add_argument("question", nargs="?", default="Is tofu healthy?")
    given = parser.parse_args(arguments)
    session = start_session(given.url, given.key, given.session_token)
    return 0 if asyncio.run(ask(session["websocket_url"], given.question)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
