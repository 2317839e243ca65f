"""The service: which wire a path belongs to, which plan a request gets, and the script that answers it.

`/anthropic/v1/...` speaks Anthropic's wire, `/<any other name>/v1/...` OpenAI's; `/sim/...` and `/livez` are the
admin's.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from itertools import count

from simulator.admin import Admin
from simulator.answer import compose_answer, go_on, introduce, split_words
from simulator.directive import find_directive
from simulator.embeddings import answer_embedding, read_embedding
from simulator.exchange import Exchange
from simulator.http_server import HttpConnection, HttpRequest
from simulator.plan import Plan, PlanError, PlannedCall
from simulator.plan_book import PlanBook
from simulator.record import KEPT_BODY_BYTES, Entry, Outcome, Record, fingerprint
from simulator.script import Call, Step, ms_to_ns, play_count, play_error, play_reset, play_stream, play_whole
from simulator.ticker import Ticker
from simulator.wire import ChatRequest, ProviderError, Refused, TokenCounts, Wire
from simulator.wire_anthropic import AnthropicWire
from simulator.wire_openai import OpenAIWire

PROVIDER_PATH = re.compile(r"/([a-z0-9][a-z0-9_-]*)(/.*)?$")

BYTES_A_TOKEN = 4
"""The usual rule of thumb, for input tokens."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults of everything a plan leaves open."""

    delta_interval_ms: float = 20.0
    plan: Plan = field(default_factory=Plan)


