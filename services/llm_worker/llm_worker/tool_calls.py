"""The tool calls of one answer, read in pieces: which call each is of, and what came since the last look. Pure.

A wire names a call by a key of its own, and may use it again for another; ours are counted from 0, as the port says.
See docs/subsystems/providers.md.
"""

import hashlib
import uuid
from dataclasses import replace

from llm_worker.provider import ToolCallDelta


class ToolCallReader:
    """Pieces in, `ToolCallDelta`s out, those of one call that came together joined."""

    __slots__ = ("_bare", "_calls", "_count", "_pieces")

    def __init__(self) -> None:
        self._calls: dict[object, tuple[int, str]] = {}
        self._bare: set[int] = set()
        """Those without arguments so far."""
        self._count = 0
        self._pieces: list[ToolCallDelta] = []

    def __bool__(self) -> bool:
        """Whether a call has begun."""
        return self._count > 0

    def begin(self, key: object, call_id: str, name: str, arguments: str = "") -> None:
        """The next call, with its first piece. Without an id it gets one, so that its result can name it."""
        call_id = call_id or f"call_{uuid.uuid4().hex}"
        self._calls[key] = (self._count, call_id)
        self._pieces.append(ToolCallDelta(self._count, call_id, name, arguments))
        if not arguments:
            self._bare.add(self._count)
        self._count += 1

    def add(self, key: object, arguments: str) -> None:
        """More of a call's arguments; a call whose beginning was lost is no call."""
        if key not in self._calls or not arguments:
            return
        index = self._calls[key][0]
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
