"""The worker's client against a server that does what a test tells it to, over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from chat import codec
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import FinishReason, Role
from gateway.clients.llm import WINDOW_BYTES, ModelClient
from gateway.ports import Finished, Piece, Reasoning, Started, Text, ToolCallDelta
from gateway.prompts import GenerateRequest, Image, Prompt, Tool, ToolCall, ToolChoice, ToolResult, ToolUse
from runtime.rpc_channel import open_channel
from runtime.rpc_server import MAX_MESSAGE_BYTES
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc

Answer = Callable[[grpc.aio.ServicerContext[Any, Any]], AsyncIterator[str | llm_pb2.GenerateResponse]]
ASKED = GenerateRequest("m", (Prompt(Role.USER, ("Hi",)),))


class ScriptedWorker(llm_pb2_grpc.LLMServiceServicer):
    """Answers as `answer` says, and counts the bytes that it could write. `asked`: the last request."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.asked = llm_pb2.GenerateRequest()
        self.written = 0

    async def Generate(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]
        self.asked = request
        assert self.answer is not None
        async for said in self.answer(context):
            if isinstance(said, str):
                await context.write(llm_pb2.GenerateResponse(text=said))
                self.written += len(said)
            else:
                await context.write(said)

    async def ListModels(self, request: Any, context: Any) -> llm_pb2.ListModelsResponse:
        return llm_pb2.ListModelsResponse()

    async def StartTurn(self, request: Any, context: Any) -> llm_pb2.StartTurnResponse:
        raise NotImplementedError

    async def GetProviderStatus(self, request: Any, context: Any) -> llm_pb2.GetProviderStatusResponse:
        raise NotImplementedError


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[ScriptedWorker, ModelClient]]:
    size = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    worker, server = ScriptedWorker(), grpc.aio.server(options=size)
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


async def hello(_: Any) -> AsyncIterator[str]:
    yield "Hi"


async def asked(request: GenerateRequest) -> llm_pb2.GenerateRequest:
    """The request as the worker gets it."""
    async with scripted() as (worker, client):
        worker.answer = hello
        assert [piece async for piece in client.generate(request, user_id="")] == [Text("Hi")]
        return worker.asked


async def test_pictures_tool_calls_and_results_arrive_as_what_they_are() -> None:
    prompts = (
        Prompt(
            Role.USER, ("See:", Image(url="https://example.com/a.png"), Image(content=b"gif", media_type="image/gif"))
        ),
        Prompt(Role.ASSISTANT, ("Well.", ToolCall("call-a", "weather", '{"city":"Oslo"}'))),
        Prompt(Role.USER, (ToolResult("call-a", "rain"),)),
    )
    call = llm_pb2.ToolCall(id="call-a", name="weather", arguments='{"city":"Oslo"}')
    assert list((await asked(replace(ASKED, messages=prompts))).messages) == [
        llm_pb2.InputMessage(
            role=chat_pb2.ROLE_USER,
            parts=[
                llm_pb2.Part(text="See:"),
                llm_pb2.Part(image=llm_pb2.Image(url="https://example.com/a.png")),
                llm_pb2.Part(image=llm_pb2.Image(content=b"gif", media_type="image/gif")),
            ],
        ),
        llm_pb2.InputMessage(
            role=chat_pb2.ROLE_ASSISTANT, parts=[llm_pb2.Part(text="Well."), llm_pb2.Part(tool_call=call)]
        ),
        llm_pb2.InputMessage(
            role=chat_pb2.ROLE_USER,
            parts=[llm_pb2.Part(tool_result=llm_pb2.ToolResult(tool_call_id="call-a", text="rain"))],
        ),
    ]


async def test_tools_arrive_with_their_schemas_and_how_they_are_to_be_used() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 40}}, "required": ["city"]}
    tools = (Tool("weather", "How it is.", schema), Tool("time"))
    got = await asked(replace(ASKED, tool_use=ToolUse(tools, ToolChoice.REQUIRED, one_call=True)))
    assert [(tool.name, tool.description) for tool in got.tools] == [("weather", "How it is."), ("time", "")]
    assert codec.json_object(got.tools[0].parameters) == schema
    assert not got.tools[1].HasField("parameters")
    assert (got.tool_choice, got.tool_choice_name, got.one_tool_call) == (llm_pb2.TOOL_CHOICE_REQUIRED, "", True)
    for choice, sent in ((ToolChoice.AUTO, 0), (ToolChoice.NONE, llm_pb2.TOOL_CHOICE_NONE)):
        got = await asked(replace(ASKED, tool_use=ToolUse(tools, choice, "time")))
        assert (got.tool_choice, got.tool_choice_name, got.one_tool_call) == (sent, "time", False)


async def test_reasoning_and_tool_calls_are_read() -> None:
    async def answer(_: Any) -> AsyncIterator[llm_pb2.GenerateResponse]:
        yield llm_pb2.GenerateResponse(started=llm_pb2.Started(provider="p", model="m"))
        yield llm_pb2.GenerateResponse(reasoning="Hm.")
        yield llm_pb2.GenerateResponse(tool_call=llm_pb2.ToolCallDelta(id="call-a", name="time"))
        yield llm_pb2.GenerateResponse(tool_call=llm_pb2.ToolCallDelta(index=1, arguments="{}"))
        done = chat_pb2.Answer(state=chat_pb2.ANSWER_STATE_COMPLETED, finish_reason=chat_pb2.FINISH_REASON_TOOL_CALLS)
        yield llm_pb2.GenerateResponse(finished=llm_pb2.Finished(answer=done))

    async with scripted() as (worker, client):
        worker.answer = answer
        got: list[Piece] = [piece async for piece in client.generate(ASKED, user_id="")]
    assert got[:-1] == [
        Started("p", "m"),
        Reasoning("Hm."),
        ToolCallDelta(0, "call-a", "time"),
        ToolCallDelta(1, arguments="{}"),
    ]
    assert isinstance(got[-1], Finished)
    assert got[-1].answer.finish_reason is FinishReason.TOOL_CALLS


async def test_as_much_as_grpc_takes_goes_through_and_a_byte_more_is_refused_before_the_call() -> None:
    def of(size: int) -> GenerateRequest:
        return replace(ASKED, messages=(Prompt(Role.USER, (Image(content=b"x" * size, media_type="image/png"),)),))

    frame = len((await asked(of(MAX_MESSAGE_BYTES - 100))).SerializeToString()) - (MAX_MESSAGE_BYTES - 100)
    assert (await asked(of(MAX_MESSAGE_BYTES - frame))).ByteSize() == MAX_MESSAGE_BYTES
    with pytest.raises(SwitchboardError) as refused:
        await asked(of(MAX_MESSAGE_BYTES - frame + 1))
    assert refused.value.code is ErrorCode.TOO_LARGE


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
