"""The usage client against a server that does what a test tells it to, over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Usage
from gateway.clients.usage import UsageClient
from gateway.records import DayUsage, ModelUsage, UserUsage
from runtime.rpc_channel import open_channel
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import usage_pb2, usage_pb2_grpc


class Ledger(usage_pb2_grpc.UsageServiceServicer):
    """Answers with `response`; remembers what it was asked and on whose behalf."""

    def __init__(self, response: usage_pb2.ReadUsageResponse | None) -> None:
        self.response = response
        self.asked: list[tuple[usage_pb2.ReadUsageRequest, str]] = []

    async def ReadUsage(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        acting = dict(context.invocation_metadata() or ()).get("x-switchboard-user", "")
        self.asked.append((request, str(acting)))
        if self.response is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")
        return self.response

    async def RecordUsage(self, request: Any, context: Any) -> usage_pb2.RecordUsageResponse:
        raise NotImplementedError


@asynccontextmanager
async def serving(ledger: Ledger) -> AsyncIterator[UsageClient]:
    server = grpc.aio.server()
    usage_pb2_grpc.add_UsageServiceServicer_to_server(ledger, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield UsageClient(channel, "token")
    await server.stop(0)


async def test_a_users_days_are_read_as_they_were_counted() -> None:
    spent = chat_pb2.Usage(input_tokens=900, output_tokens=120, estimated=True, cost_nano_usd=1_234_567)
    model = usage_pb2.ModelUsage(provider="anthropic", model="claude-x", own_key=True, attempts=4, usage=spent)
    day = usage_pb2.DayUsage(day="2026-11-20", answers=3, usage=spent, budget_tokens=7, models=[model])
    ledger = Ledger(usage_pb2.ReadUsageResponse(days=[day], tokens_a_day=1000))
    async with serving(ledger) as client:
        got = await client.read("ann", "2026-11-01", "2026-11-20", acting_id="ann")
    usage = Usage(900, 120, True, 1_234_567)
    models = (ModelUsage("anthropic", "claude-x", True, 4, usage),)
    assert got == UserUsage((DayUsage("2026-11-20", 3, usage, 7, models),), 1000)
    request = usage_pb2.ReadUsageRequest(user_id="ann", from_day="2026-11-01", to_day="2026-11-20")
    assert ledger.asked == [(request, "ann")]


async def test_without_a_budget_there_is_none_and_an_api_key_acts_for_nobody() -> None:
    ledger = Ledger(usage_pb2.ReadUsageResponse())
    async with serving(ledger) as client:
        assert await client.read("", "2026-11-20", "2026-11-20", acting_id="") == UserUsage((), None)
    assert ledger.asked[0][1] == ""


async def test_a_refusal_is_our_own_error() -> None:
    async with serving(Ledger(None)) as client:
        with pytest.raises(SwitchboardError) as refused:
            await client.read("bob", "2026-11-20", "2026-11-20", acting_id="ann")
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
