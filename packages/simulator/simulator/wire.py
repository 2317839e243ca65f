"""The port of a wire format: reading a provider's requests, writing its answers and errors. It does no I/O.

`wire_anthropic` and `wire_openai` implement it and are strangers to one another. Everything an `Encoder` returns is
framed for chunked transfer encoding, one HTTP chunk an event; `whole` and error bodies are plain.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from simulator.plan import Plan, PlannedCall, Usage

LAST_CHUNK = b"0\r\n\r\n"
"""Ends a chunked body."""


@dataclass(frozen=True, slots=True)
class ProviderError:
    """An error as both providers know it. On Anthropic's wire `code` is `details.error_code`; `param` is OpenAI's."""

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None


class Refused(Exception):
    """The request is wrong and the provider says so."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that passed validation."""

    model: str
    messages: list[dict[str, Any]]
    parameters: dict[str, Any]
    """Every other field of the body."""
    stream: bool
    user_texts: tuple[str, ...]
    """The texts of the user's messages, in order, with those of tools' results."""
    said: str
    """The text of the assistant's last message; empty: there is none."""
    prefilled: bool
    """The last message is the assistant's."""
    body_bytes: int
    forced_tool: str = ""
    """What must be called, the first of several; empty: nothing must."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one call; `input` includes what was read from and written to the cache."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def overridden(self, usage: Usage) -> TokenCounts:
        """With each number a plan gives in place of the counted one."""
        given = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.cache_read_tokens,
            "cache_write": usage.cache_write_tokens,
            "reasoning": usage.reasoning_tokens,
        }
        return replace(self, **{name: value for name, value in given.items() if value is not None})


class Encoder(Protocol):
    """Writes one answer. A stream is `opening`, then `reasoning`* and `end_reasoning` if there is any, then `delta`*,
    then of each tool call `begin_call` and `arguments`*, then `closing` and `last`. Text comes already escaped for the
    inside of a JSON string. `text`: whether text or, where there is none at all, a tool call comes next."""

    ping: bytes
    last: bytes

    def opening(self, *, reasoning: bool, text: bool) -> bytes: ...

    def reasoning(self, escaped: bytes) -> bytes: ...

    def end_reasoning(self, *, text: bool) -> bytes: ...

    def delta(self, escaped: bytes) -> bytes: ...

    def begin_call(self, at: int, call: PlannedCall) -> bytes:
        """The answer's call number `at`, from 0, without its arguments."""
        ...

    def arguments(self, at: int, escaped: bytes) -> bytes: ...

    def malformed(self) -> bytes:
        """A delta's event whose JSON is cut in the middle."""
        ...

    def closing(self, finish_reason: str, counts: TokenCounts) -> bytes: ...

    def error(self, error: ProviderError) -> bytes:
        """The in-band error event."""
        ...

    def whole(
        self,
        text: bytes | None,
        reasoning: bytes | None,
        calls: Sequence[PlannedCall],
        finish_reason: str | None,
        counts: TokenCounts,
    ) -> bytes:
        """The body of an answer that is not streamed; texts escaped."""
        ...


class Wire(Protocol):
    """One provider's API. `n` numbers the call; ids are made from it."""

    def read_key(self, headers: Mapping[str, str]) -> str | None:
        """The API key, wherever the provider wants it."""
        ...

    def check_access(self, headers: Mapping[str, str]) -> None:
        """Raises: Refused, when the key is missing or says of itself that it is wrong or spent."""
        ...

    def read_chat(self, headers: Mapping[str, str], body: bytes) -> ChatRequest:
        """Raises: Refused."""
        ...

    def refuses_prefill(self, model: str) -> bool: ...

    def prefill_error(self) -> ProviderError: ...

    def bad_request(self, message: str) -> ProviderError: ...

    def unknown_path(self, method: str, path: str) -> ProviderError: ...

    def too_large(self) -> ProviderError: ...

    def planned_error(self, plan: Plan) -> ProviderError:
        """The error of `status`, `code` and their overrides."""
        ...

    def in_band_error(self, plan: Plan) -> ProviderError: ...

    def error_body(self, error: ProviderError, n: int) -> bytes: ...

    def response_headers(self, n: int) -> bytes:
        """The provider's own headers, each ended by CRLF."""
        ...

    def error_headers(self, error: ProviderError, retry_after: float | None) -> bytes: ...

    def list_models(self) -> bytes: ...

    def encoder(self, request: ChatRequest, n: int, created_s: int, counts: TokenCounts) -> Encoder: ...


def frame(event: bytes) -> bytes:
    """One event as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def read_object(body: bytes) -> dict[str, Any] | None:
    """The body as a JSON object, or None."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def is_base64(text: str) -> bool:
    """Whether all of it is."""
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def join_text(content: object) -> str:
    """The text of a message's content, whether a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""


def format_number(value: float) -> str:
    """`3` for 3.0, `0.25` for 0.25."""
    return str(int(value)) if value == int(value) else f"{value:g}"
