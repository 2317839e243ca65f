"""What answers have cost, of the session service over gRPC: adapter of `records.Usages`."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

import grpc.aio
from chat import codec
from switchboard.session.v1 import usage_pb2, usage_pb2_grpc

from gateway.clients.calls import Caller
from gateway.records import DayUsage, ModelUsage, UserUsage


class UsageClient:
    """Calls the session service about usage."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = usage_pb2_grpc.UsageServiceStub(channel)
        self._caller = Caller(token)

    async def read(self, user_id: str, first_day: str, last_day: str, *, acting_id: str) -> UserUsage:
        request = usage_pb2.ReadUsageRequest(user_id=user_id, from_day=first_day, to_day=last_day)
        response = await self._caller.call(self._stub.ReadUsage, request, user_id=acting_id)
        return UserUsage(tuple(map(_day, response.days)), response.tokens_a_day or None)


def _day(proto: usage_pb2.DayUsage) -> DayUsage:
    return DayUsage(
        day=proto.day,
        answers=proto.answers,
        usage=codec.usage_from_proto(proto.usage),
        budget_tokens=proto.budget_tokens,
        models=tuple(map(_model, proto.models)),
    )


def _model(proto: usage_pb2.ModelUsage) -> ModelUsage:
    return ModelUsage(proto.provider, proto.model, proto.own_key, proto.attempts, codec.usage_from_proto(proto.usage))
