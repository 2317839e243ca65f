"""The LLM worker over gRPC: adapter of `ports.Models`."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

from collections.abc import AsyncIterator

import grpc.aio
from chat import codec
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc

from gateway.clients.calls import Caller, translated
from gateway.ports import Finished, GenerateRequest, Model, Piece, Started, Text

_GENERATE_S = 180.0
"""The worker's own default, said aloud: no call is without a deadline."""
_START_TURN_S = 2.0
"""A hint only: a worker that takes longer will find the turn due by itself."""
WINDOW_BYTES = 64 * 1024
"""What a worker may send of an answer that its client does not take. Left to gRPC's probing, 5.6 MiB were held here for
each of 50 unread streams of large deltas; with this, 1.4."""


class ModelClient:
    """Calls the LLM workers."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = llm_pb2_grpc.LLMServiceStub(channel)
        self._caller = Caller(token)

    async def generate(self, request: GenerateRequest, *, user_id: str) -> AsyncIterator[Piece]:
        call = self._stub.Generate(
            llm_pb2.GenerateRequest(
                model=request.model,
                messages=[
                    llm_pb2.InputMessage(role=prompt.role.value, parts=[llm_pb2.Part(text=prompt.text)])  # type: ignore[arg-type]
                    for prompt in request.messages
                ],
                temperature=request.temperature,
                max_output_tokens=request.max_output_tokens,
                stop=request.stop,
                own_keys=request.own_keys,
            ),
            timeout=_GENERATE_S,
            metadata=self._caller.acting(user_id),
            wait_for_ready=False,
        )
        try:
            with translated():
                async for response in call:
                    match response.WhichOneof("kind"):
                        case "text":
                            yield Text(response.text)
                        case "started":
                            yield Started(response.started.provider, response.started.model)
                        case "finished":
                            yield Finished(codec.answer_from_proto(response.finished.answer))
                        case _:  # reasoning is no part of an answer, tools were not asked for
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
