"""Anthropic Messages, as the provider speaks it.

Documents: https://platform.claude.com/docs/en/api/messages, /messages-streaming, /errors, /migration-2026-10-21, and
the types of the `anthropic` SDK 2.10, which sends its key as `Authorization: Bearer` and API version 2026-10-21; the
older `x-api-key` and 2023-06-01 are spoken too. Request and first events:

    POST /anthropic/v1/messages   {"model": "claude-opus-5", "max_tokens": 64, "stream": true, "messages": [...]}
    event: message_start
    data: {"type":"message_start","message":{"id":"msg_...","type":"message","role":"assistant",...}}

What a request may hold is `content_anthropic`'s. Deviations: keys that contain `invalid` or `spent` are refused as such
and every other key is good; `max_tokens` has no effect on the answer; a count of tokens is a quarter of the request's
bytes, as in an answer's usage; batches and files are unknown paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from simulator.content_anthropic import check_messages, check_tools, text_of
from simulator.plan import Plan, PlannedCall
from simulator.wire import (
    ChatRequest,
    ProviderError,
    Refused,
    TokenCounts,
    format_number,
    frame,
    join_text,
    read_object,
)

MODELS = (
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "claude-opus-4-6",
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
    "claude-sonnet-4-5",
)

PREFILLABLE = re.compile(r"claude-(?:[123]\b|instant|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:-\d{8})?$|[a-z]+-4@)")
"""Models before 4.6, the last that continue a trailing assistant message."""

BODY_FIELDS = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "diagnostics",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        "user_profile_id",
        "workspace_id",
    }
)

COUNT_FIELDS = frozenset(
    {
        "cache_control",
        "context_management",
        "mcp_servers",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "user_profile_id",
        "workspace_id",
    }
)
"""Of a request to count its tokens."""

SAMPLING_FIELDS = frozenset({"temperature", "top_p", "top_k"})
"""Removed in API version 2026-10-21: refused even at their defaults."""

VERSIONS = frozenset({"2023-06-01", "2026-10-21"})

SPENT = "enforced_spend_limit_reached"
"""The error code of a 429 that no waiting cures; it comes without `retry-after`."""

FINISH_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
}

ERRORS = {
    400: ("invalid_request_error", "The request was malformed."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "There is an issue with your billing or payment information."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    408: ("timeout_error", "The request timed out."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    502: ("api_error", "Bad gateway"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Gateway timeout"),
    529: ("overloaded_error", "Overloaded"),
}

CODES: dict[str, tuple[int, str]] = {
    "context_length_exceeded": (400, "prompt is too long: 1000001 tokens > 1000000 maximum"),
    "content_policy": (400, "Output blocked by content filtering policy"),
    "invalid_api_key": (401, "invalid x-api-key"),
    "insufficient_quota": (429, "You have reached your specified API usage limits."),
    "credit_balance_exhausted": (
        400,
        "Your credit balance is too low to access the Anthropic API. "
        "Please go to Plans & Billing to upgrade or purchase credits.",
    ),
    "rate_limit_exceeded": (429, "This request would exceed your organization's rate limit."),
    "model_not_found": (404, "model: unknown-model"),
    "overloaded": (529, "Overloaded"),
}


def _error(status: int, message: str | None = None) -> ProviderError:
    error_type, usual = ERRORS.get(status, ERRORS[500] if status >= 500 else ERRORS[400])
    return ProviderError(status, error_type, message or usual)


class AnthropicWire:
    """The whole API of the provider `anthropic`."""

    def read_key(self, headers: Mapping[str, str]) -> str | None:
        key = headers.get("x-api-key")
        if key is None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            key = token.strip() if scheme.lower() == "bearer" else None
        return key or None

    def check_access(self, headers: Mapping[str, str]) -> None:
        key = self.read_key(headers)
        if not key:
            raise Refused(_error(401, "x-api-key header is required"))
        version = headers.get("anthropic-version")
        if version is None:
            raise Refused(_error(400, "anthropic-version: header is required"))
        if version not in VERSIONS:
            raise Refused(_error(400, f'anthropic-version: "{version}" is not a valid version'))
        if "invalid" in key:
            raise Refused(_error(401))
        if "spent" in key:
            raise Refused(self.planned_error(Plan(code="insufficient_quota")))

    def read_chat(self, headers: Mapping[str, str], body: bytes) -> ChatRequest:
        removed = SAMPLING_FIELDS if headers.get("anthropic-version") != "2023-06-01" else frozenset()
        value = _read_fields(body, BODY_FIELDS - removed, ("max_tokens", "messages", "model"))
        max_tokens = value["max_tokens"]
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int):
            raise Refused(_error(400, "max_tokens: Input should be a valid integer"))
        if max_tokens < 1:
            raise Refused(_error(400, f"max_tokens: {max_tokens} must be greater than or equal to 1"))
        temperature = value.get("temperature")
        if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 1):
            raise Refused(_error(400, "temperature: range: 0..1"))
        return _read_request(value, len(body))

    def read_count(self, body: bytes) -> ChatRequest:
        """A request to count the tokens of one. Raises: Refused."""
        return _read_request(_read_fields(body, COUNT_FIELDS, ("messages", "model")), len(body))

    def refuses_prefill(self, model: str) -> bool:
        return PREFILLABLE.match(model) is None

    def prefill_error(self) -> ProviderError:
        text = "This model does not support assistant message prefill. The conversation must end with a user message."
        return _error(400, text)

    def bad_request(self, message: str) -> ProviderError:
        return _error(400, message)

    def unknown_path(self, method: str, path: str) -> ProviderError:
        return _error(404, f"Not found: {method} {path}")

    def too_large(self) -> ProviderError:
        return _error(413)

    def planned_error(self, plan: Plan) -> ProviderError:
        known = CODES.get(plan.code or "")
        status, message = known or (400, None)
        error = _error(status, message) if plan.status in {None, status} else _error(plan.status or 400)
        code = SPENT if plan.code == "insufficient_quota" else None if known is not None else plan.code
        return ProviderError(error.status, plan.error_type or error.type, plan.message or error.message, code)

    def in_band_error(self, plan: Plan) -> ProviderError:
        return ProviderError(529, plan.error_type or "overloaded_error", plan.message or "Overloaded", plan.code)

    def error_body(self, error: ProviderError, n: int) -> bytes:
        return orjson.dumps(_error_object(error, n))

    def response_headers(self, n: int) -> bytes:
        return b"request-id: req_sim%021d\r\nanthropic-organization-id: 00000000-0000-4000-8000-000000000000\r\n" % n

    def error_headers(self, error: ProviderError, retry_after: float | None) -> bytes:
        again = (error.status in {408, 409, 429} or error.status >= 500) and error.code != SPENT
        head = f"x-should-retry: {'true' if again else 'false'}\r\n"
        if retry_after is not None:
            head += f"retry-after: {format_number(retry_after)}\r\n"
        if error.status == 429:
            head += "anthropic-ratelimit-requests-limit: 4000\r\nanthropic-ratelimit-requests-remaining: 0\r\n"
        return head.encode()

    def list_models(self) -> bytes:
        rows = [
            {
                "type": "model",
                "id": name,
                "display_name": name.replace("-", " ").title(),
                "created_at": "2026-01-01T00:00:00Z",
                "lifecycle": "active",
                "max_input_tokens": 1_000_000,
                "max_tokens": 64_000,
            }
            for name in MODELS
        ]
        return orjson.dumps({"data": rows, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})

    def count_body(self, counts: TokenCounts) -> bytes:
        """The answer to a request to count."""
        return orjson.dumps({"input_tokens": counts.input})

    def encoder(self, request: ChatRequest, n: int, created_s: int, counts: TokenCounts) -> AnthropicEncoder:
        return AnthropicEncoder(request.model, n, counts)


def _read_fields(body: bytes, known: frozenset[str], required: tuple[str, ...]) -> dict[str, Any]:
    value = read_object(body)
    if value is None:
        raise Refused(_error(400, "The request body is not valid JSON"))
    for name in required:
        if value.get(name) is None:
            raise Refused(_error(400, f"{name}: Field required"))
    for name in value:
        if name not in known:
            raise Refused(_error(400, f"{name}: Extra inputs are not permitted"))
    return value


def _read_request(value: dict[str, Any], body_bytes: int) -> ChatRequest:
    model, messages = value["model"], value["messages"]
    if not isinstance(model, str) or not model:
        raise Refused(_error(400, "model: String should have at least 1 character"))
    if not isinstance(messages, list):
        raise Refused(_error(400, "messages: Input should be a valid list"))
    check_messages(messages)
    tools = value.get("tools")
    forced_tool = check_tools([] if tools is None else tools, value.get("tool_choice"))
    said = [each for each in messages if each["role"] == "assistant"]
    return ChatRequest(
        model=model,
        messages=messages,
        parameters={name: given for name, given in value.items() if name not in {"model", "messages"}},
        stream=value.get("stream") is True,
        user_texts=tuple(text_of(each["content"]) for each in messages if each["role"] == "user"),
        said=join_text(said[-1].get("content")) if said else "",
        prefilled=messages[-1]["role"] == "assistant",
        body_bytes=body_bytes,
        forced_tool=forced_tool,
    )


def _error_object(error: ProviderError, n: int) -> dict[str, Any]:
    details = None if error.code is None else {"error_code": error.code}
    return {
        "type": "error",
        "error": {"details": details, "type": error.type, "message": error.message},
        "request_id": f"req_sim{n:021d}",
    }


def _event(name: str, **fields: Any) -> bytes:
    return frame(b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields})))


def _usage(counts: TokenCounts, output_tokens: int) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "input_tokens": max(0, counts.input - counts.cache_read - counts.cache_write),
        "cache_creation_input_tokens": counts.cache_write,
        "cache_read_input_tokens": counts.cache_read,
        "output_tokens": output_tokens,
    }
    return usage


class AnthropicEncoder:
    """One answer's events. Its blocks are counted: thinking, text and tool calls, each only where there is any."""

    ping = frame(b'event: ping\ndata: {"type": "ping"}\n\n')
    last = _event("message_stop")

    def __init__(self, model: str, n: int, counts: TokenCounts) -> None:
        self._n = n
        self._counts = counts
        self._model = model
        self._index = -1
        self._aim()

    def _begin(self, block: dict[str, Any]) -> bytes:
        """The next block's start, behind the end of the one before."""
        ended = self._end_block()
        self._index += 1
        self._aim()
        return ended + _event("content_block_start", index=self._index, content_block=block)

    def _end_block(self) -> bytes:
        return _event("content_block_stop", index=self._index) if self._index >= 0 else b""

    def _aim(self) -> None:
        # Everything of a delta but its text is known beforehand: the hot path joins bytes and encodes no JSON.
        self._before = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"text_delta","text":"' % self._index
        )
        self._fixed = len(self._before) + len(b'"}}\n\n')

    def opening(self, *, reasoning: bool, text: bool) -> bytes:
        usage = {
            **_usage(self._counts, 1),
            "cache_creation": {
                "ephemeral_5m_input_tokens": self._counts.cache_write,
                "ephemeral_1h_input_tokens": 0,
            },
            "service_tier": "standard",
            "inference_geo": "global",
        }
        message = {**self._message(), "content": [], "usage": usage}
        first = b""
        if reasoning:
            first = self._begin({"type": "thinking", "thinking": "", "signature": ""})
        elif text:
            first = self._begin({"type": "text", "text": ""})
        return _event("message_start", message=message) + first + self.ping

    def _message(self) -> dict[str, Any]:
        return {
            "model": self._model,
            "id": f"msg_sim{self._n:021d}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
        }

    def reasoning(self, escaped: bytes) -> bytes:
        return frame(
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"thinking_delta","thinking":"%b"}}\n\n' % escaped
        )

    def end_reasoning(self, *, text: bool) -> bytes:
        signed = _event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ltdWxhdG9y"})
        return signed + (self._begin({"type": "text", "text": ""}) if text else b"")

    def delta(self, escaped: bytes) -> bytes:
        return b'%x\r\n%b%b"}}\n\n\r\n' % (self._fixed + len(escaped), self._before, escaped)

    def begin_call(self, at: int, call: PlannedCall) -> bytes:
        block = {"type": "tool_use", "id": self._call_id(at, call), "name": call.name, "input": {}}
        # As the provider does, which sends an empty piece of the arguments first.
        return self._begin(block) + self.arguments(at, b"")

    def _call_id(self, at: int, call: PlannedCall) -> str:
        return call.id or f"toolu_sim{self._n:018d}{at:03d}"

    def arguments(self, at: int, escaped: bytes) -> bytes:
        return frame(
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"input_json_delta","partial_json":"%b"}}\n\n' % (self._index, escaped)
        )

    def malformed(self) -> bytes:
        return frame(self._before[:-9] + b"\n\n")

    def closing(self, finish_reason: str, counts: TokenCounts) -> bytes:
        delta = _stop(finish_reason)
        usage = {**_usage(counts, counts.output), "output_tokens_details": {"thinking_tokens": counts.reasoning}}
        return self._end_block() + _event("message_delta", delta=delta, usage=usage)

    def error(self, error: ProviderError) -> bytes:
        return frame(b"event: error\ndata: %b\n\n" % orjson.dumps(_error_object(error, self._n)))

    def whole(
        self,
        text: bytes | None,
        reasoning: bytes | None,
        calls: Sequence[PlannedCall],
        finish_reason: str | None,
        counts: TokenCounts,
    ) -> bytes:
        content: list[dict[str, Any]] = []
        if reasoning is not None:
            thinking = orjson.Fragment(b'"%b"' % reasoning)
            content.append({"type": "thinking", "thinking": thinking, "signature": "c2ltdWxhdG9y"})
        if text is not None:
            content.append({"type": "text", "text": orjson.Fragment(b'"%b"' % text)})
        content += [
            {"type": "tool_use", "id": self._call_id(at, call), "name": call.name, "input": call.input}
            for at, call in enumerate(calls)
        ]
        usage = {
            **_usage(counts, counts.output),
            "output_tokens_details": {"thinking_tokens": counts.reasoning},
            "service_tier": "standard",
        }
        stop = {} if finish_reason is None else _stop(finish_reason)
        return orjson.dumps({**self._message(), "content": content, **stop, "usage": usage})


def _stop(finish_reason: str) -> dict[str, Any]:
    stop_reason = FINISH_REASONS.get(finish_reason, finish_reason)
    details = {"type": "refusal", "category": None, "explanation": None} if stop_reason == "refusal" else None
    return {"stop_reason": stop_reason, "stop_sequence": None, "stop_details": details}
