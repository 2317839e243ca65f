"""OpenAI-compatible chat completions: any OpenAI client gets the breakers and the fallback. Stateless, by `Generate`.

Public document: https://platform.openai.com/docs/api-reference/chat. Subsystem: docs/subsystems/gateway.md.

    POST /v1/chat/completions  {"model":"claude","messages":[{"role":"user","content":"Hi"}],"stream":true}
    data: {"id":"chatcmpl-..","object":"chat.completion.chunk","created":1,"model":"claude-x","choices":[{"index":0,
           "delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}
    data: [DONE]
    GET /v1/models, GET /v1/models/{model}
    error: {"error":{"message":"..","type":"invalid_request_error","param":"model","code":"model_not_found"}}

Takes the API key or a user token. Deviations:
- Text only for now: tools, functions, images, audio, more than one choice, JSON output, logprobs and logit_bias change
  what the answer means, and are refused with 400. Other parameters that we do not know, or that only tune sampling
  (top_p, penalties, seed) or bookkeeping (user, store, metadata), are ignored.
- `model` in an answer is the model that gave it, which a fallback may have changed.
- A stream that breaks ends with `data: {"error": ...}` and without `[DONE]`: what came is not the whole answer.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, Literal

import orjson
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Answer, FinishReason, Role, Usage
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from gateway.credential import Credential
from gateway.dialect import Dialect, Services
from gateway.http import (
    caller_of,
    event_stream,
    guarded_router,
    headers_of,
    note_limit,
    status_of,
    while_connected,
)
from gateway.openapi import example, responses
from gateway.ports import Finished, GenerateRequest, Model, Piece, Prompt, Started, Text

NAME = "openai_compat"

_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
_FINISH = {
    FinishReason.UNKNOWN: "stop",
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.TOOL_CALLS: "tool_calls",
}
_CODES = {
    ErrorCode.UNAUTHENTICATED: "invalid_api_key",
    ErrorCode.NOT_FOUND: "model_not_found",
    ErrorCode.CONTEXT_TOO_LONG: "context_length_exceeded",
    ErrorCode.PROVIDER_REFUSED: "content_policy_violation",
    ErrorCode.RATE_LIMITED: "rate_limit_exceeded",
}
_DONE = b"data: [DONE]\n\n"
_UNKNOWN_MODEL = "The model 'no-such-model' does not exist."
_LASTS_S = 200.0
"""An answer's place counts as given back after this, if we die: a little over the deadline of Generate."""


class ContentPart(BaseModel):
    """One piece of a message."""

    type: str
    text: str = ""


class ChatMessage(BaseModel):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[Any] | None = None
    function_call: dict[str, Any] | None = None


class StreamOptions(BaseModel):
    """How a stream is to be."""

    include_usage: bool = False


