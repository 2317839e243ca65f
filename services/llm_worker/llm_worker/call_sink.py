"""Where a caller's answer goes: the stream of its `Generate` call."""

from typing import Any

import grpc.aio
from switchboard.llm.v1 import llm_pb2

from llm_worker.provider import ToolCallDelta


class CallSink:
    """Writes an answer to a call's stream."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def restartable(self) -> bool:
        # The caller has read it.
        return False

    async def start(self, provider: str, model: str) -> None:
        started = llm_pb2.Started(provider=provider, model=model)
        await self._context.write(llm_pb2.GenerateResponse(started=started))

    def restart(self) -> None:
        raise AssertionError("a call's text can't be taken back")

    def write(self, text: str) -> Any:
        self._texts.append(text)
        return self._context.write(llm_pb2.GenerateResponse(text=text))

    def reason(self, text: str) -> Any:
        return self._context.write(llm_pb2.GenerateResponse(reasoning=text))

    async def call_tools(self, deltas: tuple[ToolCallDelta, ...]) -> None:
        for delta in deltas:
            piece = llm_pb2.ToolCallDelta(index=delta.index, id=delta.id, name=delta.name, arguments=delta.arguments)
            await self._context.write(llm_pb2.GenerateResponse(tool_call=piece))
