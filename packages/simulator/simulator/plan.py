"""A plan: what one provider call shall answer, how fast, and which fault it meets.

One vocabulary for all three ways to steer (directive, queue, command line). Foreign JSON enters here and is refused
with a sentence that names the field; nothing here knows a wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import orjson

T = TypeVar("T")

FOREVER_MS = 10_000_000_000.0
"""116 days: longer than any process lives, and still exact as nanoseconds in a float."""

TIMESTAMP_CHARS = 17
"""Sixteen digits and a space: what `timestamps` needs at the front of each delta."""


class PlanError(ValueError):
    """A plan, or the directive around it, that cannot be understood; the text says which field and why."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts that replace the counted ones; None keeps what was counted."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A tool that the answer asks for. `arguments`: JSON as text, broken too; `id`: "" lets the wire make one."""

    name: str
    arguments: str = "{}"
    id: str = ""

    @property
    def input(self) -> dict[str, Any]:
        """The arguments as an object; {} where they are none."""
        try:
            value = orjson.loads(self.arguments)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to answer. Every `*_after` counts deltas that were sent before the fault: those of the answer's text, then
    of each tool call its beginning and each piece of its arguments.

    text: the whole answer, streamed word by word, or in `deltas` equal parts, or in parts of `delta_chars`.
    goes_on: to a conversation with a part of `text` as its last assistant message, the rest of it, behind that many
        characters of the part said once more (0: none).
    deltas, delta_chars: without `text`, that many generated deltas of that many characters (16 by default).
    timestamps: each generated delta starts with the monotonic clock's nanoseconds at sending (16 digits, a space).
    reasoning: streamed word by word before the text, as the provider's reasoning deltas; `*_after` does not count it.
    tool_calls: asked for behind the text; without `text` and `deltas` there is none. The finish reason is tool_calls.
    headers_ms: from the request's last byte to the response's headers; `FOREVER_MS` is never.
    first_token_ms: from the headers to the first delta. interval_ms: between deltas.
    finish_reason: stop, length, content_filter, tool_calls (translated), or any other word, sent as it is.
    usage: see `Usage`.

    status, code: an HTTP error instead of an answer; one is enough. `code` takes `context_length_exceeded`,
        `content_policy`, `invalid_api_key`, `insufficient_quota`, `credit_balance_exhausted`,
        `rate_limit_exceeded`, `model_not_found`, `overloaded` (translated, and implying the status), or any other
        word, sent as it is.
    error_type, message: override those of `status` and of `error_after`. retry_after: seconds, as a header.
    reset_before_headers: a TCP reset instead of a response.
    refuse_prefill: True refuses a trailing assistant message, False accepts it; None does what the provider does.
    stall_after, stall_ms: silence after so many deltas, for so long (forever by default), then on.
    pings_while_stalled: the provider's keep-alives go on during that silence.
    cut_after: the connection closes (FIN) without an end. reset_after: the same with a reset (RST).
    malformed_at: the n-th delta (1 is the first) is broken JSON; its text is lost and the stream goes on.
    error_after: the provider's in-band error event, then the end.
    no_done: the last event ([DONE], message_stop) is left out and the connection stays open.
    no_finish: a clean end without finish reason.

    count_status, count_ms: of a request to count tokens, which takes nothing else of a plan but `usage.input_tokens`,
        `message`, `error_type` and `retry_after`: an HTTP error instead of the count, and the wait before either.
    """

    text: str | None = None
    goes_on: int | None = None
    deltas: int | None = None
    delta_chars: int | None = None
    timestamps: bool = False
    reasoning: str | None = None
    tool_calls: tuple[PlannedCall, ...] = ()
    headers_ms: float = 0
    first_token_ms: float = 0
    interval_ms: float | None = None
    finish_reason: str | None = None
    usage: Usage = Usage()

    status: int | None = None
    code: str | None = None
    error_type: str | None = None
    message: str | None = None
    retry_after: float | None = None
    reset_before_headers: bool = False
    refuse_prefill: bool | None = None

    stall_after: int | None = None
    stall_ms: float = FOREVER_MS
    pings_while_stalled: bool = False
    cut_after: int | None = None
    reset_after: int | None = None
    malformed_at: int | None = None
    error_after: int | None = None
    no_done: bool = False
    no_finish: bool = False

    count_status: int | None = None
    count_ms: float = 0


