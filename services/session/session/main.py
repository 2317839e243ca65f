"""Wires the session service together and runs it until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import sys
import time
import uuid

import uvloop
from chat.errors import SwitchboardError
from runtime import logs
from runtime.rpc_server import BearerTokens, RpcServer
from switchboard.session.v1 import (
    limit_pb2,
    limit_pb2_grpc,
    report_pb2,
    report_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)

from session.admission import Admission
from session.appender import Appender
from session.chats import Chats
from session.dispatcher import Dispatcher
from session.envelope import MasterKeys
from session.fanout import Fanout
from session.limit_servicer import LimitServicer
from session.limiter import Limiter
from session.log import Log
from session.names import Names
from session.profiles import Profiles
from session.provider_keys import ProviderKeys
from session.redis_cluster import ClusterLink
from session.redis_server import ServerLink
from session.report_servicer import ReportServicer
from session.reports import Reports
from session.servicer import SessionServicer
from session.settings import Settings
from session.turns import Turns
from session.usage import UsageByDay
from session.usage_servicer import UsageServicer
from session.user_servicer import REVEAL, UserServicer

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Runs the service; returns the process's exit code."""
    logs.configure("session", settings.log_level)
    try:
        uvloop.run(_serve(settings))
    except OSError as error:
        print(f"session: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    link = ClusterLink(settings.redis_url) if settings.redis_cluster else ServerLink(settings.redis_url)
    turns = Turns(link, new_id=_new_id, now_us=_now_us, max_waiting=settings.max_waiting_turns)
    chats = Chats(link, now_us=_now_us)
    chat_log = Log(link)
    dispatcher = Dispatcher(turns, new_id=_new_id)
    fanout = Fanout(link, chat_log, turn_ended=dispatcher.turn_ended, turns_due=dispatcher.look)
    appender = Appender(link, appended=fanout.appended, turn_due=dispatcher.turn_due)
    limiter = Limiter(link, turns, settings.limits)
    servicer = SessionServicer(
        link=link,
        chats=chats,
        turns=turns,
        names=Names(link, chats, new_id=_new_id, now_us=_now_us),
        log=chat_log,
        appender=appender,
        fanout=fanout,
        dispatcher=dispatcher,
        admission=Admission(limiter, turns, dispatcher, new_id=_new_id, max_waiting=settings.max_waiting_turns),
        new_id=_new_id,
    )
    master_keys = MasterKeys(settings.master_keys) if settings.master_keys else None
    worker_tokens = BearerTokens(settings.worker_tokens)
    users = UserServicer(
        Profiles(link, now_us=_now_us),
        ProviderKeys(link, master_keys, now_us=_now_us),
        worker_tokens=worker_tokens,
    )
    limits = LimitServicer(limiter)
    tokens_a_day = settings.limits["user"].tokens_a_day if settings.limits else 0
    usage = UsageServicer(UsageByDay(link), tokens_a_day=tokens_a_day)
    reports = ReportServicer(Reports(link, now_us=_now_us))
    server = RpcServer(
        address=f"{settings.host}:{settings.port}",
        tokens=settings.internal_tokens,
        also={REVEAL: worker_tokens},
        services={
            session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name: (
                lambda grpc_server: session_pb2_grpc.add_SessionServiceServicer_to_server(servicer, grpc_server)
            ),
            user_pb2.DESCRIPTOR.services_by_name["UserService"].full_name: (
                lambda grpc_server: user_pb2_grpc.add_UserServiceServicer_to_server(users, grpc_server)
            ),
            limit_pb2.DESCRIPTOR.services_by_name["LimitService"].full_name: (
                lambda grpc_server: limit_pb2_grpc.add_LimitServiceServicer_to_server(limits, grpc_server)
            ),
            usage_pb2.DESCRIPTOR.services_by_name["UsageService"].full_name: (
                lambda grpc_server: usage_pb2_grpc.add_UsageServiceServicer_to_server(usage, grpc_server)
            ),
            report_pb2.DESCRIPTOR.services_by_name["ReportService"].full_name: (
                lambda grpc_server: report_pb2_grpc.add_ReportServiceServicer_to_server(reports, grpc_server)
            ),
        },
        with_reflection=settings.reflection,
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    port = await server.start()
    async with asyncio.TaskGroup() as tasks:

        async def announce(chat_id: str) -> None:
            try:
                await fanout.announce_due(chat_id)
            except SwitchboardError:
                # The other replicas look for themselves within a second.
                log.debug("announcement_failed")

        dispatcher.announce = lambda chat_id: (tasks.create_task(announce(chat_id)), None)[1]
        running = [tasks.create_task(part.run()) for part in (fanout, appender, dispatcher)]
        log.info("ready", extra={"port": port, "redis": await link.ping(1.0)})
        await stopping.wait()
        log.info("draining")
        await server.stop(settings.drain_s)
        for task in running:
            task.cancel()
    await link.close()
    log.info("stopped")


def _new_id() -> str:
    return str(uuid.uuid4())


def _now_us() -> int:
    return time.time_ns() // 1000
