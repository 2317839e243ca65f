"""Streamed Markdown, plain text or simple HTML in; allow-listed, well-formed HTML out, only ever appended to.

Sans-I/O: one renderer an answer. Laws, each a property test:

1. What is written for a prefix of the input depends on that prefix alone, not on how it was chunked; more input only
   appends to it.
2. What is written, and `close_tags()` behind it, is well formed and allow-listed at every moment.
3. Nothing is passed through: tags are written anew from what was understood, everything else is escaped.
4. What isn't decidable yet is held back, up to a fixed bound, then taken literally; work is linear in the input.

Conventions: no white space between blocks; a line's end within a paragraph stays a newline, a hard break is `<br>`; an
item's first text stands bare in its `<li>`, what follows a blank line in a `<p>`. Refuses to highlight, to autolink
bare addresses, to make tables of "|" and to show images. Subsystem: docs/subsystems/html.md.
"""

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, assert_never

from gateway.html.allow_list import NOT_PROSE, escape, printable
from gateway.html.blocks import LINE_LIMIT, CodeLine, Leaf, Line, read_code_line, read_line, read_verbatim_line
from gateway.html.inline import (
    Inline,
    Stop,
    find_special,
    find_special_in_code,
    find_special_verbatim,
)
from gateway.html.lookahead import TAG_LIMIT, UNDECIDED
from gateway.html.tree import Tree

# The most that is ever held back, in characters: nothing undecided may be longer than a tag.
HOLD_LIMIT: Final = TAG_LIMIT

_SKIP_ENDS: Final = {
    ">": re.compile(">"),
    "--": re.compile("-->"),
    **{name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in NOT_PROSE},
}


class _Mode(Enum):
    LINE = auto()  # at a line's beginning
    TEXT = auto()  # within a line
    CODE_LINE = auto()  # at a line's beginning in a fence
    CODE = auto()  # within such a line
    SKIP = auto()  # in content that is dropped


