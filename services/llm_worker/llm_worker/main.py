"""Wires the worker together and runs it until SIGTERM or SIGINT."""

import asyncio
import gc
import logging
import os
import pkgutil
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import httpx2
import uvloop
from runtime import logs
from runtime.environment import SettingError
from runtime.rpc_channel import open_channel, service_metadata
from runtime.rpc_server import RpcServer
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc
from switchboard.session.v1 import report_pb2_grpc, session_pb2_grpc, usage_pb2_grpc, user_pb2_grpc

from llm_worker import providers
from llm_worker import settings as worker_settings
from llm_worker.answer import Asking
from llm_worker.briefing import Briefer
from llm_worker.hedging import Hedging
from llm_worker.knowledge_stores import describe, open_store
from llm_worker.pacer import Pacer
from llm_worker.profiles import Profiles
from llm_worker.provider import OpenProvider, Provider
from llm_worker.publisher import Publisher
from llm_worker.reporting import Reporter
from llm_worker.route import Routes
from llm_worker.servicer import LLMServicer
from llm_worker.settings import Settings
from llm_worker.transport import open_http_client
from llm_worker.turn_runner import Clocks, TurnRunner
from llm_worker.usage import UsageRecorder
from llm_worker.user_keys import UserKeys

log = logging.getLogger(__name__)

SERVICE = llm_pb2.DESCRIPTOR.services_by_name["LLMService"].full_name


def main() -> int:
    """The process: its exit code."""
    try:
        settings = worker_settings.read(os.environ)
        kinds = find_kinds()
        _check_kinds(settings, kinds)
    except SettingError as exc:
        print(f"llm_worker: {exc}", file=sys.stderr)
        return 2
    logs.configure("llm_worker", settings.log_level)
    try:
        uvloop.run(_serve(settings, kinds))
    except OSError as exc:
        print(f"llm_worker: {exc}", file=sys.stderr)
        return 1
    return 0


def find_kinds() -> Mapping[str, OpenProvider]:
    """The files of `providers/`, each by its name."""
    names = [found.name for found in pkgutil.iter_modules(providers.__path__)]
    return {name: import_module(f"{providers.__name__}.{name}").open_provider for name in names}


def _check_kinds(settings: Settings, kinds: Mapping[str, OpenProvider]) -> None:
    for provider in settings.providers.values():
        if provider.kind not in kinds:
            known = ", ".join(sorted(kinds))
            raise SettingError(f"providers.{provider.name}.kind must be one of {known}, not {provider.kind!r}")


def open_providers(
    settings: Settings, kinds: Mapping[str, OpenProvider], http_client: httpx2.AsyncClient
) -> dict[str, Provider]:
    """Every configured provider by its name, those without a key too: a user may bring one."""
    return {name: kinds[provider.kind](provider, http_client) for name, provider in settings.providers.items()}


@dataclass(frozen=True, slots=True)
class Told:
    """What the session service is told beside the answers, and by which tasks."""

    reporter: Reporter
    reporting: asyncio.Task[None]
    recorder: UsageRecorder
    recording: asyncio.Task[None]

    async def retire(self) -> None:
        """This worker takes nothing new."""
        self.reporting.cancel()
        await asyncio.wait({self.reporting})
        await self.reporter.retire()

    async def flush(self) -> None:
        """Its last answer has ended."""
        self.recording.cancel()
        await asyncio.wait({self.recording})
        await self.recorder.flush()


class Running:
    """A worker that serves. Whoever ends it drains it first, or lets its leases expire."""

    def __init__(self, server: RpcServer, turns: TurnRunner, told: Told, port: int) -> None:
        self._server = server
        self._turns = turns
        self._told = told
        self.port = port

    async def drain(self, grace_s: float) -> None:
        """Takes nothing new and lets what is under way end, within `grace_s`."""
        await asyncio.gather(self._server.stop(grace_s), self._turns.drain(grace_s), self._told.retire())
        # Behind the last answer.
        await self._told.flush()


