"""The same as generate.py with the contract's stubs alone, and without asyncio (docs/generate.md).

Needs Python 3.11, the wheel of `protos/` (docs/generate.md) and `pip install grpcio-status`.

    python generate_bare.py --address localhost:50052 --token "$INTERNAL_TOKEN" "Is tofu healthy?"

Exits with 0 when the answer is whole, 1 when it is not. Nothing is repeated here: docs/generate.md says what may be.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc


def ask(address: str, token: str, question: str) -> bool:
    """Prints the answer; whether it is whole. Raises: grpc.RpcError."""
    request = llm_pb2.GenerateRequest(
        messages=[llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=[llm_pb2.Part(text=question)])]
    )
    metadata = (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(address) as channel:
        for response in llm_pb2_grpc.LLMServiceStub(channel).Generate(request, metadata=metadata, timeout=60):
            match response.WhichOneof("kind"):
                case "text":
                    print(response.text, end="", flush=True)
                case "finished":
                    print()
                    return True
    return False


def reason_of(error: grpc.RpcError) -> str:
    """The name of an ErrorCode; the status's where the error is gRPC's own."""
    status = rpc_status.from_call(error)
    for packed in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info) and info.domain == "switchboard":
            return info.reason
    return error.code().name


def main(arguments: Sequence[str]) -> int:
    """Runs with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description="Asks the LLM worker one question.")
    parser.add_argument("--address", default="localhost:50052", help="default: %(default)s")
    parser.add_argument("--token", default=os.environ.get("INTERNAL_TOKEN", ""), help="default: $INTERNAL_TOKEN")
    parser.add_argument("question", nargs="?", default="Is tofu healthy?")
    given = parser.parse_args(arguments)
    try:
        return 0 if ask(given.address, given.token, given.question) else 1
    except grpc.RpcError as error:
        print(f"failed: {reason_of(error)}: {error.details()}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
