"""An answer: the pieces of text a plan asks for, each already escaped for the inside of a JSON string, and tool calls.

Pieces are made when they are sent, not before: a timestamp is then true, and a million deltas cost no memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from simulator.plan import TIMESTAMP_CHARS, Plan, PlannedCall

GENERATED_CHARS = 16
"""Characters of a generated delta when the plan does not say: about three tokens, a provider's usual delta."""

ARGUMENT_CHARS = 8
"""Characters of a piece of a tool call's arguments when the plan does not say: a few tokens, as providers send them."""

TIMESTAMP_MODULUS = 10**16
"""Sixteen digits hold 115 days of uptime; beyond that the leading digit is dropped rather than the width broken."""

FILLER = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor "
_WORD = re.compile(r"\s*\S+\s?|\s+")


def escape(text: str) -> bytes:
    """UTF-8 for the inside of a JSON string. A lone surrogate, which JSON can carry and UTF-8 cannot, becomes `?`."""
    try:
        return orjson.dumps(text)[1:-1]
    except orjson.JSONEncodeError:
        return orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1]


def split_words(text: str) -> list[str]:
    """Words with the space behind each; joined they are the text."""
    return _WORD.findall(text)


def split_evenly(text: str, parts: int) -> list[str]:
    """`parts` pieces whose lengths differ by at most one; joined they are the text."""
    return [text[n * len(text) // parts : (n + 1) * len(text) // parts] for n in range(parts)]


def generated_delta(n: int, chars: int = GENERATED_CHARS) -> str:
    """The text of generated delta `n` (0 is the first): `d<n> `, then filler, to exactly `chars` characters."""
    return (f"d{n} " + FILLER * (chars // len(FILLER) + 1))[: chars - 1] + " "


@dataclass(frozen=True, slots=True)
class Answer:
    """`count` pieces of text; `words` are given, or None where they are generated `chars` long. Then `calls`, whose
    arguments come in pieces of `argument_chars`."""

    count: int
    words: tuple[str, ...] | None
    chars: int
    timestamps: bool
    calls: tuple[PlannedCall, ...] = ()
    argument_chars: int = ARGUMENT_CHARS

    @property
    def deltas(self) -> int:
        """How many all in all: a call has one for its beginning and one for each piece of its arguments."""
        return self.count + sum(1 + len(self.arguments(call)) for call in self.calls)

    @property
    def has_text(self) -> bool:
        """An answer is text, though it may be empty, unless it only asks for tools."""
        return self.count > 0 or not self.calls

    def pieces(self) -> Iterator[bytes]:
        """Each piece, made at the moment it is asked for."""
        if self.words is not None:
            return map(escape, self.words)
        if self.timestamps:
            return self._stamped()
        return (generated_delta(n, self.chars).encode() for n in range(self.count))

    def arguments(self, call: PlannedCall) -> list[str]:
        """A call's arguments in pieces; joined they are the arguments."""
        size = self.argument_chars
        return [call.arguments[at : at + size] for at in range(0, len(call.arguments), size)]

    def _stamped(self) -> Iterator[bytes]:
        pad = self.chars - TIMESTAMP_CHARS
        filler = (FILLER * (pad // len(FILLER) + 1))[:pad].encode()
        clock, monotonic = time.clock_gettime_ns, time.CLOCK_MONOTONIC
        for _ in range(self.count):
            yield b"%016d %b" % (clock(monotonic) % TIMESTAMP_MODULUS, filler)


def compose_answer(plan: Plan, default_text: str) -> Answer:
    """The answer a plan asks for; `default_text` where it asks for none."""
    if plan.text is None and plan.deltas is not None:
        least = TIMESTAMP_CHARS if plan.timestamps else 1
        chars = max(least, plan.delta_chars or GENERATED_CHARS)
        return Answer(plan.deltas, None, chars, plan.timestamps, plan.tool_calls)
    unsaid = "" if plan.tool_calls else default_text
    text = unsaid if plan.text is None else plan.text
    if plan.deltas:
        words = split_evenly(text, plan.deltas)
    elif plan.delta_chars:
        words = [text[at : at + plan.delta_chars] for at in range(0, len(text), plan.delta_chars)]
    else:
        words = split_words(text)
    argument_chars = plan.delta_chars or ARGUMENT_CHARS
    return Answer(len(words), tuple(words), 0, False, plan.tool_calls, argument_chars)


def go_on(plan: Plan, said: str) -> Plan:
    """The plan for what is left of its text behind `said`, where it goes on from that."""
    if plan.goes_on is None or plan.text is None or not said or not plan.text.startswith(said):
        return plan
    return replace(plan, text=plan.text[max(0, len(said) - plan.goes_on) :])


def introduce(provider: str, model: str, question: str, turns: int) -> str:
    """The default answer: friendly Markdown that says plainly who is speaking and what was asked."""
    quoted = " ".join(question.split())
    if len(quoted) > 300:
        quoted = quoted[:299] + "…"
    return (
        f"Hello! I am the **simulator** of provider **{provider}**, standing in for the model `{model}`; "
        f"no real model was asked.\n\n"
        f"You said: “{quoted}”\n\n"
        "What I can tell you:\n\n"
        f"- this answer is streamed *word by word*, in the wire format of `{provider}`;\n"
        f"- the conversation has **{turns}** user message{'' if turns == 1 else 's'} so far;\n"
        "- a real provider answers here as soon as its `API key` is set.\n\n"
        "What would you like to try next?"
    )