@asynccontextmanager
async def run(settings: Settings, kinds: Mapping[str, OpenProvider]) -> AsyncIterator[Running]:
    """The whole worker in the running loop, for the length of the block."""
    loop = asyncio.get_running_loop()
    http_client = open_http_client(
        pacer=Pacer(), connect_timeout_s=settings.timeouts.connect_s, proxies=settings.proxies
    )
    async with (
        http_client,
        open_store(settings.knowledge, http_client, loop.time) as store,
        open_channel(settings.session_addr) as channel,
    ):
        opened = open_providers(settings, kinds, http_client)
        breaker_changed = asyncio.Event()
        routes = Routes(settings, opened, clock=loop.time, wall_clock=time.time, changed=breaker_changed.set)
        asking = Asking(
            timeouts=settings.timeouts,
            retries=settings.retries,
            hedging=Hedging(settings.hedging),
            max_output_tokens=settings.max_output_tokens,
            clock=loop.time,
            random=random.random,
        )
        session: session_pb2_grpc.SessionServiceAsyncStub = session_pb2_grpc.SessionServiceStub(channel)
        metadata = service_metadata(settings.token)
        users: user_pb2_grpc.UserServiceAsyncStub = user_pb2_grpc.UserServiceStub(channel)
        reports: report_pb2_grpc.ReportServiceAsyncStub = report_pb2_grpc.ReportServiceStub(channel)
        worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        user_keys = UserKeys(users, settings.worker_token)
        usages: usage_pb2_grpc.UsageServiceAsyncStub = usage_pb2_grpc.UsageServiceStub(channel)
        recorder = UsageRecorder(usages, metadata, new_id=lambda: str(uuid.uuid4()))
        briefer = Briefer(store, Profiles(users, metadata), settings.knowledge, loop.time)
        publisher = Publisher(session, metadata)
        reporter = Reporter(
            worker_id=worker_id,
            targets=routes.targets,
            settings=settings.breaker,
            reports=reports,
            metadata=metadata,
            changed=breaker_changed,
        )
        turns = TurnRunner(
            worker_id=worker_id,
            settings=settings,
            routes=routes,
            asking=asking,
            user_keys=user_keys,
            recorder=recorder,
            session=session,
            metadata=metadata,
            publisher=publisher,
            briefer=briefer,
            clocks=Clocks(monotonic=loop.time, wall_us=lambda: time.time_ns() // 1000),
        )
        servicer = LLMServicer(settings, routes, asking, turns, user_keys, recorder)
        server = RpcServer(
            address=f"{settings.host}:{settings.port}",
            tokens=[settings.token],
            services={SERVICE: partial(llm_pb2_grpc.add_LLMServiceServicer_to_server, servicer)},
            with_reflection=settings.reflection,
        )
        port = await server.start()
        async with asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(reporter.run())
            recording = tasks.create_task(recorder.run())
            running = [tasks.create_task(publisher.run()), tasks.create_task(turns.run()), reporting, recording]
            try:
                yield Running(server, turns, Told(reporter, reporting, recorder, recording), port)
            finally:
                await server.stop(0)
                # What is still under way is left to another worker: its leases expire.
                for task in running:
                    task.cancel()


async def _serve(settings: Settings, kinds: Mapping[str, OpenProvider]) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with run(settings, kinds) as worker:
        # What lives now, the SDKs' thousands of types above all, lives for ever: a full collection over it took 0.1 s.
        gc.freeze()
        keys = sorted(one.name for one in settings.providers.values() if one.key)
        knowledge = describe(settings.knowledge)
        log.info("ready", extra={"port": worker.port, "providers": keys, "knowledge": knowledge})
        await stopping.wait()
        log.info("draining")
        await worker.drain(settings.drain_s)
    log.info("stopped")
