"""How far an answer is shown while it grows, when every chunk repeats all that came before it (`full_content`).

A chunk a delta would cost the square of an answer's length. Shown lengths therefore lie on a fixed scale whose steps
grow with the length: each is about a seventh longer than the one before, so that all chunks together, what they
repeat included, are at most about ten times the answer. The scale depends on nothing but the length: any replica goes
on alike after any position. What lies between two steps waits for the next, or for the answer's end.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import takewhile

_STEPS_OF = 7
"""A step is this part of the length it starts from: the shown lengths up to n then add up to about 8 n."""
_LONGEST = 2**40


def _scale() -> tuple[int, ...]:
    def lengths() -> Iterator[int]:
        length = 0
        while True:
            yield length
            length += max(1, length // _STEPS_OF)

    return tuple(takewhile(lambda length: length < _LONGEST, lengths()))


SHOWN_LENGTHS = _scale()
"""In characters."""


def shown_length(length: int) -> int:
    """How much is shown of an answer of so many characters that is still growing."""
    return SHOWN_LENGTHS[bisect_right(SHOWN_LENGTHS, length) - 1]
