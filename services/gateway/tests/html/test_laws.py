"""The renderer's laws, over inputs made of the pieces that are most likely to break them."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import gateway.html.allow_list
import gateway.html.blocks
import gateway.html.inline
import gateway.html.lookahead
import gateway.html.renderer
import gateway.html.tags
import nh3
import pytest
from gateway.html.allow_list import ATTRIBUTES, REL, TAGS, VOID
from gateway.html.renderer import HOLD_LIMIT, HtmlRenderer
from hypothesis import example, given, settings
from hypothesis import strategies as st

PIECES = [
    *[
        "**",
        "*",
        "***",
        "_",
        "__",
        "~~",
        "~",
        "`",
        "``",
        "```",
        "```\n",
        "~~~\n",
        "\\",
        "!",
        "[",
        "](",
        ")",
        "(",
        '"',
        "'",
    ],
    *[
        "[a](",
        "[a](https://x.yz)",
        "![a](https://x.yz)",
        "[`b`](https://x.yz/?a=1&b=2)",
        "https://x.yz/a_b",
        "<https://u.vw>",
    ],
    *[
        "\n",
        "\n\n",
        "  \n",
        "\\\n",
        "\r\n",
        " ",
        "  ",
        "    ",
        "\t",
        "- ",
        "+ ",
        "* ",
        "1. ",
        "2) ",
        "10. ",
        "> ",
        ">",
        "# ",
        "## ",
    ],
    *["\n- ", "\n  - ", "\n1. ", "\n> ", "\n# ", "\n---\n", "---", "* * *", "\n```\n", "\n    "],
    *[
        "<",
        "</",
        "<b",
        "<!",
        "<!--",
        "-->",
        ">",
        "=",
        "/>",
        "<b>",
        "</b>",
        "<i>",
        "</i>",
        "<code>",
        "</code>",
        "<span class=x>",
        "</span>",
    ],
    *[
        "<p>",
        "</p>",
        "<div>",
        "</div>",
        "<pre>",
        "</pre>",
        "<blockquote>",
        "</blockquote>",
        "<h1>",
        "</h2>",
        "<br>",
        "<hr/>",
    ],
    *["<ul>", "</ul>", "<ol>", "</ol>", "<li>", "</li>", "<table>", "</table>", "<thead>", "<tbody>", "</tbody>"],
    *["<tr>", "</tr>", "<td>", "<th>", "</td>", "<caption>", "</caption>"],
    *[
        '<a href="https://x.yz">',
        "<a href=javascript:x>",
        "</a>",
        "<script>",
        "</script>",
        "<style>",
        "</style>",
        "<svg/>",
        "<x-y z>",
    ],
    *["&", "&am", "&lt;", "&amp;", "&nbsp;", "&#10;", "&#0;", "&#x41;", "&zz;"],
    *[
        "a",
        "word",
        "two words",
        "é",
        "中文",
        "\xa0",
        "\u2028",
        "\x00",
        "\x0c",
        "\ud800",
        "\N{GRINNING FACE}",
        "1",
        "-",
        "`" * 33,
    ],
]
ANSWERS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=30).map("".join)


def written_at_every_prefix(text: str) -> list[str]:
    """What is written after no character, one, two, and so on; last, after the finish."""
    renderer = HtmlRenderer()
    written = [""]
    for character in text:
        written.append(written[-1] + renderer.feed(character))
    return [*written, written[-1] + renderer.finish()]


@given(ANSWERS, st.lists(st.integers(0, 40), max_size=40))
@settings(max_examples=400)
@example("# *a", [3])
@example("a<!-- x -->*b*", [])
@example("- a\n<ul>", [])
def test_what_is_written_for_a_prefix_does_not_depend_on_its_chunks(text: str, sizes: list[int]) -> None:
    expected = written_at_every_prefix(text)
    renderer, written, at = HtmlRenderer(), "", 0
    for size in [*sizes, len(text)]:
        written += renderer.feed(text[at : at + size])
        at = min(len(text), at + size)
        assert written == expected[at]
    assert written + renderer.finish() == expected[-1]


@given(ANSWERS)
@settings(max_examples=100)
def test_more_input_only_appends(text: str) -> None:
    written = written_at_every_prefix(text)
    assert all(after.startswith(before) for before, after in pairwise(written))


class StrictParser(HTMLParser):
    """Fails on anything that isn't allow-listed, nested and closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= ATTRIBUTES.get(tag, frozenset())
        for name, value in attrs:
            assert value is not None
            if name == "href":
                assert re.match(r"https?://|mailto:", value, re.IGNORECASE)
        assert tag != "a" or dict(attrs).get("rel") == REL
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert not set(data) & set("<>&\r")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", data)

    def handle_entityref(self, name: str) -> None:
        assert name in {"lt", "gt", "amp"}

    def handle_charref(self, name: str) -> None:
        raise AssertionError(name)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)


