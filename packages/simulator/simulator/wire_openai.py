"""OpenAI Chat Completions, as OpenAI speaks it and, under any other name, as its many imitators do.

Documents: https://platform.openai.com/docs/api-reference/chat, /chat-streaming, /guides/error-codes, and the types of
the `openai` SDK 3.51. Request and first chunk:

    POST /openai/v1/chat/completions   {"model": "gpt-4.1", "stream": true, "messages": [...]}
    data: {"id":"chatcmpl-...","object":"chat.completion.chunk","choices":[{"delta":{"role":"assistant",...}}],...}

Only `openai` itself pads chunks (`obfuscation`) and refuses unknown fields and `max_tokens` on reasoning models;
imitators ignore what they do not know. What a request may hold is `content_openai`'s. Deviations: keys that contain
`invalid` or `spent` are refused as such and every other key is good; xAI's own error shape (`{"code", "error":
"text"}`, XX and token
limits are accepted and have no effect on the answer; a call of the one tool that was named ends with `tool_calls`
(OpenAI: `stop`); a prefill is accepted and answered anew.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from simulator.content_openai import check_messages, check_tools, user_texts
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

MODELS = {
    "openai": ("gpt-5.1", "gpt-5", "gpt-5-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini"),
    "grok": ("grok-4", "grok-4-fast", "grok-3", "grok-3-mini"),
}


@dataclass(frozen=True, slots=True)
class Accent:
    """How an imitator's answers differ from the others'."""

    reasoning_field: str = "reasoning_content"
    reasoning_apart: bool = False
    """`completion_tokens` are without the reasoning's; `total_tokens` are all."""
    call_index: Literal["own", "zero", "none"] = "own"
    """A piece of a tool call says which it is of; or 0, whichever it is of; or nothing."""


PLAIN = Accent()

ACCENTS = {
    "gemini": Accent(reasoning_apart=True, call_index="none"),
    "grok": Accent(reasoning_apart=True),
    "ollama": Accent(reasoning_field="reasoning", call_index="zero"),
    "openrouter": Accent(reasoning_field="reasoning"),
}
"""Sources: THU-MAIC/OpenMAIC#1556; docs.x.ai/docs/key-information/consumption-and-rate-limits; ollama/ollama#15457;
openrouter.ai/docs/use-cases/reasoning-tokens."""

BODY_FIELDS = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)

REASONING_MODEL = re.compile(r"o\d|gpt-5(?!.*chat)")
"""Models that want `max_completion_tokens`."""

FINISH_REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}

_SORRY = "The server had an error while processing your request. Sorry about that!"

ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("invalid_request_error", "The request was malformed.", None),
    401: ("invalid_request_error", "Incorrect API key provided.", "invalid_api_key"),
    403: ("invalid_request_error", "You are not allowed to use this resource.", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "The requested resource does not exist.", None),
    413: ("invalid_request_error", "The request body is too large.", None),
    429: ("requests", "Rate limit reached. Please try again later.", "rate_limit_exceeded"),
    500: ("server_error", _SORRY, None),
    502: ("server_error", "Bad gateway.", None),
    503: ("server_error", "The engine is currently overloaded, please try again later.", None),
    504: ("server_error", "Gateway timeout.", None),
}

CODES: dict[str, tuple[int, str, str, str, str | None]] = {
    "context_length_exceeded": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 128001 tokens. "
        "Please reduce the length of the messages.",
        "messages",
    ),
    "content_policy": (
        400,
        "invalid_request_error",
        "invalid_prompt",
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        None,
    ),
    "invalid_api_key": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided.", None),
    "insufficient_quota": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        None,
    ),
    "credit_balance_exhausted": (
        429,
        "insufficient_quota",
        "credit_balance_exhausted",
        "You exceeded your current quota, please check your plan and billing details.",
        None,
    ),
    "rate_limit_exceeded": (429, "requests", "rate_limit_exceeded", ERRORS[429][1], None),
    "model_not_found": (
        404,
        "invalid_request_error",
        "model_not_found",
        "The model does not exist or you do not have access to it.",
        None,
    ),
    "overloaded": (503, "server_error", "overloaded", ERRORS[503][1], None),
}


def _error(
    status: int, message: str | None = None, *, code: str | None = None, param: str | None = None
) -> ProviderError:
    error_type, usual, usual_code = ERRORS.get(status, ERRORS[500] if status >= 500 else ERRORS[400])
    if message is None:
        code = code or usual_code
    return ProviderError(status, error_type, message or usual, code, param)


