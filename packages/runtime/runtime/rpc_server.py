"""A gRPC server as all our services run it: the service token checked, health, reflection, keepalive, drain.

Options carry their measurement in docs/subsystems/runtime.md.
"""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runtime.rpc_errors import unauthenticated

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""gRPC's own default of 4 MiB refuses a page of long messages; both sides are set alike."""

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two servers on one port would share its connections at random, and hide that the port is taken.
    ("grpc.so_reuseport", 0),
    # Clients ping every 10 s (rpc_channel); a server that allows less often kills their silent streams.
    # (Its name differs from its constant: GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS.)
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
]
_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")


class BearerTokens:
    """Tokens, any of which a call may show."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._expected = [f"Bearer {token}".encode() for token in tokens]

    def shown_in(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
        """Whether a call's metadata show one of them. Every token is compared, each in constant time."""
        for key, value in metadata or ():
            if key == "authorization":
                given = value.encode() if isinstance(value, str) else value
                if sum(hmac.compare_digest(given, expected) for expected in self._expected):
                    return True
        return False


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without the service token, health and reflection apart: probes have no token.

    `also`: by method, tokens beside the service tokens that it is called with; which one it was, is its own to ask.
    """

    def __init__(self, tokens: Iterable[str], also: Mapping[str, BearerTokens]) -> None:
        self._tokens = BearerTokens(tokens)
        self._also = also

        async def refuse(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await context.abort_with_status(unauthenticated())

        self._refusals: dict[tuple[bool, bool], grpc.RpcMethodHandler[Any, Any]] = {
            (False, False): grpc.unary_unary_rpc_method_handler(refuse),
            (False, True): grpc.unary_stream_rpc_method_handler(refuse),
            (True, False): grpc.stream_unary_rpc_method_handler(refuse),
            (True, True): grpc.stream_stream_rpc_method_handler(refuse),
        }

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_OPEN):
            return handler
        metadata = handler_call_details.invocation_metadata
        also = self._also.get(handler_call_details.method)
        if self._tokens.shown_in(metadata) or (also is not None and also.shown_in(metadata)):
            return handler
        return self._refusals[bool(handler.request_streaming), bool(handler.response_streaming)]


class _ByPath:
    """The server as the stubs see it when they add a service, which they do twice: by its calls' paths, and each call
    by itself. The second is left out: grpc.aio then waits for all registered calls at each that comes, at a cost of
    1 to 3 us for each of them (25 were here then), and finds one by its path in the same time.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Leaves it at the paths."""


class RpcServer:
    """One listening server. `add` is the stubs' `add_XServicer_to_server`, bound to the servicer. `also`: see
    TokenInterceptor."""

    def __init__(
        self,
        *,
        address: str,
        tokens: Iterable[str],
        services: dict[str, Callable[[grpc.aio.Server], None]],
        with_reflection: bool,
        max_connection_age_s: float | None = None,
        also: Mapping[str, BearerTokens] | None = None,
    ) -> None:
        options = list(_OPTIONS)
        if max_connection_age_s is not None:
            # Behind a headless Service, a client finds a new pod only when a connection closes (grpc#30015).
            options.append(("grpc.max_connection_age_ms", int(max_connection_age_s * 1000)))
            options.append(("grpc.max_connection_age_grace_ms", 3_600_000))
        self._server = grpc.aio.server(interceptors=[TokenInterceptor(tokens, also or {})], options=options)
        self._address = address
        self._health = health.aio.HealthServicer()
        self._names = ["", *services]
        by_path = cast(grpc.aio.Server, _ByPath(self._server))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, by_path)
        for add in services.values():
            add(by_path)
        if with_reflection:
            names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, by_path)

    async def start(self) -> int:
        """Listens and reports itself as serving; returns the port. Raises: OSError when the address can't be had."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as exc:
            raise OSError(f"cannot listen on {self._address}: is the port taken?") from exc
        await self._server.start()
        await self._report(health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace_s: float) -> None:
        """Reports itself as not serving, lets calls under way end for `grace_s`, then ends them."""
        await self._report(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.stop(grace_s)

    async def _report(self, status: Any) -> None:
        for name in self._names:
            await self._health.set(name, status)
