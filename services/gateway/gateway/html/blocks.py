"""What a line's beginning says: which quotes and items it goes on with, which it begins, and what block stands in it.

Pure functions of the line so far, which answer None while more of it is needed; the renderer acts on what they say.
Deviations from CommonMark, beside those of `inline`: an item's text may stand two columns in, whatever its number's
width, as models write it; no indented code; no setext headings ("---" is always a rule); a fence in an item ends at its
closing line only. Subsystem: docs/subsystems/html.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.html.allow_list import BLOCKS
from gateway.html.tree import Container

# A line that hasn't said what it is after so many characters is text.
LINE_LIMIT: Final = 128
# Lines nested deeper than this are text.
CONTAINER_LIMIT: Final = 12

_INDENT: Final = re.compile(r"[ \t]*")
_RULE: Final = re.compile(r"([-*_])(?:[ \t]*\1)*[ \t]*(?:(\n)|\Z)?")
_MARKER: Final = re.compile(r"(?:([-+*])|([0-9]{1,9})([.)]))(?:([ \t]+)|(?=\n)|\Z)")
_MARKER_BEGUN: Final = re.compile(r"[0-9]{1,9}\Z")
_HEADING: Final = re.compile(r"(#{1,6})(?:([ \t]+)|(?=\n)|\Z)")
_FENCE: Final = re.compile(r"(`{3,}(?=[^`\n]*(?:\n|\Z))|~{3,})[^\n]*(\n|\Z)")
_FENCE_BEGUN: Final = re.compile(r"[`~]{1,2}\Z")
_TAG: Final = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)?(\Z)?")


class Leaf(Enum):
    """What stands in a line behind the marks of its quotes and items."""

    BLANK = auto()
    TEXT = auto()
    BLOCK_TAG = auto()  # text too, but never the lazy continuation of a paragraph
    HEADING = auto()
    RULE = auto()
    FENCE = auto()


@dataclass(frozen=True, slots=True)
class Line:
    """A line's beginning. `length`: of what needn't be read again; of a rule, a fence or a blank line, all."""

    leaf: Leaf
    length: int
    matched: int = 0  # containers that the line goes on with
    begun: tuple[Container, ...] = ()
    level: int = 0  # of a heading
    fence: str = ""
    indent: int = 0  # columns before a fence and behind its quotes, taken off each of its lines


def read_line(line: str, containers: Sequence[Container], *, in_paragraph: bool, final: bool) -> Line | None:
    """What the line that `line` begins with is; None: it can't be said yet, and with `final` it can."""
    if not containers and line[:1].isalpha():
        return Line(Leaf.TEXT, 0)
    at = matched = taken = 0  # taken: columns of the items, since the innermost quote
    for container in containers:
        columns, behind = _indent(line, at)
        if behind == len(line):
            return Line(Leaf.BLANK, behind, matched) if final else None
        if container.is_quote:
            if line[behind] != ">":
                break
            at, taken = behind + 1, 0
            if at == len(line) and not final:
                return None
            at += line.startswith(" ", at)
        elif line[behind] == "\n":
            pass  # a blank line goes on with any item
        elif columns >= container.needed:
            columns = min(columns, container.indent)
            at = _skip_columns(line, at, columns)
            taken += columns
        else:
            break
        matched += 1
    begun: list[Container] = []
    while True:
        columns, at = _indent(line, at)
        if at == len(line):
            return Line(Leaf.BLANK, at, matched, tuple(begun)) if final else None
        if len(containers) + len(begun) >= CONTAINER_LIMIT:
            break
        if line[at] == ">":
            begun.append(Container(">"))
            at, taken = at + 1, 0
            if at == len(line) and not final:
                return None
            at += line.startswith(" ", at)
            continue
        if line[at] in "-*_" and (rule := _RULE.match(line, at)):
            if rule.end() == len(line) and rule[2] is None and not final:
                return None
            if (rule[2] or rule.end() == len(line)) and rule[0].count(rule[1]) >= 3:
                return Line(Leaf.RULE, rule.end(), matched, tuple(begun))
        marker = _MARKER.match(line, at)
        if marker is None:
            if not final and _MARKER_BEGUN.match(line, at):
                return None
            break
        if marker.end() == len(line) and not final:
            return None
        # CommonMark: an empty item, or a number that isn't 1, doesn't interrupt a paragraph.
        interrupts = in_paragraph and matched == len(containers) and not begun
        empty = line[marker.end() : marker.end() + 1] in {"\n", ""}
        number = int(marker[2] or 1)
        if interrupts and (empty or number != 1):
            break
        kind = marker[1] or marker[3]
        width = marker.end() - at if marker[4] and not empty else len(marker[0].rstrip()) + 1
        begun.append(Container(kind, needed=columns + 2, indent=columns + width, start=number))
        taken += columns + width
        at = marker.end()
    return _read_leaf(line, at, matched, tuple(begun), taken + columns, final)


