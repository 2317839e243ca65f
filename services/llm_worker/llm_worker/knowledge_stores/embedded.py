"""The embedded knowledge store: a tantivy index in a folder, without a server; BM25 over titles and texts.

Words are what stands between spaces and punctuation, in lower case and without accents: no stemming and no stop words
(their weight is near nothing by itself), so that it serves any language that puts spaces between words. In Chinese,
Japanese or Thai it finds whole runs of characters only.

One process may write while any number read; each sees what was committed at its next search. Measured (20,000 passages
of 150 words, 19 MiB): a search of four words 0.3 ms, of 64 words 0.3 ms and at worst 5 ms; it runs in a thread all the
same, since a folder on a network disk can hang.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import tantivy

from llm_worker.knowledge import Document, KnowledgeError, Passage, search_words
from llm_worker.settings import KnowledgeSettings

SUBFOLDER = "passages-1"
"""The number goes up when the fields or the analyser change: an index of other ones is not opened."""
ANALYZER = "words"
MAX_WORD_BYTES = 60
TITLE_WEIGHT = 2.0
WRITER_BYTES = 50_000_000
"""tantivy's buffer: 15 MB is its least."""


def open_store(
    settings: KnowledgeSettings, http_client: httpx2.AsyncClient, clock: Callable[[], float]
) -> "EmbeddedStore":
    """The store in `settings.folder`."""
    return EmbeddedStore(Path(settings.folder))


def open_writer(settings: KnowledgeSettings, http_client: httpx2.AsyncClient) -> "EmbeddedWriter":
    """Its writer."""
    return EmbeddedWriter(Path(settings.folder))


class EmbeddedStore:
    """Reads the index below `folder`, which need not be there yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / SUBFOLDER
        self._analyzer = _analyzer()
        # One thread: the index is its alone.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="knowledge")
        self._index: tantivy.Index | None = None
        self._committed: tuple[int, int] | None = None

    async def search(self, query: str, limit: int) -> Sequence[Passage]:
        """As the port says."""
        words = search_words(query)
        if not words:
            return []
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._search, words, limit)

    async def close(self) -> None:
        """As the port says."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _search(self, words: list[str], limit: int) -> list[Passage]:
        try:
            index = self._current()
            if index is None:
                return []
            searcher = index.searcher()
            found = searcher.search(self._query(index.schema, words), limit, count=False)
            passages = []
            for score, address in found.hits:
                document = searcher.doc(address)
                identity, title, text = (str(document.get_first(name)) for name in ("id", "title", "text"))
                passages.append(Passage(identity, title, text, float(score)))
        except (ValueError, OSError) as exc:
            raise KnowledgeError("the embedded index can't be read") from exc
        return passages

    def _current(self) -> tantivy.Index | None:
        """The index with all that was committed. tantivy's own watch would wake a thread twice a second for ever."""
        try:
            status = (self._folder / "meta.json").stat()
        except FileNotFoundError:
            self._index = None
            return None
        committed = (status.st_ino, status.st_mtime_ns)
        if self._index is None:
            index = tantivy.Index.open(str(self._folder))
            index.register_tokenizer(ANALYZER, self._analyzer)
            index.config_reader("manual")
            self._index = index
        elif committed != self._committed:
            self._index.reload()
        self._committed = committed
        return self._index

    def _query(self, schema: tantivy.Schema, words: list[str]) -> tantivy.Query:
        """By terms, since any text may come: a parser would find operators in it."""
        terms = dict.fromkeys(self._analyzer.analyze(" ".join(words)))
        either: list[tuple[tantivy.Occur, tantivy.Query]] = []
        for term in terms:
            in_text = tantivy.Query.term_query(schema, "text", term, "freq")
            in_title = tantivy.Query.term_query(schema, "title", term, "freq")
            either.append((tantivy.Occur.Should, in_text))
            either.append((tantivy.Occur.Should, tantivy.Query.boost_query(in_title, TITLE_WEIGHT)))
        return tantivy.Query.boolean_query(either)


class EmbeddedWriter:
    """Writes the index below `folder`. It has no loop to share: what it calls may block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / SUBFOLDER
        self._schema = _schema()
        self._writer: tantivy.IndexWriter | None = None

    async def digests(self) -> Mapping[str, str]:
        """As the port says."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            index = tantivy.Index(self._schema, str(self._folder))
            index.register_tokenizer(ANALYZER, _analyzer())
            self._writer = index.writer(heap_size=WRITER_BYTES, num_threads=1)
            searcher = index.searcher()
            first = tantivy.Query.term_query(self._schema, "number", 1)
            # A limit of 0 is refused.
            found = searcher.search(first, max(1, searcher.num_docs), count=False)
            documents = [searcher.doc(address) for _, address in found.hits]
        except (ValueError, OSError) as exc:
            raise KnowledgeError(f"{self._folder} can't be written: is another loader at work? {exc}") from exc
        return {str(one.get_first("document")): str(one.get_first("digest")) for one in documents}

    async def put(self, document: Document) -> None:
        """As the port says."""
        await self.remove(document.path)
        try:
            for number, section in enumerate(document.sections, 1):
                fields = {
                    "id": f"{document.path}#{number}",
                    "document": document.path,
                    "number": number,
                    "digest": document.digest,
                    "title": section.title,
                    "text": section.text,
                }
                self._opened().add_document(tantivy.Document.from_dict(fields, self._schema))
        except (ValueError, OSError) as exc:
            raise KnowledgeError(f"{self._folder} can't be written: {exc}") from exc

    async def remove(self, path: str) -> None:
        """As the port says."""
        try:
            self._opened().delete_documents_by_term("document", path)
        except (ValueError, OSError) as exc:
            raise KnowledgeError(f"{self._folder} can't be written: {exc}") from exc

    async def commit(self) -> None:
        """All of it at once: readers never see half a load."""
        try:
            self._opened().commit()
        except (ValueError, OSError) as exc:
            raise KnowledgeError(f"{self._folder} can't be written: {exc}") from exc

    async def close(self) -> None:
        """As the port says."""
        writer, self._writer = self._writer, None
        if writer is not None:
            # It ends the threads and frees the lock, without a commit.
            writer.wait_merging_threads()

    def _opened(self) -> tantivy.IndexWriter:
        if self._writer is None:
            raise RuntimeError("digests() comes first")
        return self._writer


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in ("id", "document", "digest"):
        builder.add_text_field(name, stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_unsigned_field("number", stored=True, indexed=True)
    for name in ("title", "text"):
        builder.add_text_field(name, stored=True, tokenizer_name=ANALYZER, index_option="freq")
    return builder.build()


def _analyzer() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in (
        tantivy.Filter.remove_long(MAX_WORD_BYTES),
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
    ):
        builder = builder.filter(step)
    return builder.build()
