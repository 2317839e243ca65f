"""What the session service is told at its start. The only place that reads its environment."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from chat.names import is_id
from runtime import config
from runtime.environment import Environment, SettingError

MASTER_KEY_BYTES = 32
_LONGEST_WINDOW_S = 86_400
_MOST_TOKENS = 10**15
"""Scripts compare them as doubles, which are exact up to nine times as many."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one subject may use: a table of [limits] in the configuration file, which says more."""

    messages: int
    """In a window, and at once."""
    window_s: float
    answers: int
    """Under way at the same time."""
    tokens_a_day: int
    """With the platform's keys; 0: as many as they like."""

    @property
    def interval_us(self) -> int:
        """After which one more message may be sent."""
        return round(self.window_s * 1_000_000) // self.messages


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
    internal_tokens: tuple[str, ...] = field(repr=False)
    """Service tokens accepted, so that they can be rotated. INTERNAL_TOKEN, comma-separated, needed."""
    worker_tokens: tuple[str, ...] = field(repr=False)
    """By these workers are told users' own provider keys; none: nobody is. WORKER_TOKEN, comma-separated."""
    master_keys: tuple[tuple[str, bytes], ...] = field(repr=False)
    """Wrap users' own provider keys, by id; the first encrypts, all decrypt; none: no key can be stored. MASTER_KEYS,
    comma-separated: `id:base64 of 32 bytes`."""
    log_level: str
    """debug, info, warning or error. LOG_LEVEL, info."""
    reflection: bool
    """Whether gRPC reflection is served. GRPC_REFLECTION, true."""
    drain_s: float
    """Time for calls under way at the end. DRAIN_SECONDS, 10."""
    max_waiting_turns: int
    """Turns that may wait behind the one that runs in a chat. MAX_WAITING_TURNS, 8."""
    limits: Mapping[str, Limit]
    """Of a user and of a client's key, by the kind's name; none: nobody is limited. [limits]; RATE_LIMITS, on."""


def read(variables: Mapping[str, str]) -> Settings:
    """Reads and checks the environment. Raises: SettingError, which names the variable."""
    environment = Environment(variables)
    tokens = environment.words("INTERNAL_TOKEN")
    if not tokens:
        raise SettingError("INTERNAL_TOKEN must be set: the token that services show one another")
    worker_tokens = environment.words("WORKER_TOKEN")
    if set(worker_tokens) & set(tokens):
        raise SettingError("WORKER_TOKEN must differ from INTERNAL_TOKEN: it shows that a worker asks, and nobody else")
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
        worker_tokens=worker_tokens,
        master_keys=read_master_keys(environment),
        log_level=level,
        reflection=environment.flag("GRPC_REFLECTION", True),
        drain_s=environment.number("DRAIN_SECONDS", 10, low=0, high=3600),
        max_waiting_turns=environment.integer("MAX_WAITING_TURNS", 8, low=0, high=1000),
        limits=_read_limits(config.load(variables)) if environment.flag("RATE_LIMITS", True) else {},
    )


def read_redis(environment: Environment) -> tuple[str, bool]:
    """REDIS_URL, and whether it is a cluster's. Raises: SettingError."""
    url = environment.url("REDIS_URL", "redis://localhost:6379/0", schemes=("redis", "rediss"))
    cluster = environment.flag("REDIS_CLUSTER", False)
    if cluster and urlsplit(url).path.strip("/") not in ("", "0"):
        raise SettingError("REDIS_URL must name no database but 0 when REDIS_CLUSTER is true: a cluster has no other")
    return url, cluster


def read_master_keys(environment: Environment) -> tuple[tuple[str, bytes], ...]:
    """MASTER_KEYS. Raises: SettingError, which says the place of a key that is wrong and nothing of it."""
    found: dict[str, bytes] = {}
    for place, word in enumerate(environment.words("MASTER_KEYS"), 1):
        master_id, colon, encoded = word.rpartition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not colon or not is_id(master_id) or len(key) != MASTER_KEY_BYTES:
            raise SettingError(f"MASTER_KEYS: number {place} must be an id, a colon, and 32 bytes in base64")
        if master_id in found:
            raise SettingError(f"MASTER_KEYS: the id of number {place} is another one's, too")
        found[master_id] = key
    if not found and environment.text("MASTER_KEYS", ""):
        raise SettingError("MASTER_KEYS holds no key")
    return tuple(found.items())


def _read_limits(file: config.Table) -> dict[str, Limit]:
    limits: dict[str, Limit] = {}
    for kind, table in file["limits"].items():
        # A key is paid for by whoever has it: its table knows no budget.
        limit = Limit(table["messages"], table["window_s"], table["answers"], table.get("tokens_a_day", 0))
        if not (1 <= limit.messages <= 1_000_000 and 1 <= limit.answers <= 100_000):
            raise SettingError(f"[limits.{kind}]: messages must be 1 to 1000000, answers 1 to 100000")
        if not 1 <= limit.window_s <= _LONGEST_WINDOW_S:
            raise SettingError(f"[limits.{kind}]: window_s must be 1 to {_LONGEST_WINDOW_S}")
        if not 0 <= limit.tokens_a_day <= _MOST_TOKENS:
            raise SettingError(f"[limits.{kind}]: tokens_a_day must be 0 to {_MOST_TOKENS}")
        limits[kind] = limit
    return limits
