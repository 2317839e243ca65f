"""The inside of a line: text, emphasis, code, links, entities and tags, written to the tree as they are read.

Refuses to know lists, quotes and fences: it stops behind each newline. Deviations from CommonMark, all because what is
written stays written:

- Emphasis is opened by a run of at most three `*`, two `_` or two `~` before a non-space and not behind an ASCII
  letter or digit (so that 2*3 and x**2 stay), but not twice; it is closed by an equal run behind a non-space, at the
  latest at its block's end.
- `` `code` `` is opened at once, by a single "`" only before a non-space; it is closed by an equal run, at the latest
  at its line's end.
- A link's text and target stand on one line, without "[" and, in its text, "<". An image leaves its description.

Subsystem: docs/subsystems/html.md.
"""

import re
from enum import Enum, auto
from typing import Final

from gateway.html.allow_list import decode_entity, escape, link_attributes
from gateway.html.lookahead import LITERAL, UNDECIDED, Lookahead
from gateway.html.tags import apply_tag
from gateway.html.tree import Tree

# Anything in these makes a delta leave the fast path: control characters included, which the renderer replaces.
_CONTROLS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
find_special: Final = re.compile(rf"[\n\\`*_~!\[<&>{_CONTROLS}]").search
find_special_in_code: Final = re.compile(rf"[\n`&<>{_CONTROLS}]").search
find_special_verbatim: Final = re.compile(rf"[\n<&>{_CONTROLS}]").search

_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_ELEMENTS: Final = {"*": "em", "_": "em", "**": "strong", "__": "strong", "~~": "s"}

# A longer run of one delimiter is text: it must be whole to mean anything, and what is held has a bound.
RUN_LIMIT: Final = 32
# Code in two backticks or more may stand between two spaces, so that it can begin or end with one.
_find_code_end: Final = re.compile(rf"`{{1,{RUN_LIMIT}}}|\n").search
_find_long_code_end: Final = re.compile(rf" ?`{{1,{RUN_LIMIT}}}|\n| \Z").search

# The longest entity's name has 31 characters.
_ENTITY: Final = re.compile(r"&(?:#(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6})|[A-Za-z][A-Za-z0-9]{0,31});")
_ENTITY_BEGUN: Final = re.compile(r"&(?:#(?:[0-9]{0,7}|[xX][0-9a-fA-F]{0,6})|[A-Za-z][A-Za-z0-9]{0,31})?\Z")
_LINK: Final = re.compile(
    r"\[([^\]]*)\]\([ \t]*+"
    r"(?:<([^<>]*)>|((?:[^\s()<>]++|\([^\s()]*+\))*+))"
    r"(?:[ \t]++(?:\"[^\"]*+\"|'[^']*+'|\([^()]*+\)))?+[ \t]*+\)"
)
_ESCAPED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
_AUTOLINK: Final = re.compile(r"<((?:https?://|mailto:)[^\s<>]*)>", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"<([\w.+-]+@[\w-]+(?:\.[\w-]+)+)>")


class Stop(Enum):
    """Why reading stopped."""

    MORE = auto()  # the rest, if any, means nothing yet
    LINE = auto()  # behind a newline
    SKIP = auto()  # before content to be dropped up to `Inline.skip_to`


