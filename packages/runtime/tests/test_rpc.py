"""Our gRPC servers and channels together, over a real connection."""

import asyncio
from collections.abc import AsyncIterator
from enum import IntEnum
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from runtime import rpc_channel
from runtime.rpc_errors import reason_of, status_of
from runtime.rpc_server import BearerTokens, RpcServer

PINGS_EVERY_MS = 5_500
"""More often than our clients ping, and just less often than our servers allow."""


class Code(IntEnum):
    QUEUE_FULL = 8


class Failed:
    code = Code.QUEUE_FULL
    message = "wait a moment"
    retry_after_s = 1.5


class Echo:
    """Two methods of a service that exists for these tests alone."""

    def add(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))

    async def fail(self, request: bytes, context: Any) -> bytes:
        await context.abort_with_status(status_of(Failed(), "text"))
        return b""

    async def wait(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.Event().wait()


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = RpcServer(
        address="127.0.0.1:0", tokens=["old", "new"], services={"test.Echo": Echo().add}, with_reflection=True
    )
    port = await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.mark.parametrize("token", ["old", "new"])
async def test_each_service_token_is_taken_while_they_are_rotated(address: str, token: str) -> None:
    async with rpc_channel.open_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/test.Echo/Fail")(b"", metadata=rpc_channel.service_metadata(token), timeout=5)
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("metadata", [None, (("authorization", "Bearer older"),), (("authorization", "old"),)])
@pytest.mark.parametrize("method", ["Fail", "Wait"])
async def test_a_call_without_a_service_token_is_refused(address: str, metadata: Any, method: str) -> None:
    async with rpc_channel.open_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            if method == "Fail":
                await channel.unary_unary("/test.Echo/Fail")(b"", metadata=metadata, timeout=5)
            else:
                async for _ in channel.unary_stream("/test.Echo/Wait")(b"", metadata=metadata, timeout=5):
                    pass
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(refused.value)[0] == "UNAUTHENTICATED"
        assert "authorization: Bearer" in reason_of(refused.value)[1]


async def test_a_method_may_be_called_with_a_token_that_opens_no_other() -> None:
    server = RpcServer(
        address="127.0.0.1:0",
        tokens=["service"],
        services={"test.Echo": Echo().add},
        with_reflection=False,
        also={"/test.Echo/Fail": BearerTokens(["worker"])},
    )
    port = await server.start()
    metadata = rpc_channel.service_metadata("worker")
    async with rpc_channel.open_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/test.Echo/Fail")(b"", metadata=metadata, timeout=5)
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in channel.unary_stream("/test.Echo/Wait")(b"", metadata=metadata, timeout=5):
                pass
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await server.stop(0)


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [
        (None, False),
        ((("authorization", "Bearer b"),), True),
        ((("authorization", b"Bearer a"),), True),
        ((("authorization", "bearer a"),), False),
        ((("x", "Bearer a"),), False),
        ((("authorization", "Bearer "),), False),
    ],
)
def test_a_token_is_shown_or_it_is_not(metadata: Any, shown: bool) -> None:
    assert BearerTokens(["a", "b"]).shown_in(metadata) is shown
    assert not BearerTokens([]).shown_in(metadata)


async def test_a_failure_crosses_the_wire_with_its_reason_its_sentence_and_its_waiting_time(address: str) -> None:
    async with rpc_channel.open_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/test.Echo/Fail")(b"", metadata=rpc_channel.service_metadata("old"), timeout=5)
        assert reason_of(failed.value) == ("QUEUE_FULL", "wait a moment", 1.5)


async def test_health_is_served_without_a_token_and_says_when_the_server_goes(address: str) -> None:
    async with rpc_channel.open_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for name in ("", "test.Echo"):
            response = await check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_port_that_is_taken_is_said_so(address: str) -> None:
    second = RpcServer(address=address, tokens=["old"], services={}, with_reflection=False)
    with pytest.raises(OSError, match="is the port taken"):
        await second.start()


@pytest.mark.timeout(60)
async def test_a_silent_stream_outlives_its_clients_keepalive_pings(address: str) -> None:
    options = [(name, value) for name, value in rpc_channel._OPTIONS if name != "grpc.keepalive_time_ms"]
    options.append(("grpc.keepalive_time_ms", PINGS_EVERY_MS))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_stream("/test.Echo/Wait")(b"", metadata=rpc_channel.service_metadata("old"))
        assert await call.read() == b"begun"
        silence = asyncio.create_task(call.read())
        # Three pings too many end a connection ("too_many_pings"): the silence itself is what is tested.
        done, _ = await asyncio.wait({silence}, timeout=5 * PINGS_EVERY_MS / 1000)
        assert not done
        call.cancel()
        await asyncio.wait({silence})
