import time

import pytest
from simulator.answer import compose_answer, escape, generated_delta, go_on, introduce, split_evenly, split_words
from simulator.plan import Plan, PlannedCall


def pieces(plan: Plan) -> list[str]:
    return [piece.decode() for piece in compose_answer(plan, "the default answer").pieces()]


@pytest.mark.parametrize("text", ["", " ", "one", "one two", "  lead\n\n- list `x`\n\ttail  ", "ä ü\u2028ß"])
def test_words_joined_are_the_text(text: str) -> None:
    assert "".join(split_words(text)) == text


def test_even_parts_joined_are_the_text_and_differ_by_one_at_most() -> None:
    parts = split_evenly("abcdefghij", 3)
    assert "".join(parts) == "abcdefghij"
    assert {len(part) for part in parts} <= {3, 4}


def test_text_is_split_by_words_by_count_or_by_size() -> None:
    assert pieces(Plan(text="ab cd")) == ["ab ", "cd"]
    assert pieces(Plan(text="abcd", deltas=2)) == ["ab", "cd"]
    assert pieces(Plan(text="abcde", delta_chars=2)) == ["ab", "cd", "e"]


def test_an_empty_text_is_an_answer_without_deltas() -> None:
    assert pieces(Plan(text="")) == []


def test_without_text_or_count_the_default_is_said() -> None:
    assert pieces(Plan()) == ["the ", "default ", "answer"]


def test_an_answer_with_calls_says_the_text_it_is_given_and_else_none() -> None:
    calls = (PlannedCall("clock", "0123456789"), PlannedCall("clock", ""))
    alone = compose_answer(Plan(tool_calls=calls), "the default answer")
    assert (alone.has_text, alone.count, alone.deltas) == (False, 0, 1 + 2 + 1)
    assert alone.arguments(calls[0]) == ["01234567", "89"]
    beside = compose_answer(Plan(text="ab cd", tool_calls=calls), "")
    assert (beside.has_text, beside.count, beside.deltas) == (True, 2, 2 + 4)
    assert compose_answer(Plan(deltas=3, tool_calls=calls), "").deltas == 3 + 4


def test_generated_deltas_have_their_size_and_say_their_place() -> None:
    made = pieces(Plan(deltas=12, delta_chars=20))
    assert [len(piece) for piece in made] == [20] * 12
    assert made[11].startswith("d11 ") and made[11] == generated_delta(11, 20)


def test_a_timestamp_is_the_monotonic_clock_when_the_piece_is_asked_for() -> None:
    made = compose_answer(Plan(deltas=2, delta_chars=24, timestamps=True), "").pieces()
    before = time.monotonic_ns()
    first = next(made).decode()
    between = time.monotonic_ns()
    second = next(made).decode()
    assert len(first) == 24 and first[16] == " "
    assert before <= int(first[:16]) <= between <= int(second[:16])


def test_text_is_escaped_for_json_and_a_lone_surrogate_is_no_crash() -> None:
    assert escape('"\n\\') == b'\\"\\n\\\\'
    assert escape("a\ud800b") == b"a?b"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("", "one two three"),
        ("one two ", "wo three"),
        ("one", "one two three"),
        ("other", "one two three"),
        ("one two three", "ree"),
    ],
)
def test_an_answer_may_go_on_behind_what_was_said_with_a_part_of_it_once_more(said: str, text: str) -> None:
    assert go_on(Plan(text="one two three", goes_on=3), said).text == text
    assert go_on(Plan(text="one two three"), said).text == "one two three"


def test_the_introduction_is_markdown_that_says_who_speaks_and_what_was_asked() -> None:
    text = introduce("grok", "grok-4", "how  are\nyou?", 2)
    assert "**simulator** of provider **grok**" in text
    assert "`grok-4`" in text
    assert "“how are you?”" in text
    assert "\n- " in text
    assert "**2** user messages" in text
