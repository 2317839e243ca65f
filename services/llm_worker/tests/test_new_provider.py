"""Adding a provider is one file and a section in the configuration: those of docs/subsystems/providers.md, added."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from llm_worker import providers
from simulator.process import Simulator

from .harness import open_worker

DOCUMENT = Path(__file__).parents[3] / "docs" / "subsystems" / "providers.md"
WHOLE = [{"text": "Hello, "}, {"text": "wörld."}, {"done": "stop", "read": 3, "written": 2}]


def example(name: str) -> str:
    """The document's text of that name."""
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```\n", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None, f"the document has no {name}"
    return found[1]


class Acme:
    """The imaginary provider: what it was asked, and what it says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.status = 200
        self.lines: list[dict[str, object]] = WHOLE
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        assert length is not None
        body = orjson.loads(await reader.readexactly(int(length[1])))
        self.asked.append({**body, "key": re.findall(r"x-acme-key: (.*)\r", head)[0]})
        octets = b"".join(orjson.dumps(line) + b"\n" for line in self.lines)
        writer.write(f"HTTP/1.1 {self.status} Said\r\nconnection: close\r\n\r\n".encode())
        # In two pieces, within a character: a line seldom comes whole.
        for part in (octets[:27], octets[27:]):
            writer.write(part)
            await writer.drain()
        writer.close()


@pytest.fixture
async def acme() -> AsyncIterator[Acme]:
    made = Acme()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The two texts, where they belong; the configuration's file."""
    (tmp_path / "acme.py").write_text(example("providers/acme.py"))
    config = tmp_path / "switchboard.toml"
    config.write_text(example("switchboard.toml"))
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(tmp_path)])
    yield config
    sys.modules.pop("llm_worker.providers.acme", None)


@asynccontextmanager
async def worker_with(acme: Acme, config: Path, sim: Simulator) -> AsyncIterator[object]:
    variables = {
        "SWITCHBOARD_CONFIG": str(config),
        "ACME_API_KEY": "key-of-acme",
        "ACME_BASE_URL": f"http://127.0.0.1:{acme.port}",
    }
    async with open_worker(sim, **variables) as caller:
        yield caller


async def test_a_provider_is_added_by_its_file_and_its_section(sim: Simulator, added: Path, acme: Acme) -> None:
    async with worker_with(acme, added, sim) as caller:
        heard = await caller.generate(model="rocket-1", max_output_tokens=100)  # type: ignore[attr-defined]
        status = await caller.status("acme", "rocket-1")  # type: ignore[attr-defined]
    assert (heard.text, heard.provider, heard.answer.model) == ("Hello, wörld.", "acme", "rocket-1")
    assert (heard.answer.usage.input_tokens, heard.answer.usage.cost_nano_usd) == (3, 5500)
    assert acme.asked == [{"model": "rocket-1", "messages": [["user", "hello"]], "limit": 100, "key": "key-of-acme"}]
    assert (status.configured, status.failures) == (True, 0)


@pytest.mark.parametrize(
    ("status", "lines"),
    [(503, []), (429, []), (200, WHOLE[:2]), (200, [{"nothing": "known"}])],
    ids=["down", "limited", "cut", "not understood"],
)
async def test_it_has_the_fallback_and_the_breaker_of_all_others(
    sim: Simulator, added: Path, acme: Acme, status: int, lines: list[dict[str, object]]
) -> None:
    acme.status, acme.lines = status, lines
    sim.set_plans("anthropic", then={"text": "Hello, wörld.", "goes_on": 4})
    async with worker_with(acme, added, sim) as caller:
        heard = await caller.generate(model="rocket-1")  # type: ignore[attr-defined]
        failures = (await caller.status("acme", "rocket-1")).failures  # type: ignore[attr-defined]
    assert (heard.text, heard.tried[-1]) == ("Hello, wörld.", "anthropic")
    assert failures == {503: 2, 429: 0, 200: 1}[status]
