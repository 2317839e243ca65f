"""What of a question fits, by weight."""

import math

import pytest
from chat.messages import Role
from hypothesis import given
from hypothesis import strategies as st
from llm_worker.context import Question
from llm_worker.conversation import Image, Line, Tool, ToolCall, ToolResult, line
from llm_worker.provider import ToolUse
from llm_worker.settings import ModelSettings
from llm_worker.tokens import IMAGE_WEIGHT, LINE_WEIGHT, TokenMeter, weigh_line, weigh_text, weigh_tools
from llm_worker.window import Weighed, room_of

USER, ASSISTANT = Role.USER, Role.ASSISTANT
LINES = (line(USER, "a" * 40), line(ASSISTANT, "b" * 40), line(USER, "c" * 40), line(ASSISTANT, "d"), line(USER, "e"))
"""They weigh 14, 14, 14, 4.25 and 4.25."""


def weighed(lines: tuple[Line, ...] = LINES, *, history: int | None = 1000, system: str = "") -> Weighed:
    return Weighed(Question(lines=lines, system_prompt=system, history_tokens=history))


@pytest.mark.parametrize(
    ("room", "first"), [(math.inf, 0), (50.5, 0), (50, 2), (36.5, 2), (22.5, 2), (22.4, 4), (8.5, 4), (0, 4)]
)
def test_the_oldest_lines_go_first_and_what_stays_begins_with_the_users(room: float, first: int) -> None:
    lines, weight = weighed().fit(room, TokenMeter())
    assert lines == LINES[first:]
    assert weight == sum(map(weigh_line, lines))


def test_a_chats_history_has_a_bound_of_its_own() -> None:
    assert weighed(history=23).fit(math.inf, TokenMeter())[0] == LINES[2:]


def test_the_system_prompt_takes_its_room_first() -> None:
    assert weighed(system="s" * 120).fit(50.5, TokenMeter())[0] == LINES[4:]


def test_of_a_callers_messages_none_is_left_out() -> None:
    question = weighed(history=None)
    assert question.fit(1, TokenMeter())[0] == LINES
    assert question.least == sum(map(weigh_line, LINES))


def test_a_meter_that_counts_more_leaves_room_for_less() -> None:
    meter = TokenMeter()
    meter.set(1000, 2000)
    assert weighed().fit(50.5, meter)[0] == LINES[2:]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20), st.floats(0, 500))
def test_what_is_sent_fits_or_is_the_last_line_alone(texts: list[str], room: float) -> None:
    lines = tuple(line(USER if at % 2 == 0 else ASSISTANT, text) for at, text in enumerate(texts))
    sent, weight = weighed(lines).fit(room, TokenMeter())
    assert sent == lines[len(lines) - len(sent) :]
    assert weight <= room or len(sent) == 1


@pytest.mark.parametrize(
    ("window", "output", "room"),
    [(0, 4096, math.inf), (8192, 4096, 4096), (8192, 8000, 4096), (200_000, 4096, 195_904)],
)
def test_a_models_room_is_its_window_less_the_answer_and_at_least_half(window: int, output: int, room: float) -> None:
    assert room_of(ModelSettings("m", "p", "m", window, takes_temperature=True), output) == room


def test_weights_are_of_bytes_and_of_all_parts() -> None:
    assert weigh_text("abcd") == 1
    assert weigh_text("日本") == 1.5
    call, result = ToolCall("1", "look", "{}"), ToolResult("1", "found it")
    assert (
        weigh_line(Line(USER, ("abcd", Image(url="https://x"), call, result))) == LINE_WEIGHT + 1 + IMAGE_WEIGHT + 3.5
    )
    tools = (Tool("look", "Looks.", {"type": "object"}),)
    assert weigh_tools(tools) == (4 + 6 + len('{"type":"object"}')) / 4
    assert Weighed(Question(LINES, history_tokens=0, tool_use=ToolUse(tools))).least == 4.25 + weigh_tools(tools)


def test_a_meter_learns_slowly_from_answers_and_at_once_from_a_count() -> None:
    meter = TokenMeter()
    meter.learn(1000, 1500)
    assert meter.tokens(1000) == 1100
    for _ in range(30):
        meter.learn(1000, 1500)
    assert meter.tokens(1000) == pytest.approx(1500, rel=0.01)
    meter.set(1000, 800)
    assert meter.tokens(1000) == 800


@pytest.mark.parametrize(("weight", "counted"), [(199, 400), (1000, 4000), (1000, 250), (1000, 0)])
def test_a_meter_does_not_believe_what_can_not_be(weight: float, counted: int) -> None:
    meter = TokenMeter()
    meter.learn(weight, counted)
    assert meter.tokens(1000) == 1000
