"""The LLM worker over gRPC: adapter of `ports.Models`."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

from collections.abc import AsyncIterator
from typing import assert_never

import grpc.aio
from chat import codec
from chat.errors import ErrorCode, SwitchboardError
from runtime.rpc_server import MAX_MESSAGE_BYTES
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc

from gateway.clients.calls import Caller, translated
from gateway.ports import Finished, Model, Piece, Reasoning, Started, Text, ToolCallDelta
from gateway.prompts import GenerateRequest, Image, Part, Prompt, ToolCall, ToolChoice, ToolResult

_GENERATE_S = 180.0
"""The worker's own default, said aloud: no call is without a deadline."""
_START_TURN_S = 2.0
"""A hint only: a worker that takes longer will find the turn due by itself."""
WINDOW_BYTES = 64 * 1024
"""What a worker may send of an answer that its client does not take. Left to gRPC's probing, 5.6 MiB were held here for
each of 50 unread streams of large deltas; with this, 1.4."""
_CHOICES = {
    ToolChoice.AUTO: llm_pb2.TOOL_CHOICE_UNSPECIFIED,
    ToolChoice.NONE: llm_pb2.TOOL_CHOICE_NONE,
    ToolChoice.REQUIRED: llm_pb2.TOOL_CHOICE_REQUIRED,
}


class ModelClient:
    """Calls the LLM workers."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = llm_pb2_grpc.LLMServiceStub(channel)
        self._caller = Caller(token)

    async def generate(self, request: GenerateRequest, *, user_id: str) -> AsyncIterator[Piece]:
        call = self._stub.Generate(
            _asked(request),
            timeout=_GENERATE_S,
            metadata=self._caller.acting(user_id),
            wait_for_ready=False,
        )
        # The answer may take minutes, and its pictures are on their way already.
        del request
        try:
            with translated():
                async for response in call:
                    match response.WhichOneof("kind"):
                        case "text":
                            yield Text(response.text)
                        case "reasoning":
                            yield Reasoning(response.reasoning)
                        case "tool_call":
                            delta = response.tool_call
                            yield ToolCallDelta(delta.index, delta.id, delta.name, delta.arguments)
                        case "started":
                            yield Started(response.started.provider, response.started.model)
                        case "finished":
                            yield Finished(codec.answer_from_proto(response.finished.answer))
                        case _:  # of a newer worker
                            continue
        finally:
            # Closing the iterator ends the call, and with it the provider's.
            call.cancel()

    async def start_turn(self, chat_id: str, turn_id: str) -> bool:
        request = llm_pb2.StartTurnRequest(chat_id=chat_id, turn_id=turn_id)
        response = await self._caller.call(self._stub.StartTurn, request, timeout_s=_START_TURN_S, wait=False)
        return response.claimed

    async def list_models(self) -> tuple[Model, ...]:
        response = await self._caller.call(self._stub.ListModels, llm_pb2.ListModelsRequest())
        return tuple(Model(model.id, model.provider) for model in response.models)


def _asked(request: GenerateRequest) -> llm_pb2.GenerateRequest:
    """The request as it goes over the wire. Raises: SwitchboardError TOO_LARGE: gRPC would not take it."""
    tool_use = request.tool_use
    asked = llm_pb2.GenerateRequest(
        model=request.model,
        messages=map(_message, request.messages),
        temperature=request.temperature,
        max_output_tokens=request.max_output_tokens,
        stop=request.stop,
        own_keys=request.own_keys,
        tools=[
            llm_pb2.Tool(name=tool.name, description=tool.description, parameters=codec.struct(tool.parameters))
            for tool in tool_use.tools
        ],
        tool_choice=_CHOICES[tool_use.choice],
        tool_choice_name=tool_use.name,
        one_tool_call=tool_use.one_call,
    )
    if asked.ByteSize() > MAX_MESSAGE_BYTES:
        raise SwitchboardError(
            ErrorCode.TOO_LARGE,
            f"The conversation is too large: with its pictures and tools it may have {MAX_MESSAGE_BYTES:,} bytes.",
        )
    return asked


def _message(prompt: Prompt) -> llm_pb2.InputMessage:
    return llm_pb2.InputMessage(role=prompt.role.value, parts=map(_part, prompt.parts))  # type: ignore[arg-type]


def _part(part: Part) -> llm_pb2.Part:
    match part:
        case str():
            return llm_pb2.Part(text=part)
        case Image(url=""):
            return llm_pb2.Part(image=llm_pb2.Image(content=part.content, media_type=part.media_type))
        case Image():
            return llm_pb2.Part(image=llm_pb2.Image(url=part.url))
        case ToolCall():
            return llm_pb2.Part(tool_call=llm_pb2.ToolCall(id=part.id, name=part.name, arguments=part.arguments))
        case ToolResult():
            return llm_pb2.Part(tool_result=llm_pb2.ToolResult(tool_call_id=part.call_id, text=part.text))
        case _:
            assert_never(part)
