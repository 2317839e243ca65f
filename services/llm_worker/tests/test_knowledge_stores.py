"""Every knowledge store keeps the same promises: the embedded one, and OpenSearch with and without vectors.

With SWITCHBOARD_TEST_OPENSEARCH (a URL) the same tests run against a real OpenSearch too, in indices of their own.
"""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llm_worker import settings as worker_settings
from llm_worker.knowledge import (
    MAX_WORDS,
    MAX_WORDS_CHARS,
    Document,
    KnowledgeError,
    KnowledgeStore,
    KnowledgeWriter,
    Section,
    search_words,
)
from llm_worker.knowledge_stores import open_store, open_writer
from llm_worker.knowledge_stores.opensearch import OpenSearchStore
from llm_worker.pacer import Pacer
from llm_worker.settings import KnowledgeSettings
from llm_worker.transport import open_http_client
from simulator.process import Simulator

from .hung_server import open_hung
from .opensearch_server import OpenSearchServer, open_opensearch

REAL = os.environ.get("SWITCHBOARD_TEST_OPENSEARCH", "")
KINDS = ["embedded", "words", "hybrid", *(["real words", "real hybrid"] if REAL else [])]

NUTS = Document(
    "nuts.md",
    "1",
    (
        Section("Nuts", "Almonds lower cholesterol when eaten daily."),
        Section("Nuts", "Peanuts are legumes and a common allergen."),
    ),
)
OATS = Document("more/oats.txt", "1", (Section("Oats", "Beta-glucan in oats lowers cholesterol."),))


def configure(sim: Simulator, *, hybrid: bool = False, **variables: str) -> KnowledgeSettings:
    own = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": sim.openai_url("openai"), **variables}
    if hybrid:
        own["SWITCHBOARD__KNOWLEDGE__EMBEDDING_PROVIDER"] = "openai"
    return worker_settings.read_knowledge(own)


@pytest.fixture(params=KINDS)
async def configured(
    request: pytest.FixtureRequest, sim: Simulator, tmp_path: Path
) -> AsyncIterator[KnowledgeSettings]:
    kind: str = request.param
    hybrid = kind.endswith("hybrid")
    if kind == "embedded":
        yield configure(sim, KNOWLEDGE_DIR=str(tmp_path / "made" / "here"))
    elif kind.startswith("real"):
        index = f"test-{uuid.uuid4().hex}"
        yield patient(configure(sim, hybrid=hybrid, OPENSEARCH_HOST=REAL, SWITCHBOARD__KNOWLEDGE__INDEX=index))
    else:
        async with open_opensearch("admin", "very secret") as server:
            login = {"OPENSEARCH_USER": "admin", "OPENSEARCH_PWD": "very secret"}
            yield patient(configure(sim, hybrid=hybrid, OPENSEARCH_HOST=server.url, **login))


def patient(chosen: KnowledgeSettings) -> KnowledgeSettings:
    """What is not about time is not to fail by it."""
    return replace(chosen, timeout_s=20.0)


@asynccontextmanager
async def opened(chosen: KnowledgeSettings) -> AsyncIterator[KnowledgeStore]:
    async with (
        open_http_client(pacer=Pacer(), connect_timeout_s=5) as http_client,
        open_store(chosen, http_client, time.monotonic) as store,
    ):
        assert store is not None
        yield store


@asynccontextmanager
async def writing(chosen: KnowledgeSettings) -> AsyncIterator[KnowledgeWriter]:
    async with (
        open_http_client(pacer=Pacer(), connect_timeout_s=5) as http_client,
        open_writer(chosen, http_client) as writer,
    ):
        assert writer is not None
        yield writer


async def fill(chosen: KnowledgeSettings, *documents: Document, gone: tuple[str, ...] = ()) -> None:
    async with writing(chosen) as writer:
        await writer.digests()
        for document in documents:
            await writer.put(document)
        for path in gone:
            await writer.remove(path)
        await writer.commit()


async def test_a_passage_is_found_by_its_words_and_the_best_comes_first(configured: KnowledgeSettings) -> None:
    await fill(configured, NUTS, OATS)
    async with opened(configured) as store:
        found = await store.search("Do almonds help against CHOLESTEROL?", 4)
        assert (found[0].id, found[0].title, found[0].text) == ("nuts.md#1", "Nuts", NUTS.sections[0].text)
        assert "more/oats.txt#1" in [one.id for one in found]
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        assert len(await store.search("cholesterol", 1)) == 1


