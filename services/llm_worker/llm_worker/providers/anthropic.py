"""Anthropic's Messages API.

Document: https://docs.claude.com/en/api/messages-streaming. A request, and an answer's event:

    POST {base_url}/v1/messages  {"model": "claude-sonnet-4-5", "max_tokens": 1024, "stream": true, ...}
    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

Deviations: its 400 has no code that tells a content policy from another malformed request, and messages' texts are not
read: every plain 400 but a spent balance (`SPENT_MESSAGE`) and a conversation that is too long (`TOO_LONG_MESSAGES`) is
the provider's refusal, and not routed around. Since API version 2026-10-21, the SDK's, sampling parameters are refused:
a temperature is left out. It takes a tool call's id in its own form alone: an alias stands for another. Reasoning is
not given back to it with the calls that came of it; it insists on that only where thinking was asked for with a budget,
as it never is here.
"""

import re
from base64 import b64encode
from collections.abc import AsyncGenerator
from typing import Any, assert_never

import anthropic
import httpx2
import orjson
from chat.messages import FinishReason, Role, Usage

from llm_worker.conversation import Image, Line, Part, ToolCall, ToolResult
from llm_worker.outcome import Outcome, ProviderError, outcome_of_status, read_retry_after
from llm_worker.provider import Piece, Provider, ProviderRequest, ToolChoice, ToolUse, read_count, read_model
from llm_worker.settings import ProviderSettings
from llm_worker.sse import EventReader, EventTooLargeError
from llm_worker.tool_calls import LostCallError, ToolCallReader, alias_of
from llm_worker.transport import PacedBody, body_of

CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The form of a tool call's id; those of other providers have others. Source: the API's 400 on `tool_use.id`."""

ROLES = {Role.USER: "user", Role.ASSISTANT: "assistant"}
TOOL_CHOICES = {ToolChoice.AUTO: "auto", ToolChoice.NONE: "none", ToolChoice.REQUIRED: "any"}

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
"""How a spent prepaid balance begins: a 400 `invalid_request_error` without a code, as a refusal of content is. It is
read, as is the one below, since our empty purse must not look like the user's fault, and would keep every other target
from answering. Should the wording change, it counts as a refusal again. Source: anthropics/claude-code#66314."""

TOO_LONG_MESSAGES = ("prompt is too long", "input length and `max_tokens` exceed context limit")
"""How a conversation begins to be refused that is too long, alone or with its limit on output: a 400 without a code, as
above. It is read since a larger model may answer, and the user can do something about it. Source:
anthropics/claude-code#12186, #4951; the SDK's `anthropic.types.shared.error_details` knows no code for it."""


def open_provider(settings: ProviderSettings, http_client: httpx2.AsyncClient) -> Provider:
    """The adapter."""
    return AnthropicClient(settings, http_client)


class AnthropicClient:
    """Asks Anthropic."""

    def __init__(self, settings: ProviderSettings, http_client: httpx2.AsyncClient) -> None:
        self.name = settings.name
        self._url = f"{settings.base_url}/v1/messages"
        self._count_url = f"{self._url}/count_tokens"
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
        except (anthropic.APIConnectionError, httpx2.TransportError) as exc:
            # Of the SDK's errors the second is none: an error's body that breaks off.
            raise ProviderError(Outcome.UNREACHABLE) from exc
        body = body_of(response)
        try:
            async for piece in _read_answer(body):
                yield piece
        finally:
            await body.aclose()

    async def count_tokens(self, request: ProviderRequest, key: str | None = None) -> int | None:
        """As the port says."""
        client = self._client if key is None else self._client.with_options(api_key=key)
        content = orjson.dumps(_input_parameters(request))
        try:
            response = await client.post(self._count_url, content=content, cast_to=httpx2.Response)
            count = read_count(orjson.loads(response.content)["input_tokens"])
        except anthropic.APIStatusError as exc:
            raise _read_error(exc) from exc
        except anthropic.APIConnectionError as exc:
            raise ProviderError(Outcome.UNREACHABLE) from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise ProviderError(Outcome.CUT) from exc
        if count is None:
            raise ProviderError(Outcome.CUT)
        return count


def _parameters(request: ProviderRequest) -> dict[str, Any]:
    parameters = _input_parameters(request)
    parameters["max_tokens"] = request.max_output_tokens
    parameters["stream"] = True
    if request.stop:
        parameters["stop_sequences"] = list(request.stop)
    return parameters


def _input_parameters(request: ProviderRequest) -> dict[str, Any]:
    """What is counted as input; the count takes nothing else."""
    messages = [{"role": ROLES[line.role], "content": _content(line)} for line in request.lines]
    if messages[0]["role"] == "assistant":
        # The API wants the user's first; a greeting of the assistant's is answered all the same.
        messages.insert(0, {"role": "user", "content": "(The assistant begins.)"})
    parameters: dict[str, Any] = {"model": request.model, "messages": messages}
    if request.system_prompt:
        parameters["system"] = request.system_prompt
    if request.tool_use.tools:
        parameters |= _tool_parameters(request.tool_use)
    return parameters


def _content(line: Line) -> str | list[dict[str, Any]]:
    parts = line.parts
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    if all(isinstance(part, str) for part in parts):
        return line.text
    # Results are looked for at a message's beginning.
    return [_block(part) for part in sorted(parts, key=lambda part: not isinstance(part, ToolResult))]


