"""One JSON object on its way to clients, and how several that belong together become one. Knows no dialect."""

from collections.abc import Callable, Mapping, Sequence

import orjson
from chat.position import Position


class Frame:
    """One JSON object on its way to clients: made once, encoded once in each of its two forms, for all its readers.

    Frames next to each other with the same `run` may be merged. The core sets the position.
    """

    __slots__ = ("_plain", "_positioned", "content", "epoch", "offset", "part", "run")

    def __init__(self, content: Mapping[str, object], run: str = "") -> None:
        self.content = content
        self.run = run
        self.epoch = ""
        self.offset = 0
        self.part = 0
        self._plain: bytes | None = None
        self._positioned: bytes | None = None

    def stamp(self, epoch: str, offset: int, part: int = 0) -> None:
        """Says which event this frame brings its reader to; before it is first encoded."""
        self.epoch, self.offset, self.part = epoch, offset, part

    @property
    def position(self) -> Position | None:
        """Where a reader that has seen this frame stands; None: the frame has no position."""
        return Position(self.epoch, self.offset, self.part) if self.epoch else None

    def encoded(self, positions: bool, form: Callable[[bytes], bytes]) -> bytes:
        """The frame as JSON, with its position if wanted, in the transport's `form` (one and the same for all)."""
        if positions and self.epoch:
            if self._positioned is None:
                self._positioned = form(orjson.dumps({**self.content, "position": str(self.position)}))
            return self._positioned
        if self._plain is None:
            self._plain = form(orjson.dumps(self.content))
        return self._plain

    def __repr__(self) -> str:
        return f"Frame({dict(self.content)!r}, run={self.run!r}, position={self.position})"


def merged(run: Sequence[Frame], merge: Callable[[Sequence[Frame]], Frame]) -> Frame:
    """One frame for all of a run, at the position of the last."""
    if len(run) == 1:
        return run[0]
    frame = merge(run)
    frame.run = run[-1].run
    frame.stamp(run[-1].epoch, run[-1].offset, run[-1].part)
    return frame


def coalesce(frames: Sequence[Frame], merge: Callable[[Sequence[Frame]], Frame]) -> list[Frame]:
    """The same frames with each run next to each other merged: what arrived at once leaves at once."""
    made: list[Frame] = []
    run: list[Frame] = []
    for frame in frames:
        if run and (not frame.run or frame.run != run[-1].run):
            made.append(merged(run, merge))
            run = []
        run.append(frame)
    if run:
        made.append(merged(run, merge))
    return made
