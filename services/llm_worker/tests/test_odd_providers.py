"""What no provider should say and some day one does: odd values are skipped or a cut, and never escape an adapter."""

from typing import Any

import orjson
import pytest
from chat.messages import FinishReason
from llm_worker.outcome import Outcome, ProviderError
from llm_worker.provider import MOST_TOKENS, Piece, read_count, read_model
from simulator.process import Simulator

from .harness import Heard, Refused, no_collections, no_question_is_left, open_worker
from .odd_server import as_stream, open_odd
from .speakers import break_off, calls_of, listen, open_told, request, text_of

ODD_COUNTS = ["abc", -5, 1e30, 1.5, True, [3], {"a": 1}, MOST_TOKENS + 1]
ODD_TEXTS: list[Any] = [5, ["no"], [{"type": "text", "text": "no"}], {"text": "no"}, True]


def chunk(delta: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def called(*calls: Any, finish: str | None = None) -> dict[str, Any]:
    return chunk({"tool_calls": list(calls)}, finish)


def call(index: Any, name: Any = None, arguments: Any = None, call_id: Any = None) -> dict[str, Any]:
    return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}


HI, STOP = chunk({"content": "hi"}), chunk({}, "stop")
COUNTED = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}
CALLS_END = chunk({}, "tool_calls")


