"""Wires the gateway together and runs it until it is told to stop, then drains it.

A stop (SIGTERM) takes readiness away, closes WebSockets over DRAIN_SECONDS with 1001, lets HTTP answers end, and exits
with 0. SIGINT, or a second signal, does the same at once.
"""

import asyncio
import contextlib
import logging
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

import uvicorn
import uvloop
from runtime.environment import Environment, SettingError
from runtime.logs import configure
from runtime.rpc_channel import open_channel

from gateway.answer_limits import AnswerLimits
from gateway.answer_wait import AnswerWait
from gateway.auth import Doorkeeper
from gateway.clients.llm import WINDOW_BYTES, ModelClient
from gateway.clients.records import LimitClient, ReplicaClient, UserClient
from gateway.clients.session import SessionClient
from gateway.clients.usage import UsageClient
from gateway.dialect import Services
from gateway.http import http_application
from gateway.hub import Hub
from gateway.jwks import KeySet, fetch_from
from gateway.registry import find_dialects
from gateway.reporting import Reporter
from gateway.server import BoundedHttpProtocol, PipedProtocol, QuietServer
from gateway.settings import Settings, read_settings
from gateway.tickets import Tickets
from gateway.turn import TurnStarter
from gateway.ws import WebSockets

log = logging.getLogger(__name__)

_SERVER_SLACK_BYTES = 4096
"""The server's own size limit lies this much above ours."""
_SEND_BUFFER_BYTES = 128 * 1024
"""The kernel's for one connection; left alone it grows to 4 MiB for a client that does not read, before any of our own
bounds is felt."""
_LAST_WORDS_S = 1.0
"""For connections that are just ending, before the process goes."""


class Gateway:
    """The ASGI application: WebSockets to one, HTTP to the other, without a coroutine of its own in between."""

    def __init__(self) -> None:
        self.draining = False
        self.http: Any = None
        self.websockets: Any = None

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        app = self.websockets if scope["type"] == "websocket" else self.http
        served: Awaitable[None] = app(scope, receive, send)
        return served


def main(variables: Mapping[str, str]) -> int:
    """Runs the gateway with these environment variables; returns the exit status."""
    try:
        settings = read_settings(Environment(variables))
    except SettingError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        print(
            f"gateway: cannot listen on GATEWAY_HOST={settings.host}, GATEWAY_PORT={settings.port}: {error.strerror}",
            file=sys.stderr,
        )
        return 1
    configure("gateway", settings.log_level)
    logging.captureWarnings(True)
    with listener:
        uvloop.run(_serve(settings, listener))
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port in TIME_WAIT may be taken again; one that is listened on may not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


async def _serve(settings: Settings, listener: socket.socket) -> None:
    session_channel = open_channel(settings.session_addr)
    worker_channel = open_channel(settings.llm_worker_addr, window_bytes=WINDOW_BYTES)
    token = settings.internal_tokens[0]
    sessions = SessionClient(session_channel, token)
    models = ModelClient(worker_channel, token)
    port = listener.getsockname()[1]
    jitter = random.SystemRandom().random
    async with asyncio.TaskGroup() as tasks, session_channel, worker_channel:
        hub = Hub(sessions, linger_s=settings.linger_s, jitter=jitter)
        turns = TurnStarter(sessions, models, tasks)
        replicas = ReplicaClient(session_channel, token)
        services = Services(
            sessions=sessions,
            models=models,
            turns=turns,
            answers=AnswerWait(hub),
            users=UserClient(session_channel, token),
            limits=AnswerLimits(LimitClient(session_channel, token), tasks),
            usages=UsageClient(session_channel, token),
            replicas=replicas,
            doorkeeper=Doorkeeper(settings.credentials, _key_set(settings, tasks)),
            tickets=Tickets(settings.internal_tokens),
            open_sockets=settings.open_sockets,
            public_url=settings.public_url,
            new_id=lambda: str(uuid.uuid4()),
            now_s=time.time,
            # `*` says that any page may read answers, not that any page may act for who is logged in: it names none.
            origins=frozenset(settings.cors_origins) - {"*"},
        )
        found = find_dialects()
        for name in sorted(settings.open_sockets - found.keys()):
            # Misspelt, most likely: what was to be open is not.
            log.warning("no_such_dialect", extra={"setting": f"{name.upper()}_OPEN_WS"})
        dialects = [make(services) for make in found.values()]
        gateway = Gateway()
        gateway.websockets = WebSockets(
            dialects, hub=hub, turns=turns, sessions=sessions, limits=settings.limits, now_s=time.time
        )
        gateway.http = http_application(
            dialects,
            sessions=sessions,
            readiness=gateway,
            cors_origins=settings.cors_origins,
            body_bytes=settings.limits.body_bytes,
            bodies_bytes=settings.limits.bodies_bytes,
            forwarded_allow_ips=settings.forwarded_allow_ips,
        )
        server = QuietServer(_uvicorn(gateway, settings), lambda: log.info("ready", extra={"port": port}))
        following = tasks.create_task(hub.run())
        reporter = Reporter(replicas, gateway.websockets.headcount, str(uuid.uuid4()))
        reporting = tasks.create_task(reporter.run())
        stopping = tasks.create_task(_stop_on_signal(gateway, server, settings.drain_s, jitter))
        await server.serve([listener])
        stopping.cancel()
        following.cancel()
        reporting.cancel()
        await asyncio.wait([reporting])
        await reporter.retire()
    log.info("stopped")


def _key_set(settings: Settings, tasks: asyncio.TaskGroup) -> KeySet | None:
    url = settings.credentials.jwks_url
    return KeySet(fetch_from(url), tasks, time.monotonic) if url else None


def _uvicorn(gateway: Gateway, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        gateway,
        interface="asgi3",
        # uvicorn calls it for each connection, and calls it a class.
        http=cast("type[asyncio.Protocol]", partial(BoundedHttpProtocol, limits=settings.limits)),
        ws=PipedProtocol,
        ws_max_size=settings.limits.message_bytes + _SERVER_SLACK_BYTES,
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.ping_interval_s,
        # 62 KiB a connection with deflate, 17 without; and a small message could become a huge one.
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Done for HTTP alone, in `http.py`: a WebSocket has no use for it, and would keep one more coroutine.
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=settings.limits.keep_alive_s,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )


async def _stop_on_signal(gateway: Gateway, server: QuietServer, drain_s: float, jitter: Callable[[], float]) -> None:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, signals.put_nowait, wanted)
    first = await signals.get()
    gateway.draining = True
    spread_s = drain_s if first is signal.SIGTERM else 0.0
    log.info("draining", extra={"connections": gateway.websockets.connections, "seconds": spread_s})
    async with asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(gateway.websockets.drain(spread_s, jitter))
        hurrying = tasks.create_task(signals.get())
        await asyncio.wait({draining, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        server.force_exit = hurrying.done()
        draining.cancel()
        hurrying.cancel()
    await gateway.websockets.drain(0.0, jitter)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            await gateway.websockets.emptied()
    server.should_exit = True