def cleaned(html: str) -> str:
    """The fragment as an independent HTML5 parser and sanitiser with our allow-list writes it."""
    attributes = {tag: set(names) - {"rel"} for tag, names in ATTRIBUTES.items()}
    schemes = {"http", "https", "mailto"}
    clean = nh3.clean(html, tags=set(TAGS), attributes=attributes, url_schemes=schemes, link_rel=REL)
    return clean.replace("&nbsp;", "\xa0")


def assert_well_formed(html: str) -> None:
    parser = StrictParser()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert cleaned(html) == html


@given(ANSWERS)
@settings(max_examples=300)
@example("<table><caption>a<td>b<table>c<tr>d</table>e</table>f")
@example("<pre>\n\na</pre><pre>&#10;b")
@example("**a <b>[c *d](https://x.yz)* e</b>\n\n- f `g\n  > h\n\n```\ni")
def test_the_output_is_well_formed_and_allow_listed_at_every_prefix(text: str) -> None:
    renderer = HtmlRenderer()
    written = ""
    for character in text:
        more = renderer.feed(character)
        written += more
        if more:
            assert_well_formed(written + renderer.close_tags())
    assert_well_formed(written + renderer.finish())


@given(st.text(alphabet="abcXYZ0123456789 ,;:?.éß中\N{GRINNING FACE}'\"(){}$%/", min_size=1, max_size=60))
def test_plain_text_comes_out_as_it_went_in(text: str) -> None:
    renderer = HtmlRenderer()
    written = renderer.feed("a") + renderer.feed(text) + renderer.finish()
    assert written == f"<p>a{text}</p>"


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
@settings(max_examples=100)
def test_code_in_a_fence_comes_out_as_it_went_in(code: str) -> None:
    code = re.sub(r"[\x00-\x08\x0b-\x1f\ud800]", "", code).replace("~~~", "")
    renderer = HtmlRenderer()
    written = renderer.feed(f"~~~\n{code}\n~~~\n") + renderer.finish()
    escaped = code.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert written == f"<pre><code>{escaped}\n</code></pre>"


