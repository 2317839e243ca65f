"""OpenSearch as the knowledge store: BM25, and k-NN over vectors where an embedding model is configured.

Documents: https://docs.opensearch.org/latest/api-reference/search-apis/search/, /vector-search/,
/im-plugin/index-templates/. Tried against OpenSearch 2.19.1 with its k-NN plugin 2.19.1.0.

A hybrid search is two: by words, and by the message's vector, at the same time. Their ranks are fused here and not by
a search pipeline, since the vector comes from another service, which may be late or down: then the words' passages are
the answer, within the same time. Why: docs/decisions/0002-hybrid-search.md.

One search out, and what comes back:

    POST /switchboard-knowledge/_search   {"size": 20, "query": {"multi_match": {"query": "almonds", ...}}, ...}
    {"hits": {"hits": [{"_id": "nuts.md#1", "_score": 1.2, "_source": {"title": "Nuts", "text": "..."}}]}}
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2
from opensearchpy import AsyncOpenSearch, NotFoundError, OpenSearchException, TransportError
from pydantic import BaseModel, Field, ValidationError

from llm_worker.breaker import Breaker
from llm_worker.embeddings import Embedder, Vector
from llm_worker.knowledge import Document, KnowledgeError, Passage, search_words
from llm_worker.settings import KnowledgeSettings

log = logging.getLogger(__name__)

RANK_CONSTANT = 60
"""Of reciprocal rank fusion; its authors' value (Cormack, Clarke, Büttcher 2009)."""
DEPTH = 20
"""How far down each of the two lists counts."""
VECTOR_SHARE = 0.7
"""Of the time-out: by then the vector's passages are there, or the words' are given alone."""
FAILURE_THRESHOLD = 3
RESET_TIMEOUT_S = 5.0
CONNECTIONS = 100
REQUEST_TIMEOUT_S = 30.0
"""The loader's; a search is cancelled long before."""
EMBED_AT_ONCE = 64
PAGE = 1000
FIELDS = ("title^2", "text")


class _Source(BaseModel):
    title: str = ""
    text: str = ""
    document: str = ""
    digest: str = ""


class _Hit(BaseModel):
    id: str = Field(alias="_id")
    score: float | None = Field(default=None, alias="_score")
    source: _Source = Field(alias="_source")
    sort: list[Any] = Field(default_factory=list)


class _Hits(BaseModel):
    hits: list[_Hit]


class _Found(BaseModel):
    hits: _Hits


def open_store(
    settings: KnowledgeSettings, http_client: httpx2.AsyncClient, clock: Callable[[], float]
) -> "OpenSearchStore":
    """The store at `settings.host`."""
    return OpenSearchStore(settings, _embedder(settings, http_client), clock)


def open_writer(settings: KnowledgeSettings, http_client: httpx2.AsyncClient) -> "OpenSearchWriter":
    """Its writer."""
    return OpenSearchWriter(settings, _embedder(settings, http_client))


def _embedder(settings: KnowledgeSettings, http_client: httpx2.AsyncClient) -> Embedder | None:
    if settings.embedding_provider is None:
        return None
    return Embedder(settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions, http_client)


