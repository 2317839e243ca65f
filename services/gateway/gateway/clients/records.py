"""Profiles, keys, limits and reports of the session service over gRPC: adapters of `records.py`."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

from collections import Counter
from collections.abc import Iterable, Mapping

import grpc.aio
from chat import codec
from chat.messages import JsonObject
from switchboard.session.v1 import limit_pb2, limit_pb2_grpc, report_pb2, report_pb2_grpc, user_pb2, user_pb2_grpc

from gateway.clients.calls import Caller
from gateway.clients.session import limit_from_proto
from gateway.ports import RateLimit
from gateway.records import Circuit, Connections, Deployment, ProviderKey, TargetReport

_CHATS_REPORTED = 1_000
_RETIRE_S = 1.0
"""A process that stops waits for this; its report is forgotten in time anyway."""
_ACQUIRE_S = 1.0
"""An answer waits for this, and is made without it if need be: see `answer_limits.py`."""


class UserClient:
    """Calls the session service about users."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = user_pb2_grpc.UserServiceStub(channel)
        self._caller = Caller(token)

    async def put_profile(self, user_id: str, dialect: str, attributes: JsonObject) -> None:
        profile = user_pb2.Profile(user_id=user_id, dialect=dialect, attributes=codec.struct(attributes))
        await self._caller.call(self._stub.PutProfile, user_pb2.PutProfileRequest(profile=profile), user_id=user_id)

    async def get_profile(self, user_id: str, dialect: str) -> JsonObject:
        request = user_pb2.GetProfileRequest(user_id=user_id, dialect=dialect)
        response = await self._caller.call(self._stub.GetProfile, request, user_id=user_id)
        return codec.json_object(response.profile.attributes)

    async def delete_profile(self, user_id: str, dialect: str) -> None:
        request = user_pb2.DeleteProfileRequest(user_id=user_id, dialect=dialect)
        await self._caller.call(self._stub.DeleteProfile, request, user_id=user_id)

    async def put_provider_key(self, user_id: str, provider: str, key: str) -> ProviderKey:
        request = user_pb2.PutProviderKeyRequest(user_id=user_id, provider=provider, key=key)
        response = await self._caller.call(self._stub.PutProviderKey, request, user_id=user_id)
        return _provider_key(response.provider_key)

    async def list_provider_keys(self, user_id: str) -> tuple[ProviderKey, ...]:
        request = user_pb2.ListProviderKeysRequest(user_id=user_id)
        response = await self._caller.call(self._stub.ListProviderKeys, request, user_id=user_id)
        return tuple(map(_provider_key, response.provider_keys))

    async def delete_provider_key(self, user_id: str, provider: str) -> None:
        request = user_pb2.DeleteProviderKeyRequest(user_id=user_id, provider=provider)
        await self._caller.call(self._stub.DeleteProviderKey, request, user_id=user_id)


def _provider_key(proto: user_pb2.ProviderKey) -> ProviderKey:
    return ProviderKey(proto.provider, proto.version, codec.time_us(proto.updated_at))


class LimitClient:
    """Calls the session service about limits."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = limit_pb2_grpc.LimitServiceStub(channel)
        self._caller = Caller(token)

    async def acquire(self, *, user_id: str, key_id: str, answer_id: str, lasts_s: float) -> RateLimit | None:
        request = limit_pb2.AcquireRequest(
            subjects=_subjects(user_id, key_id), answer_id=answer_id, lasts=codec.duration(lasts_s)
        )
        response = await self._caller.call(self._stub.Acquire, request, timeout_s=_ACQUIRE_S, wait=False)
        return limit_from_proto(response.limit) if response.HasField("limit") else None

    async def release(self, *, user_id: str, key_id: str, answer_id: str) -> None:
        request = limit_pb2.ReleaseRequest(subjects=_subjects(user_id, key_id), answer_id=answer_id)
        await self._caller.call(self._stub.Release, request)


def _subjects(user_id: str, key_id: str) -> Iterable[limit_pb2.Subject]:
    if user_id:
        yield limit_pb2.Subject(kind=limit_pb2.SUBJECT_KIND_USER, id=user_id)
    if key_id:
        yield limit_pb2.Subject(kind=limit_pb2.SUBJECT_KIND_KEY, id=key_id)


class ReplicaClient:
    """Calls the session service about replicas."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = report_pb2_grpc.ReportServiceStub(channel)
        self._caller = Caller(token)

    async def report(self, replica_id: str, connections: Mapping[str, Connections]) -> None:
        gateway = report_pb2.GatewayReport(
            dialects=[
                report_pb2.DialectConnections(
                    dialect=dialect,
                    connections=open_now.total,
                    by_chat=dict(Counter(open_now.by_chat).most_common(_CHATS_REPORTED)),
                )
                for dialect, open_now in connections.items()
            ]
        )
        replica = report_pb2.Replica(id=replica_id, gateway=gateway)
        await self._caller.call(self._stub.Report, report_pb2.ReportRequest(replica=replica))

    async def retire(self, replica_id: str) -> None:
        request = report_pb2.RetireRequest(replica_id=replica_id)
        await self._caller.call(self._stub.Retire, request, timeout_s=_RETIRE_S, wait=False)

    async def deployment(self) -> Deployment:
        response = await self._caller.call(self._stub.ListReports, report_pb2.ListReportsRequest())
        totals: Counter[str] = Counter()
        by_chat: dict[str, Counter[str]] = {}
        workers: list[list[TargetReport]] = []
        for replica in response.replicas:
            for one in replica.gateway.dialects:
                totals[one.dialect] += one.connections
                by_chat.setdefault(one.dialect, Counter()).update(one.by_chat)
            if replica.HasField("worker"):
                workers.append([_target(target) for target in replica.worker.targets])
        return Deployment({name: Connections(total, by_chat[name]) for name, total in totals.items()}, workers)


def _target(proto: report_pb2.TargetReport) -> TargetReport:
    return TargetReport(
        provider=proto.provider,
        model=proto.model,
        circuit=Circuit(proto.circuit) if int(proto.circuit) in Circuit.__members__.values() else Circuit.CLOSED,
        failures=proto.failures,
        failure_threshold=proto.failure_threshold,
        reset_timeout_s=codec.seconds(proto.reset_timeout),
        last_failure_at_us=codec.time_us(proto.last_failure_at) if proto.HasField("last_failure_at") else None,
        configured=proto.configured,
        cooling_until_us=codec.time_us(proto.cooling_down_until) if proto.HasField("cooling_down_until") else None,
    )
