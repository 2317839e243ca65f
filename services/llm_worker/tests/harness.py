"""A real worker in the test's loop, on a real port, asking the simulator; and a plain client of it."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from llm_worker import settings
from llm_worker.context import Question
from llm_worker.main import find_kinds, run
from runtime.rpc_channel import open_channel, service_metadata
from runtime.rpc_errors import reason_of
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc

TOKEN = "test-token"
NOWHERE = "127.0.0.1:9"
"""The discard port: nobody listens."""


def variables(sim: Simulator, **overrides: str) -> dict[str, str]:
    """A worker's environment: all three providers are the simulator, and there is no session service."""
    return {
        "INTERNAL_TOKEN": TOKEN,
        "LLM_WORKER_PORT": "0",
        "SESSION_ADDR": NOWHERE,
        "ANTHROPIC_API_KEY": "key-of-anthropic",
        "ANTHROPIC_BASE_URL": sim.anthropic_url,
        "OPENAI_API_KEY": "key-of-openai",
        "OPENAI_BASE_URL": sim.openai_url("openai"),
        "GROK_API_KEY": "key-of-grok",
        "GROK_BASE_URL": sim.openai_url("grok"),
        **overrides,
    }


class Refused(Exception):
    """A call ended with an error."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.status = error.code()
        self.reason, self.message, self.retry_after_s = reason_of(error)
        self.fields = _fields(error)
        super().__init__(f"{self.status.name} {self.reason}: {self.message}")


@dataclass
class Heard:
    """What a caller of Generate was told."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[llm_pb2.ToolCallDelta] = field(default_factory=list)
    provider: str = ""
    finished: chat_pb2.Answer | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def answer(self) -> chat_pb2.Answer:
        assert self.finished is not None, "the answer did not finish"
        return self.finished

    @property
    def tried(self) -> list[str]:
        """The providers asked, in order."""
        return [attempt.provider for attempt in self.answer.attempts]


class Caller:
    """An internal team's client."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: Any = llm_pb2_grpc.LLMServiceStub(channel)
        self.metadata = service_metadata(TOKEN)

    def call(self, plan: object = None, *, timeout_s: float = 20.0, **fields: Any) -> Any:
        """Begins Generate; `plan` is the simulator's directive."""
        return self.stub.Generate(question(plan, **fields), metadata=self.metadata, timeout=timeout_s)

    async def generate(self, plan: object = None, *, heard: Heard | None = None, **fields: Any) -> Heard:
        """Generate to its end. Raises: Refused."""
        heard = heard or Heard()
        try:
            async for response in self.call(plan, **fields):
                match response.WhichOneof("kind"):
                    case "started":
                        heard.provider = response.started.provider
                    case "text":
                        heard.texts.append(response.text)
                    case "reasoning":
                        heard.reasoning.append(response.reasoning)
                    case "tool_call":
                        heard.tool_calls.append(response.tool_call)
                    case "finished":
                        heard.finished = response.finished.answer
        except grpc.aio.AioRpcError as error:
            raise Refused(error) from None
        return heard

    async def ask(self, method: str, request: Any) -> Any:
        try:
            return await getattr(self.stub, method)(request, metadata=self.metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            raise Refused(error) from None

    async def status(self, provider: str, model: str) -> llm_pb2.TargetStatus:
        response = await self.ask("GetProviderStatus", llm_pb2.GetProviderStatusRequest())
        return next(one for one in response.targets if (one.provider, one.model) == (provider, model))


@asynccontextmanager
async def open_worker(sim: Simulator, **overrides: str) -> AsyncIterator[Caller]:
    """A worker that serves for the length of the block, and a client of it."""
    chosen = settings.read(variables(sim, **overrides))
    async with run(chosen, find_kinds()) as worker, open_channel(f"127.0.0.1:{worker.port}") as channel:
        yield Caller(channel)


@contextmanager
def no_collections() -> Iterator[None]:
    """Within it, what stands in a circle stays for ever."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def no_question_is_left() -> None:
    """Waits until no call and no turn of this process holds what it was asked. Raises: TimeoutError."""
    async with asyncio.timeout(10):
        while any(isinstance(one, Question) for one in gc.get_objects()):
            await asyncio.sleep(0.01)


def question(plan: object = None, *, model: str = "", **fields: Any) -> llm_pb2.GenerateRequest:
    """A request with one message of the user's, which steers the simulator, unless `messages` are given."""
    text = "hello" if plan is None else directive(plan)
    return llm_pb2.GenerateRequest(model=model, **{"messages": [user(text)], **fields})


def directive(plan: object) -> str:
    return f"[[sim {json.dumps(plan)}]]"


def user(text: str) -> llm_pb2.InputMessage:
    return llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=[llm_pb2.Part(text=text)])


def _fields(error: grpc.aio.AioRpcError) -> list[str]:
    found: list[str] = []
    status = rpc_status.from_call(error) if error.trailing_metadata() else None  # type: ignore[arg-type]
    for packed in status.details if status is not None else ():
        bad = error_details_pb2.BadRequest()
        if packed.Unpack(bad):
            found += [violation.field for violation in bad.field_violations]
    return found
