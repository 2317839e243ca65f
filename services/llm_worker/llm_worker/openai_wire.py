"""Chat completions as OpenAI's wire has them, for every provider that speaks it: what to ask, and how to read it.

Document: https://platform.openai.com/docs/api-reference/chat-streaming. A request, and an answer's event:

    POST {base_url}/chat/completions  {"model": "gpt-4o", "stream": true, "messages": [...], ...}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]}

The official SDK asks (keys, URL, errors); its typed events, at ten times the cost, are left out of the hot loop.

Deviations, of the wire from the port: a tool's failure has no field, its text alone tells; an id of over 40 characters
is refused, so that an alias stands for it. Of its speakers from one another: the model's reasoning is
`reasoning_content` (xAI, DeepSeek) or `reasoning` (OpenRouter, Ollama), and OpenAI shows none; xAI and Google count it
in `total_tokens` alone; Google and Ollama leave out a tool call's `index`, or give all of an answer the same, and say
the name with each; an answer that calls the one tool it had to ends with `stop` (OpenAI).
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, cast

import httpx2
import openai
import orjson
from chat.messages import FinishReason, Role, Usage

from llm_worker.conversation import Image, Line, ToolCall, ToolResult
from llm_worker.outcome import Outcome, ProviderError, outcome_of_status, read_retry_after
from llm_worker.provider import Piece, ProviderRequest, ToolChoice, ToolUse, read_count, read_model
from llm_worker.settings import ProviderSettings
from llm_worker.sse import EventReader, EventTooLargeError
from llm_worker.tool_calls import LostCallError, ToolCallReader, alias_of
from llm_worker.transport import PacedBody, body_of

TAIL_S = 0.25
"""How long a whole answer waits for its counts of tokens."""

MAX_ID_CHARS = 40
"""Of a tool call; ids of other providers are longer. Source: the API's 400 `string_above_max_length`."""

ROLES = {Role.USER: "user", Role.ASSISTANT: "assistant"}
TOOL_CHOICES = {ToolChoice.NONE: "none", ToolChoice.REQUIRED: "required"}

FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}

BROKEN = "error"
"""A finish reason of OpenRouter's: the provider behind it broke off. Of reasons that we do not know, none else says
that the answer is not whole. Source: openrouter.ai/docs, "Streaming", errors in the middle of a stream."""

OUTCOMES_OF_CODE = {
    "context_length_exceeded": Outcome.CONTEXT_TOO_LONG,
    "string_above_max_length": Outcome.CONTEXT_TOO_LONG,
    "content_policy_violation": Outcome.CONTENT_REFUSED,
    "content_filter": Outcome.CONTENT_REFUSED,
    "invalid_prompt": Outcome.CONTENT_REFUSED,
    "insufficient_quota": Outcome.KEY_REFUSED,
    "billing_hard_limit_reached": Outcome.KEY_REFUSED,
    "invalid_api_key": Outcome.KEY_REFUSED,
    "model_not_found": Outcome.MODEL_UNKNOWN,
    "rate_limit_exceeded": Outcome.RATE_LIMITED,
}
"""Codes that say more than the status they come with. Source: platform.openai.com/docs/guides/error-codes."""

SPENT_TYPE = "insufficient_quota"
"""Of a 429 that waiting does not help; its code says which limit was reached (a balance, a project's, an
organisation's), or nothing. Source: platform.openai.com/docs/guides/error-codes."""

ReadError = Callable[[openai.APIStatusError], ProviderError]


def read_status_error(error: openai.APIStatusError) -> ProviderError:
    """An HTTP error as OpenAI describes it: `{"error": {"code": ..., "type": ...}}`."""
    if error.type == SPENT_TYPE:
        outcome = Outcome.KEY_REFUSED
    else:
        outcome = OUTCOMES_OF_CODE.get(error.code or "") or outcome_of_status(error.status_code)
    retry_after_s = read_retry_after(error.response.headers.get("retry-after"))
    return ProviderError(outcome, retry_after_s=retry_after_s, status=error.status_code)