# Openings of constructs that never end, each of which a careless renderer would hold, or read again, for ever.
ENDLESS = {
    "tag": "<b " + "x" * 30_000,
    "tag in quotes": '<b x="' + "y" * 30_000,
    "tag of many quotations": "<b " + "''\"\"" * 8_000,
    "tags in tags": "<b " * 10_000,
    "tags in quotations": "<b '<b \"" * 4_000,
    "tag of lines": "<b" + "\nx" * 15_000,
    "link text": "[" + "x" * 30_000,
    "links in links": "[a](" * 8_000,
    "brackets": "[" * 30_000,
    "link target": "[a](" + "x" * 30_000,
    "parentheses": "[a](" + "(" * 15_000 + ")" * 15_000,
    "spaces in links": ("[a](" + " " * 2_000) * 15,
    "images": "![" * 15_000,
    "entity": "&" + "a" * 30_000,
    "entities": "&am" * 10_000,
    "number": "&#" + "1" * 30_000,
    "stars": "*" * 30_000,
    "openers": " *a" * 10_000,
    "backticks": "a" + "`" * 30_000,
    "spaces in code": "`` " + " " * 30_000,
    "spaces": " " * 30_000,
    "empty lines": "\n" * 30_000,
    "quotes": ">" * 30_000,
    "items": "- " * 15_000,
    "lines of rules": "- - - -x\n" * 3_000,
    "digits": "1" * 30_000,
    "fence's first line": "```" + "x" * 30_000,
    "closing fence": "```\n" + "`" * 30_000,
    "spaces in a fence": "```\n" + (" " * 200 + "\n") * 150,
    "comment": "<!--" + "-" * 30_000,
    "script": "<script>" + "</scrip" * 4_000,
    "depth": "<div>" * 6_000,
    "inline depth": "<b>" * 10_000,
    "lists": "<ul><li>" * 4_000,
    "tables": "<table><tr><td>" * 2_000,
    "backslashes": "\\" * 30_000,
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS.keys())
def test_what_is_held_back_and_what_is_open_have_a_bound(text: str) -> None:
    renderer = HtmlRenderer()
    for at in range(0, len(text), 50):
        renderer.feed(text[at : at + 50])
        assert renderer.held < HOLD_LIMIT
        assert renderer.close_tags().count("<") < 100


@pytest.mark.parametrize("name", ["tag", "tag in quotes", "link text", "link target", "entity", "comment"])
def test_what_is_too_long_to_be_markup_is_text_in_the_end(name: str) -> None:
    text = ENDLESS[name]
    renderer = HtmlRenderer()
    written = renderer.feed(text)
    assert name == "comment" or len(written) >= len(text) - 2


class CountingPattern:
    """A compiled pattern that counts the characters its searches and matches get past."""

    scanned = 0

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def search(self, text: str, at: int = 0, end: int = 1 << 60) -> re.Match[str] | None:
        found = self._pattern.search(text, at, end)
        self._count(at, found.end() if found else min(end, len(text)))
        return found

    def match(self, text: str, at: int = 0, end: int = 1 << 60) -> re.Match[str] | None:
        found = self._pattern.match(text, at, end)
        self._count(at, found.end() if found else at)
        return found

    def fullmatch(self, text: str, at: int = 0, end: int = 1 << 60) -> re.Match[str] | None:
        self._count(at, min(end, len(text)))
        return self._pattern.fullmatch(text, at, end)

    def finditer(self, text: str, at: int = 0) -> object:
        self._count(at, len(text))
        return self._pattern.finditer(text, at)

    def sub(self, replacement: str, text: str) -> str:
        self._count(0, len(text))
        return self._pattern.sub(replacement, text)

    @classmethod
    def _count(cls, start: int, end: int) -> None:
        CountingPattern.scanned += 1 + end - start


def counting(value: object) -> object:
    """The module constant, with the patterns in it counting."""
    pattern = getattr(value, "__self__", None)
    if isinstance(value, re.Pattern):
        return CountingPattern(value)
    if isinstance(pattern, re.Pattern):
        return CountingPattern(pattern).search
    if isinstance(value, dict):
        return {key: counting(entry) for key, entry in value.items()}
    return value


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS.keys())
def test_the_characters_looked_at_grow_with_the_input_only(
    text: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = gateway.html
    for module in (html.allow_list, html.blocks, html.inline, html.lookahead, html.renderer, html.tags):
        for name, value in vars(module).copy().items():
            if not name.startswith("__"):
                monkeypatch.setattr(module, name, counting(value))
    CountingPattern.scanned = 0
    renderer = HtmlRenderer()
    for at in range(0, len(text), size):
        renderer.feed(text[at : at + size])
    renderer.finish()
    # Measured at most 44, 8 and 7: a line's beginning, up to LINE_LIMIT, is read again for each delta it comes in.
    assert CountingPattern.scanned < {1: 64, 7: 16, 100_000: 12}[size] * len(text)
