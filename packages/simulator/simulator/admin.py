"""The admin endpoints: plans in, the record out. They take no key; the simulator is for loopback and test clusters.

PUT    /sim/plans/{provider}      {"plans": [plan, ...], "then": plan | null}
GET    /sim/plans                 {"remaining": {"anthropic": 2}}
DELETE /sim/plans
GET    /sim/requests?provider=    {"requests": [entry, ...]}, oldest first
DELETE /sim/requests
GET    /livez                     {"status": "ok"}
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import orjson

from simulator.plan import Plan, PlanError, parse_plan
from simulator.plan_book import PlanBook
from simulator.record import Record

PROVIDER = re.compile(r"[a-z0-9][a-z0-9_-]*$")


class Admin:
    """Answers with a status and a JSON body; errors are `{"error": sentence}`."""

    def __init__(self, book: PlanBook, record: Record) -> None:
        self._book = book
        self._record = record

    def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        match method, path.split("/")[1:]:
            case "GET", ["livez"]:
                return 200, orjson.dumps({"status": "ok"})
            case "GET", ["sim", "requests"]:
                provider = parse_qs(query).get("provider", [None])[0]
                entries = self._record.entries(provider)
                return 200, orjson.dumps({"requests": [entry.as_json() for entry in entries]})
            case "DELETE", ["sim", "requests"]:
                self._record.clear()
                return 200, b"{}"
            case "GET", ["sim", "plans"]:
                return 200, orjson.dumps({"remaining": self._book.remaining()})
            case "DELETE", ["sim", "plans"]:
                self._book.clear()
                return 200, b"{}"
            case "PUT", ["sim", "plans", provider] if PROVIDER.match(provider):
                return self._set_plans(provider, body)
        return 404, orjson.dumps({"error": f"unknown: {method} {path}"})

    def _set_plans(self, provider: str, body: bytes) -> tuple[int, bytes]:
        try:
            plans, then = _read_queue(orjson.loads(body))
        except (orjson.JSONDecodeError, PlanError) as exc:
            return 400, orjson.dumps({"error": str(exc)})
        self._book.set(provider, plans, then)
        return 200, orjson.dumps({"remaining": self._book.remaining()})


def _read_queue(value: object) -> tuple[list[Plan], Plan | None]:
    if not isinstance(value, dict) or not isinstance(value.get("plans"), list):
        raise PlanError('expected {"plans": [plan, ...], "then": plan or null}')
    unknown = value.keys() - {"plans", "then"}
    if unknown:
        raise PlanError(f"unknown field {min(unknown)!r}; known are plans, then")
    then = value.get("then")
    return [parse_plan(plan) for plan in value["plans"]], None if then is None else parse_plan(then)
