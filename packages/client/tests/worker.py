"""Real workers: in the test's loop, or as a process beside a session service. Their providers are the simulator."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from launcher.stack import Stack
from llm_worker import settings
from llm_worker.main import find_kinds, run
from simulator.process import Simulator
from switchboard_client import Message, SwitchboardClient, user

TOKEN = "test-token"
NOWHERE = "127.0.0.1:9"
"""The discard port: nobody listens."""


@dataclass(frozen=True)
class Running:
    """A worker's process and what is behind it."""

    stack: Stack
    sim: Simulator
    address: str
    token: str


@asynccontextmanager
async def open_worker(sim: Simulator, *, port: int = 0, **overrides: str) -> AsyncIterator[str]:
    """A worker that serves for the length of the block: its address. There is no session service."""
    variables = {
        "INTERNAL_TOKEN": TOKEN,
        "LLM_WORKER_PORT": str(port),
        "SESSION_ADDR": NOWHERE,
        "ANTHROPIC_API_KEY": "key-of-anthropic",
        "ANTHROPIC_BASE_URL": sim.anthropic_url,
        "OPENAI_API_KEY": "key-of-openai",
        "OPENAI_BASE_URL": sim.openai_url("openai"),
        "GROK_API_KEY": "key-of-grok",
        "GROK_BASE_URL": sim.openai_url("grok"),
        **overrides,
    }
    async with run(settings.read(variables), find_kinds()) as worker:
        yield f"127.0.0.1:{worker.port}"


@asynccontextmanager
async def open_client(sim: Simulator, **overrides: str) -> AsyncIterator[SwitchboardClient]:
    """A client of a worker of its own."""
    async with open_worker(sim, **overrides) as address, SwitchboardClient(address, token=TOKEN) as client:
        yield client


def asking(plan: object) -> list[Message]:
    """A question that is the simulator's directive."""
    return [user(f"[[sim {json.dumps(plan)}]]")]
