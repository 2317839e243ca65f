from dataclasses import fields

import pytest
from simulator.plan import PLAN_FIELDS, Plan, PlanError, Usage, parse_plan


def test_every_field_of_a_plan_can_be_read_and_nothing_else() -> None:
    assert list(PLAN_FIELDS) == [field.name for field in fields(Plan)]


def test_an_empty_plan_is_the_default_one() -> None:
    assert parse_plan({}) == Plan()


def test_values_are_kept_as_given() -> None:
    plan = parse_plan(
        {"text": "Hi", "cut_after": 0, "interval_ms": 2.5, "usage": {"output_tokens": 7}, "no_done": True}
    )
    assert (plan.text, plan.cut_after, plan.interval_ms, plan.no_done) == ("Hi", 0, 2.5, True)
    assert plan.usage == Usage(output_tokens=7)


def test_a_calls_arguments_are_an_object_or_any_text() -> None:
    given = [{"name": "x", "arguments": {"a": [1]}}, {"name": "x", "arguments": "{broken"}, {"name": "x", "id": "c"}]
    calls = parse_plan({"tool_calls": given}).tool_calls
    assert [(call.arguments, call.input, call.id) for call in calls] == [
        ('{"a":[1]}', {"a": [1]}, ""),
        ("{broken", {}, ""),
        ("{}", {}, "c"),
    ]


def test_null_means_not_given() -> None:
    assert parse_plan({"text": None, "status": None, "interval_ms": None}) == Plan()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"txt": "x"}, "unknown plan field 'txt'; known are text, "),
        ({"usage": {"tokens": 1}}, "unknown usage field 'tokens'; known are input_tokens, "),
        ({"text": 3}, "text: expected a string, got 3"),
        ({"deltas": -1}, "deltas: expected a whole number from 0"),
        ({"deltas": True}, "deltas: expected a whole number"),
        ({"malformed_at": 0}, "malformed_at: expected a whole number from 1"),
        ({"interval_ms": "5"}, "interval_ms: expected a number of at least 0, got '5'"),
        ({"no_done": 1}, "no_done: expected true or false, got 1"),
        ({"status": 200}, "status: expected a whole number from 400 to 599"),
        ({"timestamps": True}, "timestamps: belongs to generated deltas"),
        ({"timestamps": True, "deltas": 3, "delta_chars": 16}, "delta_chars: a timestamp needs at least 17"),
        ({"tool_calls": {}}, "tool_calls: expected a list, got {}"),
        ({"tool_calls": [{"id": "c"}]}, "tool_calls: expected objects with a name"),
        ({"tool_calls": [{"name": "x", "args": {}}]}, "unknown field of a tool call 'args'; known are name, "),
        ({"tool_calls": [{"name": "x", "arguments": 3}]}, "arguments: expected a string, got 3"),
        ({"count_status": 200}, "count_status: expected a whole number from 400 to 599"),
        ([], "a plan is a JSON object, not list"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_a_sentence_that_names_it(given: object, told: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(given)
    assert told in str(caught.value)


def test_a_wait_longer_than_any_process_is_for_ever() -> None:
    assert parse_plan({"headers_ms": 1e300}).headers_ms == Plan().stall_ms
