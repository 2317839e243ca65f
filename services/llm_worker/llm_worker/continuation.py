"""What a target is asked: the question, and where an answer was cut, to go on with it. Pure, in no provider's words.

Models refuse to be given the beginning of their own answer (Claude from 4.6 on, OpenAI's, xAI's), so that they are
asked by an instruction behind it; a model with `prefill = true` in the configuration gets the beginning alone.
"""

from enum import Enum, auto

from chat.messages import Role

from llm_worker.context import Question
from llm_worker.conversation import Line, line
from llm_worker.provider import ProviderRequest
from llm_worker.settings import ModelSettings

INSTRUCTION = (
    "Your answer above was cut off by a technical fault. Write the rest of it: what you write now is put directly "
    "behind its last character. So begin in the middle of the sentence, or of the word, with exactly the characters "
    "that come next, the space between two words included. Repeat nothing that is there, do not begin anew, and say "
    "nothing of the interruption. Keep the language, the format and the plan of the answer. If nothing is missing, "
    "write nothing."
)


class Manner(Enum):
    """How a target is asked when a part of the answer is there already."""

    PREFILLED = auto()
    """It is given the part as the beginning of its own."""
    INSTRUCTED = auto()
    """It is told to go on."""
    AFRESH = auto()
    """It knows nothing of the part, and the answer restarts."""


def compose(
    question: Question,
    lines: tuple[Line, ...],
    model: ModelSettings,
    said: str,
    manner: Manner,
    *,
    max_output_tokens: int,
) -> ProviderRequest:
    """The question in this model's terms; `lines`: those of its that fit, `said`: the answer so far."""
    shown = said.rstrip()
    # White space alone is nothing to go on from, and is refused.
    if shown and manner is Manner.PREFILLED:
        lines = (*lines, line(Role.ASSISTANT, shown))
    elif shown and manner is Manner.INSTRUCTED:
        lines = (*lines, line(Role.ASSISTANT, said), line(Role.USER, INSTRUCTION))
    return ProviderRequest(
        model=model.name,
        lines=lines,
        system_prompt=question.system_prompt,
        temperature=question.temperature if model.takes_temperature else None,
        max_output_tokens=max_output_tokens,
        stop=question.stop,
        tool_use=question.tool_use,
    )


def hidden(said: str, manner: Manner) -> str:
    """What at the end of `said` a target that is asked so does not see: providers refuse it at a beginning's end."""
    shown = said.rstrip()
    return said[len(shown) :] if manner is Manner.PREFILLED or not shown else ""
