"""A gRPC channel as all our clients open it: keepalive, round robin, the size limits of `rpc_server`."""

import json
from typing import Any

import grpc.aio

from runtime.rpc_server import MAX_MESSAGE_BYTES

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A replica that is starting or going is told apart by its health service, before a call is lost on it.
        "healthCheckConfig": {"serviceName": ""},
    }
)
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without it a frozen peer is noticed after a minute; with it within 13 s.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.service_config", _SERVICE_CONFIG),
    # gRPC's back-off of up to 120 s would outlast a restart by minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

Metadata = tuple[tuple[str, str], ...]


def open_channel(target: str, *, window_bytes: int | None = None) -> grpc.aio.Channel:
    """A channel to `target`: one address, several (`ipv4:a:1,b:2`), or a DNS name (`dns:///name:port`).

    `window_bytes`: what a stream holds at the most of responses that nobody reads; None: gRPC finds it out by probing,
    and goes up to megabytes where the network is fast. Must be made in the process that uses it, never before a fork.
    """
    window: list[tuple[str, Any]] = []
    if window_bytes is not None:
        window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", window_bytes)]
    return grpc.aio.insecure_channel(target, options=[*_OPTIONS, *window])


def service_metadata(token: str) -> Metadata:
    """What every call of ours carries."""
    return (("authorization", f"Bearer {token}"),)
