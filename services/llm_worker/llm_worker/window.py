"""What of a question fits into a model's window. Pure; sizes are weights (`tokens`) until a model's meter counts them.

Of a chat, the oldest lines are left out; of a caller's own messages (Generate) nothing ever is. See
docs/subsystems/providers.md, "What fits".
"""

import math

from chat.messages import Role

from llm_worker.context import Question
from llm_worker.conversation import Line
from llm_worker.settings import ModelSettings
from llm_worker.tokens import TokenMeter, weigh_line, weigh_text, weigh_tools

LEAST_INPUT = 0.5
"""Of the window, whatever room the answer asks for: an answer seldom takes all that it may."""

NEAR = 0.8
"""From this share of a model's room on, an estimate is not enough where the provider counts."""


class Weighed:
    """A question, weighed once for all targets."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._fixed = weigh_text(question.system_prompt) + weigh_tools(question.tool_use.tools)
        self._lines = [weigh_line(line) for line in question.lines]
        self.least = self._fixed + (sum(self._lines) if question.history_tokens is None else self._lines[-1])
        """What must be sent: all but the lines that may be left out."""

    def fit(self, room: float, meter: TokenMeter) -> tuple[tuple[Line, ...], float]:
        """The lines for a model with this room (tokens), and the request's weight.

        The last line always; before it as many as the room and the history's own bound have place for, beginning with
        a line of the user's where they can.
        """
        question = self.question
        lines, weights = question.lines, self._lines
        if question.history_tokens is None:
            return lines, self._fixed + sum(weights)
        left = meter.weight(min(room, question.history_tokens)) - self._fixed - weights[-1]
        start = len(lines) - 1
        while start and left >= weights[start - 1]:
            start -= 1
            left -= weights[start]
        while start < len(lines) - 1 and lines[start].role is not Role.USER:
            start += 1
        return lines[start:], self._fixed + sum(weights[start:])


def window_of(model: ModelSettings) -> float:
    """Tokens; an unknown window has no end."""
    return model.context_tokens or math.inf


def room_of(model: ModelSettings, max_output_tokens: int) -> float:
    """Input tokens that a model has place for beside such an answer."""
    window = window_of(model)
    return max(window - max_output_tokens, window * LEAST_INPUT)
