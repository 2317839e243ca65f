"""A plain client of the users', limits', reports' and usage services, and a look at what lies in Redis behind them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import grpc.aio
import redis
from runtime.rpc_channel import service_metadata
from switchboard.session.v1 import limit_pb2_grpc, report_pb2_grpc, session_pb2_grpc, usage_pb2_grpc, user_pb2_grpc

from .client import Refused
from .conftest import Running

_STUBS = (
    session_pb2_grpc.SessionServiceStub,
    user_pb2_grpc.UserServiceStub,
    limit_pb2_grpc.LimitServiceStub,
    report_pb2_grpc.ReportServiceStub,
    usage_pb2_grpc.UsageServiceStub,
)


class Records:
    """Calls one replica with the service token, another one, or none; for a user, and by a client's key."""

    def __init__(self, running: Running, replica: int = 0) -> None:
        self.running = running
        self.worker_token = running.stack.secrets.worker_token
        self._client = running.clients[replica]
        stubs = [make(self._client.channel) for make in _STUBS]
        self._methods = {name: method for stub in stubs for name, method in vars(stub).items()}

    async def call(self, method: str, request: Any, *, token: str | None = None, user: str = "", key: str = "") -> Any:
        metadata = list(self._client.metadata if token is None else service_metadata(token) if token else ())
        if user:
            metadata.append(("x-switchboard-user", quote(user, safe="")))
        if key:
            metadata.append(("x-switchboard-key", key))
        try:
            return await self._methods[method](request, metadata=metadata, timeout=10, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise Refused(error) from None


@contextmanager
def redis_servers(running: Running) -> Iterator[list["redis.Redis"]]:
    """All that hold a part of the data."""
    urls = running.cluster.urls if running.cluster else [running.stack.redis_url]
    servers = [redis.Redis.from_url(url) for url in urls]
    try:
        yield [server for server in servers if server.info("replication")["role"] == "master"]
    finally:
        for server in servers:
            server.close()


@contextmanager
def redis_of(running: Running, key: str) -> Iterator["redis.Redis"]:
    """The one that a key lies in."""
    with redis_servers(running) as servers:
        for server in servers:
            try:
                server.exists(key)
            except redis.exceptions.MovedError:
                continue
            yield server
            return
        raise AssertionError(f"nobody has {key}")


def all_values(running: Running) -> bytes:
    """Every key and every value of every type, one behind the other."""
    parts: list[bytes] = []
    with redis_servers(running) as servers:
        for server in servers:
            for key in server.scan_iter(count=1000):
                parts.append(key)
                match server.type(key):
                    case b"string":
                        parts.append(server.get(key) or b"")
                    case b"hash":
                        parts.extend(part for pair in server.hgetall(key).items() for part in pair)
                    case b"set":
                        parts.extend(server.smembers(key))
                    case b"zset":
                        parts.extend(server.zrange(key, 0, -1))
                    case b"list":
                        parts.extend(server.lrange(key, 0, -1))
                    case b"stream":
                        parts.extend(value for _, entry in server.xrange(key) for value in entry.values())
    return b"\n".join(parts)
