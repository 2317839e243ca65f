"""From a turn, or from a caller's messages, to what a model is asked: the question, in no provider's words.

Pure. A claimed turn's settings win over its persona's. Answers that never came to text are left out; what does not
fit into a model's window is left out when that model is asked (`window`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chat.messages import AnswerSettings, Role

from llm_worker.conversation import Line, line, merge
from llm_worker.provider import NO_TOOLS, ToolUse
from llm_worker.settings import Persona


@dataclass(frozen=True, slots=True)
class Said:
    """What a context needs of a chat's message: all of it would cost four times as much, for each of the history."""

    role: Role
    text: str
    failed: bool = False
    """An answer that broke off."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of whichever target. `lines` alternate and end with the user's."""

    lines: tuple[Line, ...]
    system_prompt: str = ""
    temperature: float | None = None
    """None: the model's default."""
    max_output_tokens: int = 0
    """0: the worker's default."""
    stop: tuple[str, ...] = ()
    tool_use: ToolUse = NO_TOOLS
    history_tokens: int | None = None
    """The oldest lines are left out beyond so many; None: no line may be."""


def choose_persona(personas: Mapping[str, Persona], settings: AnswerSettings, dialect: str) -> Persona:
    """The persona asked for, else the dialect's own, else the default."""
    return personas.get(settings.persona) or personas.get(dialect) or personas["default"]


def question_of_turn(
    settings: AnswerSettings, persona: Persona, messages: Sequence[Said], *, max_tokens: int, told: str = ""
) -> Question:
    """What a claimed turn asks: its own message, the last, is the user's whoever sent it. `told` follows all
    instructions, whole."""
    *earlier, own = messages
    systems, lines = [settings.system_prompt or persona.system_prompt], []
    for message in earlier:
        if message.role is Role.SYSTEM:
            systems.append(message.text)
        # A failed answer is no example to follow; one that was stopped was read, and may be spoken of.
        elif not message.failed and message.text.strip():
            lines.append(line(message.role, message.text))
    lines.append(line(Role.USER, own.text))
    return Question(
        lines=merge(lines),
        system_prompt=join_systems((*systems, told)),
        temperature=persona.temperature if settings.temperature is None else settings.temperature,
        max_output_tokens=settings.max_output_tokens or persona.max_output_tokens,
        history_tokens=max_tokens,
    )


def join_systems(texts: Iterable[str]) -> str:
    """Several instructions as one, in their order."""
    return "\n\n".join(text for text in texts if text)