class OpenSearchStore:
    """Searches the index."""

    def __init__(self, settings: KnowledgeSettings, embedder: Embedder | None, clock: Callable[[], float]) -> None:
        self._client = _open_client(settings)
        self._index = settings.index
        self._embedder = embedder
        self._vector_timeout_s = settings.timeout_s * VECTOR_SHARE
        self._breaker = Breaker(failure_threshold=FAILURE_THRESHOLD, reset_timeout_s=RESET_TIMEOUT_S, clock=clock)

    async def search(self, query: str, limit: int) -> Sequence[Passage]:
        """As the port says. With vectors, a score is the fusion's: at most 2/61."""
        words = " ".join(search_words(query))
        if not words:
            return []
        by_words = self._search({"multi_match": {"query": words, "fields": FIELDS, "type": "most_fields"}})
        if self._embedder is None:
            return (await by_words)[:limit]
        found, near = await asyncio.gather(by_words, self._near(self._embedder, words), return_exceptions=True)
        if isinstance(found, BaseException):
            raise found
        if isinstance(near, BaseException):
            raise near
        return fuse(found, near)[:limit]

    async def close(self) -> None:
        """As the port says."""
        await self._client.close()

    async def _near(self, embedder: Embedder, words: str) -> list[Passage]:
        """By vector; none when that fails or takes too long."""
        permit = self._breaker.admit()
        if permit is None:
            return []
        try:
            async with asyncio.timeout(self._vector_timeout_s):
                [vector] = await embedder.embed([words])
                found = await self._search({"knn": {"vector": {"vector": vector, "k": DEPTH}}})
        except (KnowledgeError, TimeoutError) as exc:
            permit.fail()
            why = "late" if isinstance(exc, TimeoutError) else str(exc)
            log.warning("searched by words alone", extra={"why": why})
            return []
        except BaseException:
            # Stopped: it says nothing of the provider.
            permit.drop()
            raise
        permit.succeed()
        return found

    async def _search(self, query: Mapping[str, Any]) -> list[Passage]:
        body = {"size": DEPTH, "_source": ["title", "text"], "query": query}
        try:
            response = await self._client.search(index=self._index, body=body)
        except NotFoundError:
            # Nothing was loaded yet.
            return []
        except OpenSearchException as exc:
            raise _translate(exc) from exc
        return [Passage(hit.id, hit.source.title, hit.source.text, hit.score or 0.0) for hit in _read(response)]


def fuse(*lists: Sequence[Passage]) -> list[Passage]:
    """Reciprocal rank fusion: what stands high in several lists comes first. Scores of different kinds never meet."""
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for found in lists:
        for rank, passage in enumerate(found, 1):
            passages[passage.id] = passage
            scores[passage.id] = scores.get(passage.id, 0.0) + 1 / (RANK_CONSTANT + rank)
    best = sorted(scores, key=lambda identity: -scores[identity])
    return [Passage(one, passages[one].title, passages[one].text, scores[one]) for one in best]


