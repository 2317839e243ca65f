"""OpenAI's own client against this server: nothing changes but `base_url` and the key.

Needs Python 3.11 and `pip install openai`.

    python openai_client.py --url http://localhost:8000 --key "$API_KEY" "Say hello."

Lists the models and asks the first, or the one that is named, for a streamed answer.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from openai import OpenAI


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Asks for a chat completion.")
    parser.add_argument("--url", default="http://localhost:8000", help="default: %(default)s")
    parser.add_argument("--key", default=os.environ.get("API_KEY", ""), help="an API key or a user's JWT")
    parser.add_argument("--model", default="", help="default: the first that is listed")
    parser.add_argument("question", nargs="?", default="Say hello.")
    given = parser.parse_args(arguments)
    with OpenAI(base_url=f"{given.url.rstrip('/')}/v1", api_key=given.key) as client:
        models = [model.id for model in client.models.list()]
        print(f"models: {', '.join(models)}")
        stream = client.chat.completions.create(
            model=given.model or models[0],
            messages=[{"role": "user", "content": given.question}],
            stream=True,
        )
        for chunk in stream:
            for choice in chunk.choices:
                print(choice.delta.content or "", end="", flush=True)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
