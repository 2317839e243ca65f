"""Documents: how a folder's files become passages."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_worker.documents import PASSAGE_CHARS, UnreadableError, find_files, read_document, split
from llm_worker.knowledge import Document, Section


def read(folder: Path, name: str, content: str | bytes) -> Document:
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return next(read_document(file, "") for file in find_files(folder) if file.path == name)


def test_markdown_is_titled_by_its_first_heading_and_text_by_its_name(tmp_path: Path) -> None:
    assert read(tmp_path, "a.md", "intro\n\n## Nuts ##\n\nGood.\n").sections[0].title == "Nuts"
    assert read(tmp_path, "b/oats.txt", "# no heading here").sections == (Section("oats", "# no heading here"),)


def test_html_gives_its_text_without_scripts_and_its_heading(tmp_path: Path) -> None:
    page = """<!doctype html><html><head><title>Shop</title><style>p {}</style></head><body><nav>Menu</nav>
    <h1>Fish &amp; <em>omega</em></h1><p>Salmon is
    <b>rich</b> in omega-3.<p>Herring too.<ul><li>one<li>two</ul><script>alert("x")</script></body></html>"""
    [section] = read(tmp_path, "fish.html", page).sections
    assert section == Section(
        "Fish & omega", "Fish & omega\n\nSalmon is rich in omega-3.\n\nHerring too.\n\none\n\ntwo"
    )
    assert read(tmp_path, "b.htm", "<title>Only</title><body><p>This").sections == (Section("Only", "This"),)
    assert read(tmp_path, "c.html", "bare <b>text").sections == (Section("c", "bare text"),)


def test_json_lines_are_passages_with_titles_of_their_own(tmp_path: Path) -> None:
    lines = [{"title": "Iron", "text": "Lentils."}, {"text": "Vitamin C."}]
    content = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    assert read(tmp_path, "facts.jsonl", content).sections == (
        Section("Iron", "Lentils."),
        Section("facts", "Vitamin C."),
    )


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", b"gr\xfc\xdfe", "a.txt: not UTF-8 (byte 2)"),
        ("a.jsonl", '{"text": "x"}\n{', "a.jsonl: line 2 is not JSON"),
        ("a.jsonl", '{"title": "x"}', 'a.jsonl: line 1 is no object with a "text"'),
        ("a.jsonl", "[1]", 'a.jsonl: line 1 is no object with a "text"'),
    ],
)
def test_what_can_not_be_read_says_why(tmp_path: Path, name: str, content: str | bytes, why: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read(tmp_path, name, content)
    assert str(caught.value) == why


def test_only_documents_are_found_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ("a.md", "B.TXT", "sub/c.html", ".hidden.md", ".git/d.md", "e.pdf", "f"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [file.path for file in find_files(tmp_path)] == ["B.TXT", "a.md", "sub/c.html"]


def test_the_digest_changes_with_the_content_and_with_the_salt(tmp_path: Path) -> None:
    first = read(tmp_path, "a.md", "one")
    [file] = find_files(tmp_path)
    assert read_document(file, "").digest == first.digest
    assert read_document(file, "other model").digest != first.digest
    assert read(tmp_path, "a.md", "two").digest != first.digest


def test_paragraphs_stay_whole_where_they_fit() -> None:
    one, two, three = "a " * 200, "b " * 200, "c " * 300
    assert split(f"{one}\n\n{two}\n\n{three}") == [f"{one.strip()}\n\n{two.strip()}", three.strip()]


def test_a_long_paragraph_is_split_between_sentences() -> None:
    sentence = "It is said that oats are good. "
    passages = split(sentence * 100)
    assert all(passage.endswith("good.") for passage in passages)
    assert len(passages) == 4


@given(st.text(max_size=5000))
def test_passages_are_bounded_and_nothing_is_lost(text: str) -> None:
    passages = split(text)
    assert all(0 < len(passage) <= PASSAGE_CHARS for passage in passages)
    assert "".join("".join(passages).split()) == "".join(text.split())