def parse_plan(value: object) -> Plan:
    """Reads a plan from decoded JSON. Raises: PlanError."""
    if not isinstance(value, Mapping):
        raise PlanError(f"a plan is a JSON object, not {type(value).__name__}")
    plan = Plan(**_parse_fields(value, PLAN_FIELDS, "plan field"))
    if plan.timestamps and (plan.text is not None or plan.deltas is None):
        raise PlanError("timestamps: belongs to generated deltas; give deltas and no text")
    if plan.timestamps and plan.delta_chars is not None and plan.delta_chars < TIMESTAMP_CHARS:
        raise PlanError(f"delta_chars: a timestamp needs at least {TIMESTAMP_CHARS}, got {plan.delta_chars}")
    return plan


def _parse_fields(value: Mapping[str, object], readers: Mapping[str, Callable[[str, Any], Any]], noun: str) -> Any:
    unknown = [name for name in value if name not in readers]
    if unknown:
        raise PlanError(f"unknown {noun} {unknown[0]!r}; known are {', '.join(readers)}")
    return {name: readers[name](name, given) for name, given in value.items()}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise PlanError(f"{name}: expected a string, got {value!r}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PlanError(f"{name}: expected true or false, got {value!r}")
    return value


def _whole(least: int, most: int = 10_000_000) -> Callable[[str, object], int]:
    def read(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise PlanError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")
        return value

    return read


def _quantity(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise PlanError(f"{name}: expected a number of at least 0, got {value!r}")
    return min(float(value), FOREVER_MS)


def _usage(name: str, value: object) -> Usage:
    if not isinstance(value, Mapping):
        raise PlanError(f"{name}: expected an object, got {value!r}")
    readers = {field.name: _optional(_whole(0, 10**12)) for field in fields(Usage)}
    return Usage(**_parse_fields(value, readers, "usage field"))


def _calls(name: str, value: object) -> tuple[PlannedCall, ...]:
    if not isinstance(value, list):
        raise PlanError(f"{name}: expected a list, got {value!r}")
    for given in value:
        if not isinstance(given, Mapping) or not given.get("name"):
            raise PlanError(f"{name}: expected objects with a name, got {given!r}")
    return tuple(PlannedCall(**_parse_fields(given, CALL_FIELDS, "field of a tool call")) for given in value)


def _arguments(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return orjson.dumps(value).decode()
    return _text(name, value)


def _optional(read: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    return lambda name, value: None if value is None else read(name, value)


CALL_FIELDS: dict[str, Callable[[str, Any], Any]] = {"name": _text, "arguments": _arguments, "id": _text}

PLAN_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "text": _optional(_text),
    "goes_on": _optional(_whole(0)),
    "deltas": _optional(_whole(0)),
    "delta_chars": _optional(_whole(1, 1_000_000)),
    "timestamps": _flag,
    "reasoning": _optional(_text),
    "tool_calls": _calls,
    "headers_ms": _quantity,
    "first_token_ms": _quantity,
    "interval_ms": _optional(_quantity),
    "finish_reason": _optional(_text),
    "usage": _usage,
    "status": _optional(_whole(400, 599)),
    "code": _optional(_text),
    "error_type": _optional(_text),
    "message": _optional(_text),
    "retry_after": _optional(_quantity),
    "reset_before_headers": _flag,
    "refuse_prefill": _optional(_flag),
    "stall_after": _optional(_whole(0)),
    "stall_ms": _quantity,
    "pings_while_stalled": _flag,
    "cut_after": _optional(_whole(0)),
    "reset_after": _optional(_whole(0)),
    "malformed_at": _optional(_whole(1)),
    "error_after": _optional(_whole(0)),
    "no_done": _flag,
    "no_finish": _flag,
    "count_status": _optional(_whole(400, 599)),
    "count_ms": _quantity,
}
"""How each field is read; the same names as `Plan`'s, which a test asserts."""
