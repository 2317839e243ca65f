"""From a turn, or from a caller's messages, to what a model is asked: the question, in no provider's words.

Pure. A claimed turn's settings win over its persona's. Answers that never came to text are left out, and so is
what does not fit: the oldest messages go first, counted in characters (tokens are counted by a later issue).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chat.messages import AnswerSettings, Role

from llm_worker.conversation import Line, line, merge
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


def choose_persona(personas: Mapping[str, Persona], settings: AnswerSettings, dialect: str) -> Persona:
    """The persona asked for, else the dialect's own, else the default."""
    return personas.get(settings.persona) or personas.get(dialect) or personas["default"]


def question_of_turn(
    settings: AnswerSettings, persona: Persona, messages: Sequence[Said], *, max_chars: int, told: str = ""
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
        lines=trim(merge(lines), max_chars),
        system_prompt=join_systems((*systems, told)),
        temperature=persona.temperature if settings.temperature is None else settings.temperature,
        max_output_tokens=settings.max_output_tokens or persona.max_output_tokens,
    )


def join_systems(texts: Iterable[str]) -> str:
    """Several instructions as one, in their order."""
    return "\n\n".join(text for text in texts if text)


def trim(lines: tuple[Line, ...], max_chars: int) -> tuple[Line, ...]:
    """The last lines that hold at most `max_chars`, the last one always; they begin with the user's where they can."""
    left = max_chars
    start = len(lines)
    while start and (left >= len(lines[start - 1].text) or start == len(lines)):
        start -= 1
        left -= len(lines[start].text)
    while start < len(lines) - 1 and lines[start].role is not Role.USER:
        start += 1
    return lines[start:]
