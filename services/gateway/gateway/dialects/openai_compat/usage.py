"""`GET /v1/usage`: what answers have cost, by day and model. Ours: OpenAI has nothing of the kind under /v1.

    GET /v1/usage?from=2026-11-01&to=2026-11-20&user=ada

Days are UTC. A user's token reads that user's own; an API key reads anybody's and, without `user`, that of answers
which nobody known asked for, such as those to API keys.
"""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Usage
from chat.names import NAME_BYTES
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from gateway.auth import Caller
from gateway.dialect import Services
from gateway.dialects.openai_compat.failures import refusal
from gateway.http import caller_of
from gateway.openapi import responses
from gateway.records import DayUsage, ModelUsage

_DAYS = 366
"""At the most, the first and the last included; for 400 days they are kept."""
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NANO = 1_000_000_000


class SpentTokens(BaseModel):
    """Tokens, and what they cost in US dollars. `estimated`: some of it is."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: float
    estimated: bool


class ModelEntryUsage(SpentTokens):
    """What one model of one provider was used for. `own_key`: with the user's own key. `attempts`: calls made to it."""

    provider: str
    model: str
    own_key: bool
    attempts: int


class DayEntry(SpentTokens):
    """One day. `budget_tokens` are those of it that count against the day's budget."""

    day: str
    answers: int
    budget_tokens: int
    models: list[ModelEntryUsage]


class UsageList(BaseModel):
    """Days on which something was used, the oldest first. `tokens_a_day`: the budget; null: there is none."""

    object: Literal["list"]
    user: str | None
    tokens_a_day: int | None
    data: list[DayEntry]


_SPENT = {"input_tokens": 900, "output_tokens": 120, "total_tokens": 1020, "cost_usd": 0.0045, "estimated": False}
_EXAMPLE = {
    "object": "list",
    "user": "ada",
    "tokens_a_day": 100_000,
    "data": [
        {
            "day": "2026-11-20",
            "answers": 3,
            **_SPENT,
            "budget_tokens": 1020,
            "models": [{"provider": "anthropic", "model": "claude-x", "own_key": False, "attempts": 3, **_SPENT}],
        }
    ],
}
_REFUSALS = {400: "from must be a day: 2026-11-20.", 403: "A user's token reads that user's own usage."}
_DAY_FORM: dict[str, Any] = {"format": "date", "examples": ["2026-11-20"]}
_First = Annotated[
    str | None, Query(alias="from", description="The first; without it `to`.", json_schema_extra=_DAY_FORM)
]
_Last = Annotated[str | None, Query(alias="to", description="The last; without it today.", json_schema_extra=_DAY_FORM)]
_User = Annotated[str | None, Query(description="Whose usage; without it a user's own, for an API key nobody's.")]


def add_usage(router: APIRouter, services: Services) -> None:
    """Adds the route."""

    @router.get("/usage", response_model=UsageList, responses=responses(_EXAMPLE, _REFUSALS))
    async def read_usage(
        request: Request, first: _First = None, last: _Last = None, user: _User = None
    ) -> dict[str, Any]:
        """What answers have cost, by day."""
        caller = caller_of(request)
        user_id = _whose(caller, user or "")
        last_day = _day(last, "to") if last else datetime.fromtimestamp(services.now_s(), UTC).date()
        first_day = _day(first, "from") if first else last_day
        if not 0 <= (last_day - first_day).days < _DAYS:
            raise refusal(f"from must not lie behind to, and from and to must not span more than {_DAYS} days.", "from")
        used = await services.usages.read(
            user_id, first_day.isoformat(), last_day.isoformat(), acting_id=caller.user_id
        )
        return {
            "object": "list",
            "user": user_id or None,
            "tokens_a_day": used.tokens_a_day,
            "data": [_written(day) for day in used.days],
        }


def _whose(caller: Caller, user: str) -> str:
    if caller.user_id and user not in ("", caller.user_id):
        raise SwitchboardError(ErrorCode.PERMISSION_DENIED, "A user's token reads that user's own usage.", field="user")
    if not user.isprintable() or len(user.encode()) > NAME_BYTES:
        raise refusal(f"user must be at most {NAME_BYTES} bytes of printable text.", "user")
    return caller.user_id or user


def _day(text: str, where: str) -> date:
    try:
        # `fromisoformat` takes weeks, and days without dashes, too.
        return date.fromisoformat(text if _DAY.fullmatch(text) else "")
    except ValueError as exc:
        raise refusal(f"{where} must be a day: 2026-11-20.", where) from exc


def _written(day: DayUsage) -> dict[str, Any]:
    return {
        "day": day.day,
        "answers": day.answers,
        **_spent(day.usage),
        "budget_tokens": day.budget_tokens,
        "models": [_model(model) for model in day.models],
    }


def _model(model: ModelUsage) -> dict[str, Any]:
    return {
        "provider": model.provider,
        "model": model.model,
        "own_key": model.own_key,
        "attempts": model.attempts,
        **_spent(model.usage),
    }


def _spent(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        # The nearest double: below 2**23 dollars its digits, as they are written, are those of the amount.
        "cost_usd": usage.cost_nano_usd / _NANO,
        "estimated": usage.estimated,
    }
