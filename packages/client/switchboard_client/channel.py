"""The connection to the workers: keepalive, round robin over all addresses, the size limits of their servers.

Without TLS, as the workers serve none.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

import grpc
import grpc.aio

# The numbers of runtime/rpc_channel.py, which says why they are so. Said twice, since this package is installed
# without that one; tests/test_channel.py holds them equal.
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.max_send_message_length", 8 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    (
        "grpc.service_config",
        json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}),
    ),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_LOOK_S = 0.02

Metadata = tuple[tuple[str, str], ...]


def open_channel(target: str) -> grpc.aio.Channel:
    """Must be called in the process and the loop that use it, never before a fork."""
    return grpc.aio.insecure_channel(target, options=OPTIONS)


async def connected(channel: grpc.aio.Channel, within_s: float) -> bool:
    """Returns when a worker is connected to, or that time is over. False: the channel is closed."""
    until = time.monotonic() + within_s
    while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.SHUTDOWN:
        if state is grpc.ChannelConnectivity.READY or time.monotonic() >= until:
            return True
        # gRPC can be asked to tell of a change, but a question that nobody waits for any more stays with it, and a
        # channel that is closed does not answer it.
        await asyncio.sleep(_LOOK_S)
    return False


def target_of(address: str | Sequence[str]) -> str:
    """One gRPC target. A string is one already: `host:port`, `dns:///name:port`, `ipv4:a:1,b:2`.

    Several are `ip:port` each, all of IPv4 or all of IPv6; gRPC has no target for several names. Raises: ValueError.
    """
    if isinstance(address, str):
        return address
    if len(address) == 1:
        return address[0]
    if not address:
        raise ValueError("a client needs at least one address")
    versions = {_version(one) for one in address}
    if len(versions) != 1:
        raise ValueError("several addresses must be all of IPv4, or all of IPv6")
    return f"ipv{versions.pop()}:{','.join(address)}"


def _version(address: str) -> int:
    parts = urlsplit(f"//{address}")
    try:
        if parts.port is None:
            raise ValueError("no port")  # noqa: TRY301  (told below)
        return ip_address(parts.hostname or "").version
    except ValueError as exc:
        raise ValueError(
            f"of several addresses each must be ip:port, not {address!r}; give one name that leads to all of them as"
            " dns:///name:port"
        ) from exc


def metadata_of(token: str, user_id: str) -> Metadata:
    """What a call carries: the service token, and on whose behalf it is made, percent-encoded where it is not ASCII."""
    metadata: Metadata = (("authorization", f"Bearer {token}"),)
    if user_id:
        metadata += (("x-switchboard-user", quote(user_id, safe="._:-@")),)
    return metadata