class CompletionRequest(BaseModel):
    """What is asked for; fields that are not here are ignored."""

    model_config = example({"model": "claude", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100})

    model: Annotated[str, Field(max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=128_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=128_000)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    logit_bias: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None


class AnswerMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(BaseModel):
    """An answer; there is one."""

    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class TokenUsage(BaseModel):
    """What was read and written, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """A whole answer; with `stream`, events of `data: {...}` with its chunks instead, `data: [DONE]` the last."""

    model_config = example(
        {
            "id": "chatcmpl-8f14e45fceea467f9c1b3d5c8f0a7b21",
            "object": "chat.completion",
            "created": 1770000000,
            "model": "claude-x",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello!", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
        }
    )

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage


class ModelEntry(BaseModel):
    """A model that can be asked for. Since when there is one nobody knows: `created` is 0."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All models that can be asked for."""

    object: Literal["list"]
    data: list[ModelEntry]


class FailureCause(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class Failed(BaseModel):
    """A failure in OpenAI's form."""

    error: FailureCause


_STREAM = (
    'data: {"id":"chatcmpl-8f14","object":"chat.completion.chunk","created":1770000000,"model":"claude-x","choices":'
    '[{"index":0,"delta":{"content":"Hello!"},"logprobs":null,"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
_EVENTS = {"text/event-stream": {"schema": {"type": "string"}, "example": _STREAM}}
_MODEL = {"id": "claude", "object": "model", "created": 0, "owned_by": "anthropic"}


def dialect(services: Services) -> Dialect:
    """The routes under /v1."""

    router = guarded_router(
        "/v1", "OpenAI-compatible", services.doorkeeper.anyone, Credential.API_KEY, Credential.USER_TOKEN
    )

    answered = responses(limited=True, refusals={400: "tools is not supported here.", 404: _UNKNOWN_MODEL})
    answered[200] |= {"model": Completion, "content": _EVENTS}

    @router.post("/chat/completions", response_model=None, responses=answered)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Answers the conversation, at once or as a stream of events."""
        wanted, caller, answer_id = read_request(body), caller_of(request), services.new_id()
        writer = Writer(f"chatcmpl-{answer_id.replace('-', '')}", int(services.now_s()), body)
        limit = await services.limits.acquire(
            user_id=caller.user_id, key_id=caller.key_id, answer_id=answer_id, lasts_s=_LASTS_S
        )
        note_limit(request, limit)

        async def release() -> None:
            await services.limits.release(user_id=caller.user_id, key_id=caller.key_id, answer_id=answer_id)

        streams = False
        try:
            pieces = services.models.generate(wanted, user_id=caller.user_id)
            if not body.stream:
                return JSONResponse(await while_connected(request, writer.whole(pieces)))
            response = await event_stream(request, _then(writer.events(pieces), release))
            streams = True
            return response
        finally:
            if not streams:
                await release()

    @router.get("/models", response_model=ModelList, responses=responses({"object": "list", "data": [_MODEL]}))
    async def list_models() -> dict[str, Any]:
        """The models that can be asked for."""
        return {"object": "list", "data": [_model(model) for model in await services.models.list_models()]}

    known = responses(_MODEL, {404: _UNKNOWN_MODEL})

    @router.get("/models/{model_id:path}", response_model=ModelEntry, responses=known)
    async def get_model(model_id: str) -> dict[str, Any]:
        """One of them."""
        for model in await services.models.list_models():
            if model.id == model_id:
                return _model(model)
        raise SwitchboardError(ErrorCode.NOT_FOUND, f"The model {model_id!r} does not exist.", field="model")

    return Dialect(NAME, router, errors={"/v1": shape}, failure=Failed, invalid=Failed)


async def _then(
    events: AsyncGenerator[bytes, None], over: Callable[[], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    """The same events, and `over` at their end, however they end."""
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    finally:
        await over()


def shape(error: SwitchboardError | RequestValidationError) -> Response:
    """A failure in OpenAI's form."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return JSONResponse(_error("The body is not valid JSON.", "invalid_request_error", None, None), 400)
        where = ".".join(str(part) for part in first["loc"][1:]) or None
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return JSONResponse(_error(message, "invalid_request_error", where, None), 400)
    return JSONResponse(error_object(error), status_of(error.code), headers_of(error))


def error_object(error: SwitchboardError) -> dict[str, Any]:
    """The body of an error, which is also a broken stream's last event."""
    status = status_of(error.code)
    kind = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "server_error"
    param = "model" if error.code is ErrorCode.NOT_FOUND else error.field
    return _error(error.failure.message, kind, param, _CODES.get(error.code, error.code.name.lower()))


def _error(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def read_request(body: CompletionRequest) -> GenerateRequest:
    """What is asked for in our own words. Raises: SwitchboardError INVALID_ARGUMENT."""
    refusals = {
        "n": body.n not in (None, 1),
        "tools": bool(body.tools),
        "functions": bool(body.functions),
        "response_format": body.response_format is not None and body.response_format.get("type") != "text",
        "logprobs": bool(body.logprobs),
        "logit_bias": bool(body.logit_bias),
        "modalities": body.modalities not in (None, ["text"]),
        "audio": body.audio is not None,
    }
    for name, refused in refusals.items():
        if refused:
            raise _refusal(f"{name} is not supported here.", name)
    prompts = tuple(
        Prompt(_ROLES[message.role], text)
        for index, message in enumerate(body.messages)
        if (text := _text(message, f"messages.{index}"))
    )
    if all(prompt.role is Role.SYSTEM for prompt in prompts):
        raise _refusal(
            "messages must hold at least one message of a user or an assistant that is not empty.", "messages"
        )
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return GenerateRequest(
        model=body.model,
        messages=prompts,
        temperature=body.temperature,
        max_output_tokens=body.max_completion_tokens or body.max_tokens or 0,
        stop=tuple(text for text in stop if text),
    )


def _text(message: ChatMessage, where: str) -> str:
    if message.role not in _ROLES or message.tool_calls or message.function_call:
        raise _refusal("Tools are not supported here.", where)
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type not in ("text", "refusal"):
            raise _refusal(f"Content of type {part.type!r} is not supported here: send text.", where)
    return "\n".join(part.text for part in message.content if part.text)


def _refusal(message: str, where: str) -> SwitchboardError:
    return SwitchboardError(ErrorCode.INVALID_ARGUMENT, message, field=where)


def _model(model: Model) -> dict[str, Any]:
    # `created` is required by OpenAI's clients, and nobody knows it.
    return {"id": model.id, "object": "model", "created": 0, "owned_by": model.provider}


def _usage(usage: Usage | None) -> dict[str, int]:
    usage = usage or Usage(0, 0)
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


class Writer:
    """Writes one answer in OpenAI's form."""

    def __init__(self, completion_id: str, created_s: int, body: CompletionRequest) -> None:
        self._head: dict[str, Any] = {"id": completion_id, "created": created_s, "model": body.model}
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)

    async def whole(self, pieces: AsyncIterator[Piece]) -> dict[str, Any]:
        """The answer as one object. Raises: SwitchboardError."""
        text: list[str] = []
        answer: Answer | None = None
        async for piece in pieces:
            match piece:
                case Text():
                    text.append(piece.text)
                case Started():
                    self._head["model"] = piece.model or self._head["model"]
                case Finished():
                    answer = piece.answer
        if answer is None:
            raise _cut()
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(text), "refusal": None},
            "logprobs": None,
            "finish_reason": _FINISH[answer.finish_reason],
        }
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(answer.usage)}

    async def events(self, pieces: AsyncIterator[Piece]) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events. Raises: SwitchboardError before the first of them, and never after."""
        begun = False
        answer: Answer | None = None
        try:
            async for piece in pieces:
                if isinstance(piece, Started):
                    self._head["model"] = piece.model or self._head["model"]
                if not begun:
                    begun = True
                    yield self._chunk({"role": "assistant", "content": ""})
                if isinstance(piece, Text):
                    yield self._chunk({"content": piece.text})
                elif isinstance(piece, Finished):
                    answer = piece.answer
            if answer is None:
                raise _cut()
        except SwitchboardError as error:
            if not begun:
                raise
            yield _event(error_object(error))
            return
        yield self._chunk({}, _FINISH[answer.finish_reason])
        if self._with_usage:
            yield _event({**self._chunk_head(), "choices": [], "usage": _usage(answer.usage)})
        yield _DONE

    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"}

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._chunk_head(), "choices": [choice]}
        if self._with_usage:
            chunk["usage"] = None
        return _event(chunk)


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


def _cut() -> SwitchboardError:
    return SwitchboardError(ErrorCode.UNAVAILABLE, "The answer ended before it was whole. Please try again.")
