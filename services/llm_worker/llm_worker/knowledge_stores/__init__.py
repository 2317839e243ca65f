"""The knowledge stores, one engine a file; which one the settings ask for.

Only that one is imported: opensearch-py alone takes 0.6 s (measured). Each file offers `open_store` and `open_writer`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Protocol, cast

import httpx2

from llm_worker.knowledge import KnowledgeStore, KnowledgeWriter
from llm_worker.settings import KnowledgeSettings


class _Adapter(Protocol):
    def open_store(
        self, settings: KnowledgeSettings, http_client: httpx2.AsyncClient, clock: Callable[[], float]
    ) -> KnowledgeStore: ...

    def open_writer(self, settings: KnowledgeSettings, http_client: httpx2.AsyncClient) -> KnowledgeWriter: ...


def kind_of(settings: KnowledgeSettings) -> str:
    """The file of this folder that is asked for; "": none."""
    if settings.host:
        return "opensearch"
    return "embedded" if settings.folder else ""


def describe(settings: KnowledgeSettings) -> str:
    """For people, when a process starts."""
    match kind_of(settings):
        case "opensearch":
            return "opensearch, words and vectors" if settings.embedding_provider else "opensearch, words alone"
        case kind:
            return kind or "none"


@asynccontextmanager
async def open_store(
    settings: KnowledgeSettings, http_client: httpx2.AsyncClient, clock: Callable[[], float]
) -> AsyncIterator[KnowledgeStore | None]:
    """The store for the length of the block; None: there is none.

    It connects to nothing before it is asked. `http_client` reaches the embeddings' provider; `clock` gives seconds
    that never go back.
    """
    kind = kind_of(settings)
    store = _adapter(kind).open_store(settings, http_client, clock) if kind else None
    try:
        yield store
    finally:
        if store is not None:
            await store.close()


@asynccontextmanager
async def open_writer(
    settings: KnowledgeSettings, http_client: httpx2.AsyncClient
) -> AsyncIterator[KnowledgeWriter | None]:
    """What fills that store, for the length of the block; None: there is none."""
    kind = kind_of(settings)
    writer = _adapter(kind).open_writer(settings, http_client) if kind else None
    try:
        yield writer
    finally:
        if writer is not None:
            await writer.close()


def _adapter(kind: str) -> _Adapter:
    return cast(_Adapter, import_module(f"llm_worker.knowledge_stores.{kind}"))
