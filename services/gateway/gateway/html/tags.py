"""What a whole tag does to the tree: what parsers would do, as far as it is allowed.

Refuses to find tags in text. Attributes are dropped but for a link's address; unknown tags are dropped and their text
kept, unless it is no prose. Subsystem: docs/subsystems/html.md.
"""

import re
from typing import Final

from gateway.html.allow_list import (
    BLOCKS,
    CELLS,
    HEADINGS,
    INLINE,
    LEAVES,
    LISTS,
    NOT_PROSE,
    SECTIONS,
    TABLE_PARTS,
    VOID,
    href,
    link_attributes,
)
from gateway.html.tree import Tree

_NAME: Final = re.compile(r"</?([a-zA-Z][^\s/>]*)")
_TABLE: Final = frozenset({"table"})


def apply_tag(tree: Tree, tag: str) -> str:
    """Do what the tag, `<` to `>`, says. Returns the name of the element to be dropped with its content, or ""."""
    named = _NAME.match(tag)
    name = named[1].lower() if named else ""
    if tag[1] == "/":
        _end(tree, name)
    elif name == "a":
        if tree.inside("a"):
            _end(tree, "a")
        if attributes := link_attributes(href(tag)):
            tree.open_inline("a", "", attributes)
    elif name in INLINE:
        tree.open_inline(name, "")
    elif name in VOID:
        tree.void(name)
    elif name in NOT_PROSE:
        return "" if tag.endswith("/>") else name
    elif name in BLOCKS and not tree.too_deep:
        _start_block(tree, name)
    return ""


def _start_block(tree: Tree, tag: str) -> None:
    if tag in TABLE_PARTS:
        _start_table_part(tree, tag)
    elif tag != "li":
        tree.open_block(tag)
    else:
        place = tree.find(LISTS, CELLS | {"blockquote"})
        if place < 0:
            tree.open_block("ul")
        else:
            tree.close_to(place + 1)
        tree.open("li")


def _start_table_part(tree: Tree, tag: str) -> None:
    """Between a table and its cell stand exactly a section and a row, as parsers would have it."""
    table = tree.find(_TABLE)
    if table < 0:
        return
    if tag in SECTIONS or tag == "caption":
        tree.close_to(table + 1)
    else:
        row = tree.find({"tr"}, _TABLE) if tag in CELLS else -1
        if row < 0:
            section = tree.find(SECTIONS, _TABLE)
            tree.close_to((table if section < 0 else section) + 1)
            if section < 0:
                tree.open("tbody")
            if tag in CELLS:
                tree.open("tr")
        else:
            tree.close_to(row + 1)
    tree.open(tag)


def _end(tree: Tree, tag: str) -> None:
    """Close the nearest such element that a tag opened, and all within; nothing if there is none in reach."""
    if tag in INLINE:
        place = tree.find({tag}) if tree.inside(tag) else -1
    elif tag in LEAVES:
        if tree.leaf == tag or (tree.leaf in HEADINGS and tag in HEADINGS):
            tree.end_paragraph()
        return
    elif tag == "li":
        place = tree.find({tag}, LISTS | CELLS)
    elif tag in TABLE_PARTS:
        place = tree.find({tag}, _TABLE)
    elif tag in BLOCKS:
        place = tree.find({tag}, frozenset() if tag == "table" else CELLS)
    else:
        return
    if place >= 0:
        tree.close_to(place)