def read_verbatim_line(line: str, *, final: bool) -> Line | None:
    """What the line is to a tag's `<code>`, which only a blank line ends; None: it can't be said yet."""
    _, behind = _indent(line, 0)
    if behind == len(line):
        return Line(Leaf.BLANK, behind) if final else None
    return Line(Leaf.BLANK, behind + 1) if line[behind] == "\n" else Line(Leaf.TEXT, 0)


def _read_leaf(line: str, at: int, matched: int, begun: tuple[Container, ...], indent: int, final: bool) -> Line | None:
    match line[at]:
        case "\n":
            return Line(Leaf.BLANK, at + 1, matched, begun)
        case "#" if heading := _HEADING.match(line, at):
            if heading.end() == len(line) and not final:
                return None
            return Line(Leaf.HEADING, heading.end(), matched, begun, level=len(heading[1]))
        case "`" | "~":
            fence = _FENCE.match(line, at)
            if not final and ((fence and not fence[2]) or _FENCE_BEGUN.match(line, at)):
                return None
            if fence:
                return Line(Leaf.FENCE, fence.end(), matched, begun, fence=fence[1], indent=indent)
        case "<" if tag := _TAG.match(line, at):
            if tag[2] is not None and not final:
                return None
            if tag[1] and tag[1].lower() in BLOCKS | {"hr"}:
                return Line(Leaf.BLOCK_TAG, at, matched, begun)
    return Line(Leaf.TEXT, at, matched, begun)


@dataclass(frozen=True, slots=True)
class CodeLine:
    """The beginning of a line behind a fence's first. `closed`: by a closing fence, or by the end of a quote around it,
    whose line is then still to be read (`length` 0)."""

    length: int
    closed: bool = False


def read_code_line(
    line: str, containers: Sequence[Container], fence: str, indent: int, *, final: bool
) -> CodeLine | None:
    """What the line is to the fence it may be in; None: it can't be said yet."""
    at = 0
    for container in containers:
        if not container.is_quote:
            continue
        _, behind = _indent(line, at)
        if behind == len(line):
            return None if not final else CodeLine(behind)
        if line[behind] != ">":
            return CodeLine(0, closed=True)
        at = behind + 1
        if at == len(line):
            return None if not final else CodeLine(at)
        at += line.startswith(" ", at)
    columns, behind = _indent(line, at)
    end = behind
    while line.startswith(fence[0], end):
        end += 1
    _, rest = _indent(line, end)
    if rest == len(line) and not final:
        return None
    if end - behind >= len(fence) and columns <= indent + 3 and line[rest : rest + 1] in {"\n", ""}:
        return CodeLine(rest + 1 if rest < len(line) else rest, closed=True)
    return CodeLine(_skip_columns(line, at, min(columns, indent)))


def _indent(line: str, at: int) -> tuple[int, int]:
    """The columns of white space from there on, and where it ends. A tab is four columns wherever it stands."""
    if not line.startswith((" ", "\t"), at):
        return 0, at
    space = _INDENT.match(line, at)
    assert space is not None  # noqa: S101  the pattern matches the empty text
    return len(space[0]) + 3 * space[0].count("\t"), space.end()


def _skip_columns(line: str, at: int, columns: int) -> int:
    while columns > 0:
        columns -= 4 if line[at] == "\t" else 1
        at += 1
    return at