class Service:
    """Answers every request. Must be made inside the running loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ticker = Ticker(asyncio.get_running_loop(), time.monotonic_ns)
        self._book = PlanBook()
        self._record = Record()
        self._admin = Admin(self._book, self._record)
        self._anthropic = AnthropicWire()
        self._numbers = count(1)

    def handle(self, request: HttpRequest, connection: HttpConnection) -> None:
        path = request.path
        if path == "/livez" or path.startswith("/sim/"):
            status, body = self._admin.answer(request.method, path, request.query, request.body)
            connection.respond(_head(status, b"", request.keep_alive) + _sized(body))
            return
        match = PROVIDER_PATH.match(path)
        if match is None:
            connection.respond(_head(404, b"", request.keep_alive) + _sized(b'{"error":"unknown path"}'))
            return
        provider, rest = match.group(1), match.group(2) or ""
        wire, n = self._wire(provider), next(self._numbers)
        try:
            wire.check_access(request.headers)
        except Refused as refusal:
            connection.respond(_error_response(wire, refusal.error, None, n, request.keep_alive))
            return
        chat_path = "/v1/messages" if provider == "anthropic" else "/v1/chat/completions"
        if (request.method, rest) == ("POST", chat_path):
            self._chat(provider, wire, request, connection, n)
        elif wire is self._anthropic and (request.method, rest) == ("POST", "/v1/messages/count_tokens"):
            self._count(request, connection, n)
        elif (request.method, rest) == ("POST", "/v1/embeddings") and provider != "anthropic":
            self._embed(provider, wire, request, connection, n)
        elif (request.method, rest) == ("GET", "/v1/models"):
            head = _head(200, wire.response_headers(n), request.keep_alive)
            connection.respond(head + _sized(wire.list_models()))
        else:
            error = wire.unknown_path(request.method, path)
            connection.respond(_error_response(wire, error, None, n, request.keep_alive))

    def _chat(self, provider: str, wire: Wire, request: HttpRequest, connection: HttpConnection, n: int) -> None:
        entry = self._note(provider, request.path, wire.read_key(request.headers), n)
        try:
            chat = wire.read_chat(request.headers, request.body)
            script = self._script(provider, wire, chat, entry, n, request.keep_alive)
        except Refused as refusal:
            entry.status = refusal.error.status
            entry.end(Outcome.REFUSED, time.monotonic_ns())
            connection.respond(_error_response(wire, refusal.error, None, n, request.keep_alive))
            return
        connection.begin(Exchange(script, connection, self._ticker, entry, time.monotonic_ns))

    def _count(self, request: HttpRequest, connection: HttpConnection, n: int) -> None:
        wire = self._anthropic
        entry = self._note("anthropic", request.path, wire.read_key(request.headers), n)
        try:
            asked = wire.read_count(request.body)
            self._keep(entry, asked)
            # The queue's next plan is the chat's, which often follows a count.
            plan, _ = self._plan("anthropic", wire, asked, entry, take=False)
        except Refused as refusal:
            entry.status = refusal.error.status
            entry.end(Outcome.REFUSED, time.monotonic_ns())
            connection.respond(_error_response(wire, refusal.error, None, n, request.keep_alive))
            return
        if plan.count_status is None:
            entry.status = 200
            counts = self._counted(asked, 0, 0).overridden(plan.usage)
            response = _head(200, wire.response_headers(n), request.keep_alive) + _sized(wire.count_body(counts))
        else:
            entry.status = plan.count_status
            error = wire.planned_error(replace(plan, status=plan.count_status, code=None))
            response = _error_response(wire, error, plan.retry_after, n, request.keep_alive)
        script = play_count(plan, response)
        connection.begin(Exchange(script, connection, self._ticker, entry, time.monotonic_ns))

    def _embed(self, provider: str, wire: Wire, request: HttpRequest, connection: HttpConnection, n: int) -> None:
        entry = self._note(provider, request.path, wire.read_key(request.headers), n)
        try:
            asked = read_embedding(request.body)
        except Refused as refusal:
            entry.status = refusal.error.status
            entry.end(Outcome.REFUSED, time.monotonic_ns())
            connection.respond(_error_response(wire, refusal.error, None, n, request.keep_alive))
            return
        entry.model, entry.parameters, entry.status = asked.model, {"inputs": len(asked.texts)}, 200
        connection.respond(_head(200, wire.response_headers(n), request.keep_alive) + _sized(answer_embedding(asked)))
        entry.end(Outcome.COMPLETED, time.monotonic_ns())

    def refuse_body(self, path: str, connection: HttpConnection) -> None:
        """The body is larger than any provider takes. The connection ends itself."""
        match = PROVIDER_PATH.match(path)
        wire = self._wire(match.group(1) if match else "openai")
        connection.send(_error_response(wire, wire.too_large(), None, next(self._numbers), keep_alive=False))

    def _wire(self, provider: str) -> Wire:
        return self._anthropic if provider == "anthropic" else OpenAIWire(provider)

    def _note(self, provider: str, path: str, key: str | None, n: int) -> Entry:
        entry = Entry(
            id=f"req_sim{n}",
            provider=provider,
            path=path,
            model=None,
            messages=None,
            parameters={},
            stream=False,
            key_fingerprint=None if key is None else fingerprint(key),
            plan_source="none",
            arrived_ns=time.monotonic_ns(),
        )
        self._record.add(entry)
        return entry

    def _keep(self, entry: Entry, chat: ChatRequest) -> None:
        entry.model, entry.stream, entry.parameters = chat.model, chat.stream, chat.parameters
        if chat.body_bytes <= KEPT_BODY_BYTES:
            entry.messages = chat.messages
        else:
            entry.parameters = {"omitted_bytes": chat.body_bytes}

    def _counted(self, chat: ChatRequest, output: int, reasoning: int) -> TokenCounts:
        return TokenCounts(max(1, chat.body_bytes // BYTES_A_TOKEN), max(1, output + reasoning), reasoning=reasoning)

    def _plan(
        self, provider: str, wire: Wire, chat: ChatRequest, entry: Entry, *, take: bool = True
    ) -> tuple[Plan, str]:
        """The plan and the question without its directive. Raises: Refused."""
        question = chat.user_texts[-1] if chat.user_texts else ""
        try:
            directive = find_directive(chat.user_texts, provider)
        except PlanError as exc:
            raise Refused(wire.bad_request(f"simulator: {exc}")) from exc
        queued = self._book.take(provider) if take else self._book.peek(provider)
        if directive is not None:
            question = directive.rest
        if queued is not None:
            entry.plan_source = "queue"
            return queued, question
        if directive is not None and directive.plan is not None:
            entry.plan_source = "directive"
            return directive.plan, question
        entry.plan_source = "default"
        return self._settings.plan, question

    def _script(
        self, provider: str, wire: Wire, chat: ChatRequest, entry: Entry, n: int, keep_alive: bool
    ) -> Iterator[Step]:
        self._keep(entry, chat)
        plan, question = self._plan(provider, wire, chat, entry)
        refuses = wire.refuses_prefill(chat.model) if plan.refuse_prefill is None else plan.refuse_prefill
        if chat.prefilled and refuses:
            raise Refused(wire.prefill_error())
        if plan.reset_before_headers:
            return play_reset(plan)
        if plan.status is not None or (plan.code is not None and plan.error_after is None):
            error = wire.planned_error(plan)
            entry.status = error.status
            return play_error(plan, _error_response(wire, error, plan.retry_after, n, keep_alive))
        plan = go_on(plan, chat.said)
        if chat.forced_tool and plan.text is None and plan.deltas is None and not plan.tool_calls:
            plan = replace(plan, tool_calls=(PlannedCall(chat.forced_tool),))
        answer = compose_answer(plan, introduce(provider, chat.model, question, len(chat.user_texts)))
        reasoning_tokens = 0 if plan.reasoning is None else len(split_words(plan.reasoning))
        counts = self._counted(chat, answer.deltas, reasoning_tokens).overridden(plan.usage)
        interval_ms = self._settings.delta_interval_ms if plan.interval_ms is None else plan.interval_ms
        own = wire.response_headers(n)
        call = Call(
            plan=plan,
            answer=answer,
            encoder=wire.encoder(chat, n, int(time.time()), counts),
            counts=counts,
            entry=entry,
            interval_ns=ms_to_ns(interval_ms),
            stream_head=_stream_head(own, keep_alive),
            whole_head=_head(200, own, keep_alive),
        )
        in_band = wire.in_band_error(plan)
        if chat.stream:
            return play_stream(call, in_band)
        return play_whole(call, _error_response(wire, in_band, plan.retry_after, n, keep_alive))


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded" if status == 529 else "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\ndate: {formatdate(usegmt=True)}\r\n".encode()


def _head(status: int, own: bytes, keep_alive: bool) -> bytes:
    """All but the length and the empty line."""
    connection = b"" if keep_alive else b"connection: close\r\n"
    return _status_line(status) + b"content-type: application/json\r\n" + own + connection


def _stream_head(own: bytes, keep_alive: bool) -> bytes:
    connection = b"" if keep_alive else b"connection: close\r\n"
    kind = (
        b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n"
    )
    return _status_line(200) + kind + own + connection + b"\r\n"


def _sized(body: bytes) -> bytes:
    return b"content-length: %d\r\n\r\n%b" % (len(body), body)


def _error_response(wire: Wire, error: ProviderError, retry_after: float | None, n: int, keep_alive: bool) -> bytes:
    own = wire.response_headers(n) + wire.error_headers(error, retry_after)
    return _head(error.status, own, keep_alive) + _sized(wire.error_body(error, n))