async def test_a_store_into_which_nothing_was_loaded_finds_nothing(configured: KnowledgeSettings) -> None:
    async with opened(configured) as store:
        assert list(await store.search("almonds", 4)) == []


async def test_a_reader_sees_what_another_process_loads_afterwards(configured: KnowledgeSettings) -> None:
    async with opened(configured) as store:
        await store.search("almonds", 4)
        await fill(configured, NUTS)
        assert (await store.search("almonds", 4))[0].id == "nuts.md#1"
        changed = Document("nuts.md", "2", (Section("Nuts", "Walnuts only."),))
        await fill(configured, changed, OATS)
        assert (await store.search("walnuts", 4))[0].text == "Walnuts only."
        assert all("Peanuts" not in one.text for one in await store.search("peanuts", 4))
        await fill(configured, gone=("more/oats.txt",))
        assert "more/oats.txt#1" not in [one.id for one in await store.search("oats", 4)]


async def test_it_knows_which_documents_it_holds_and_in_which_state(configured: KnowledgeSettings) -> None:
    await fill(configured, NUTS, OATS)
    await fill(configured, replace(NUTS, digest="2"))
    async with writing(configured) as writer:
        assert await writer.digests() == {"nuts.md": "2", "more/oats.txt": "1"}


ANYTHING = [
    "",
    "?!",
    "😀",
    '"almonds',
    "title:nuts AND (text:^2 OR -x~ [a TO b} \\",
    "a\x00b",
    "' OR 1=1 --",
    "x" * 65536,
    "世界" * 32768,
    " ".join(str(number) for number in range(12000)),
    '{"match_all": {}}',
]


@pytest.mark.parametrize("text", ANYTHING, ids=range(len(ANYTHING)))
async def test_no_text_is_too_strange_to_ask_with(configured: KnowledgeSettings, text: str) -> None:
    await fill(configured, NUTS)
    async with opened(configured) as store:
        assert len(await store.search(text, 4)) <= 4


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=2000))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_searched_for_is_bounded_whatever_was_said(text: str) -> None:
    words = search_words(text)
    assert len(words) <= MAX_WORDS
    assert len(set(words)) == len(words) or len("".join(words)) == MAX_WORDS_CHARS
    assert sum(map(len, words)) <= MAX_WORDS_CHARS


def test_of_a_long_message_both_ends_are_looked_at() -> None:
    words = search_words("Almonds? " + "filler " * 20000 + " and walnuts?")
    assert (words[0], words[-2:]) == ("almonds", ["and", "walnuts"])
    many = search_words(" ".join(str(number) for number in range(300)))
    assert many == [str(number) for number in (*range(32), *range(268, 300))]


async def test_any_text_is_asked_of_the_embedded_store_without_an_error(sim: Simulator, tmp_path: Path) -> None:
    chosen = configure(sim, KNOWLEDGE_DIR=str(tmp_path))
    await fill(chosen, NUTS)
    async with opened(chosen) as store:
        loop = asyncio.get_running_loop()

        @given(st.text(st.characters(exclude_categories=["Cs"])))
        @settings(max_examples=100, deadline=None)
        def ask(text: str) -> None:
            asyncio.run_coroutine_threadsafe(store.search(text, 4), loop).result(10)  # type: ignore[arg-type]

        await asyncio.to_thread(ask)


async def test_two_loaders_at_once_are_refused_by_the_embedded_store(sim: Simulator, tmp_path: Path) -> None:
    chosen = configure(sim, KNOWLEDGE_DIR=str(tmp_path))
    async with writing(chosen) as first, writing(chosen) as second:
        await first.digests()
        with pytest.raises(KnowledgeError, match="another loader"):
            await second.digests()


async def test_a_damaged_index_is_an_error_of_the_store(sim: Simulator, tmp_path: Path) -> None:
    chosen = configure(sim, KNOWLEDGE_DIR=str(tmp_path))
    await fill(chosen, NUTS)
    (tmp_path / "passages-1" / "meta.json").write_text("{")
    async with opened(chosen) as store:
        with pytest.raises(KnowledgeError):
            await store.search("almonds", 4)


async def test_what_was_not_committed_is_not_there(sim: Simulator, tmp_path: Path) -> None:
    chosen = configure(sim, KNOWLEDGE_DIR=str(tmp_path))
    await fill(chosen, OATS)
    async with opened(chosen) as store, writing(chosen) as writer:
        await writer.digests()
        await writer.put(NUTS)
        assert list(await store.search("almonds", 4)) == []