def _block(part: Part) -> dict[str, Any]:
    match part:
        case str():
            return {"type": "text", "text": part}
        case Image():
            return {"type": "image", "source": _source(part)}
        case ToolCall():
            return {
                "type": "tool_use",
                "id": _call_id(part.id),
                "name": part.name,
                "input": _read_arguments(part.arguments),
            }
        case ToolResult():
            block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _call_id(part.call_id)}
            if part.text:
                block["content"] = part.text
            if part.is_error:
                block["is_error"] = True
            return block
        case _:
            assert_never(part)


def _source(image: Image) -> dict[str, str]:
    if image.url:
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.media_type, "data": b64encode(image.content).decode()}


def _read_arguments(arguments: str) -> dict[str, Any]:
    """Raises: ProviderError, for what is no object: the API takes nothing else."""
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError as exc:
        raise ProviderError(Outcome.NOT_UNDERSTOOD) from exc
    if not isinstance(value, dict):
        raise ProviderError(Outcome.NOT_UNDERSTOOD)
    return value


def _call_id(call_id: str) -> str:
    return call_id if CALL_ID.fullmatch(call_id) else alias_of(call_id)


def _tool_parameters(tool_use: ToolUse) -> dict[str, Any]:
    tools: list[dict[str, Any]] = []
    for each in tool_use.tools:
        # A schema must say that it is an object's.
        tool = {"name": each.name, "input_schema": {"type": "object", "properties": {}, **each.parameters}}
        if each.description:
            tool["description"] = each.description
        tools.append(tool)
    choice: dict[str, Any] = {"type": TOOL_CHOICES[tool_use.choice]}
    if tool_use.name:
        choice = {"type": "tool", "name": tool_use.name}
    if tool_use.one_call and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools} if choice == {"type": "auto"} else {"tools": tools, "tool_choice": choice}


def _read_error(error: anthropic.APIStatusError) -> ProviderError:
    message = _message_of(error.body)
    if error.error_code in SPENT_CODES or message.startswith(SPENT_MESSAGE):
        outcome = Outcome.KEY_REFUSED
    elif error.status_code == 400 and message.startswith(TOO_LONG_MESSAGES):
        outcome = Outcome.CONTEXT_TOO_LONG
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
        if answer.beside:
            yield answer.piece(text)
        elif text:
            yield Piece(text, answer.model)
        if answer.error is not None:
            raise answer.error
    body.finish()
    yield Piece("", answer.model, answer.finish_reason, answer.usage)


class _Answer:
    """What the events so far say. `feed` is the hot loop: every delta of every stream passes it.

    `beside`: there is more than text, for `piece` to give.
    """

    __slots__ = (
        "_calls",
        "_events",
        "_input_tokens",
        "_reasoning",
        "beside",
        "error",
        "finish_reason",
        "model",
        "usage",
    )

    def __init__(self) -> None:
        self._calls = ToolCallReader()
        self._events = EventReader()
        self._input_tokens: int | None = None
        self._reasoning: list[str] = []
        self.beside = False
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
                        self._look_beside(event.get("index"), delta)
                else:
                    self._other(event)
            except LostCallError:
                self.error = ProviderError(Outcome.CUT)
                break
            except (KeyError, TypeError, ValueError, AttributeError, IndexError):
                # No JSON, or odd: its text is lost; whether the stream is broken will show by how it goes on.
                continue
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

    def _look_beside(self, block: object, delta: dict[str, Any]) -> None:
        """A delta that is no text; signatures and citations say nothing to us. Raises: LostCallError."""
        if delta["type"] == "thinking_delta" and delta["thinking"]:
            if isinstance(delta["thinking"], str):
                self._reasoning.append(delta["thinking"])
                self.beside = True
        elif delta["type"] == "input_json_delta":
            self._calls.add(block, delta.get("partial_json"))
            self.beside = True

    def _other(self, event: dict[str, Any]) -> None:
        """Events of which an answer has one or two. Those that we do not know, pings among them, say nothing to us.

        Raises: LostCallError.
        """
        match event["type"]:
            case "message_start":
                message = event["message"]
                self.model = read_model(message.get("model"))
                self._input_tokens = _input_tokens(message["usage"])
            case "content_block_start":
                block = event["content_block"]
                if block["type"] == "tool_use":
                    self._calls.begin(event.get("index"), block.get("id"), block.get("name"))
                    self.beside = True
                else:
                    # One of the provider's own tools, say, which it calls itself: its arguments are not for us.
                    self._calls.pass_over(event["index"])
            case "content_block_stop":
                self.beside = self._calls.end() or self.beside
            case "message_delta":
                reason = event["delta"].get("stop_reason")
                if reason:
                    self.finish_reason = FINISH_REASONS.get(reason, FinishReason.STOP)
                    if self.finish_reason is FinishReason.TOOL_CALLS and not self._calls:
                        raise LostCallError
                usage = event.get("usage")
                if usage:
                    self._count(usage)
            case "error":
                self.error = ProviderError(OUTCOMES_OF_TYPE.get(event["error"]["type"], Outcome.CUT))

    def _count(self, usage: dict[str, Any]) -> None:
        """Of the whole answer so far; what only `message_start` said of the input still holds."""
        self.usage = None
        given, made = _input_tokens(usage), read_count(usage.get("output_tokens"))
        if given == 0:
            given = self._input_tokens
        if given is not None and made is not None:
            self.usage = Usage(given, made)


def _input_tokens(usage: dict[str, Any]) -> int | None:
    """All of them: what was read from and written to the cache is counted apart. None: it can't be read."""
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    counts = [read_count(usage.get(name) or 0) for name in names]
    return None if None in counts else sum(count for count in counts if count)
