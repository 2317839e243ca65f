"""The loader: a store that holds what a folder holds, said in one line, with an exit code."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulator.process import Simulator

from .harness import NOWHERE
from .opensearch_server import open_opensearch
from .test_knowledge_stores import configure, opened, writing

COMMAND = [sys.executable, "-m", "llm_worker.load_knowledge"]


def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith("PYTHON")}
    done = subprocess.run(
        [*COMMAND, *arguments], env={**kept, **variables}, capture_output=True, text=True, timeout=100, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    (made / "more").mkdir(parents=True)
    (made / "nuts.md").write_text("# Nuts\n\nAlmonds lower cholesterol.\n")
    (made / "more" / "oats.txt").write_text("Oats too.")
    return made


def test_loading_twice_changes_nothing_and_the_rest_is_changed_removed_or_kept(folder: Path, tmp_path: Path) -> None:
    place = {"KNOWLEDGE_DIR": str(tmp_path / "store")}
    assert run(str(folder), **place) == (
        0,
        "embedded: 2 loaded (2 passages), 0 unchanged, 0 removed, 0 unreadable\n",
        "",
    )
    assert run(str(folder), **place)[1] == "embedded: 0 loaded (0 passages), 2 unchanged, 0 removed, 0 unreadable\n"
    (folder / "nuts.md").write_text("# Nuts\n\nWalnuts.\n")
    (folder / "more" / "oats.txt").unlink()
    assert run(str(folder), **place)[1] == "embedded: 1 loaded (1 passages), 0 unchanged, 1 removed, 0 unreadable\n"


def test_a_file_that_can_not_be_read_is_named_and_the_others_are_loaded(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.txt").write_bytes(b"\xff")
    code, out, err = run(str(folder), KNOWLEDGE_DIR=str(tmp_path / "store"))
    assert (code, err) == (1, "load_knowledge: bad.txt: not UTF-8 (byte 0)\n")
    assert "2 loaded" in out


async def test_what_became_unreadable_or_empty_is_kept_or_removed(folder: Path, tmp_path: Path, sim: Simulator) -> None:
    place = {"KNOWLEDGE_DIR": str(tmp_path / "store")}
    await asyncio.to_thread(run, str(folder), **place)
    (folder / "nuts.md").write_bytes(b"\xff")
    (folder / "more" / "oats.txt").write_text(" \n")
    code, _, _ = await asyncio.to_thread(run, str(folder), **place)
    assert code == 1
    async with writing(configure(sim, **place)) as writer:
        assert list(await writer.digests()) == ["nuts.md"]


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "sentence"),
    [
        ([], {"KNOWLEDGE_DIR": "x"}, 2, "usage: python -m llm_worker.load_knowledge FOLDER"),
        (["."], {}, 2, "there is no store: set KNOWLEDGE_DIR or OPENSEARCH_HOST"),
        (["nowhere"], {"KNOWLEDGE_DIR": "x"}, 2, "nowhere is no folder"),
        (["."], {"OPENSEARCH_HOST": "ftp://x"}, 2, "OPENSEARCH_HOST must be a URL"),
        (["."], {"OPENSEARCH_HOST": "x", "OPENSEARCH_USER": "admin"}, 2, "OPENSEARCH_PWD must be set"),
        (
            ["."],
            {"KNOWLEDGE_DIR": "x", "SWITCHBOARD__KNOWLEDGE__EMBEDDING_PROVIDER": "openai"},
            2,
            "knowledge.embedding_provider: 'openai' has no key",
        ),
    ],
)
def test_a_wrong_call_is_one_sentence(
    arguments: list[str], variables: dict[str, str], code: int, sentence: str
) -> None:
    got, out, err = run(*arguments, **variables)
    assert (got, out) == (code, "")
    assert err.startswith(f"load_knowledge: {sentence}")
    assert err.count("\n") == 1


def test_an_empty_folder_does_not_empty_the_store(folder: Path, tmp_path: Path) -> None:
    place = {"KNOWLEDGE_DIR": str(tmp_path / "store")}
    run(str(folder), **place)
    (tmp_path / "empty").mkdir()
    code, _, err = run(str(tmp_path / "empty"), **place)
    assert (code, "nothing was changed" in err) == (1, True)
    assert "2 unchanged" in run(str(folder), **place)[1]


def test_a_store_that_can_not_be_reached_is_one_sentence(folder: Path) -> None:
    code, out, err = run(str(folder), OPENSEARCH_HOST=f"http://{NOWHERE}")
    assert (code, out) == (1, "")
    assert err.startswith("load_knowledge: OpenSearch")


async def test_opensearch_is_filled_with_words_and_vectors(folder: Path, sim: Simulator) -> None:
    async with open_opensearch() as server:
        variables = {
            "OPENSEARCH_HOST": server.url,
            "OPENAI_API_KEY": "key",
            "OPENAI_BASE_URL": sim.openai_url("openai"),
            "SWITCHBOARD__KNOWLEDGE__EMBEDDING_PROVIDER": "openai",
        }
        done = await asyncio.to_thread(run, str(folder), **variables)
        line = "opensearch, words and vectors: {} loaded ({} passages), {} unchanged, 0 removed, 0 unreadable\n"
        assert done == (0, line.format(2, 2, 0), "")
        async with opened(configure(sim, hybrid=True, OPENSEARCH_HOST=server.url)) as store:
            assert (await store.search("almonds", 4))[0].id == "nuts.md#1"
        assert (await asyncio.to_thread(run, str(folder), **variables))[1] == line.format(0, 0, 2)
        other = {"SWITCHBOARD__KNOWLEDGE__EMBEDDING_MODEL": "another-model"}
        assert (await asyncio.to_thread(run, str(folder), **variables, **other))[1] == line.format(2, 2, 0)