class OpenAIWire:
    """The whole API of the provider called `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._strict = name == "openai"

    def read_key(self, headers: Mapping[str, str]) -> str | None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key.strip() or None if scheme.lower() == "bearer" else None

    def check_access(self, headers: Mapping[str, str]) -> None:
        key = self.read_key(headers)
        if not key:
            text = (
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
            raise Refused(_error(401, text))
        if "invalid" in key:
            raise Refused(_error(401))
        if "spent" in key:
            raise Refused(self.planned_error(Plan(code="insufficient_quota")))

    def read_chat(self, headers: Mapping[str, str], body: bytes) -> ChatRequest:
        value = read_object(body)
        if value is None:
            raise Refused(_error(400, "We could not parse the JSON body of your request."))
        model, messages = value.get("model"), value.get("messages")
        if model is None:
            raise Refused(_error(400, "you must provide a model parameter"))
        if not isinstance(model, str) or not model:
            raise Refused(_error(400, "Invalid type for 'model': expected a string.", param="model"))
        if messages is None:
            text = "Missing required parameter: 'messages'."
            raise Refused(_error(400, text, param="messages", code="missing_required_parameter"))
        if not isinstance(messages, list):
            text = "Invalid type for 'messages': expected an array of objects."
            raise Refused(_error(400, text, param="messages", code="invalid_type"))
        if not messages:
            text = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array."
            raise Refused(_error(400, text, param="messages", code="empty_array"))
        self._check_fields(value, model)
        check_messages(messages)
        forced_tool = check_tools(value.get("tools"), value.get("tool_choice"), value.get("parallel_tool_calls"))
        parameters = {name: given for name, given in value.items() if name not in {"model", "messages"}}
        said = [each for each in messages if each["role"] == "assistant"]
        return ChatRequest(
            model=model,
            messages=messages,
            parameters=parameters,
            stream=value.get("stream") is True,
            user_texts=user_texts(messages),
            said=join_text(said[-1].get("content")) if said else "",
            prefilled=messages[-1]["role"] == "assistant",
            body_bytes=len(body),
            forced_tool=forced_tool,
        )

    def _check_fields(self, value: dict[str, Any], model: str) -> None:
        temperature = value.get("temperature")
        if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 2):
            text = "Invalid 'temperature': expected a number between 0 and 2."
            raise Refused(_error(400, text, param="temperature", code="decimal_above_max_value"))
        if value.get("stream_options") is not None and value.get("stream") is not True:
            text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise Refused(_error(400, text, param="stream_options"))
        if not self._strict:
            return
        for name in value:
            if name not in BODY_FIELDS:
                text = f"Unrecognized request argument supplied: {name}"
                raise Refused(_error(400, text))
        if value.get("max_tokens") is not None and REASONING_MODEL.match(model):
            text = (
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead."
            )
            raise Refused(_error(400, text, param="max_tokens", code="unsupported_parameter"))

    def refuses_prefill(self, model: str) -> bool:
        return False

    def prefill_error(self) -> ProviderError:
        return _error(400, "The last message must have role 'user' or 'tool'.", param="messages")

    def bad_request(self, message: str) -> ProviderError:
        return _error(400, message)

    def unknown_path(self, method: str, path: str) -> ProviderError:
        return _error(404, f"Invalid URL ({method} {path})")

    def too_large(self) -> ProviderError:
        return _error(413)

    def planned_error(self, plan: Plan) -> ProviderError:
        known = CODES.get(plan.code or "")
        if known is not None and plan.status in {None, known[0]}:
            error = ProviderError(known[0], known[1], known[3], known[2], known[4])
        else:
            error = _error(plan.status or 400)
        return ProviderError(
            error.status,
            plan.error_type or error.type,
            plan.message or error.message,
            error.code if known is not None or plan.code is None else plan.code,
            error.param,
        )

    def in_band_error(self, plan: Plan) -> ProviderError:
        return ProviderError(500, plan.error_type or "server_error", plan.message or _SORRY, plan.code)

    def error_body(self, error: ProviderError, n: int) -> bytes:
        return orjson.dumps(_error_object(error))

    def response_headers(self, n: int) -> bytes:
        return b"x-request-id: req_sim%026d\r\nopenai-version: 2020-10-01\r\nopenai-processing-ms: 1\r\n" % n

    def error_headers(self, error: ProviderError, retry_after: float | None) -> bytes:
        again = (error.status in {408, 409, 429} or error.status >= 500) and error.type != "insufficient_quota"
        head = f"x-should-retry: {'true' if again else 'false'}\r\n"
        if retry_after is not None:
            head += f"retry-after: {format_number(retry_after)}\r\nretry-after-ms: {math.ceil(retry_after * 1000)}\r\n"
        if error.status == 429:
            head += "x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 0\r\n"
        return head.encode()

    def list_models(self) -> bytes:
        names = MODELS.get(self._name, (f"{self._name}-1",))
        rows = [{"id": name, "object": "model", "created": 1767225600, "owned_by": self._name} for name in names]
        return orjson.dumps({"object": "list", "data": rows})

    def encoder(self, request: ChatRequest, n: int, created_s: int, counts: TokenCounts) -> OpenAIEncoder:
        options = request.parameters.get("stream_options")
        options = options if isinstance(options, dict) else {}
        return OpenAIEncoder(
            request.model,
            n,
            created_s,
            include_usage=options.get("include_usage") is True,
            obfuscate=self._strict and options.get("include_obfuscation") is not False,
            accent=ACCENTS.get(self._name, PLAIN),
        )


def _error_object(error: ProviderError) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def _usage(counts: TokenCounts, accent: Accent) -> dict[str, Any]:
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output - (counts.reasoning if accent.reasoning_apart else 0),
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


PADDING = b"qZ3vT8xLw1RkYb6NcP"
"""Pads a chunk's text to a multiple of this length. The real padding is random; its length is what readers meet."""


