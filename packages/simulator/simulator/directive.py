"""A directive: a plan inside the user's message, so that a test can steer providers through the whole stack.

    [[sim {"text": "Hello", "cut_after": 1}]]                       any provider
    [[sim {"anthropic": {"status": 529}, "*": {"text": "Hi"}}]]     by provider; "*" is every other one
    [[sim {"sticky": true, "anthropic": {"cut_after": 3}}]]         also when later user messages follow it

Only the last user message counts, so that a steered turn does not steer the next; `sticky` is for continuations that
append an instruction of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from simulator.plan import PLAN_FIELDS, Plan, PlanError, parse_plan

OPENING = "[[sim"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Directive:
    """What a message orders: `plan` is None when it says nothing for the provider; `rest` is the message without it."""

    plan: Plan | None
    rest: str
    sticky: bool = False


def read_directive(text: str, provider: str) -> Directive | None:
    """The first directive in a message, or None. Raises: PlanError."""
    start = text.find(OPENING)
    if start < 0:
        return None
    body = start + len(OPENING)
    while body < len(text) and text[body].isspace():
        body += 1
    try:
        value, end = _DECODER.raw_decode(text, body)
    except ValueError as exc:
        raise PlanError(f"the [[sim ...]] directive is not JSON: {exc}") from exc
    tail = text[end:].lstrip()
    if not tail.startswith("]]"):
        raise PlanError("the [[sim ...]] directive must end with ]] right after its JSON")
    if not isinstance(value, dict):
        raise PlanError("the [[sim ...]] directive holds a JSON object")
    sticky = value.pop("sticky", False)
    if not isinstance(sticky, bool):
        raise PlanError(f"sticky: expected true or false, got {sticky!r}")
    rest = (text[:start].rstrip() + " " + tail[2:].lstrip()).strip()
    return Directive(_choose(value, provider), rest, sticky)


def find_directive(user_texts: Sequence[str], provider: str) -> Directive | None:
    """The directive that holds for a conversation: its last user message's, else the latest sticky one. `rest` is the
    last message's.

    Raises: PlanError.
    """
    for distance, text in enumerate(reversed(user_texts)):
        directive = read_directive(text, provider)
        if directive is not None and distance == 0:
            return directive
        if directive is not None and directive.sticky:
            return replace(directive, rest=user_texts[-1])
    return None


def _choose(value: dict[str, object], provider: str) -> Plan | None:
    by_provider = value and all(isinstance(plan, dict) for plan in value.values()) and not value.keys() & PLAN_FIELDS
    if not by_provider:
        return parse_plan(value)
    plans = {name: parse_plan(plan) for name, plan in value.items()}
    return plans.get(provider, plans.get("*"))
