"""Chat completions as OpenAI's wire has them, for every provider that speaks it: what to ask, and how to read it.

Document: https://platform.openai.com/docs/api-reference/chat-streaming. A request, and an answer's event:

    POST {base_url}/chat/completions  {"model": "gpt-4o", "stream": true, "messages": [...], ...}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]}

The official SDK asks (keys, URL, errors); its typed events, at ten times the cost, are left out of the hot loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, cast

import httpx2
import openai
import orjson
from chat.messages import FinishReason, Role, Usage

from llm_worker.outcome import Outcome, ProviderError, outcome_of_status, read_retry_after
from llm_worker.provider import Piece, ProviderRequest
from llm_worker.settings import ProviderSettings
from llm_worker.sse import EventReader, EventTooLargeError
from llm_worker.transport import PacedBody, body_of

TAIL_S = 0.25
"""How long a whole answer waits for its counts of tokens."""

FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}

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
        except openai.APIConnectionError as exc:
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
        roles = {Role.USER: "user", Role.ASSISTANT: "assistant"}
        messages = [{"role": roles[line.role], "content": line.text} for line in request.lines]
        if request.system_prompt:
            messages.insert(0, {"role": "system", "content": request.system_prompt})
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
        if text:
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

    `ended`: nothing more is to be learnt.
    """

    __slots__ = ("_events", "ended", "error", "finish_reason", "model", "usage")

    def __init__(self) -> None:
        self._events = EventReader()
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
                    text = delta.get("content") or delta.get("refusal")
                    if text:
                        texts.append(text)
                    if choice.get("finish_reason"):
                        self.finish_reason = FINISH_REASONS.get(choice["finish_reason"], FinishReason.STOP)
                if not self.model:
                    self.model = chunk.get("model") or ""
                if chunk.get("usage"):
                    self._count(chunk["usage"])
            except orjson.JSONDecodeError:
                # Its text is lost; whether the stream is broken will show by how it goes on.
                continue
            except (KeyError, TypeError, AttributeError, IndexError):
                self._other(chunk)
        return "".join(texts)

    def _count(self, usage: dict[str, Any]) -> None:
        self.usage = Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
        # Some providers count in every event; the last one counts.
        self.ended = self.ended or bool(self.finish_reason)

    def _other(self, chunk: Any) -> None:
        """Something that is no chunk: an error event, or nothing that we know."""
        error = chunk.get("error") if isinstance(chunk, dict) else None
        if error:
            code = error.get("code") if isinstance(error, dict) else None
            self.error = ProviderError(OUTCOMES_OF_CODE.get(str(code), Outcome.CUT))
