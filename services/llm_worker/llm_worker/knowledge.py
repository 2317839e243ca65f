"""The port of the knowledge store: passages of documents, found by what a user says, and loaded from a folder.

Adapters live in `knowledge_stores/`. A store is asked with a message as its user wrote it; what bounds such a query
stands here, since each adapter needs it. See docs/subsystems/knowledge.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_WORDS = 64
MAX_WORDS_CHARS = 480
"""OpenSearch refuses a query of more than 1,024 clauses (seen, 2.19), and makes one of each field's word, in Chinese or
Japanese of each character. 64 words of English are shorter than this."""
END_CHARS = 2000
"""Of a long message its two ends are looked at: what is asked stands before or behind what was pasted."""

_WORD = re.compile(r"\w+")


class KnowledgeError(Exception):
    """The store can't be reached, or can't answer. The message holds nothing of a query or a passage."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Part of a document. `score` compares within one search only, higher is better."""

    id: str
    title: str
    text: str
    score: float


class KnowledgeStore(Protocol):
    """What answers are made with. For one event loop."""

    async def search(self, query: str, limit: int) -> Sequence[Passage]:
        """The best passages for a text, best first, `limit` at the most; none when nothing was loaded yet.

        Any text that UTF-8 can carry will do, of any length. It knows no time-out: who asks, cancels.
        Raises: KnowledgeError.
        """
        ...

    async def close(self) -> None:
        """Gives connections and threads back."""
        ...


@dataclass(frozen=True, slots=True)
class Section:
    """A passage before it is stored."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A file, in passages. They are stored under the ids `<path>#1`, `<path>#2`, ..."""

    path: str
    """Below the folder, with slashes."""
    digest: str
    """Of its content and of all that decides what is made of it: an equal one needs no loading."""
    sections: tuple[Section, ...]
    """At least one."""


class KnowledgeWriter(Protocol):
    """What the loader fills. One at a time; searches go on meanwhile, and see a document as it was or as it is."""

    async def digests(self) -> Mapping[str, str]:
        """What the store holds, by path. Called first: it makes the store where there is none.

        Raises: KnowledgeError.
        """
        ...

    async def put(self, document: Document) -> None:
        """Stores a document in place of what was at its path. Raises: KnowledgeError."""
        ...

    async def remove(self, path: str) -> None:
        """Removes a document. Raises: KnowledgeError."""
        ...

    async def commit(self) -> None:
        """All that was said is there for searches, at the latest now. Raises: KnowledgeError."""
        ...

    async def close(self) -> None:
        """What was not committed may be lost, and is loaded the next time."""
        ...


def search_words(query: str) -> list[str]:
    """The words that a message is looked up by: each once, in lower case, as many as an engine takes; none for a text
    without letters and digits."""
    ends = query if len(query) <= 2 * END_CHARS else f"{query[:END_CHARS]} {query[-END_CHARS:]}"
    words = list(dict.fromkeys(_WORD.findall(ends.lower())))
    if len(words) > MAX_WORDS:
        words = words[: MAX_WORDS // 2] + words[-MAX_WORDS // 2 :]
    left = MAX_WORDS_CHARS
    kept = []
    for word in words:
        kept.append(word[:left])
        left -= len(word)
        if left <= 0:
            break
    return kept