class OpenSearchWriter:
    """Fills the index, one document at a time; a document's first passage, which names its digest, is stored last: what
    broke off half way is loaded again."""

    def __init__(self, settings: KnowledgeSettings, embedder: Embedder | None) -> None:
        self._client = _open_client(settings)
        self._settings = settings
        self._embedder = embedder
        self._index = settings.index

    async def digests(self) -> Mapping[str, str]:
        """As the port says. Puts the index template, and makes the index by it."""
        known: dict[str, str] = {}
        after: list[Any] = []
        query = {"size": PAGE, "_source": ["document", "digest"], "query": {"term": {"number": 1}}}
        try:
            dimensions = self._settings.embedding_dimensions if self._embedder is not None else 0
            await self._client.indices.put_index_template(
                name=self._index, body=index_template(self._index, dimensions)
            )
            if not await self._client.indices.exists(index=self._index):
                await self._client.indices.create(index=self._index)
            await self._client.indices.refresh(index=self._index)
            while True:
                page = {**query, "sort": [{"document": "asc"}], **({"search_after": after} if after else {})}
                hits = _read(await self._client.search(index=self._index, body=page))
                known |= {hit.source.document: hit.source.digest for hit in hits}
                if len(hits) < PAGE:
                    return known
                after = hits[-1].sort
        except OpenSearchException as exc:
            raise _explain(exc) from exc

    async def put(self, document: Document) -> None:
        """As the port says."""
        rows = await self._rows(document)
        try:
            await self._store(rows[1:])
            await self._client.delete_by_query(index=self._index, body={"query": _stale(document)}, conflicts="proceed")
            await self._store(rows[:1])
        except OpenSearchException as exc:
            raise _explain(exc) from exc

    async def remove(self, path: str) -> None:
        """As the port says."""
        body = {"query": {"term": {"document": path}}}
        try:
            await self._client.delete_by_query(index=self._index, body=body, conflicts="proceed")
        except OpenSearchException as exc:
            raise _explain(exc) from exc

    async def commit(self) -> None:
        """Each document was stored when it was put; now searches find them."""
        try:
            await self._client.indices.refresh(index=self._index)
        except OpenSearchException as exc:
            raise _explain(exc) from exc

    async def close(self) -> None:
        """As the port says."""
        await self._client.close()

    async def _rows(self, document: Document) -> list[dict[str, Any]]:
        rows = [
            {"document": document.path, "number": n, "digest": document.digest, "title": one.title, "text": one.text}
            for n, one in enumerate(document.sections, 1)
        ]
        if self._embedder is not None:
            for start in range(0, len(rows), EMBED_AT_ONCE):
                some = rows[start : start + EMBED_AT_ONCE]
                for row, vector in zip(some, await self._vectors(some), strict=True):
                    row["vector"] = vector
        return rows

    async def _vectors(self, rows: Sequence[Mapping[str, Any]]) -> list[Vector]:
        if self._embedder is None:
            return []
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await self._embedder.embed([f"{row['title']}\n{row['text']}" for row in rows])
        except TimeoutError as exc:
            raise KnowledgeError("the embeddings' provider takes too long") from exc

    async def _store(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for start in range(0, len(rows), EMBED_AT_ONCE):
            lines: list[Mapping[str, Any]] = []
            for row in rows[start : start + EMBED_AT_ONCE]:
                lines += [{"index": {"_id": f"{row['document']}#{row['number']}"}}, row]
            response = await self._client.bulk(index=self._index, body=lines)
            if response["errors"]:
                reasons = {item["index"].get("error", {}).get("reason", "") for item in response["items"]} - {""}
                raise KnowledgeError(
                    f"OpenSearch did not store passages: {min(reasons, default='it does not say why')}"
                )


def index_template(index: str, dimensions: int) -> dict[str, Any]:
    """For an index of that name; `dimensions` of 0: without vectors.

    Lucene's k-NN, since it needs no native library and has no memory of its own beside the heap.
    """
    properties: dict[str, Any] = {
        "document": {"type": "keyword"},
        "number": {"type": "integer"},
        "digest": {"type": "keyword"},
        "title": {"type": "text"},
        "text": {"type": "text"},
    }
    settings: dict[str, Any] = {}
    if dimensions:
        method = {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"}
        properties["vector"] = {"type": "knn_vector", "dimension": dimensions, "method": method}
        settings["index"] = {"knn": True}
    mappings = {"dynamic": "strict", "properties": properties}
    return {"index_patterns": [index], "priority": 100, "template": {"settings": settings, "mappings": mappings}}


def _stale(document: Document) -> dict[str, Any]:
    """What is left of a document as it was, but for its first passage."""
    return {
        "bool": {
            "filter": [{"term": {"document": document.path}}],
            "must_not": [{"term": {"digest": document.digest}}, {"term": {"number": 1}}],
        }
    }


def _open_client(settings: KnowledgeSettings) -> AsyncOpenSearch:
    # They would log each request, and the second one all of it, as a line for curl.
    for name in ("opensearch", "opensearchpy.trace"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return AsyncOpenSearch(
        hosts=[settings.host],
        http_auth=(settings.user, settings.password) if settings.user else None,
        max_retries=0,
        maxsize=CONNECTIONS,
        timeout=REQUEST_TIMEOUT_S,
    )


def _read(response: object) -> list[_Hit]:
    try:
        return _Found.model_validate(response).hits.hits
    except ValidationError as exc:
        raise KnowledgeError("OpenSearch answered with something else") from exc


def _translate(error: OpenSearchException) -> KnowledgeError:
    """Of a search: by its status alone, since a reason may quote the query."""
    status = error.status_code if isinstance(error, TransportError) else None
    return KnowledgeError(f"OpenSearch answered {status}" if isinstance(status, int) else "OpenSearch can't be reached")


def _explain(error: OpenSearchException) -> KnowledgeError:
    """For whoever loads: with the reason."""
    return KnowledgeError(f"OpenSearch: {error}")
