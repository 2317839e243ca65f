"""A model with a tool, and what that cost, by OpenAI's own client against this server.

Needs Python 3.11 and `pip install openai`.

    python openai_tools.py --url http://localhost:8000 --key "$API_KEY" "What time is it in Oslo?"

The model may ask what time it is somewhere; this program says so, until the model answers in words. Then it shows the
day's tokens and their cost (`GET /v1/usage`, which is this server's own, and counts an answer a second after its end).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

ROUNDS = 5
TIME: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "time_in",
        "description": "The time now in a time zone.",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"type": "string", "description": "As in Europe/Oslo."}},
            "required": ["zone"],
        },
    },
}


def time_in(zone: str) -> str:
    """The tool."""
    try:
        return datetime.now(ZoneInfo(zone)).strftime("%H:%M")
    except (ZoneInfoNotFoundError, ValueError):
        return "There is no such time zone."


def answer(client: OpenAI, model: str, question: str) -> str:
    """The model's words, once it needs the tool no more."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    for _ in range(ROUNDS):
        message = client.chat.completions.create(model=model, messages=messages, tools=[TIME]).choices[0].message
        if not message.tool_calls:
            return message.content or ""
        # Its own words go back first, and right behind them a result for each of its calls.
        messages.append(message.to_dict())  # type: ignore[arg-type]
        for call in message.tool_calls:
            if call.type == "function":
                said = time_in(**json.loads(call.function.arguments))
                print(f"{call.function.name}({call.function.arguments}) -> {said}")
                messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
    return "It would not stop asking."


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Asks a model that has a tool.")
    parser.add_argument("--url", default="http://localhost:8000", help="default: %(default)s")
    parser.add_argument("--key", default=os.environ.get("API_KEY", ""), help="an API key or a user's JWT")
    parser.add_argument("--model", default="", help="default: the first that is listed")
    parser.add_argument("question", nargs="?", default="What time is it in Oslo?")
    given = parser.parse_args(arguments)
    with OpenAI(base_url=f"{given.url.rstrip('/')}/v1", api_key=given.key) as client:
        print(answer(client, given.model or next(iter(client.models.list())).id, given.question))
        usage: Any = client.get("/usage", cast_to=object)
        for day in usage["data"]:
            print(f"{day['day']}: {day['total_tokens']} tokens, {day['cost_usd']:.6f} USD")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
