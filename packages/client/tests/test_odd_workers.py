"""What may come of a worker that is newer or older than the client, or is none: a bare gRPC server says it."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2
from switchboard_client import (
    ErrorCode,
    FinishReason,
    Retries,
    SwitchboardClient,
    SwitchboardError,
    Text,
    user,
)

FROM_THE_FUTURE = b"\xfa\x01\x03abc"
"""Field 31, which no response has."""
FINISHED = llm_pb2.GenerateResponse(
    finished=llm_pb2.Finished(answer=chat_pb2.Answer(finish_reason=99))  # type: ignore[arg-type]
).SerializeToString()
WORD = llm_pb2.GenerateResponse(text="word").SerializeToString()


class OddWorker:
    """Gives the same to every call, and notes how much time each has left."""

    def __init__(self, responses: Sequence[bytes], status: grpc.Status | None) -> None:
        self._responses = responses
        self._status = status
        self.left_s: list[float] = []

    async def generate(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.left_s.append(context.time_remaining())
        for response in self._responses:
            yield response
        if self._status is not None:
            await context.abort_with_status(self._status)


ONCE = Retries(max_attempts=1)
AGAIN = Retries(max_attempts=3, base_s=0.001)


@asynccontextmanager
async def answering(
    responses: Sequence[bytes], status: grpc.Status | None = None, *, method: str = "Generate", retries: Retries = ONCE
) -> AsyncIterator[tuple[SwitchboardClient, OddWorker]]:
    """A client of a server whose one method gives these responses, and ends with that status."""
    worker = OddWorker(responses, status)
    server = grpc.aio.server()
    handlers: dict[str, Any] = {method: grpc.unary_stream_rpc_method_handler(worker.generate)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("switchboard.llm.v1.LLMService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with SwitchboardClient(f"127.0.0.1:{port}", token="t", retries=retries) as client:
        yield client, worker
    await server.stop(0)


def failing(code: code_pb2.Code, *details: Any) -> grpc.Status:
    packed = []
    for detail in details:
        one = any_pb2.Any()
        one.Pack(detail)
        packed.append(one)
    return rpc_status.to_status(status_pb2.Status(code=code, message="its own words", details=packed))


async def test_what_is_newer_than_the_client_is_passed_over() -> None:
    async with answering([FROM_THE_FUTURE, WORD, FINISHED]) as (client, _), client.generate([user("hi")]) as answer:
        first, last = [piece async for piece in answer]
    assert first == Text("word")
    assert last is answer.finished
    assert answer.finished is not None
    assert answer.finished.finish_reason is FinishReason.UNKNOWN


async def test_a_stream_that_ends_without_saying_so_is_no_whole_answer() -> None:
    async with answering([WORD]) as (client, _):
        with pytest.raises(SwitchboardError, match="whole") as caught:
            await client.complete([user("hi")])
    assert caught.value.code is ErrorCode.INTERNAL


async def test_what_broke_off_after_a_word_is_not_asked_for_again() -> None:
    gone = failing(code_pb2.UNAVAILABLE)
    async with answering([WORD], gone, retries=AGAIN) as (client, worker), client.generate([user("hi")]) as answer:
        with pytest.raises(SwitchboardError) as caught:
            await answer.finish()
    assert (caught.value.code, answer.text) == (ErrorCode.UNAVAILABLE, "word")
    assert len(worker.left_s) == 1


async def test_each_attempt_has_what_is_left_of_the_one_deadline() -> None:
    async with answering([], failing(code_pb2.UNAVAILABLE), retries=AGAIN) as (client, worker):
        with pytest.raises(SwitchboardError):
            await client.complete([user("hi")], timeout_s=30)
    assert len(worker.left_s) == 3
    assert max(worker.left_s) <= 30


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (
            failing(code_pb2.NOT_FOUND, error_details_pb2.ErrorInfo(domain="switchboard", reason="NOT_FOUND")),
            ErrorCode.NOT_FOUND,
            "its own words",
        ),
        (
            failing(code_pb2.UNAVAILABLE, error_details_pb2.ErrorInfo(domain="switchboard", reason="FROM_THE_FUTURE")),
            ErrorCode.UNAVAILABLE,
            "its own words",
        ),
        (
            failing(code_pb2.UNAVAILABLE, error_details_pb2.ErrorInfo(domain="other.example", reason="NOT_FOUND")),
            ErrorCode.UNAVAILABLE,
            "(gRPC: its own words)",
        ),
        (failing(code_pb2.RESOURCE_EXHAUSTED), ErrorCode.TOO_LARGE, "less (gRPC: its own words)"),
        (failing(code_pb2.INVALID_ARGUMENT), ErrorCode.INVALID_ARGUMENT, "(gRPC: its own words)"),
        (failing(code_pb2.DATA_LOSS), ErrorCode.INTERNAL, "DATA_LOSS (gRPC: its own words)"),
    ],
    ids=["known", "newer", "somebody else's", "too large", "bare", "odd"],
)
async def test_a_reason_counts_and_else_the_status(status: grpc.Status, code: ErrorCode, message: str) -> None:
    async with answering([], status) as (client, _):
        with pytest.raises(SwitchboardError) as caught:
            await client.complete([user("hi")])
    assert caught.value.code is code
    assert caught.value.message.endswith(message)


async def test_a_server_that_is_no_worker_is_said_so() -> None:
    async with answering([], method="Other") as (client, _):
        for call in (client.complete([user("hi")]), client.list_models()):
            with pytest.raises(SwitchboardError, match="LLM worker") as caught:
                await call
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.NOT_FOUND, False)