class Inline:
    """Reads lines' insides into a tree."""

    __slots__ = ("_code_run", "_hard_break", "_lookahead", "_tree", "skip_to", "tail")

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._lookahead = Lookahead()
        self._code_run = 0  # backticks that opened the code we are in
        self._hard_break = False  # a backslash stands before the newline that comes next
        self.tail = ""  # the last two characters that were read
        self.skip_to = ""  # ">", "--" or the name of an element: what ends the dropped content

    @property
    def in_code(self) -> bool:
        """Inside `` `code` `` that is read without regard to spaces."""
        return self._code_run == 1

    @property
    def is_plain(self) -> bool:
        """Text without special characters would be written as it stands."""
        return not self._code_run and self._tree.is_plain

    def read(self, text: str, start: int, final: bool) -> tuple[int, Stop]:
        """Read from `start`; where and why reading stopped. `final`: no more text comes, so all means something."""
        at = start
        stop = Stop.MORE
        tree = self._tree
        end = len(text)
        while at < end:
            if self._code_run:
                after = self._code(text, at, final)
                if after == UNDECIDED:
                    break
                at = after
                continue
            found = (find_special_verbatim if tree.verbatim else find_special)(text, at)
            if found is None:
                tree.text(text[at:])
                at = end
                break
            special = found.start()
            if special > at:
                tree.text(text[at:special])
                at = special
            character = text[at]
            if character == "\n":
                if tree.in_pre:
                    tree.text("\n")
                    at += 1
                    continue
                self._end_line(text, at)
                at += 1
                stop = Stop.LINE
                break
            after = self._special(character, text, at, final)
            if after == UNDECIDED:
                break
            at = after
            if self.skip_to:
                stop = Stop.SKIP
                break
        if at > start:
            self.tail = text[at - 2 : at] if at >= 2 else self.tail[-1:] + text[:at]
        return at, stop

    def _special(self, character: str, text: str, at: int, final: bool) -> int:
        """Read what begins with a special character; the index behind it, or UNDECIDED."""
        match character:
            case "*" | "_" | "~":
                return self._delimiters(character, text, at, final)
            case "<":
                return self._tag(text, at, final)
            case "&":
                return self._entity(text, at, final)
            case "`":
                return self._open_code(text, at, final)
            case "[":
                return self._link(text, at, at, final)
            case ">":
                self._tree.text("&gt;")
                return at + 1
            case _ if at + 1 == len(text) and not final:
                return UNDECIDED
            case "!" if text.startswith("[", at + 1):
                return self._link(text, at, at + 1, final)
            case "\\" if text[at + 1 : at + 2] in _PUNCTUATION:
                self._tree.text(escape(text[at + 1]))
                return at + 2
            case _:
                # "!" alone, or a backslash that escapes nothing; one before a newline is seen there, and not shown.
                self._hard_break = character == "\\" and text.startswith("\n", at + 1)
                if not self._hard_break:
                    self._tree.text(character)
                return at + 1

    def _before(self, text: str, at: int) -> str:
        return text[at - 1] if at else self.tail[-1:]

    def _end_line(self, text: str, at: int) -> None:
        tree = self._tree
        if tree.in_heading:
            tree.end_paragraph()
        elif tree.in_paragraph:
            hard = self._hard_break or (self.tail + text[max(at - 2, 0) : at]).endswith("  ")
            tree.line_break = "<br>" if hard and not tree.verbatim else "\n"
        self._hard_break = False

    # --- emphasis and code

    def _delimiters(self, character: str, text: str, at: int, final: bool) -> int:
        end = _run_end(text, at, character)
        if end == len(text) and not final and end - at < RUN_LIMIT:
            return UNDECIDED
        if not self._emphasis(character, end - at, self._before(text, at), text[end : end + 1]):
            self._tree.text(text[at:end])
        return end

    def _emphasis(self, character: str, length: int, before: str, after: str) -> bool:
        """Close or open what a run of delimiters asks for; False: it is text."""
        if length > (3 if character == "*" else 2) or character * length == "~":
            return False
        tree = self._tree
        marks = [character, character * 2] if length == 3 else [character * length]
        inside = character == "_" and after.isalnum()
        if before and not before.isspace() and not inside:
            closed = [mark for mark in marks if tree.depth_of(mark) >= 0]
            if closed:
                tree.close_to(min([tree.depth_of(mark) for mark in closed]))
                tree.text(character * (length - len("".join(closed))))
                return True
        behind_word = before.isalnum() and (before.isascii() or character == "_")
        if not after or after.isspace() or behind_word or any(tree.depth_of(mark) >= 0 for mark in marks):
            return False
        return all(tree.open_inline(_ELEMENTS[mark], mark) for mark in marks)

    def _open_code(self, text: str, at: int, final: bool) -> int:
        end = _run_end(text, at, "`")
        if end == len(text) and not final and end - at < RUN_LIMIT:
            return UNDECIDED
        length = end - at
        opens = length < RUN_LIMIT and end < len(text) and text[end] != "\n" and (length > 1 or text[end] != " ")
        if not opens or not self._tree.open_inline("code", "`"):
            self._tree.text(text[at:end])
            return end
        self._code_run = length
        return end + (text[end] == " ")

    def _code(self, text: str, at: int, final: bool) -> int:
        """Read code up to its end, its line's end, or the end of the text."""
        found = (_find_code_end if self._code_run == 1 else _find_long_code_end)(text, at)
        start = found.start() if found else len(text)
        if start > at:
            self._tree.text(escape(text[at:start]))
            return start
        assert found is not None  # noqa: S101  there was something at `at`
        run = found.group()
        if run == "\n":
            self._close_code()
            return at
        end = found.end()
        length = len(run.lstrip(" "))
        if end == len(text) and not final and length < RUN_LIMIT:
            return UNDECIDED
        if length == self._code_run:
            self._close_code()
        else:
            self._tree.text(run)
        return end

    def _close_code(self) -> None:
        self._code_run = 0
        self._tree.close_to(self._tree.depth_of("`"))

    # --- links

    def _link(self, text: str, at: int, bracket: int, final: bool) -> int:
        """Read a link from its bracket on, or an image if that isn't `at`."""
        end = self._lookahead.link_end(text, bracket, final)
        if end == UNDECIDED:
            return UNDECIDED
        parts = _LINK.fullmatch(text, bracket, end) if end != LITERAL else None
        if parts is None:
            self._tree.text(text[at : bracket + 1])
            return bracket + 1
        target = _ESCAPED.sub(r"\1", parts[2] or parts[3] or "")
        if bracket == at:
            self._show_link(parts[1] if parts[1].strip() else target, link_attributes(target))
        else:
            self._show_link(parts[1], None)
        return end

    def _show_link(self, shown: str, attributes: str | None) -> None:
        inner = Inline(self._tree)
        inner.tail = "["
        linked = self._open_link(attributes)
        inner.read(shown, 0, final=True)
        if linked:
            self._close_link()
        else:
            inner.end()

    def _open_link(self, attributes: str | None) -> bool:
        """Begin a link; False: it may not lead there, or stands in another, which no parser would nest."""
        tree = self._tree
        return attributes is not None and not tree.inside("a") and tree.open_inline("a", "[", attributes)

    def _close_link(self) -> None:
        self._tree.close_to(self._tree.depth_of("["))

    def end(self) -> None:
        """Close the code that is open: what stands for a line is over."""
        if self._code_run:
            self._close_code()

    # --- entities and tags

    def _entity(self, text: str, at: int, final: bool) -> int:
        if found := _ENTITY.match(text, at):
            decoded = decode_entity(found.group())
            self._tree.text(escape(found.group() if decoded is None else decoded))
            return found.end()
        if not final and _ENTITY_BEGUN.match(text, at):
            return UNDECIDED
        self._tree.text("&amp;")
        return at + 1

    def _tag(self, text: str, at: int, final: bool) -> int:
        """Read a tag, a comment or a declaration; a "<" that begins none is text."""
        begin = text[at : at + 4]
        if not final and begin in {"<", "</", "<!", "<!-"}:
            return UNDECIDED
        if begin == "<!--":
            self.skip_to = "--"
            return at + 2  # "<!-->" is a whole comment
        name = begin[2:3] if begin[1:2] == "/" else begin[1:2]
        if not (name.isascii() and name.isalpha()) and begin[1:2] not in {"!", "?"}:
            self._tree.text("&lt;")
            return at + 1
        end = self._lookahead.tag_end(text, at, final)
        if end == UNDECIDED:
            return UNDECIDED
        if end == LITERAL:
            self._tree.text("&lt;")
            return at + 1
        tag = text[at:end]
        if found := _AUTOLINK.fullmatch(tag) or _ADDRESS.fullmatch(tag):
            url = found[1]
            linked = self._open_link(link_attributes(url if ":" in url else f"mailto:{url}"))
            self._tree.text(escape(url))
            if linked:
                self._close_link()
        else:
            self.skip_to = apply_tag(self._tree, tag)
        return end


def _run_end(text: str, at: int, character: str) -> int:
    """Where the run of that character ends, looking no further than a run may be long."""
    stop = min(len(text), at + RUN_LIMIT)
    while at < stop and text[at] == character:
        at += 1
    return at
