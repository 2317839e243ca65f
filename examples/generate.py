"""A client of the LLM worker for internal teams, over gRPC: prints an answer as it comes (docs/generate.md).

Needs Python 3.11 and the wheels of `protos/` and `packages/client/`, which docs/generate.md says how to make.

    python generate.py --address localhost:50052 --token "$INTERNAL_TOKEN" "Is tofu healthy?"

Exits with 0 when the answer is whole, 1 when it is not.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from switchboard_client import SwitchboardClient, SwitchboardError, user


async def ask(given: argparse.Namespace) -> None:
    """Prints the answer and what it took. Raises: SwitchboardError."""
    async with (
        SwitchboardClient(given.address, token=given.token) as client,
        client.generate([user(given.question)], model=given.model, timeout_s=given.timeout_s) as answer,
    ):
        async for text in answer.texts():
            print(text, end="", flush=True)
        print()
        if answer.finished is not None:
            usage = answer.finished.usage
            tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
            print(f"{answer.finished.model} of {answer.finished.provider}: {tokens}")


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Asks the LLM worker one question.")
    parser.add_argument("--address", default="localhost:50052", help="default: %(default)s")
    parser.add_argument("--token", default=os.environ.get("INTERNAL_TOKEN", ""), help="default: $INTERNAL_TOKEN")
    parser.add_argument("--model", default="", help="a model or a route; default: the default route")
    parser.add_argument("--timeout-s", type=float, default=60.0, help="default: %(default)s")
    parser.add_argument("question", nargs="?", default="Is tofu healthy?")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(ask(given))
    except SwitchboardError as error:
        again = "" if error.retry_after_s is None else f" Try again in {error.retry_after_s:.0f} s."
        print(f"failed: {error}{again}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
