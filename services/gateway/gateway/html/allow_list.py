"""The HTML that may leave: its elements, its two attributes, its links and its characters.

Whatever isn't named here does not exist in an answer. Refuses to know Markdown and to keep state. Subsystem:
docs/subsystems/html.md.
"""

import html
import re
from html.entities import html5
from ipaddress import AddressValueError, IPv4Address
from typing import Final

INLINE: Final = frozenset(
    {"a", "b", "code", "del", "em", "i", "ins", "kbd", "mark", "s", "small", "span", "strong", "sub", "sup", "u"}
)
HEADINGS: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
# Blocks that hold text and inline elements only: another block's beginning ends them.
LEAVES: Final = HEADINGS | {"p", "pre", "caption"}
LISTS: Final = frozenset({"ul", "ol"})
SECTIONS: Final = frozenset({"thead", "tbody", "tfoot"})
CELLS: Final = frozenset({"td", "th"})
TABLE_PARTS: Final = SECTIONS | CELLS | {"tr", "caption"}
# Blocks that hold other blocks, or text without a <p> around it.
CONTAINERS: Final = CELLS | {"blockquote", "div", "li"}
BLOCKS: Final = LEAVES | LISTS | TABLE_PARTS | CONTAINERS | {"table"}
VOID: Final = frozenset({"br", "hr"})
TAGS: Final = INLINE | BLOCKS | VOID
ATTRIBUTES: Final = {"a": frozenset({"href", "rel"}), "ol": frozenset({"start"})}

# What a browser would run, load or draw instead of showing: such content is no part of an answer's prose.
NOT_PROSE: Final = frozenset(
    {"script", "style", "template", "iframe", "noframes", "noembed", "noscript", "svg", "math"}
)

# Said of every link: the model's addresses get neither our window, nor our users' address, nor our good name.
REL: Final = "noopener noreferrer nofollow"

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_INVISIBLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\ufffd\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\s]+")
# No user before an "@" and no letters beyond ASCII, in plain or in punycode: both make a link look like another's.
_WEB: Final = re.compile(
    r"https?://(?![^/?#]*\bxn--)((?:[a-z0-9_-]+\.)*([a-z0-9_-]+))\.?(?::(?:[0-9]{1,4}|[1-5][0-9]{4}))?(?=[/?#]|\Z)",
    re.IGNORECASE | re.ASCII,
)
_MAIL: Final = re.compile(r"mailto:[^/]", re.IGNORECASE | re.ASCII)
_ATTRIBUTE: Final = re.compile(r"""([^\s"'<>/=]++)(?:\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'>]++))?+""")
_URL_UNSAFE: Final = str.maketrans({'"': "%22", "'": "%27", "<": "%3C", ">": "%3E", "`": "%60", "\\": "%5C"})


def printable(text: str) -> str:
    """The text without carriage returns, every other control character and lone surrogate made U+FFFD."""
    return _CONTROL.sub("\ufffd", text.replace("\r", "")) if _CONTROL.search(text) else text


def escape(text: str) -> str:
    """Printable text as HTML's character data."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def decode_entity(entity: str) -> str | None:
    """What `&...;` stands for, as printable text; None: HTML knows no such entity."""
    if entity[1] == "#":
        return printable(html.unescape(entity)) or "\ufffd"
    return html5.get(entity[1:])


def link_attributes(url: str) -> str | None:
    """The attributes of a link to that address, entities and all as the model wrote it; None: it may not be a link."""
    address = _INVISIBLE.sub("", html.unescape(url))
    if not _MAIL.match(address) and not _is_web(address):
        return None
    return f' href="{address.translate(_URL_UNSAFE).replace("&", "&amp;")}" rel="{REL}"'


def _is_web(address: str) -> bool:
    found = _WEB.match(address)
    if found is None:
        return False
    if found[2][0].isdigit():
        # Browsers read a host whose end is a number as an IPv4 address, in forms that few people do.
        try:
            IPv4Address(found[1])
        except AddressValueError:
            return False
    return True


def href(tag: str) -> str:
    """The value of the first `href` in a whole start tag, or ""."""
    for attribute in _ATTRIBUTE.finditer(tag, 2):
        if attribute[1].lower() == "href":
            value: str = attribute[2] or ""
            return value[1:-1] if value[:1] in {'"', "'"} else value
    return ""
