"""The seam of a continued answer: what of a continuation is new, and what repeats the end of the text so far.

Pure. The beginning of the continuation is held back until that is decided, which the first characters nearly always do,
and at most `WINDOW` of them, unless they say the whole answer once more. A repetition counts when it begins where a
word of the text begins, or is longer than chance: a letter that happens to come twice ("hel" + "lo") is none. What it
can't tell, it leaves as it is: an extra word is a smaller fault than a lost one. See docs/subsystems/providers.md, "A
cut answer".
"""

WINDOW = 400
"""Characters of the end that a continuation may repeat: some five lines. Models repeat a word, a line, a paragraph."""

LEAST_INSIDE_A_WORD = 4
"""Shorter repetitions that begin inside a word are chance: "hel" + "lo", "ban" + "ana"."""

LEAST_OF_A_WORD = 7
"""As above, where the repetition could be a word of its own: "hand " + "and ", "never " + "ever "."""

ANEW_LEAST = 24
"""So many characters as the answer's beginning, and the answer begins anew: lists and headings share fewer."""

MAX_LEAD = 16
"""White space that a reply of its own may begin with."""

_UNSPACED = 0x2E80
"""From here on, scripts write without spaces (Chinese, Japanese), and nearly any character begins a word."""


class Seam:
    """Takes a continuation piece by piece until it is decided how it goes on from `said`; then it is done with.

    `hidden`: white space at the end of `said` that the model was not shown.
    """

    __slots__ = ("_held", "_hidden", "_start", "_tail", "anew")

    def __init__(self, said: str, *, hidden: str = "") -> None:
        self._start = said.lstrip()
        self._hidden = hidden
        self._tail = said[-WINDOW:]
        self._held = ""
        self.anew = False
        """Decided: it is the whole answer once more, in other words. What `feed` or `close` gave is its beginning."""

    def feed(self, text: str) -> str | None:
        """What is to be written behind `said`, once that is decided; None: it is held back. Call it no more then."""
        self._held += text
        held = self._held.lstrip()
        if not held and len(self._held) <= MAX_LEAD:
            return None
        if held and (self._start.startswith(held) or held in self._tail):
            return None
        return self.close()

    def close(self) -> str:
        """The continuation has come to its end, or enough of it has come: what is to be written."""
        held = self._held.lstrip()
        if len(self._held) - len(held) > MAX_LEAD:
            return self._held
        shared = _shared(self._start, held)
        if 0 < shared == len(self._start):
            return held[shared:]
        repeated = _repeated(self._tail, self._held)
        if not repeated and shared >= max(ANEW_LEAST // 3, min(ANEW_LEAST, len(self._start) // 2)):
            self.anew = True
            return held
        if not repeated and self._hidden:
            repeated = _shared(self._hidden, self._held)
        return self._held[repeated:]


def _repeated(tail: str, text: str) -> int:
    """How many characters at the beginning of `text` repeat the end of `tail`."""
    rest = text.lstrip()
    lead = len(text) - len(rest)
    best, inner = _overlap(tail, text), _overlap(tail, rest)
    if inner:
        best = max(best, lead + inner)
    words = tail.rstrip()
    space = tail[len(words) :]
    inner = _overlap(words, rest, closed=True) if space else 0
    end = lead + inner
    # Where white space followed, the word was whole: "fox " is not repeated by "foxes".
    if inner and end > best and not text[end : end + 1].isalnum():
        return end + _shared(space, text[end:])
    return best


def _overlap(tail: str, text: str, *, closed: bool = False) -> int:
    """The length of the longest beginning of `text` that `tail` ends with, and that counts. `closed`: white space
    follows on `tail`."""
    for length in range(min(len(tail), len(text)), 0, -1):
        if tail.endswith(text[:length]) and _counts(tail, length, closed=closed):
            return length
    return 0


def _counts(tail: str, length: int, *, closed: bool) -> bool:
    """Whether the last characters of `tail`, said once more, are more than chance."""
    again = tail[len(tail) - length :]
    if not any(map(str.isalnum, again)):
        # Line ends, dashes, brackets: two of them are as common as one.
        return False
    if ord(again[0]) >= _UNSPACED:
        return length > 1
    if length == len(tail) or not (tail[-length - 1].isalnum() and again[0].isalnum()):
        return True
    word = again.rstrip()
    if (closed or len(word) < length) and word.isalpha():
        return length + closed >= LEAST_OF_A_WORD
    # Of digits, ten in a row are as common as five.
    return length >= LEAST_INSIDE_A_WORD and any(map(str.isalpha, again))


def _shared(one: str, other: str) -> int:
    """The length of the beginning that both have."""
    for length, (first, second) in enumerate(zip(one, other, strict=False)):
        if first != second:
            return length
    return min(len(one), len(other))