def open_sdk(settings: ProviderSettings, http_client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """The SDK, without retries and time-outs of its own."""
    return openai.AsyncOpenAI(
        # Without a key it is never asked with its own.
        api_key=settings.key or "-",
        base_url=settings.base_url,
        max_retries=0,
        timeout=None,
        http_client=http_client,
        # The SDK would read these from the environment and send OpenAI's to anybody.
        default_headers=cast(dict[str, str], {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}),
    )


class OpenAIClient:
    """Asks one provider that speaks this wire."""

    def __init__(
        self,
        settings: ProviderSettings,
        http_client: httpx2.AsyncClient,
        *,
        read_error: ReadError = read_status_error,
    ) -> None:
        self.name = settings.name
        self._url = f"{settings.base_url}/chat/completions"
        self._limit_field = settings.limit_field
        self._read_error = read_error
        self._client = open_sdk(settings, http_client)

    async def stream(self, request: ProviderRequest, key: str | None = None) -> AsyncGenerator[Piece, None]:
        """As the port says."""
        client = self._client if key is None else self._client.with_options(api_key=key)
        try:
            # What `chat.completions.create` does but for walking over every message with its types: half its cost.
            # Given as bytes, to a whole URL, and asked for the response itself, it is half of that again.
            response: Any = await client.post(
                self._url,
                content=orjson.dumps(self._parameters(request)),
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
        except openai.APIStatusError as exc:
            raise self._read_error(exc) from exc
        except (openai.APIConnectionError, httpx2.TransportError) as exc:
            # Of the SDK's errors the second is none: an error's body that breaks off.
            raise ProviderError(Outcome.UNREACHABLE) from exc
        body = body_of(response)
        try:
            async for piece in read_answer(body):
                yield piece
        finally:
            await body.aclose()

    async def count_tokens(self, request: ProviderRequest, key: str | None = None) -> int | None:
        """As the port says: this wire has no such call."""
        return None

    def _parameters(self, request: ProviderRequest) -> dict[str, Any]:
        messages: list[dict[str, Any]] = []
        if request.system_prompt:
            messages.append({"role": "system", "content": request.system_prompt})
        for line in request.lines:
            only = line.parts[0] if len(line.parts) == 1 else None
            if isinstance(only, str):
                messages.append({"role": ROLES[line.role], "content": only})
            else:
                messages += _messages(line)
        parameters: dict[str, Any] = {
            "model": request.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            self._limit_field: request.max_output_tokens,
        }
        if request.temperature is not None:
            parameters["temperature"] = request.temperature
        if request.stop:
            parameters["stop"] = list(request.stop)
        if request.tool_use.tools:
            parameters |= _tool_parameters(request.tool_use)
        return parameters


def _messages(line: Line) -> list[dict[str, Any]]:
    """A line's messages: each result of a tool is one of its own, before the rest."""
    if line.role is Role.ASSISTANT:
        message: dict[str, Any] = {"role": "assistant", "content": line.text or None}
        calls = [_call(part) for part in line.parts if isinstance(part, ToolCall)]
        return [message | {"tool_calls": calls}] if calls else [message]
    messages: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": _call_id(part.call_id), "content": part.text}
        for part in line.parts
        if isinstance(part, ToolResult)
    ]
    if any(isinstance(part, Image) for part in line.parts):
        shown = [part for part in line.parts if isinstance(part, str | Image)]
        messages.append({"role": "user", "content": [_content_part(part) for part in shown]})
    elif line.text:
        messages.append({"role": "user", "content": line.text})
    return messages


def _content_part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = part.url or f"data:{part.media_type};base64,{b64encode(part.content).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _call(call: ToolCall) -> dict[str, Any]:
    # Some read the arguments as JSON, which the empty text is not.
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": _call_id(call.id), "type": "function", "function": function}


def _call_id(call_id: str) -> str:
    return call_id if len(call_id) <= MAX_ID_CHARS else alias_of(call_id)


def _tool_parameters(tool_use: ToolUse) -> dict[str, Any]:
    tools: list[dict[str, Any]] = []
    for tool in tool_use.tools:
        # OpenAI refuses a schema without these two, and some of its imitators a tool without a schema.
        function = {"name": tool.name, "parameters": {"type": "object", "properties": {}, **tool.parameters}}
        if tool.description:
            function["description"] = tool.description
        tools.append({"type": "function", "function": function})
    parameters: dict[str, Any] = {"tools": tools}
    if tool_use.name:
        parameters["tool_choice"] = {"type": "function", "function": {"name": tool_use.name}}
    elif tool_use.choice in TOOL_CHOICES:
        parameters["tool_choice"] = TOOL_CHOICES[tool_use.choice]
    if tool_use.one_call:
        parameters["parallel_tool_calls"] = False
    return parameters


async def read_answer(body: PacedBody) -> AsyncGenerator[Piece, None]:
    """Reads a streamed completion to its end. Raises: ProviderError."""
    answer = _Answer()
    while not answer.finish_reason:
        try:
            octets = await body.read()
        except httpx2.TransportError as exc:
            raise ProviderError(Outcome.CUT) from exc
        if not octets:
            raise ProviderError(Outcome.CUT)
        text = answer.feed(octets)
        if answer.beside:
            yield answer.piece(text)
        elif text:
            yield Piece(text, answer.model)
        if answer.error is not None:
            raise answer.error
    # The counts come behind the finish reason, nearly always in its packet, and from some providers never.
    with suppress(TimeoutError, httpx2.TransportError):
        async with asyncio.timeout(TAIL_S):
            while not answer.ended and (octets := await body.read()):
                answer.feed(octets)
    body.finish()
    yield Piece("", answer.model, answer.finish_reason, answer.usage)


class _Answer:
    """What the events so far say. `feed` is the hot loop: every delta of every stream passes it.

    `beside`: there is more than text, for `piece` to give. `ended`: nothing more is to be learnt.
    """

    __slots__ = ("_calls", "_events", "_reasoning", "beside", "ended", "error", "finish_reason", "model", "usage")

    def __init__(self) -> None:
        self._calls = ToolCallReader()
        self._events = EventReader()
        self._reasoning: list[str] = []
        self.beside = False
        self.ended = False
        self.error: ProviderError | None = None
        self.finish_reason = FinishReason.UNKNOWN
        self.model = ""
        self.usage: Usage | None = None

    def feed(self, octets: bytes) -> str:
        """The text that these bytes add, up to the error if they hold one."""
        try:
            events = self._events.feed(octets)
        except EventTooLargeError:
            self.error = ProviderError(Outcome.CUT)
            return ""
        texts: list[str] = []
        for event in events:
            if event == b"[DONE]":
                self.ended = True
                break
            try:
                chunk = orjson.loads(event)
                choices = chunk["choices"]
                if choices:
                    choice = choices[0]
                    delta = choice["delta"]
                    text = delta.get("content")
                    if not text:
                        self._look_beside(delta, texts)
                    else:
                        texts.append(text)
                        # Some say the role each time, few more than that.
                        fields = len(delta)
                        if fields > 1 and (fields > 2 or "role" not in delta):
                            self._look_beside(delta, texts)
                    if choice.get("finish_reason"):
                        self._finish(choice["finish_reason"])
                    elif text and self.model:
                        # Counts are looked for with a finish reason or where there is no text.
                        continue
                if not self.model:
                    self.model = read_model(chunk.get("model"))
                if chunk.get("usage"):
                    self._count(chunk["usage"])
            except orjson.JSONDecodeError:
                # Its text is lost; whether the stream is broken will show by how it goes on.
                continue
            except LostCallError:
                self.error = ProviderError(Outcome.CUT)
                break
            except (KeyError, TypeError, ValueError, AttributeError, IndexError):
                self._other(chunk)
        try:
            return "".join(texts)
        except TypeError:
            # Looked at here, where it costs nothing as long as all of it is text.
            return "".join(text for text in texts if isinstance(text, str))

    def piece(self, text: str) -> Piece:
        """The text, and what came beside it since the last time."""
        reasoning = "".join(self._reasoning)
        self._reasoning.clear()
        self.beside = False
        return Piece(text, self.model, reasoning=reasoning, tool_calls=self._calls.take())

    def _look_beside(self, delta: dict[str, Any], texts: list[str]) -> None:
        """What stands in a delta beside content. Raises: LostCallError."""
        if delta.get("refusal") and not delta.get("content"):
            texts.append(delta["refusal"])
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            self._reasoning.append(reasoning)
            self.beside = True
        try:
            for call in delta.get("tool_calls") or ():
                self._read_call(call)
                self.beside = True
        except (TypeError, AttributeError) as exc:
            raise LostCallError from exc

    def _read_call(self, call: dict[str, Any]) -> None:
        function = call.get("function") or {}
        key, call_id = call.get("index"), call.get("id") or ""
        name, arguments = function.get("name") or "", function.get("arguments") or ""
        begun_id = self._calls.id_of(key)
        # The index tells calls apart, and where it does not, the id, and where there is neither, the name.
        begins = not begun_id or (call_id != begun_id if call_id else key is None)
        if name and begins:
            self._calls.begin(key, call_id, name, arguments)
        elif arguments:
            self._calls.add(key, arguments)

    def _finish(self, reason: str) -> None:
        if reason == BROKEN:
            self.error = ProviderError(Outcome.CUT)
            return
        self.finish_reason = FINISH_REASONS.get(reason, FinishReason.STOP)
        self.beside = self._calls.end() or self.beside
        if self._calls and self.finish_reason is FinishReason.STOP:
            self.finish_reason = FinishReason.TOOL_CALLS
        if self.finish_reason is FinishReason.TOOL_CALLS and not self._calls:
            raise LostCallError

    def _count(self, usage: dict[str, Any]) -> None:
        """Some count in every event; the last one counts, also when it can't be read: the others are of a part."""
        self.usage = None
        given, made = read_count(usage.get("prompt_tokens")), read_count(usage.get("completion_tokens"))
        if given is not None and made is not None:
            self.usage = Usage(given, max(made, (read_count(usage.get("total_tokens")) or 0) - given))
        self.ended = self.ended or bool(self.finish_reason)

    def _other(self, chunk: Any) -> None:
        """Something that is no chunk: an error event, or nothing that we know."""
        error = chunk.get("error") if isinstance(chunk, dict) else None
        if error:
            code = error.get("code") if isinstance(error, dict) else None
            self.error = ProviderError(OUTCOMES_OF_CODE.get(str(code), Outcome.CUT))
