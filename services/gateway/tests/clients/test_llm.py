"""The worker's client against a server that does what a test tells it to, over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Role
from gateway.clients.llm import WINDOW_BYTES, ModelClient
from gateway.ports import GenerateRequest, Prompt, Text
from runtime.rpc_channel import open_channel
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc

Answer = Callable[[grpc.aio.ServicerContext[Any, Any]], AsyncIterator[str]]
ASKED = GenerateRequest("m", (Prompt(Role.USER, "Hi"),))


class ScriptedWorker(llm_pb2_grpc.LLMServiceServicer):
    """Answers as `answer` says, and counts the bytes that it could write. `asked`: the last request."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.asked = llm_pb2.GenerateRequest()
        self.written = 0

    async def Generate(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]
        self.asked = request
        assert self.answer is not None
        async for text in self.answer(context):
            await context.write(llm_pb2.GenerateResponse(text=text))
            self.written += len(text)

    async def ListModels(self, request: Any, context: Any) -> llm_pb2.ListModelsResponse:
        return llm_pb2.ListModelsResponse()

    async def StartTurn(self, request: Any, context: Any) -> llm_pb2.StartTurnResponse:
        raise NotImplementedError

    async def GetProviderStatus(self, request: Any, context: Any) -> llm_pb2.GetProviderStatusResponse:
        raise NotImplementedError


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[ScriptedWorker, ModelClient]]:
    worker, server = ScriptedWorker(), grpc.aio.server()
    llm_pb2_grpc.add_LLMServiceServicer_to_server(worker, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", window_bytes=WINDOW_BYTES) as channel:
        await channel.channel_ready()
        yield worker, ModelClient(channel, "token")
    await server.stop(0)


async def test_what_came_before_a_failure_is_read_before_the_failure() -> None:
    async with scripted() as (worker, client):

        async def answer(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[str]:
            for text in ("a", "b", "c"):
                yield text
            await context.abort(grpc.StatusCode.UNAVAILABLE)

        worker.answer = answer
        pieces = client.generate(ASKED, user_id="")
        got = [await anext(pieces)]
        # Asked for on the same connection, behind the failure, it arrives behind it.
        await client.list_models()
        with pytest.raises(SwitchboardError) as caught:
            async for piece in pieces:
                got.append(piece)  # noqa: PERF401  what came before the failure counts
        assert caught.value.code is ErrorCode.UNAVAILABLE
        assert got == [Text("a"), Text("b"), Text("c")]


async def test_an_answer_that_nobody_reads_stops_at_its_window_however_fast_others_were_read() -> None:
    async with scripted() as (worker, client):

        async def answer(_: Any) -> AsyncIterator[str]:
            for _ in range(20_000):
                yield "x" * 1000

        worker.answer = answer
        read = 0
        try:
            async for piece in client.generate(ASKED, user_id=""):
                read += len(piece.text) if isinstance(piece, Text) else 0
        except SwitchboardError:  # the script knows no Finished
            pass
        assert read == 20_000_000
        worker.written = 0
        unread = client.generate(ASKED, user_id="")
        await anext(unread)
        before = -1
        while worker.written != before:
            before = worker.written
            for _ in range(20):
                await client.list_models()
        assert worker.written < 512 * 1024


@pytest.mark.parametrize("own_keys", [False, True])
async def test_whether_the_users_own_keys_are_to_be_used_is_passed_on(own_keys: bool) -> None:
    async with scripted() as (worker, client):

        async def answer(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[str]:
            yield "Hi"

        worker.answer = answer
        pieces = client.generate(replace(ASKED, own_keys=own_keys), user_id="ann")
        assert [piece async for piece in pieces] == [Text("Hi")]
        assert worker.asked.own_keys is own_keys


async def test_grpcs_own_words_go_no_further() -> None:
    async def answer(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[str]:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Sent message larger than max (9 vs. 8)")
        yield ""

    async with scripted() as (worker, client):
        worker.answer = answer
        with pytest.raises(SwitchboardError) as failed:
            async for _ in client.generate(ASKED, user_id=""):
                pass
    assert failed.value.code is ErrorCode.OVERLOADED
    assert "SERVER" not in failed.value.failure.message
