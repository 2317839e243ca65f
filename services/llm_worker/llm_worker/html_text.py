"""The text of an HTML page: its title, and its paragraphs apart. It runs no script and loads nothing."""

import re
from html.parser import HTMLParser

_HIDDEN = frozenset({"script", "style", "template", "noscript", "svg", "nav", "head"})
_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "dfn", "em", "font", "i", "kbd", "mark", "q", "s", "samp"}
    | {"small", "span", "strong", "sub", "sup", "time", "u", "var", "wbr"}
)
_SPACES = re.compile(r"\s+")


def read_html(text: str) -> tuple[str, str]:
    """The title, of the first heading or else of the head ("" when there is neither), and the text, its paragraphs
    apart by empty lines."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.end_paragraph()
    return reader.heading or reader.title, "\n\n".join(reader.paragraphs)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self.title = ""
        self.heading = ""
        self._text: list[str] = []
        self._hidden: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"
        if tag in _HIDDEN:
            self._hidden.append(tag)
        # A page need not close its head.
        elif tag == "body":
            self._hidden.clear()
        if tag not in _INLINE:
            self.end_paragraph()

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        paragraph = "" if tag in _INLINE else self.end_paragraph()
        if tag in ("h1", "h2", "h3") and not self.heading:
            self.heading = paragraph

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title = (self.title + _SPACES.sub(" ", data)).strip()
        elif not self._hidden:
            self._text.append(data)

    def end_paragraph(self) -> str:
        """What stood since the last one."""
        paragraph = _SPACES.sub(" ", "".join(self._text)).strip()
        self._text.clear()
        if paragraph:
            self.paragraphs.append(paragraph)
        return paragraph
