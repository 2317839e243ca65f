"""Anthropic's Messages API.

Document: https://docs.claude.com/en/api/messages-streaming. A request, and an answer's event:

    POST {base_url}/v1/messages  {"model": "claude-sonnet-4-5", "max_tokens": 1024, "stream": true, ...}
    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

Deviations: its 400 has no code that tells a conversation that is too long, or a content policy, from another malformed
request, and messages' texts are not read: every plain 400 but a spent balance (`SPENT_MESSAGE`) is the provider's
refusal, and not routed around. Since API version 2026-10-21, the SDK's, sampling parameters are refused: a temperature
is left out.
"""

from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import httpx2
import orjson
from chat.messages import FinishReason, Role, Usage

from llm_worker.outcome import Outcome, ProviderError, outcome_of_status, read_retry_after
from llm_worker.provider import Piece, Provider, ProviderRequest
from llm_worker.settings import ProviderSettings
from llm_worker.sse import EventReader, EventTooLargeError
from llm_worker.transport import PacedBody, body_of

FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
    "tool_use": FinishReason.TOOL_CALLS,
}

OUTCOMES_OF_TYPE = {
    "authentication_error": Outcome.KEY_REFUSED,
    "billing_error": Outcome.KEY_REFUSED,
    "permission_error": Outcome.KEY_REFUSED,
    "not_found_error": Outcome.MODEL_UNKNOWN,
    "rate_limit_error": Outcome.RATE_LIMITED,
    "invalid_request_error": Outcome.CONTENT_REFUSED,
}
"""Of an error event in a stream; the others, api_error and overloaded_error among them, are a cut. Source:
docs.claude.com/en/api/errors."""

SPENT_CODES = frozenset(
    {
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "organization_on_hold",
    }
)
"""A 429 or 403 that waiting does not help. Source: `anthropic.types.shared.error_details`."""


SPENT_MESSAGE = "Your credit balance is too low"
"""How a spent prepaid balance begins: a 400 `invalid_request_error` without a code, as a refusal of content is. The one
text that is read, since our empty purse must not look like the user's fault, and would keep every other target from
answering. Should the wording change, it counts as a refusal again. Source: anthropics/claude-code#66314."""


def open_provider(settings: ProviderSettings, http_client: httpx2.AsyncClient) -> Provider:
    """The adapter."""
    return AnthropicClient(settings, http_client)


class AnthropicClient:
    """Asks Anthropic."""

    def __init__(self, settings: ProviderSettings, http_client: httpx2.AsyncClient) -> None:
        self.name = settings.name
        self._url = f"{settings.base_url}/v1/messages"
        self._client = anthropic.AsyncAnthropic(
            # Without a key it is never asked with its own.
            api_key=settings.key or "-",
            base_url=settings.base_url,
            max_retries=0,
            timeout=None,
            http_client=http_client,
            open_telemetry=False,
        )

    async def stream(self, request: ProviderRequest, key: str | None = None) -> AsyncGenerator[Piece, None]:
        """As the port says."""
        client = self._client if key is None else self._client.with_options(api_key=key)
        try:
            # What `messages.create` does but for walking over every message with its types: half its cost. Given as
            # bytes, to a whole URL, and asked for the response itself, it is half of that again.
            response: Any = await client.post(
                self._url,
                content=orjson.dumps(_parameters(request)),
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
        except anthropic.APIStatusError as exc:
            raise _read_error(exc) from exc
        except anthropic.APIConnectionError as exc:
            raise ProviderError(Outcome.UNREACHABLE) from exc
        body = body_of(response)
        try:
            async for piece in _read_answer(body):
                yield piece
        finally:
            await body.aclose()

    async def count_tokens(self, request: ProviderRequest, key: str | None = None) -> int | None:
        """As the port says."""
        return None


def _parameters(request: ProviderRequest) -> dict[str, Any]:
    roles = {Role.USER: "user", Role.ASSISTANT: "assistant"}
    messages = [{"role": roles[line.role], "content": line.text} for line in request.lines]
    if messages[0]["role"] == "assistant":
        # The API wants the user's first; a greeting of the assistant's is answered all the same.
        messages.insert(0, {"role": "user", "content": "(The assistant begins.)"})
    parameters: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "max_tokens": request.max_output_tokens,
        "stream": True,
    }
    if request.system_prompt:
        parameters["system"] = request.system_prompt
    if request.stop:
        parameters["stop_sequences"] = list(request.stop)
    return parameters


def _read_error(error: anthropic.APIStatusError) -> ProviderError:
    if error.error_code in SPENT_CODES or _message_of(error.body).startswith(SPENT_MESSAGE):
        outcome = Outcome.KEY_REFUSED
    elif error.status_code == 400:
        outcome = Outcome.CONTENT_REFUSED
    else:
        outcome = outcome_of_status(error.status_code)
    retry_after_s = read_retry_after(error.response.headers.get("retry-after"))
    return ProviderError(outcome, retry_after_s=retry_after_s, status=error.status_code)


def _message_of(body: object) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message")) if isinstance(error, dict) else ""


async def _read_answer(body: PacedBody) -> AsyncGenerator[Piece, None]:
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
    body.finish()
    yield Piece("", answer.model, answer.finish_reason, answer.usage)


class _Answer:
    """What the events so far say. `feed` is the hot loop: every delta of every stream passes it."""

    __slots__ = ("_events", "_input_tokens", "error", "finish_reason", "model", "usage")

    def __init__(self) -> None:
        self._events = EventReader()
        self._input_tokens = 0
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
        for data in events:
            try:
                event = orjson.loads(data)
                if event["type"] == "content_block_delta":
                    delta = event["delta"]
                    if delta["type"] == "text_delta":
                        texts.append(delta["text"])
                else:
                    self._other(event)
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
                # Its text is lost; whether the stream is broken will show by how it goes on.
                continue
        return "".join(texts)

    def _other(self, event: dict[str, Any]) -> None:
        """Events of which an answer has one or two. Those that we do not know, pings among them, say nothing to us."""
        match event["type"]:
            case "message_start":
                message = event["message"]
                self.model = message["model"]
                self._input_tokens = _input_tokens(message["usage"])
            case "message_delta":
                reason = event["delta"].get("stop_reason")
                if reason:
                    self.finish_reason = FINISH_REASONS.get(reason, FinishReason.STOP)
                usage = event.get("usage")
                if usage:
                    given = _input_tokens(usage)
                    self.usage = Usage(given or self._input_tokens, int(usage["output_tokens"]))
            case "error":
                self.error = ProviderError(OUTCOMES_OF_TYPE.get(event["error"]["type"], Outcome.CUT))


def _input_tokens(usage: dict[str, Any]) -> int:
    """All of them: what was read from and written to the cache is counted apart."""
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(int(usage.get(name) or 0) for name in names)
