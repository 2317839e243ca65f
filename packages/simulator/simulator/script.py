"""A script: one provider call as a lazy sequence of steps, faults in their places, read from top to bottom.

A step is bytes to send, an int of nanoseconds to wait, or an `End`. It knows neither sockets nor clocks (the waits
are its schedule, whoever plays it decides what late means), so it can be tested by listing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from simulator.answer import Answer, escape, split_words
from simulator.plan import Plan
from simulator.record import Entry, Outcome
from simulator.wire import LAST_CHUNK, Encoder, ProviderError, TokenCounts

PING_NS = 50_000_000
"""Between keep-alives of a stalled stream. Providers take seconds; tests' idle timeouts are tenths of one."""

FLUSH_NS = 5_000_000
"""Between the last bytes and a reset, so that they reach the client before what is unsent is thrown away."""


class Way(Enum):
    """What becomes of the connection."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HOLD = "hold"
    """It stays open and silent until the client closes it."""


@dataclass(frozen=True, slots=True)
class End:
    """The last step."""

    way: Way
    outcome: Outcome


Step = bytes | int | End


@dataclass(frozen=True, slots=True)
class Call:
    """What a script is made of. `*_head` are complete response heads, but that `whole_head` lacks its length."""

    plan: Plan
    answer: Answer
    encoder: Encoder
    counts: TokenCounts
    entry: Entry
    interval_ns: int
    stream_head: bytes
    whole_head: bytes

    @property
    def finish_reason(self) -> str:
        usual = "tool_calls" if self.answer.calls else "stop"
        return usual if self.plan.finish_reason is None else self.plan.finish_reason


def ms_to_ns(milliseconds: float) -> int:
    return int(milliseconds * 1_000_000)


def play_error(plan: Plan, response: bytes) -> Iterator[Step]:
    """An HTTP error instead of an answer."""
    yield ms_to_ns(plan.headers_ms)
    yield response
    yield End(Way.KEEP, Outcome.FAULTED)


def play_count(plan: Plan, response: bytes) -> Iterator[Step]:
    """A count of tokens, or the error instead of it."""
    yield ms_to_ns(plan.count_ms)
    yield response
    yield End(Way.KEEP, Outcome.COMPLETED if plan.count_status is None else Outcome.FAULTED)


def play_reset(plan: Plan) -> Iterator[Step]:
    """A reset instead of a response."""
    yield ms_to_ns(plan.headers_ms)
    yield End(Way.RESET, Outcome.FAULTED)


def play_stream(call: Call, in_band: ProviderError) -> Iterator[Step]:
    """A streamed answer; `in_band` is what `error_after` sends."""
    plan, encoder, entry, interval_ns = call.plan, call.encoder, call.entry, call.interval_ns
    yield ms_to_ns(plan.headers_ms)
    entry.status = 200
    answer = call.answer
    yield call.stream_head + encoder.opening(reasoning=plan.reasoning is not None, text=answer.has_text)
    wait_ns = ms_to_ns(plan.first_token_ms)
    if plan.reasoning is not None:
        for word in split_words(plan.reasoning):
            yield wait_ns
            yield encoder.reasoning(escape(word))
            wait_ns = interval_ns
        yield encoder.end_reasoning(text=answer.has_text)
    ending_after = min(
        (after for after in (plan.cut_after, plan.reset_after, plan.error_after) if after is not None), default=-1
    )
    encode: Callable[[bytes], bytes] = encoder.delta
    stall_after, malformed_at = plan.stall_after, plan.malformed_at
    pieces, count, calls = answer.pieces(), answer.count, answer.calls
    for sent in range(answer.deltas + 1):
        if sent == stall_after:
            yield from _stall(plan, encoder)
        if sent == ending_after:
            yield from _break_off(plan, encoder, in_band)
            return
        if sent == count:
            if not calls:
                break
            encode, pieces, count, calls = _as_it_is, _call_deltas(answer, encoder), answer.deltas, ()
        # The wait comes before the piece is asked for: a timestamp is made when its time has come.
        yield wait_ns
        wait_ns = interval_ns
        piece = next(pieces)
        entry.deltas_sent = sent + 1
        yield encode(piece) if sent + 1 != malformed_at else encoder.malformed()
    yield from _finish(call)


def _as_it_is(delta: bytes) -> bytes:
    return delta


def _call_deltas(answer: Answer, encoder: Encoder) -> Iterator[bytes]:
    for at, call in enumerate(answer.calls):
        yield encoder.begin_call(at, call)
        for piece in answer.arguments(call):
            yield encoder.arguments(at, escape(piece))


def _stall(plan: Plan, encoder: Encoder) -> Iterator[Step]:
    left_ns = ms_to_ns(plan.stall_ms)
    while plan.pings_while_stalled and left_ns > PING_NS:
        yield PING_NS
        yield encoder.ping
        left_ns -= PING_NS
    yield left_ns


def _break_off(plan: Plan, encoder: Encoder, in_band: ProviderError) -> Iterator[Step]:
    """The earliest of the endings; of those at the same delta, the rudest."""
    ways = {Way.RESET: plan.reset_after, Way.CLOSE: plan.cut_after, Way.KEEP: plan.error_after}
    way = min(ways, key=lambda each: (ways[each] is None, ways[each] or 0))
    if way is Way.KEEP:
        yield encoder.error(in_band) + LAST_CHUNK
    else:
        yield FLUSH_NS
    yield End(way, Outcome.FAULTED)


def _finish(call: Call) -> Iterator[Step]:
    plan, encoder = call.plan, call.encoder
    if plan.no_finish:
        yield LAST_CHUNK
        yield End(Way.KEEP, Outcome.FAULTED)
        return
    closing = encoder.closing(call.finish_reason, call.counts)
    if plan.no_done:
        yield closing
        yield End(Way.HOLD, Outcome.OPEN)
    else:
        yield closing + encoder.last + LAST_CHUNK
        yield End(Way.KEEP, Outcome.COMPLETED)


def play_whole(call: Call, error_response: bytes) -> Iterator[Step]:
    """An answer that is not streamed. It takes as long as the stream would; `error_response` is for `error_after`,
    which has no in-band form here, and a cut comes in the middle of the body."""
    plan, count = call.plan, call.answer.deltas
    wait_ns = ms_to_ns(plan.headers_ms) + ms_to_ns(plan.first_token_ms) + call.interval_ns * max(0, count - 1)
    if plan.stall_after is not None and plan.stall_after <= count:
        wait_ns += ms_to_ns(plan.stall_ms)
    yield wait_ns
    if plan.error_after is not None and plan.error_after <= count:
        call.entry.status = None
        yield error_response
        yield End(Way.KEEP, Outcome.FAULTED)
        return
    call.entry.status = 200
    call.entry.deltas_sent = count
    text = b"".join(call.answer.pieces()) if call.answer.has_text else None
    reasoning = None if plan.reasoning is None else escape(plan.reasoning)
    finish = None if plan.no_finish else call.finish_reason
    body = call.encoder.whole(text, reasoning, call.answer.calls, finish, call.counts)
    if plan.malformed_at is not None and plan.malformed_at <= count:
        body = body[: len(body) // 2]
    head = call.whole_head + b"content-length: %d\r\n\r\n" % len(body)
    broken = [after for after in (plan.cut_after, plan.reset_after) if after is not None and after <= count]
    if broken:
        yield head + body[: len(body) // 2]
        yield FLUSH_NS
        yield End(Way.RESET if plan.reset_after == min(broken) else Way.CLOSE, Outcome.FAULTED)
        return
    yield head + body
    yield End(Way.KEEP, Outcome.FAULTED if plan.no_finish else Outcome.COMPLETED)
