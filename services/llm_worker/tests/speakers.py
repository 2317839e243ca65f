"""Each adapter of the provider port, over real HTTP, against the simulator's wire; and what is asked of it."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

import httpx2
import pytest
from chat.messages import Role
from llm_worker.conversation import ToolCall, line
from llm_worker.main import find_kinds
from llm_worker.outcome import ProviderError
from llm_worker.pacer import Pacer
from llm_worker.provider import Piece, Provider, ProviderRequest
from llm_worker.settings import ProviderSettings
from llm_worker.transport import open_http_client
from simulator.process import Simulator

from .harness import directive
from .odd_server import open_odd

ADAPTERS = {"anthropic": "anthropic", "openai": "openai", "grok": "grok", "together": "openai"}
"""A provider's name, and the adapter that speaks to it; of others OpenAI's."""


@dataclass
class Speaker:
    """One adapter, and what it is told of its provider."""

    provider: Provider
    settings: ProviderSettings
    http_client: httpx2.AsyncClient
    pacer: Pacer

    def again(self, **changes: object) -> Provider:
        """The same adapter with other settings."""
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        return find_kinds()[settings.kind](settings, self.http_client)


@asynccontextmanager
async def open_speaker(sim: Simulator, name: str) -> AsyncIterator[Speaker]:
    pacer = Pacer()
    base_url = sim.anthropic_url if name == "anthropic" else sim.openai_url(name)
    settings = ProviderSettings(name, ADAPTERS.get(name, "openai"), base_url, "sk-platform", "max_tokens", ())
    async with open_http_client(pacer=pacer, connect_timeout_s=2) as http_client:
        yield Speaker(find_kinds()[settings.kind](settings, http_client), settings, http_client, pacer)
    assert pacer.streams == 0, "a body was not closed"


@asynccontextmanager
async def open_told(kind: str, response: bytes) -> AsyncIterator[Provider]:
    """An adapter whose provider answers with these octets."""
    pacer = Pacer()
    async with open_odd(response) as url, open_http_client(pacer=pacer, connect_timeout_s=2) as http_client:
        settings = ProviderSettings(kind, kind, url, "sk-platform", "max_tokens", ())
        yield find_kinds()[kind](settings, http_client)
    assert pacer.streams == 0, "a body was not closed"


def request(plan: object = None, **changes: object) -> ProviderRequest:
    text = "hello" if plan is None else directive(plan)
    made = ProviderRequest("some-model", (line(Role.USER, text),), "Be kind.", None, 64)
    return replace(made, **changes)  # type: ignore[arg-type]


async def listen(provider: Provider, asked: ProviderRequest, key: str | None = None) -> list[Piece]:
    async with aclosing(provider.stream(asked, key)) as pieces:
        return [piece async for piece in pieces]


async def break_off(provider: Provider, asked: ProviderRequest) -> tuple[str, ProviderError]:
    """The text before a stream's failure, and the failure."""
    texts: list[str] = []
    with pytest.raises(ProviderError) as caught:
        async with aclosing(provider.stream(asked)) as pieces:
            async for piece in pieces:
                texts.append(piece.text)  # noqa: PERF401  (what came before the failure is what is asked)
    return "".join(texts), caught.value


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def calls_of(pieces: list[Piece]) -> list[ToolCall]:
    """The answer's calls, put together as the port says."""
    calls: list[ToolCall] = []
    for delta in (delta for piece in pieces for delta in piece.tool_calls):
        if delta.id:
            assert delta.index == len(calls)
            calls.append(ToolCall(delta.id, delta.name, delta.arguments))
        else:
            assert not delta.name
            last = calls[delta.index]
            calls[delta.index] = ToolCall(last.id, last.name, last.arguments + delta.arguments)
    return calls
