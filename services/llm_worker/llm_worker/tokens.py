"""How many tokens a model will make of a text: by a rule of thumb, set right by what its provider counts.

Weights are in tokens by the rule of four bytes a token, which is right within a third for English and for code; a
model's `TokenMeter` turns them into its own. Pure.
"""

from collections.abc import Iterable

import orjson
from chat.events import utf8_length

from llm_worker.conversation import Image, Line, Part, Tool, ToolCall, ToolResult

BYTES_A_TOKEN = 4

IMAGE_WEIGHT = 1600.0
"""What a picture comes to at the most. Source: docs.claude.com/en/docs/build-with-claude/vision."""

LINE_WEIGHT = 4.0
"""What tells one line from the next."""

LEAST_TO_LEARN = 200.0
"""Of lighter requests, what a provider adds of its own is too large a share."""

LEARNING = 0.2
"""How far a new count moves the meter: some ten answers tell it a language."""

MOST_OFF = 4.0
"""No text is so far from the rule; a count that says so is no count."""


def weigh_text(text: str) -> float:
    """A text's weight."""
    return utf8_length(text) / BYTES_A_TOKEN


def weigh_line(line: Line) -> float:
    """A line's weight."""
    # Nearly all are text alone, and a chat has hundreds of them.
    (*others, last) = line.parts
    if not others and isinstance(last, str):
        return LINE_WEIGHT + utf8_length(last) / BYTES_A_TOKEN
    return LINE_WEIGHT + sum(map(_weigh_part, line.parts))


def weigh_tools(tools: Iterable[Tool]) -> float:
    """What the tools' descriptions weigh."""
    return sum(
        weigh_text(tool.name) + weigh_text(tool.description) + len(orjson.dumps(tool.parameters)) / BYTES_A_TOKEN
        for tool in tools
    )


def _weigh_part(part: Part) -> float:
    match part:
        case str():
            return weigh_text(part)
        case Image():
            return IMAGE_WEIGHT
        case ToolCall():
            return weigh_text(part.name) + weigh_text(part.arguments)
        case ToolResult():
            return weigh_text(part.text)


class TokenMeter:
    """One model's tokens. It learns from what the provider counts."""

    __slots__ = ("_factor",)

    def __init__(self) -> None:
        self._factor = 1.0

    def tokens(self, weight: float) -> float:
        """What the model is expected to make of it."""
        return weight * self._factor

    def weight(self, tokens: float) -> float:
        """What may weigh so many tokens."""
        return tokens / self._factor

    def learn(self, weight: float, counted: int) -> None:
        """The provider counted this for a request of this weight."""
        if weight >= LEAST_TO_LEARN and weight / MOST_OFF < counted < weight * MOST_OFF:
            self._factor += LEARNING * (counted / weight - self._factor)

    def set(self, weight: float, counted: int) -> None:
        """The same, of the very request that is to be asked: believed at once."""
        if counted > 0 and weight >= LEAST_TO_LEARN:
            self._factor = min(max(counted / weight, 1 / MOST_OFF), MOST_OFF)