def text(value: Any, index: Any = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": value}}


def start(usage: Any, model: Any = "m") -> dict[str, Any]:
    return {"type": "message_start", "message": {"model": model, "usage": usage}}


def end(usage: Any, reason: Any = "end_turn") -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


def block(index: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def tool(index: Any, call_id: Any = "c", name: Any = "clock") -> dict[str, Any]:
    return block(index, type="tool_use", id=call_id, name=name, input={})


def arguments(index: Any, value: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": value}}


def stop(index: Any) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


GIVEN = {"input_tokens": 11, "output_tokens": 1}
MADE = {"output_tokens": 7}


async def hear(kind: str, *events: object) -> list[Piece]:
    async with open_told(kind, as_stream(*events)) as provider:
        return await listen(provider, request())


async def hear_break(kind: str, *events: object) -> tuple[str, Outcome]:
    async with open_told(kind, as_stream(*events)) as provider:
        said, error = await break_off(provider, request())
        return said, error.outcome


def counts(pieces: list[Piece]) -> tuple[int, int] | None:
    usage = pieces[-1].usage
    return None if usage is None else (usage.input_tokens, usage.output_tokens)


@pytest.mark.parametrize("value", [0, 7, 7.0, MOST_TOKENS])
def test_a_count_is_a_whole_number(value: float) -> None:
    count = read_count(value)
    assert count == value
    assert type(count) is int


@pytest.mark.parametrize("value", [*ODD_COUNTS, None, "7", float("nan"), float("inf"), 10**400])
def test_what_is_none_was_not_counted(value: object) -> None:
    assert read_count(value) is None


def test_a_models_name_is_cut_to_what_a_record_takes() -> None:
    assert read_model("gpt") == "gpt"
    assert read_model("M" * 900_000) == "M" * 200
    assert read_model("\u4e16" * 300) == "\u4e16" * 66
    assert read_model(5) == ""


@pytest.mark.parametrize("odd", ODD_COUNTS)
async def test_odd_counts_are_none_and_the_answer_is_whole(odd: Any) -> None:
    for usage in ({"prompt_tokens": odd, "completion_tokens": 1}, {"prompt_tokens": 1, "completion_tokens": odd}):
        told: list[tuple[dict[str, Any], ...]] = [
            (HI, STOP, {"choices": [], "usage": usage}),
            (HI, chunk({}, "stop", usage=usage)),
            # Those of a part of the answer do not stand for the whole.
            (chunk({"content": "hi"}, usage=COUNTED["usage"]), chunk({}, "stop", usage=usage)),
        ]
        for events in told:
            pieces = await hear("openai", *events)
            assert (text_of(pieces), pieces[-1].finish_reason) == ("hi", FinishReason.STOP)
            assert counts(pieces) is None
    told = [
        (start(GIVEN), text("hi"), end({"output_tokens": odd})),
        (start(GIVEN), text("hi"), end({"input_tokens": odd, **MADE})),
        (start(GIVEN), text("hi"), end({"cache_read_input_tokens": odd, **MADE})),
        (start({"input_tokens": odd}), text("hi"), end(MADE)),
        # Those of a part of the answer do not stand for the whole.
        (start(GIVEN), text("hi"), end(MADE, None), end({"output_tokens": odd})),
    ]
    for events in told:
        pieces = await hear("anthropic", *events)
        assert (text_of(pieces), pieces[-1].finish_reason) == ("hi", FinishReason.STOP)
        assert counts(pieces) is None


async def test_a_usage_that_is_no_object_is_none() -> None:
    for odd in ("n/a", [1], 5):
        assert counts(await hear("openai", HI, STOP, {"choices": [], "usage": odd})) is None
        assert counts(await hear("anthropic", start(GIVEN), text("hi"), end(odd))) is None
        assert counts(await hear("anthropic", start(odd), text("hi"), end(MADE))) is None


async def test_odd_counts_before_or_beside_the_last_ones_do_not_matter() -> None:
    odd = {"prompt_tokens": "n/a", "completion_tokens": 0}
    assert counts(await hear("openai", chunk({"content": ""}, usage=odd), HI, STOP, COUNTED)) == (11, 7)
    total = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": "many"}
    assert counts(await hear("openai", HI, STOP, {"choices": [], "usage": total})) == (11, 7)
    assert counts(await hear("anthropic", start({"input_tokens": "x"}), text("hi"), end({**GIVEN, **MADE}))) == (11, 7)
    cached = {"input_tokens": 1, "cache_creation_input_tokens": None, "cache_read_input_tokens": 10.0}
    assert counts(await hear("anthropic", start(cached), text("hi"), end(MADE))) == (11, 7)


async def test_an_input_that_was_never_told_is_not_counted_as_none() -> None:
    pieces = await hear("anthropic", b'{"type":"message_start"', text("hi"), end(MADE))
    assert (text_of(pieces), counts(pieces)) == ("hi", None)


@pytest.mark.parametrize("odd", ODD_TEXTS)
async def test_a_text_that_is_none_is_lost_and_nothing_else(odd: Any) -> None:
    for delta in ({"content": odd}, {"refusal": odd}, {"reasoning_content": odd}, {"content": odd, "refusal": "no"}):
        pieces = await hear("openai", HI, chunk(delta), chunk({"content": " you"}), STOP, COUNTED)
        assert (text_of(pieces), counts(pieces)) == ("hi you", (11, 7))
        assert not any(piece.reasoning for piece in pieces)
    thinking = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": odd}}
    for event in (text(odd), thinking):
        pieces = await hear("anthropic", start(GIVEN), text("hi"), event, text(" you"), end(MADE))
        assert (text_of(pieces), counts(pieces)) == ("hi you", (11, 7))
        assert not any(piece.reasoning for piece in pieces)


@pytest.mark.parametrize("odd", [5, ["m"], {"a": 1}, True])
async def test_a_model_that_is_no_name_is_none(odd: Any) -> None:
    for pieces in (
        await hear("openai", {**HI, "model": odd}, {**STOP, "model": odd}, COUNTED),
        await hear("anthropic", start(GIVEN, odd), text("hi"), end(MADE)),
    ):
        assert (text_of(pieces), pieces[-1].model, counts(pieces)) == ("hi", "", (11, 7))


async def test_a_long_name_of_a_model_is_cut() -> None:
    long = "M" * 201
    assert (await hear("openai", {**HI, "model": long}, STOP))[-1].model == "M" * 200
    assert (await hear("anthropic", start(GIVEN, long), text("hi"), end(MADE)))[-1].model == "M" * 200


NO_EVENTS: list[Any] = [b"{", b"[]", b"5", b"null", b'"x"', b"\xff", {}]
ODD_CHOICES: list[Any] = [5, "x", {"a": 1}, [5], [{}], [{"delta": 5}], [{"delta": [1]}]]
NO_CHUNKS: list[Any] = [
    *({"choices": choices} for choices in ODD_CHOICES),
    chunk({}, ["stop"]),
    {"error": None},
    {"choices": None, "usage": 5},
]
NO_EVENTS_OF_ANTHROPICS: list[Any] = [
    *({"type": kind} for kind in (5, ["x"], "content_block_delta", "content_block_start", "message_delta")),
    {"type": "content_block_delta", "delta": 5},
    {"type": "content_block_delta", "delta": {"type": []}},
    *({"type": "message_start", "message": message} for message in (None, 5)),
    {"type": "message_delta", "delta": {"stop_reason": ["x"]}},
    block([1], type="x"),
]


@pytest.mark.parametrize("odd", [*NO_EVENTS, *NO_CHUNKS])
async def test_an_odd_event_is_skipped(odd: Any) -> None:
    assert text_of(await hear("openai", HI, odd, chunk({"content": " you"}), STOP)) == "hi you"


@pytest.mark.parametrize("odd", [*NO_EVENTS, *NO_EVENTS_OF_ANTHROPICS])
async def test_an_odd_event_of_anthropics_is_skipped(odd: Any) -> None:
    pieces = await hear("anthropic", start(GIVEN), text("hi"), odd, text(" you"), end(MADE))
    assert (text_of(pieces), counts(pieces)) == ("hi you", (11, 7))


ODD_NAMES: list[Any] = ["no name", "a.b", "n" * 65, "ü", "clock\n", 5, ["clock"], {"a": 1}]
ODD_IDS: list[Any] = ["i" * 201, 5, ["c"], {"a": 1}]


@pytest.mark.parametrize(
    ("name", "call_id"), [*((name, "c") for name in ODD_NAMES), *(("clock", call_id) for call_id in ODD_IDS)]
)
async def test_a_call_that_begins_oddly_is_a_cut(name: Any, call_id: Any) -> None:
    for before in ((), (HI,)):
        said = ("hi" if before else "", Outcome.CUT)
        assert await hear_break("openai", *before, called(call(0, name, "{}", call_id)), CALLS_END) == said
        assert await hear_break("openai", *before, called(call(0, name, "{}", call_id), finish="stop")) == said
    begun = (start(GIVEN), text("hi"), tool(1, call_id, name))
    assert await hear_break("anthropic", *begun, arguments(1, "{}"), stop(1), end(MADE, "tool_use")) == (
        "hi",
        Outcome.CUT,
    )


@pytest.mark.parametrize(
    "odd", [5, "x", {"a": 1}, [5], ["x"], [[]], [{"function": "x"}], [call([0], "clock", "{}")], [call({}, None, "{")]]
)
async def test_calls_in_no_form_that_we_know_are_a_cut(odd: Any) -> None:
    first = called(call(0, "clock", "{}", "a"))
    assert await hear_break("openai", first, chunk({"tool_calls": odd}), CALLS_END) == ("", Outcome.CUT)


@pytest.mark.parametrize("odd", [5, {"city": "Bern"}, ["{"]])
async def test_odd_arguments_are_a_cut(odd: Any) -> None:
    begun = called(call(0, "clock", "", "a"))
    assert await hear_break("openai", called(call(0, "clock", odd, "a")), CALLS_END) == ("", Outcome.CUT)
    assert await hear_break("openai", begun, called(call(0, None, odd)), CALLS_END) == ("", Outcome.CUT)
    assert await hear_break("anthropic", start(GIVEN), tool(0), arguments(0, odd), end(MADE, "tool_use")) == (
        "",
        Outcome.CUT,
    )


async def test_an_answer_that_ends_by_an_error_is_not_whole() -> None:
    assert await hear_break("openai", HI, chunk({"content": ""}, "error"), COUNTED) == ("hi", Outcome.CUT)
    broken = chunk({"content": ""}, "error", error={"code": 502, "message": "Provider disconnected"})
    assert await hear_break("openai", HI, broken) == ("hi", Outcome.CUT)


async def test_arguments_of_a_call_that_never_began_are_a_cut() -> None:
    lost = b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"x"'
    first = called(call(0, "clock", "{}", "a"))
    for finish in (CALLS_END, STOP):
        assert await hear_break("openai", first, lost, called(call(1, None, "{}")), finish) == ("", Outcome.CUT)
    begun = (start(GIVEN), tool(0), arguments(0, "{}"), stop(0), b'{"type":"content_block_start","index":1')
    # Anthropic's first piece is empty, also of a call that has nothing else.
    for piece in ("", "{}"):
        heard = await hear_break("anthropic", *begun, arguments(1, piece), stop(1), end(MADE, "tool_use"))
        assert heard == ("", Outcome.CUT)


async def test_an_answer_that_ends_for_its_calls_and_has_none_is_a_cut() -> None:
    for reason in ("tool_calls", "function_call"):
        assert await hear_break("openai", HI, chunk({}, reason)) == ("hi", Outcome.CUT)
    assert await hear_break("anthropic", start(GIVEN), text("hi"), end(MADE, "tool_use")) == ("hi", Outcome.CUT)


async def test_arguments_behind_the_end_of_a_call_that_had_none_are_a_cut() -> None:
    late = (called(call(0, "clock", "", "a"), finish="tool_calls"), called(call(0, None, '{"a":1}')))
    assert await hear_break("openai", *late) == ("", Outcome.CUT)
    late_too = (tool(0), stop(0), arguments(0, '{"a":1}'), end(MADE, "tool_use"))
    assert await hear_break("anthropic", start(GIVEN), *late_too) == ("", Outcome.CUT)


async def test_a_piece_that_says_nothing_of_a_call_is_none() -> None:
    named_later = (called({"index": 0}), called(call(0, call_id="a")), called(call(0, "clock", "{}", "a")), CALLS_END)
    assert [(each.id, each.name) for each in calls_of(await hear("openai", *named_later))] == [("a", "clock")]
    assert text_of(await hear("openai", HI, chunk({"tool_calls": []}), chunk({"tool_calls": None}), STOP)) == "hi"


async def test_what_the_provider_calls_itself_is_no_call() -> None:
    searched = (block(0, type="server_tool_use", id="s", name="web_search"), arguments(0, ""), arguments(0, '{"q":'))
    found = (stop(0), block(1, type="web_search_tool_result", tool_use_id="s", content=[]), stop(1))
    pieces = await hear("anthropic", start(GIVEN), *searched, *found, text("hi", 2), end(MADE))
    assert (text_of(pieces), calls_of(pieces), pieces[-1].finish_reason) == ("hi", [], FinishReason.STOP)
    asked = (tool(2, "c", "clock"), arguments(2, "{}"), stop(2), end(MADE, "tool_use"))
    pieces = await hear("anthropic", start(GIVEN), *searched, *found, *asked)
    assert [(each.id, each.arguments) for each in calls_of(pieces)] == [("c", "{}")]


@pytest.mark.parametrize("code", [5, ["x"], {"a": 1}, True, None])
async def test_an_errors_odd_code_leaves_its_status(code: Any) -> None:
    for kind, body in (
        ("openai", b'{"error":{"code":%s,"type":%s}}'),
        ("anthropic", b'{"error":{"type":%s,"message":%s,"details":{"error_code":[1]}}}'),
    ):
        odd = orjson.dumps(code)
        content = body % (odd, odd)
        head = b"HTTP/1.1 503 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content)
        async with open_told(kind, head + content) as provider:
            _, error = await break_off(provider, request())
        assert (error.outcome, error.status) == (Outcome.OVERLOADED, 503)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_an_error_that_breaks_off_itself_is_as_no_answer(kind: str) -> None:
    head = b"HTTP/1.1 503 X\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"
    async with open_told(kind, head) as provider:
        _, error = await break_off(provider, request())
    assert error.outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"{}", *(b'{"input_tokens":%s}' % odd for odd in (b"-5", b'"x"', b"1e30", b"null"))],
)
async def test_an_odd_count_of_a_request_is_a_failure(content: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content)
    async with open_told("anthropic", head + content) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.count_tokens(request())
    assert caught.value.outcome is Outcome.CUT


async def test_odd_counts_are_estimated_by_the_worker_and_leave_nothing_behind(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    odd = as_stream(HI, STOP, {"choices": [], "usage": {"prompt_tokens": "CANARY", "completion_tokens": -1}})
    async with open_odd(odd) as url, open_worker(sim, OPENAI_BASE_URL=url) as caller:
        with no_collections():
            heard = await caller.generate(model="gpt")
            await no_question_is_left()
    assert (heard.text, heard.tried) == ("hi", ["openai"])
    assert heard.answer.usage.estimated
    assert not any("CANARY" in f"{record.getMessage()} {record.exc_info}" for record in caplog.records)


async def test_a_lost_call_is_made_by_the_next_target_where_nothing_was_said(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"text": "fine"})
    lost = as_stream(called(call(0, "no name", "{}", "a")), CALLS_END)
    async with open_odd(lost) as url, open_worker(sim, OPENAI_BASE_URL=url) as caller:
        heard = await caller.generate(model="gpt")
    assert heard.text == "fine"
    assert heard.tried[0] == "openai"
    assert not heard.tool_calls


async def test_a_call_that_is_lost_behind_another_ends_the_answer_with_an_error(sim: Simulator) -> None:
    lost = as_stream(called(call(0, "clock", "{}", "a")), called(call(1, None, "{}")), CALLS_END)
    heard = Heard()
    async with open_odd(lost) as url, open_worker(sim, OPENAI_BASE_URL=url) as caller:
        with pytest.raises(Refused) as caught:
            await caller.generate(model="gpt", heard=heard)
    assert caught.value.reason == "PROVIDER_UNAVAILABLE"
    assert heard.finished is None
