"""Where a tag or a Markdown link that begins here ends, as far as that can be said yet.

Both may be long and must be whole before anything is written, so a scan goes on where it stopped when more text comes:
each character is looked at once, however it was chunked. Refuses to say what was found means. Subsystem:
docs/subsystems/html.md.
"""

import re
from typing import Final

# Characters after which a construct is text after all. A tag's bound leaves room for a page's inlined styles, a link's
# for the longest address in use (browsers and CDNs stop near 2,000).
TAG_LIMIT: Final = 4096
LINK_LIMIT: Final = 2048

LITERAL: Final = -1
UNDECIDED: Final = -2

# A "<" or a blank line says that the "<" before it was prose; so does "[" or a line's end of a "[". No two scans of one
# kind then overlap by more than a quotation, and the whole stays linear.
_TAG: Final = {
    "": re.compile(r"[<>\"']|\n\n"),
    '"': re.compile(r'"|\n\n'),
    "'": re.compile(r"'|\n\n"),
}
_LINK_TEXT: Final = re.compile(r"[\[\]<\n]")
_LINK_TARGET: Final = re.compile(r"[()\[\n]")


class Lookahead:
    """One scan at a time: a method is called again with the same construct at `start` until it has decided."""

    __slots__ = ("_nesting", "_quote", "_seen")

    def __init__(self) -> None:
        self._seen = 1  # characters of the construct that needn't be looked at again
        self._quote = ""
        self._nesting = 0  # of a link's parentheses; 0: still in its text

    def tag_end(self, text: str, start: int, final: bool) -> int:
        """The index behind the tag whose "<" is at `start`, or LITERAL, or UNDECIDED. `final`: no more text comes."""
        stop = min(len(text), start + TAG_LIMIT)
        at = start + self._seen
        while found := _TAG[self._quote].search(text, at, stop):
            at = found.end()
            match found.group():
                case ">":
                    return self._decided(at)
                case "<" | "\n\n":
                    return self._decided(LITERAL)
                case quote:
                    self._quote = "" if self._quote else quote
        if final or stop == start + TAG_LIMIT:
            return self._decided(LITERAL)
        # A newline at the end may be the first of two.
        self._seen = max(at, stop - (text[stop - 1] == "\n")) - start
        return UNDECIDED

    def link_end(self, text: str, start: int, final: bool) -> int:
        """The index behind the `[text](target)` whose "[" is at `start`, or LITERAL, or UNDECIDED."""
        stop = min(len(text), start + LINK_LIMIT)
        at = start + self._seen
        while found := (_LINK_TARGET if self._nesting else _LINK_TEXT).search(text, at, stop):
            at = found.end()
            match found.group():
                case "]" if at == stop:
                    stop -= 1
                    break
                case "]" if text[at] == "(":
                    self._nesting = 1
                    at += 1
                case "(":
                    self._nesting += 1
                case ")":
                    self._nesting -= 1
                    if not self._nesting:
                        return self._decided(at)
                case _:
                    return self._decided(LITERAL)
        if final or len(text) >= start + LINK_LIMIT:
            return self._decided(LITERAL)
        self._seen = stop - start
        return UNDECIDED

    def _decided(self, end: int) -> int:
        self._seen, self._quote, self._nesting = 1, "", 0
        return end
