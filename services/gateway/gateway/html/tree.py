"""The elements that are open, and the fragment they have written: what keeps the output well formed at every moment.

Invariant: blocks hold blocks or one *paragraph* at a time (a `<p>`, a heading, a bare run of text in an `<li>`), and
only a paragraph holds inline elements. So an HTML parser builds from the output the very tree that is held here, with
nothing moved or repaired. Refuses to read input. Subsystem: docs/subsystems/html.md.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from gateway.html.allow_list import CONTAINERS, LEAVES

# Tags beyond this depth are dropped and their text kept. Answers nest to about ten; browsers give up at 512.
MAX_DEPTH: Final = 48

# The child that content of any other kind needs first, so that no parser has to move it.
_IMPLIED: Final = {
    "ul": "li",
    "ol": "li",
    "table": "tbody",
    "thead": "tr",
    "tbody": "tr",
    "tfoot": "tr",
    "tr": "td",
}
_QUOTE, _LIST, _ITEM, _LINK = ">", "-", ".", "["
_MARKDOWN: Final = frozenset({_QUOTE, _LIST, _ITEM, _LINK})


@dataclass(slots=True)
class Element:
    """An open element. `mark`: the Markdown that opened it, "" for a tag. `loose`: a blank line came since, so
    that text in it stands in a `<p>`."""

    tag: str
    mark: str
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """Markdown that lines go on with: a quote (`kind` ">") or a list's item (`kind` its bullet, or "." or ")").

    `needed` columns of indentation make a line the item's, `indent` are taken off it; `depth` is the place of its
    outermost element.
    """

    kind: str
    depth: int = 0
    needed: int = 0
    indent: int = 0
    start: int = 1

    @property
    def is_quote(self) -> bool:
        """A quote, not an item."""
        return self.kind == _QUOTE


class Tree:
    """The open elements and what they have written since `take`."""

    __slots__ = ("_base", "_out", "_stack", "_unwanted", "_verbatim", "containers", "line_break")

    def __init__(self) -> None:
        self._out: list[str] = []
        self._stack: list[Element] = []
        self._base = -1  # where the open paragraph's inline elements begin; -1: none is open
        self._verbatim = -1  # the place of the outermost <pre> or <code> made by a tag; -1: none
        self._unwanted = ""  # characters dropped here: white space directly behind a paragraph's start tag
        self.containers: list[Container] = []
        self.line_break = ""  # between two lines of a paragraph; written only if the second has content

    @property
    def too_deep(self) -> bool:
        """Another tag would be dropped."""
        return len(self._stack) >= MAX_DEPTH

    @property
    def in_paragraph(self) -> bool:
        """Inline content would continue what is open."""
        return self._base >= 0

    @property
    def verbatim(self) -> bool:
        """Inside a tag's `<pre>` or `<code>`, where Markdown is text."""
        return self._verbatim >= 0

    @property
    def in_pre(self) -> bool:
        """Inside a tag's `<pre>`, where newlines are text too."""
        return self._verbatim >= 0 and self._stack[self._verbatim].tag == "pre"

    @property
    def leaf(self) -> str:
        """The tag of the open paragraph, "" for bare text."""
        return found if self._base > 0 and (found := self._stack[self._base - 1].tag) in LEAVES else ""

    @property
    def in_heading(self) -> bool:
        """In a heading that ends with its line."""
        return self._base > 0 and self._stack[self._base - 1].mark == "#"

    @property
    def is_plain(self) -> bool:
        """Character data would be written as it stands."""
        return self._base >= 0 and not self._unwanted and not self.line_break

    def take(self) -> str:
        """What was written since the last call."""
        written = "".join(self._out)
        self._out.clear()
        return written

    def close_tags(self) -> str:
        """The end tags of all that is open."""
        return "".join([f"</{element.tag}>" for element in reversed(self._stack)])

    def text(self, escaped: str) -> None:
        """Write character data, in a new paragraph if none is open; white space alone opens none."""
        if self._base < 0:
            escaped = escaped.lstrip(" \t\n")
            if not escaped:
                return
            self._begin_paragraph()
        if self._unwanted:
            escaped = escaped.lstrip(self._unwanted)
            if not escaped:
                return
        self._break_line()
        self._out.append(escaped)

    def void(self, tag: str) -> None:
        """Write a `<br>`, or an `<hr>` between blocks."""
        if tag == "br":
            self.text("<br>")
        else:
            self.end_paragraph()
            self._imply()
            self._out.append("<hr>")

    def open_inline(self, tag: str, mark: str, attributes: str = "") -> bool:
        """Open an inline element; False: too deep, nothing was written."""
        if self.too_deep:
            return False
        if self._base < 0:
            self._begin_paragraph()
        self._break_line()
        self.open(tag, mark, attributes)
        return True

    def find(self, tags: Set[str], barrier: Set[str] = frozenset()) -> int:
        """The place of the innermost such element that a tag opened, not beyond a barrier or Markdown; -1: none."""
        for place in range(len(self._stack) - 1, -1, -1):
            element = self._stack[place]
            if element.mark in _MARKDOWN:
                break
            if element.tag in tags and not element.mark:
                return place
            if element.tag in barrier:
                break
        return -1

    def depth_of(self, mark: str) -> int:
        """The place of the paragraph's innermost inline element with that mark, within a link if in one; -1: none."""
        if self._base < 0:
            return -1
        for place in range(len(self._stack) - 1, self._base - 1, -1):
            found = self._stack[place].mark
            if found == mark:
                return place
            if found == _LINK:
                break
        return -1

    def inside(self, tag: str) -> bool:
        """The paragraph has such an inline element open."""
        return self._base >= 0 and any(element.tag == tag for element in self._stack[self._base :])

    def open(self, tag: str, mark: str = "", attributes: str = "") -> None:
        """Open an element where the caller knows that it may stand."""
        self._out.append(f"<{tag}{attributes}>")
        self._stack.append(Element(tag, mark))
        self._unwanted = ""
        if tag in LEAVES:
            self._base = len(self._stack)
            # Parsers drop a newline behind <pre>: it must not be missed when the output is parsed again.
            self._unwanted = "\n" if tag == "pre" else " \t\n"
        if self._verbatim < 0 and not mark and tag in {"pre", "code"}:
            self._verbatim = len(self._stack) - 1

    def open_block(self, tag: str, mark: str = "", attributes: str = "") -> None:
        """Open a block that isn't a part of a list or table, ending the paragraph before it."""
        self.end_paragraph()
        self._imply()
        self.open(tag, mark, attributes)

    def open_container(self, container: Container, *, sibling: bool) -> None:
        """Open a Markdown quote or item. `sibling`: in the list that is innermost, closed down to by the caller."""
        if container.is_quote:
            self.open_block("blockquote", _QUOTE)
            depth = len(self._stack) - 1
            self._stack[-1].loose = True  # Markdown's quotes hold paragraphs, tags' may hold bare text
        else:
            if not sibling:
                ordered = container.kind in {".", ")"}
                start = f' start="{container.start}"' if ordered and container.start != 1 else ""
                self.open_block("ol" if ordered else "ul", _LIST, start)
            depth = len(self._stack) - 1
            self.open("li", _ITEM)
        self.containers.append(Container(container.kind, depth, container.needed, container.indent, container.start))

    def end_paragraph(self) -> None:
        """Close the inline elements and the paragraph, if one is open."""
        if self._base >= 0:
            self.close_to(self._base - 1 if self.leaf else self._base)
            self._base = -1
            self.line_break = ""

    def blank_line(self) -> None:
        """End the paragraph; what follows in the same elements stands in a `<p>`."""
        self.end_paragraph()
        for element in self._stack:
            element.loose = True

    def close_to(self, depth: int) -> None:
        """Close elements until `depth` are open."""
        while len(self._stack) > depth:
            self._out.append(f"</{self._stack.pop().tag}>")
            self._unwanted = ""
        if self._base > depth:
            self._base = -1
            self.line_break = ""
        if self._verbatim >= depth:
            self._verbatim = -1
        while self.containers and self.containers[-1].depth >= depth:
            self.containers.pop()

    def _break_line(self) -> None:
        if self.line_break:
            if not self._unwanted:
                self._out.append(self.line_break)
            self.line_break = ""
        self._unwanted = ""

    def _begin_paragraph(self) -> None:
        self._imply()
        top = self._stack[-1] if self._stack else None
        if top is None or top.loose or top.tag not in CONTAINERS:
            self.open("p")
        self._base = len(self._stack)

    def _imply(self) -> None:
        while self._stack and (tag := _IMPLIED.get(self._stack[-1].tag)):
            self.open(tag)