class HtmlRenderer:
    """One answer's way from raw text to HTML."""

    __slots__ = ("_fence", "_fence_indent", "_find_special", "_held", "_inline", "_mode", "_tree")

    def __init__(self) -> None:
        self._tree = Tree()
        self._inline = Inline(self._tree)
        self._mode = _Mode.LINE
        self._held = ""
        self._fence = ""
        self._fence_indent = 0
        # Set while text without a special character is its own HTML, as prose and code are: the fast path.
        self._find_special: Callable[[str], re.Match[str] | None] | None = None

    @property
    def held(self) -> int:
        """Characters held back: at most HOLD_LIMIT."""
        return len(self._held)

    def feed(self, text: str) -> str:
        """The HTML to append for more of the answer, "" while that is held back. Not to be called after `finish`."""
        find_special = self._find_special
        if find_special is not None and find_special(text) is None:
            inline = self._inline
            inline.tail = text[-2:] if len(text) > 1 else inline.tail[-1:] + text
            return text
        return self._read(text, final=False)

    def finish(self) -> str:
        """The HTML that completes the fragment: what was held back, as it now must be meant, and the end tags."""
        written = self._read("", final=True)
        self._tree.close_to(0)
        return written + self._tree.take()

    def close_tags(self) -> str:
        """What would have to be appended now to make the output so far well formed. Changes nothing."""
        return self._tree.close_tags()

    def _read(self, text: str, *, final: bool) -> str:
        text = self._held + printable(text)
        at = 0
        while at < len(text):
            match self._mode:
                case _Mode.TEXT:
                    at, stop = self._inline.read(text, at, final)
                    if stop is Stop.MORE:
                        break
                    self._mode = _Mode.LINE if stop is Stop.LINE else _Mode.SKIP
                    continue
                case _Mode.CODE:
                    end = text.find("\n", at) + 1
                    self._tree.text(escape(text[at : end or len(text)]))
                    self._mode = _Mode.CODE_LINE if end else _Mode.CODE
                    at = end or len(text)
                    continue
                case _Mode.LINE:
                    after = self._begin_line(text, at, final)
                case _Mode.CODE_LINE:
                    after = self._begin_code_line(text, at, final)
                case _Mode.SKIP:
                    after = self._skip(text, at, final)
            if after == UNDECIDED:
                break
            at = after
        self._held = text[at:]
        self._find_special = None if self._held else self._fast_path()
        return self._tree.take()

    def _fast_path(self) -> Callable[[str], re.Match[str] | None] | None:
        if self._mode is _Mode.CODE:
            return find_special_verbatim
        if self._mode is not _Mode.TEXT:
            return None
        if self._inline.in_code:
            return find_special_in_code
        if not self._inline.is_plain:
            return None
        return find_special_verbatim if self._tree.verbatim else find_special

    def _begin_line(self, text: str, at: int, final: bool) -> int:
        """Act on a line's beginning; the index behind it, or UNDECIDED."""
        window = text[at : at + LINE_LIMIT]
        whole = final and len(window) < LINE_LIMIT
        tree = self._tree
        if tree.verbatim:
            line = read_verbatim_line(window, final=whole)
        else:
            line = read_line(window, tree.containers, in_paragraph=tree.in_paragraph, final=whole)
        if line is None:
            if len(window) < LINE_LIMIT:
                return UNDECIDED
            line = Line(Leaf.TEXT, 0)
        self._act(line)
        after = at + line.length
        # What stands before the line's text, to the emphasis that may begin there.
        self._inline.tail = ("\n" + text[at:after])[-2:]
        return after

    def _act(self, line: Line) -> None:
        tree = self._tree
        matched = line.matched
        goes_on = matched == len(tree.containers)
        if line.leaf is Leaf.BLANK and not line.begun:
            tree.blank_line()
            if not goes_on:
                tree.close_to(tree.containers[matched].depth)
            return
        continues = line.leaf is Leaf.TEXT or (line.leaf is Leaf.BLOCK_TAG and goes_on)
        if tree.in_paragraph and continues and not line.begun:
            self._mode = _Mode.TEXT
            return
        tree.end_paragraph()
        sibling = False
        if not goes_on:
            ended = tree.containers[matched]
            sibling = not ended.is_quote and bool(line.begun) and line.begun[0].kind == ended.kind
            tree.close_to(ended.depth + sibling)
            del tree.containers[matched:]
        for container in line.begun:
            tree.open_container(container, sibling=sibling)
            sibling = False
        match line.leaf:
            case Leaf.BLANK:
                pass
            case Leaf.TEXT | Leaf.BLOCK_TAG:
                self._mode = _Mode.TEXT
            case Leaf.HEADING:
                tree.open_block(f"h{line.level}", "#")
                self._mode = _Mode.TEXT
            case Leaf.RULE:
                tree.void("hr")
            case Leaf.FENCE:
                tree.open_block("pre", "`")
                tree.open_inline("code", "`")
                self._fence, self._fence_indent = line.fence, line.indent
                self._mode = _Mode.CODE_LINE
            case _:
                assert_never(line.leaf)

    def _begin_code_line(self, text: str, at: int, final: bool) -> int:
        window = text[at : at + LINE_LIMIT]
        whole = final and len(window) < LINE_LIMIT
        line = read_code_line(window, self._tree.containers, self._fence, self._fence_indent, final=whole)
        if line is None:
            if len(window) < LINE_LIMIT:
                return UNDECIDED
            line = CodeLine(0)
        if line.closed:
            self._tree.end_paragraph()
        self._mode = _Mode.LINE if line.closed else _Mode.CODE
        return at + line.length

    def _skip(self, text: str, at: int, final: bool) -> int:
        """Drop content up to its end, keeping of the rest only what may be the beginning of the end."""
        inline = self._inline
        found = _SKIP_ENDS[inline.skip_to].search(text, at)
        if found is None:
            if final:
                return len(text)
            kept = len(inline.skip_to) + 2 if inline.skip_to in NOT_PROSE else len(inline.skip_to)
            return len(text) - kept if len(text) - kept > at else UNDECIDED
        if inline.skip_to in NOT_PROSE:
            inline.skip_to = ">"
        else:
            inline.skip_to = ""
            inline.tail = ">"
            self._mode = _Mode.TEXT
        return found.end()
