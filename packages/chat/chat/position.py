"""A place in a chat's event log, and the form in which clients carry it: `<epoch>:<offset>`."""

import re
from dataclasses import dataclass

_FORM = re.compile(r"([0-9a-f]{1,40}):(0|[1-9][0-9]{0,17})(?:\.([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True)
class Position:
    """The event at `offset` of `epoch` and all before it are known; 0 is the place before the first.

    `part` counts the frames of that one event that are known, when it gave several and not all were seen; 0: all.
    """

    epoch: str
    offset: int
    part: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}.{self.part}" if self.part else f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Reads the form that `str` writes. Raises: ValueError."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError("a position is <epoch>:<offset>, as a frame gave it")
        return cls(match[1], int(match[2]), int(match[3] or 0))
