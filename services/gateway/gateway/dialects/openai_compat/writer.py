"""One answer in OpenAI's form: as one object, or as server-sent events."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson
from chat.errors import SwitchboardError
from chat.messages import Answer, FinishReason, Usage

from gateway.dialects.openai_compat.failures import cut_short, error_object
from gateway.dialects.openai_compat.forms import CompletionRequest
from gateway.ports import Finished, Piece, Reasoning, Started, Text, ToolCallDelta

_FINISH = {
    FinishReason.UNKNOWN: "stop",
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.TOOL_CALLS: "tool_calls",
}
_DONE = b"data: [DONE]\n\n"


class Writer:
    """Writes one answer."""

    def __init__(self, completion_id: str, created_s: int, body: CompletionRequest) -> None:
        self._head: dict[str, Any] = {"id": completion_id, "created": created_s, "model": body.model}
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)

    async def whole(self, pieces: AsyncIterator[Piece]) -> dict[str, Any]:
        """The answer as one object. Raises: SwitchboardError."""
        text: list[str] = []
        reasoning: list[str] = []
        calls: dict[int, _Call] = {}
        answer: Answer | None = None
        async for piece in pieces:
            match piece:
                case Text():
                    text.append(piece.text)
                case Reasoning():
                    reasoning.append(piece.text)
                case ToolCallDelta():
                    calls.setdefault(piece.index, _Call()).add(piece)
                case Started():
                    self._head["model"] = piece.model or self._head["model"]
                case Finished():
                    answer = self._finished(piece)
        if answer is None:
            raise cut_short()
        content = "".join(text)
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else ""), "refusal": None}
        if reasoning:
            message["reasoning_content"] = "".join(reasoning)
        if calls:
            message["tool_calls"] = [call.written for _, call in sorted(calls.items())]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[answer.finish_reason]}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(answer.usage)}

    async def events(self, pieces: AsyncIterator[Piece]) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events. Raises: SwitchboardError before the first of them, and never after."""
        begun = False
        answer: Answer | None = None
        try:
            async for piece in pieces:
                if not begun:
                    begun = True
                    if isinstance(piece, Started):
                        self._head["model"] = piece.model or self._head["model"]
                    yield self._chunk({"role": "assistant", "content": ""})
                match piece:
                    case Text():
                        yield self._chunk({"content": piece.text})
                    case Reasoning():
                        yield self._chunk({"reasoning_content": piece.text})
                    case ToolCallDelta():
                        yield self._chunk({"tool_calls": [_call_delta(piece)]})
                    case Started():
                        pass
                    case Finished():
                        answer = self._finished(piece)
            if answer is None:
                raise cut_short()
        except SwitchboardError as error:
            if not begun:
                raise
            yield _event(error_object(error))
            return
        yield self._chunk({}, _FINISH[answer.finish_reason])
        if self._with_usage:
            yield _event({**self._chunk_head(), "choices": [], "usage": _usage(answer.usage)})
        yield _DONE

    def _finished(self, piece: Finished) -> Answer:
        """Another model than the one that began may have come to the end."""
        self._head["model"] = piece.answer.model or self._head["model"]
        return piece.answer

    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._chunk_head(), "choices": [choice]}
        if self._with_usage:
            chunk["usage"] = None
        return _event(chunk)


class _Call:
    """A tool call as it grows."""

    def __init__(self) -> None:
        self._id = ""
        self._name = ""
        self._arguments: list[str] = []

    def add(self, piece: ToolCallDelta) -> None:
        self._id = self._id or piece.id
        self._name = self._name or piece.name
        self._arguments.append(piece.arguments)

    @property
    def written(self) -> dict[str, Any]:
        function = {"name": self._name, "arguments": "".join(self._arguments)}
        return {"id": self._id, "type": "function", "function": function}


def _call_delta(piece: ToolCallDelta) -> dict[str, Any]:
    """Clients put the texts of a call's deltas together: what stands in the first is not repeated."""
    if not piece.id:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


def _usage(usage: Usage | None) -> dict[str, int]:
    usage = usage or Usage(0, 0)
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"
