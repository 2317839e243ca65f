import pytest
from simulator.directive import find_directive, read_directive
from simulator.plan import Plan, PlanError


def test_a_directive_is_found_inside_a_message_and_taken_out_of_it() -> None:
    directive = read_directive('Tell me [[sim {"text": "a ]] b"}]] a joke', "openai")
    assert directive is not None
    assert directive.plan == Plan(text="a ]] b")
    assert directive.rest == "Tell me a joke"


def test_a_message_without_directive_orders_nothing() -> None:
    assert read_directive("[[wiki link]] and [sim]", "openai") is None


def test_plans_by_provider_reach_their_provider_only_and_the_star_every_other() -> None:
    text = '[[sim {"anthropic": {"status": 529}, "*": {"text": "Hi"}}]]'
    plans = {name: read_directive(text, name) for name in ("anthropic", "grok")}
    assert plans["anthropic"] is not None and plans["anthropic"].plan == Plan(status=529)
    assert plans["grok"] is not None and plans["grok"].plan == Plan(text="Hi")


def test_a_provider_that_is_not_named_has_no_plan() -> None:
    directive = read_directive('[[sim {"anthropic": {"status": 529}}]]', "grok")
    assert directive is not None and directive.plan is None


def test_a_plan_whose_only_field_is_an_object_is_not_taken_for_a_provider() -> None:
    directive = read_directive('[[sim {"usage": {"output_tokens": 5}}]]', "grok")
    assert directive is not None and directive.plan is not None
    assert directive.plan.usage.output_tokens == 5


def test_only_the_last_user_message_counts() -> None:
    assert find_directive(['[[sim {"status": 500}]]', "and now?"], "openai") is None


def test_a_sticky_directive_holds_for_later_messages_until_another_comes() -> None:
    sticky = '[[sim {"sticky": true, "text": "old"}]]'
    followed = find_directive([sticky, "go on"], "openai")
    replaced = find_directive([sticky, '[[sim {"text": "new"}]]'], "openai")
    assert followed is not None and followed.plan == Plan(text="old")
    assert followed.rest == "go on"
    assert replaced is not None and replaced.plan == Plan(text="new")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[sim {text: 1}]]", "is not JSON"),
        ('[[sim {"text": "x"}', "must end with ]]"),
        ("[[sim [1]]]", "holds a JSON object"),
        ('[[sim {"txt": "x"}]]', "unknown plan field 'txt'"),
        ('[[sim {"anthropic": {"txt": "x"}}]]', "unknown plan field 'txt'"),
        ('[[sim {"sticky": 1}]]', "sticky: expected true or false"),
    ],
)
def test_a_wrong_directive_says_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(PlanError, match=told.replace("[", r"\[").replace("]", r"\]")):
        read_directive(text, "anthropic")
