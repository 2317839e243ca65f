"""What the session service is told at its start. The only place that reads its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from runtime.environment import Environment, SettingError


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked at start; handed down in slices."""

    host: str
    """Address to listen on. SESSION_HOST, 127.0.0.1."""
    port: int
    """Port to listen on; 0: any free one. SESSION_PORT, 50051."""
    redis_url: str
    """redis:// or rediss://; of a cluster, any of its servers. REDIS_URL, redis://localhost:6379/0."""
    redis_cluster: bool
    """Whether REDIS_URL is a Redis Cluster's. REDIS_CLUSTER, false."""
    internal_tokens: tuple[str, ...]
    """Service tokens accepted, so that they can be rotated. INTERNAL_TOKEN, comma-separated, needed."""
    log_level: str
    """debug, info, warning or error. LOG_LEVEL, info."""
    reflection: bool
    """Whether gRPC reflection is served. GRPC_REFLECTION, true."""
    drain_s: float
    """Time for calls under way at the end. DRAIN_SECONDS, 10."""
    max_waiting_turns: int
    """Turns that may wait behind the one that runs in a chat. MAX_WAITING_TURNS, 8."""


def read(variables: Mapping[str, str]) -> Settings:
    """Reads and checks the environment. Raises: SettingError, which names the variable."""
    environment = Environment(variables)
    tokens = environment.words("INTERNAL_TOKEN")
    if not tokens:
        raise SettingError("INTERNAL_TOKEN must be set: the token that services show one another")
    level = environment.text("LOG_LEVEL", "info").lower()
    if level not in ("debug", "info", "warning", "error"):
        raise SettingError(f"LOG_LEVEL must be debug, info, warning or error, not {level!r}")
    redis_url, redis_cluster = read_redis(environment)
    return Settings(
        host=environment.text("SESSION_HOST", "127.0.0.1"),
        port=environment.port("SESSION_PORT", 50051),
        redis_url=redis_url,
        redis_cluster=redis_cluster,
        internal_tokens=tokens,
        log_level=level,
        reflection=environment.flag("GRPC_REFLECTION", True),
        drain_s=environment.number("DRAIN_SECONDS", 10, low=0, high=3600),
        max_waiting_turns=environment.integer("MAX_WAITING_TURNS", 8, low=0, high=1000),
    )


def read_redis(environment: Environment) -> tuple[str, bool]:
    """REDIS_URL, and whether it is a cluster's. Raises: SettingError."""
    url = environment.url("REDIS_URL", "redis://localhost:6379/0", schemes=("redis", "rediss"))
    cluster = environment.flag("REDIS_CLUSTER", False)
    if cluster and urlsplit(url).path.strip("/") not in ("", "0"):
        raise SettingError("REDIS_URL must name no database but 0 when REDIS_CLUSTER is true: a cluster has no other")
    return url, cluster