class OpenAIEncoder:
    """One answer's chunks."""

    ping = frame(b": keep-alive\n\n")
    last = frame(b"data: [DONE]\n\n")

    def __init__(
        self, model: str, n: int, created_s: int, *, include_usage: bool, obfuscate: bool, accent: Accent = PLAIN
    ) -> None:
        self._accent = accent
        self._include_usage = include_usage
        self._n = n
        self._identity = {
            "id": f"chatcmpl-sim{n:026d}",
            "created": created_s,
            "model": model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulator",
        }
        chunk = {"object": "chat.completion.chunk", **self._identity}
        self._head = b"data: " + orjson.dumps(chunk)[:-1]
        self._tail = b',"usage":null' if include_usage else b""
        # Everything of a delta but its text is known beforehand: the hot path joins bytes and encodes no JSON.
        self._before = self._head + b',"choices":[{"index":0,"delta":{"content":"'
        after = b'"},"logprobs":null,"finish_reason":null}]' + self._tail
        if obfuscate:
            self._afters = [after + b',"obfuscation":"%b"}\n\n\r\n' % PADDING[at:] for at in range(len(PADDING))]
        else:
            self._afters = [after + b"}\n\n\r\n"]
        self._after_count = len(self._afters)

    def _choice(self, delta: bytes, finish: bytes = b"null") -> bytes:
        choices = b',"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]' % (delta, finish)
        return frame(self._head + choices + self._tail + b"}\n\n")

    def opening(self, *, reasoning: bool, text: bool) -> bytes:
        content = b'""' if text else b"null"
        return self._choice(b'{"role":"assistant","content":%b,"refusal":null}' % content)

    def reasoning(self, escaped: bytes) -> bytes:
        return self._choice(b'{"%b":"%b"}' % (self._accent.reasoning_field.encode(), escaped))

    def end_reasoning(self, *, text: bool) -> bytes:
        return b""

    def delta(self, escaped: bytes) -> bytes:
        size = len(escaped)
        after = self._afters[size % self._after_count]
        return b"%x\r\n%b%b%b" % (len(self._before) + size + len(after) - 2, self._before, escaped, after)

    def begin_call(self, at: int, call: PlannedCall) -> bytes:
        return self._call_piece(at, self._call(at, call, ""))

    def arguments(self, at: int, escaped: bytes) -> bytes:
        return self._call_piece(at, {"function": {"arguments": orjson.Fragment(b'"%b"' % escaped)}})

    def _call_piece(self, at: int, piece: dict[str, Any]) -> bytes:
        if self._accent.call_index != "none":
            piece = {"index": at if self._accent.call_index == "own" else 0, **piece}
        return self._choice(b'{"tool_calls":[%b]}' % orjson.dumps(piece))

    def _call(self, at: int, call: PlannedCall, arguments: str) -> dict[str, Any]:
        call_id = call.id or f"call_sim{self._n:018d}{at:03d}"
        return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}

    def malformed(self) -> bytes:
        return frame(self._before[:-9] + b"\n\n")

    def closing(self, finish_reason: str, counts: TokenCounts) -> bytes:
        chunks = self._choice(b"{}", orjson.dumps(FINISH_REASONS.get(finish_reason, finish_reason)))
        if self._include_usage:
            chunks += frame(
                self._head + b',"choices":[],"usage":' + orjson.dumps(_usage(counts, self._accent)) + b"}\n\n"
            )
        return chunks

    def error(self, error: ProviderError) -> bytes:
        return frame(b"data: " + orjson.dumps(_error_object(error)) + b"\n\n")

    def whole(
        self,
        text: bytes | None,
        reasoning: bytes | None,
        calls: Sequence[PlannedCall],
        finish_reason: str | None,
        counts: TokenCounts,
    ) -> bytes:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if text is None else orjson.Fragment(b'"%b"' % text),
            "refusal": None,
            "annotations": [],
        }
        if reasoning is not None:
            message[self._accent.reasoning_field] = orjson.Fragment(b'"%b"' % reasoning)
        if calls:
            message["tool_calls"] = [self._call(at, call, call.arguments) for at, call in enumerate(calls)]
        finish = None if finish_reason is None else FINISH_REASONS.get(finish_reason, finish_reason)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return orjson.dumps(
            {"object": "chat.completion", **self._identity, "choices": [choice], "usage": _usage(counts, self._accent)}
        )
