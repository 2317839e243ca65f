"""A folder's documents, read and split into passages for the knowledge store.

`.md`, `.txt`, `.html`, `.htm`, and `.jsonl`: one object with "text" and, if it likes, "title" a line. In UTF-8. Files
and folders whose names begin with a dot are passed over.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_worker.html_text import read_html
from llm_worker.knowledge import Document, Section

KINDS = (".md", ".txt", ".html", ".htm", ".jsonl")
PASSAGE_CHARS = 1000
"""About 250 tokens: four of them say enough for an answer, and an embedding of more says less."""
SPLITTING = "1"
"""Part of each digest: with another one all documents are loaded anew."""

_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?…])\s+|(?<=[\u3002\uff01\uff1f])")
"""Those of Latin scripts, and of Chinese and Japanese."""


class UnreadableError(Exception):
    """A file that can't be made a document; the message says why."""


@dataclass(frozen=True, slots=True)
class File:
    """A document that was not read yet."""

    path: str
    """Below the folder, with slashes."""
    place: Path


def find_files(folder: Path) -> list[File]:
    """The documents below a folder, by path. Raises: OSError."""
    found = (place for place in folder.rglob("*") if place.suffix.lower() in KINDS and place.is_file())
    files = [File(place.relative_to(folder).as_posix(), place) for place in found]
    return sorted(
        (file for file in files if not any(part.startswith(".") for part in file.path.split("/"))),
        key=lambda file: file.path,
    )


def read_document(file: File, salt: str) -> Document:
    """Reads and splits it; without any text it has no sections. `salt`: what else decides what is stored of it.

    Raises: UnreadableError.
    """
    try:
        content = file.place.read_bytes()
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as exc:
        raise UnreadableError(f"{file.path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UnreadableError(f"{file.path}: not UTF-8 (byte {exc.start})") from exc
    digest = hashlib.sha256(f"{SPLITTING} {salt}\n".encode() + content).hexdigest()
    name = file.place.stem
    match file.place.suffix.lower():
        case ".jsonl":
            sections = tuple(_read_lines(file.path, name, text))
        case ".html" | ".htm":
            title, body = read_html(text)
            sections = _sections(title or name, body)
        case ".md":
            heading = _HEADING.search(text)
            sections = _sections(heading.group(1) if heading else name, text)
        case _:
            sections = _sections(name, text)
    return Document(file.path, digest, sections)


def _read_lines(path: str, name: str, text: str) -> Iterator[Section]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise UnreadableError(f"{path}: line {number} is not JSON") from exc
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise UnreadableError(f'{path}: line {number} is no object with a "text"')
        title = row.get("title")
        yield from _sections(title if isinstance(title, str) and title.strip() else name, row["text"])


def _sections(title: str, text: str) -> tuple[Section, ...]:
    return tuple(Section(title.strip(), passage) for passage in split(text))


def split(text: str) -> list[str]:
    """Passages of at most PASSAGE_CHARS, of whole paragraphs where they fit, else of whole sentences, else of words."""
    return _join(
        [part for paragraph in _PARAGRAPHS.split(text) for part in _fit(paragraph.strip()) if part], joint="\n\n"
    )


def _fit(paragraph: str) -> list[str]:
    if len(paragraph) <= PASSAGE_CHARS:
        return [paragraph]
    sentences: list[str] = []
    for sentence in _SENTENCE_ENDS.split(paragraph):
        rest = sentence
        while len(rest) > PASSAGE_CHARS:
            cut = rest.rfind(" ", 1, PASSAGE_CHARS + 1)
            cut = cut if cut > 0 else PASSAGE_CHARS
            sentences.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        sentences.append(rest)
    return _join([sentence for sentence in sentences if sentence], joint=" ")


def _join(parts: list[str], *, joint: str) -> list[str]:
    """Neighbours together, as long as they fit."""
    joined: list[str] = []
    for part in parts:
        if joined and len(joined[-1]) + len(joint) + len(part) <= PASSAGE_CHARS:
            joined[-1] += joint + part
        else:
            joined.append(part)
    return joined
