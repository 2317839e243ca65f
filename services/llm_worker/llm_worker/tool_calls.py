"""The tool calls of one answer, read in pieces: which call each is of, and what came since the last look. Pure.

A wire names a call by a key of its own, and may use it again for another; ours are counted from 0, as the port says.
A call is whole or its answer is broken: who reads half of one would run a tool with what the model never said, and who
reads none would take an answer for whole that asked for something. See docs/subsystems/providers.md.
"""

import hashlib
import re
import uuid
from dataclasses import replace

from llm_worker.provider import ToolCallDelta

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The form of a tool's name, as every provider wants it and `Generate` checks it: no tool of ours has another."""

MAX_ID_CHARS = 200
"""Of a call's id: longer ones are not taken back with its result."""


class LostCallError(ValueError):
    """The answer has a call that can't be given: it, or a piece of it, is in no form that we know."""


class ToolCallReader:
    """Pieces in, `ToolCallDelta`s out, those of one call that came together joined."""

    __slots__ = ("_bare", "_calls", "_count", "_passed_over", "_pieces")

    def __init__(self) -> None:
        self._calls: dict[object, tuple[int, str]] = {}
        self._bare: set[int] = set()
        """Those without arguments so far."""
        self._count = 0
        self._passed_over: set[object] = set()
        self._pieces: list[ToolCallDelta] = []

    def __bool__(self) -> bool:
        """Whether a call has begun."""
        return self._count > 0

    def begin(self, key: object, call_id: object, name: object, arguments: object = "") -> None:
        """The next call, with its first piece. Without an id it gets one, so that its result can name it.

        Raises: LostCallError.
        """
        if not (isinstance(call_id, str) and isinstance(name, str) and isinstance(arguments, str)):
            raise LostCallError
        if len(call_id) > MAX_ID_CHARS or not NAME.fullmatch(name):
            raise LostCallError
        call_id = call_id or f"call_{uuid.uuid4().hex}"
        try:
            self._calls[key] = (self._count, call_id)
        except TypeError as exc:
            raise LostCallError from exc
        self._passed_over.discard(key)
        self._pieces.append(ToolCallDelta(self._count, call_id, name, arguments))
        if not arguments:
            self._bare.add(self._count)
        self._count += 1

    def pass_over(self, key: object) -> None:
        """What begins there is no call of ours, and has what looks like a call's arguments."""
        self._passed_over.add(key)

    def add(self, key: object, arguments: object) -> None:
        """More of a call's arguments. Raises: LostCallError, for those of none, or of one that was whole, too."""
        try:
            if key in self._passed_over:
                return
            index = self._calls[key][0]
        except (KeyError, TypeError) as exc:
            raise LostCallError from exc
        if not isinstance(arguments, str):
            raise LostCallError
        if not arguments:
            return
        self._bare.discard(index)
        if self._pieces and self._pieces[-1].index == index:
            last = self._pieces[-1]
            self._pieces[-1] = replace(last, arguments=last.arguments + arguments)
        else:
            self._pieces.append(ToolCallDelta(index, arguments=arguments))

    def end(self) -> bool:
        """The calls so far are whole: those without arguments get an empty object. Whether there are any."""
        bare, self._bare = sorted(self._bare), set()
        self._pieces += [ToolCallDelta(index, arguments="{}") for index in bare]
        # More arguments would stand behind the empty object.
        self._calls = {key: call for key, call in self._calls.items() if call[0] not in bare}
        return bool(bare)

    def id_of(self, key: object) -> str:
        """Of the call that the key stands for now; "": for none."""
        return self._calls[key][1] if key in self._calls else ""

    def take(self) -> tuple[ToolCallDelta, ...]:
        """What came since the last time."""
        pieces, self._pieces = tuple(self._pieces), []
        return pieces


def alias_of(call_id: str) -> str:
    """What stands for an id that a provider would not take; always the same, and no two ids' alike."""
    return f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:32]}"
