"""One simulator for the whole run, emptied between tests, and the official SDKs pointed at it.

`speaker` runs a test on every wire: a plan must mean the same whichever provider it happens to.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
import pytest
from simulator.process import Simulator, start_simulator

KEY = "sk-test-0123456789"


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    with start_simulator(delta_interval_ms=1) as simulator:
        yield simulator


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    running.reset()
    return running


@pytest.fixture
async def claude(sim: Simulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=sim.anthropic_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
async def gpt(sim: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.openai_url(), api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@dataclass
class Heard:
    """What a reader of a stream understood."""

    deltas: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finish: str | None = None
    ended: bool = False

    @property
    def text(self) -> str:
        return "".join(self.deltas)


@pytest.fixture
def heard() -> Heard:
    return Heard()


class AnthropicSpeaker:
    provider = "anthropic"
    stop, length, filtered = "end_turn", "max_tokens", "refusal"
    errors = anthropic

    def __init__(self, sim: Simulator) -> None:
        self.client = anthropic.AsyncAnthropic(base_url=sim.anthropic_url, api_key=KEY, max_retries=0, timeout=20)

    async def listen(self, content: str = "hi", heard: Heard | None = None, **more: Any) -> Heard:
        """Reads a stream to its end, into `heard`, so that what came before an exception can be seen."""
        heard = heard or Heard()
        messages = more.pop("messages", [{"role": "user", "content": content}])
        async with await self.client.messages.create(
            model="claude-opus-5-5", max_tokens=64, stream=True, messages=messages, **more
        ) as stream:
            async for event in stream:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    heard.deltas.append(event.delta.text)
                elif event.type == "content_block_delta" and event.delta.type == "thinking_delta":
                    heard.reasoning.append(event.delta.thinking)
                elif event.type == "message_delta":
                    heard.finish = event.delta.stop_reason
                elif event.type == "message_stop":
                    heard.ended = True
        return heard

    async def ask(self, content: str = "hi", **more: Any) -> Heard:
        messages = more.pop("messages", [{"role": "user", "content": content}])
        answer = await self.client.messages.create(model="claude-opus-5-5", max_tokens=64, messages=messages, **more)
        heard = Heard(finish=answer.stop_reason, ended=True)
        for block in answer.content:
            if block.type == "text":
                heard.deltas.append(block.text)
            elif block.type == "thinking":
                heard.reasoning.append(block.thinking)
        return heard


class OpenAISpeaker:
    stop, length, filtered = "stop", "length", "content_filter"
    errors = openai

    def __init__(self, sim: Simulator, provider: str) -> None:
        self.provider = provider
        self.client = openai.AsyncOpenAI(base_url=sim.openai_url(provider), api_key=KEY, max_retries=0, timeout=20)

    async def listen(self, content: str = "hi", heard: Heard | None = None, **more: Any) -> Heard:
        heard = heard or Heard()
        messages = more.pop("messages", [{"role": "user", "content": content}])
        async with await self.client.chat.completions.create(
            model="gpt-4.1", stream=True, messages=messages, **more
        ) as stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        heard.deltas.append(choice.delta.content)
                    thought = getattr(choice.delta, "reasoning_content", None)
                    if thought:
                        heard.reasoning.append(thought)
                    heard.finish = choice.finish_reason or heard.finish
        heard.ended = True
        return heard

    async def ask(self, content: str = "hi", **more: Any) -> Heard:
        messages = more.pop("messages", [{"role": "user", "content": content}])
        answer = await self.client.chat.completions.create(model="gpt-4.1", messages=messages, **more)
        choice = answer.choices[0]
        thought = getattr(choice.message, "reasoning_content", None)
        return Heard([choice.message.content or ""], [thought] if thought else [], choice.finish_reason, ended=True)


@pytest.fixture(params=["anthropic", "openai", "grok"])
async def speaker(sim: Simulator, request: pytest.FixtureRequest) -> AsyncIterator[AnthropicSpeaker | OpenAISpeaker]:
    made = AnthropicSpeaker(sim) if request.param == "anthropic" else OpenAISpeaker(sim, request.param)
    async with made.client:
        yield made


class Wire:
    """A raw connection to the simulator, for what no SDK would send or tell."""

    def __init__(self, sim: Simulator) -> None:
        host, _, port = sim.base_url.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        head = f"{method} {path} HTTP/1.1\r\nhost: sim\r\n"
        if "transfer_encoding" not in headers:
            headers.setdefault("content_length", str(len(body)))
        head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.socket.sendall(head.encode() + b"\r\n" + body)

    def ask(self, provider: str, body: object, **headers: str) -> None:
        """Posts a chat request with a good key."""
        path = "/anthropic/v1/messages" if provider == "anthropic" else f"/{provider}/v1/chat/completions"
        headers = {"authorization": f"Bearer {KEY}", "anthropic_version": "2026-10-21", **headers}
        self.send("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers)

    def read_head(self) -> tuple[int, dict[str, str]]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    def read_chunk(self) -> bytes:
        """One HTTP chunk; b"" is the last one."""
        chunk = self.file.read(int(self.file.readline(), 16))
        assert self.file.readline() == b"\r\n"
        return chunk

    def read_chunks(self) -> list[bytes]:
        """All chunks up to the end."""
        return list(iter(self.read_chunk, b""))

    def read_body(self, headers: dict[str, str]) -> Any:
        return json.loads(self.file.read(int(headers["content-length"])))

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """A whole response that is not streamed."""
        status, headers = self.read_head()
        return status, headers, self.read_body(headers)


@pytest.fixture
def wire(sim: Simulator) -> Iterator[Wire]:
    with open_wire(sim) as made:
        yield made


@contextmanager
def open_wire(sim: Simulator) -> Iterator[Wire]:
    made = Wire(sim)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def connect(sim: Simulator) -> Any:
    """Further raw connections: `with connect() as wire`."""
    return lambda: open_wire(sim)


def chat(provider: str, content: str = "hi", *, stream: bool = True, **more: Any) -> dict[str, Any]:
    """A valid request body."""
    body: dict[str, Any] = {"model": "m-1", "stream": stream, "messages": [{"role": "user", "content": content}]}
    if provider == "anthropic":
        body |= {"model": "claude-opus-5-5", "max_tokens": 64}
    return body | more


@pytest.fixture
def body() -> Any:
    return chat


@pytest.fixture(params=["anthropic", "openai", "grok"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)