async def test_vectors_find_what_words_rank_low_and_both_lists_are_fused(sim: Simulator) -> None:
    async with open_opensearch() as server:
        chosen = patient(configure(sim, hybrid=True, OPENSEARCH_HOST=server.url))
        await fill(chosen, NUTS, OATS)
        async with opened(chosen) as store:
            found = await store.search("almonds", 4)
        assert found[0].id == "nuts.md#1"
        assert found[0].score == pytest.approx(2 / 61)
        assert len(found) == 3, "neighbours by vector alone are there too"
    assert {one.path for one in sim.requests("openai")} == {"/openai/v1/embeddings"}


@asynccontextmanager
async def hybrid_without_embeddings(
    sim: Simulator, **variables: str
) -> AsyncIterator[tuple[OpenSearchServer, KnowledgeStore]]:
    async with open_opensearch() as server:
        await fill(configure(sim, hybrid=True, OPENSEARCH_HOST=server.url), NUTS)
        async with opened(configure(sim, hybrid=True, OPENSEARCH_HOST=server.url, **variables)) as store:
            yield server, store


async def test_without_embeddings_the_words_passages_are_the_answer(sim: Simulator) -> None:
    async with hybrid_without_embeddings(sim, OPENAI_API_KEY="an-invalid-key") as (_, store):
        assert isinstance(store, OpenSearchStore)
        for _ in range(5):
            assert (await store.search("almonds", 4))[0].id == "nuts.md#1"
        asked = [one for one in sim.requests("openai") if one.status != 200]
        assert len(asked) <= 3, "after three failures the provider is left alone"


async def test_a_hung_embeddings_provider_is_not_waited_for_beyond_its_share(sim: Simulator) -> None:
    async with open_hung() as hung, hybrid_without_embeddings(sim, OPENAI_BASE_URL=f"{hung.url}/v1") as (_, store):
        assert (await store.search("almonds", 4))[0].id == "nuts.md#1"
        await hung.all_closed(1)


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"[]", b"null", b"{}", b'{"data": null}', b'{"data": [1]}', b'{"data": [{"index": 0}]}', b"\x1f\x8b"]
    + [b'{"data": [{"index": 0, "embedding": [%b]}]}' % number for number in (b"null", b'"x"', b"NaN", b"1e999")],
)
async def test_what_are_no_embeddings_leaves_the_words_passages(sim: Simulator, answer: bytes) -> None:
    async def answer_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(answer)
        writer.write(head + b"connection: close\r\n\r\n" + answer)
        writer.close()

    server = await asyncio.start_server(answer_it, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, hybrid_without_embeddings(sim, OPENAI_BASE_URL=url) as (_, store):
        assert (await store.search("almonds", 4))[0].id == "nuts.md#1"


async def test_vectors_of_another_length_are_refused_by_the_loader_with_a_reason(sim: Simulator) -> None:
    async with open_opensearch() as server:
        dimensions = {"SWITCHBOARD__KNOWLEDGE__EMBEDDING_DIMENSIONS": "8"}
        chosen = configure(sim, hybrid=True, OPENSEARCH_HOST=server.url, **dimensions)
        with pytest.raises(KnowledgeError, match="vectors of 1536 numbers"):
            await fill(chosen, NUTS)


async def test_a_wrong_password_and_a_dead_server_are_errors_of_the_store(sim: Simulator) -> None:
    async with open_opensearch("admin", "right") as server:
        wrong = {"OPENSEARCH_USER": "admin", "OPENSEARCH_PWD": "wrong"}
        async with opened(configure(sim, OPENSEARCH_HOST=server.url, **wrong)) as store:
            with pytest.raises(KnowledgeError, match="401"):
                await store.search("almonds", 4)
    async with opened(configure(sim, OPENSEARCH_HOST="http://127.0.0.1:9")) as store:
        with pytest.raises(KnowledgeError, match="can't be reached"):
            await store.search("almonds", 4)


async def test_a_document_that_was_stored_by_half_is_loaded_again(sim: Simulator) -> None:
    async with open_opensearch() as server:
        chosen = configure(sim, OPENSEARCH_HOST=server.url)
        await fill(chosen, NUTS)
        server.bulks_left = 1
        async with writing(chosen) as writer:
            await writer.digests()
            with pytest.raises(KnowledgeError, match="rejected"):
                await writer.put(replace(NUTS, digest="2"))
        async with writing(chosen) as writer:
            assert await writer.digests() == {"nuts.md": "1"}
