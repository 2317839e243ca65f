"""Fills the knowledge store from a folder: `python -m llm_worker.load_knowledge FOLDER`, `make knowledge FOLDER=...`.

The store then holds what the folder holds: what is new or changed is loaded, what is gone is removed, and the rest is
not touched. Workers see it with their next search. Which store, the worker's own settings say. It exits with 0 when all
was loaded, 1 when a file or the store failed (what could be loaded was), 2 when it was called wrongly. See
docs/subsystems/knowledge.md.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.environment import SettingError

from llm_worker import settings as worker_settings
from llm_worker.documents import KINDS, File, UnreadableError, find_files, read_document
from llm_worker.knowledge import KnowledgeError, KnowledgeWriter
from llm_worker.knowledge_stores import describe, open_writer
from llm_worker.pacer import Pacer
from llm_worker.settings import KnowledgeSettings
from llm_worker.transport import open_http_client

CONNECT_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Report:
    """What a load came to."""

    loaded: int = 0
    passages: int = 0
    unchanged: int = 0
    removed: int = 0
    unreadable: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.loaded} loaded ({self.passages} passages), {self.unchanged} unchanged, {self.removed} removed, "
            f"{len(self.unreadable)} unreadable"
        )


def main(arguments: list[str], variables: Mapping[str, str]) -> int:
    """The process: its exit code."""
    if len(arguments) != 1:
        return _fail("usage: python -m llm_worker.load_knowledge FOLDER", 2)
    folder = Path(arguments[0])
    try:
        settings = worker_settings.read_knowledge(variables)
    except SettingError as exc:
        return _fail(str(exc), 2)
    if not settings.host and not settings.folder:
        return _fail("there is no store: set KNOWLEDGE_DIR or OPENSEARCH_HOST", 2)
    if not folder.is_dir():
        return _fail(f"{folder} is no folder", 2)
    try:
        report = asyncio.run(load(folder, settings))
    except (KnowledgeError, OSError) as exc:
        return _fail(str(exc), 1)
    for sentence in report.unreadable:
        print(f"load_knowledge: {sentence}", file=sys.stderr)
    print(f"{describe(settings)}: {report}")
    return 1 if report.unreadable else 0


async def load(folder: Path, settings: KnowledgeSettings) -> Report:
    """Makes the store hold what the folder holds. Raises: KnowledgeError, OSError."""
    files = find_files(folder)
    if not files:
        # Most likely the wrong folder: it does not empty the store.
        raise KnowledgeError(f"no documents in {folder} ({', '.join(KINDS)}): nothing was changed")
    async with (
        open_http_client(pacer=Pacer(), connect_timeout_s=CONNECT_TIMEOUT_S) as http_client,
        open_writer(settings, http_client) as writer,
    ):
        if writer is None:
            raise KnowledgeError("there is no store")
        return await _fill(writer, files, _salt(settings))


async def _fill(writer: KnowledgeWriter, files: list[File], salt: str) -> Report:
    report = Report()
    known = await writer.digests()
    for number, file in enumerate(files, 1):
        _progress(f"{number}/{len(files)}")
        try:
            document = read_document(file, salt)
        except UnreadableError as exc:
            # What is stored of it stays.
            report.unreadable.append(str(exc))
            continue
        if not document.sections:
            if file.path in known:
                await writer.remove(file.path)
                report.removed += 1
        elif known.get(file.path) == document.digest:
            report.unchanged += 1
        else:
            await writer.put(document)
            report.loaded += 1
            report.passages += len(document.sections)
    for path in known.keys() - {file.path for file in files}:
        await writer.remove(path)
        report.removed += 1
    await writer.commit()
    _progress("")
    return report


def _salt(settings: KnowledgeSettings) -> str:
    """With other vectors everything is loaded anew."""
    if not settings.host or settings.embedding_provider is None:
        return ""
    return f"{settings.embedding_model} {settings.embedding_dimensions}"


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _fail(sentence: str, code: int) -> int:
    print(f"load_knowledge: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
