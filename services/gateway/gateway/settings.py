"""What the gateway can be told by its environment: read once, at the start, and handed down in slices.

The only module here that knows the names of variables. See docs/subsystems/gateway.md.
"""

from dataclasses import dataclass

from runtime.environment import Environment, SettingError

LOG_LEVELS = ("debug", "info", "warning", "error")
_SECRET_BYTES = 32
"""HS256 wants a key at least as long as its hash (RFC 7518, section 3.2): a shorter one can be guessed offline."""


_OPEN_SOCKET = "_OPEN_WS"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may cost us."""

    message_bytes: int
    """A client's message, in bytes of UTF-8: more is answered with an error frame and close code 1009."""
    outbox_bytes: int
    """Frames that wait for a slow client, in bytes: more closes it with 1013."""
    connections: int
    """WebSockets at a time in this process: one more is closed with 1013. Of all connections together, those included
    that have not said yet what they want, there may be a few more (`server.py`)."""
    body_bytes: int
    """An HTTP request's body: a picture of 3 MiB is 4 in base64, and has a conversation beside it."""
    bodies_bytes: int
    """All bodies together that wait for their answers to begin, what is small of each not counted: more is answered
    with 503. In memory they take some two and a half times that."""
    head_s: float
    """For a request's head, a WebSocket's handshake included, to come: more closes the connection."""
    stall_s: float
    """For a request's body to come, and for a client that takes nothing of its answer: more closes the connection."""
    keep_alive_s: int
    """For another request on a connection that has had an answer."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What clients may show."""

    api_keys: tuple[str, ...]
    """Service keys; several, so that they can be rotated."""
    jwt_secret: str
    """HS256 secret of user tokens; empty: none of those are accepted."""
    jwt_issuer: str
    """Expected `iss`; empty: any."""
    jwt_audience: str
    """Expected `aud`; empty: any."""
    jwks_url: str = ""
    """Where the public keys of RS256, ES256 and EdDSA user tokens are; empty: none of those are accepted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, in the order of the documentation."""

    host: str
    """GATEWAY_HOST: the address to listen on."""
    port: int
    """GATEWAY_PORT: the port to listen on; 0: any free one, which the log's `ready` line tells."""
    session_addr: str
    """SESSION_ADDR: the session service's gRPC target."""
    llm_worker_addr: str
    """LLM_WORKER_ADDR: the workers' gRPC target."""
    internal_tokens: tuple[str, ...]
    """INTERNAL_TOKEN: the token of calls between our services, and what tickets are signed with; required. Of several,
    in rotation, the first is shown and signs; tickets that any of them signed are good."""
    credentials: Credentials
    """API_KEY (required), JWT_SECRET (at least 32 bytes), JWT_JWKS_URL, JWT_ISSUER, JWT_AUDIENCE."""
    open_sockets: frozenset[str]
    """FOODHAK_OPEN_WS and its like, each named by a dialect: whose WebSocket needs no credential; none by default."""
    public_url: str
    """PUBLIC_URL: what clients see in `websocket_url`; empty: taken from the request."""
    cors_origins: tuple[str, ...]
    """CORS_ORIGINS: browsers' origins that may read our HTTP answers, and show a cookie on a WebSocket; `*`: all may
    read, none may show a cookie; none by default."""
    forwarded_allow_ips: str
    """FORWARDED_ALLOW_IPS: proxies whose X-Forwarded-* headers are believed; comma-separated, `*`: all."""
    log_level: str
    """LOG_LEVEL: debug, info, warning or error."""
    drain_s: float
    """DRAIN_SECONDS: time over which sockets are closed at a stop; HTTP answers under way may take as long again."""
    ping_interval_s: float
    """WS_PING_SECONDS: between pings of a WebSocket; a client that leaves one unanswered as long is gone."""
    linger_s: float
    """LINGER_SECONDS: how long a chat that nobody reads any more is still followed: a page reload comes back."""
    limits: Limits
    """MAX_MESSAGE_BYTES, OUTBOX_BYTES, MAX_CONNECTIONS, MAX_BODY_BYTES, MAX_BODIES_BYTES, HEAD_SECONDS,
    STALL_SECONDS, KEEP_ALIVE_SECONDS."""


def read_settings(environment: Environment) -> Settings:
    """Reads and validates every setting. Raises: SettingError, naming the variable."""
    api_keys = environment.words("API_KEY")
    if not api_keys:
        raise SettingError("API_KEY must be set: one key or several, comma-separated")
    internal_tokens = environment.words("INTERNAL_TOKEN")
    if not internal_tokens:
        raise SettingError("INTERNAL_TOKEN must be set: the token that our services show one another")
    jwt_secret = environment.text("JWT_SECRET", "")
    if jwt_secret and len(jwt_secret.encode()) < _SECRET_BYTES:
        raise SettingError(f"JWT_SECRET must be at least {_SECRET_BYTES} bytes long: a shorter one can be guessed")
    log_level = environment.text("LOG_LEVEL", "info").lower()
    if log_level not in LOG_LEVELS:
        raise SettingError(f"LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}, not {log_level!r}")
    return Settings(
        host=environment.text("GATEWAY_HOST", "127.0.0.1"),
        port=environment.port("GATEWAY_PORT", 8000),
        session_addr=environment.text("SESSION_ADDR", "localhost:50051"),
        llm_worker_addr=environment.text("LLM_WORKER_ADDR", "localhost:50052"),
        internal_tokens=internal_tokens,
        credentials=Credentials(
            api_keys=api_keys,
            jwt_secret=jwt_secret,
            jwt_issuer=environment.text("JWT_ISSUER", ""),
            jwt_audience=environment.text("JWT_AUDIENCE", ""),
            jwks_url=environment.url("JWT_JWKS_URL", "", schemes=("https", "http")),
        ),
        open_sockets=frozenset(name.lower() for name, is_open in environment.flags(_OPEN_SOCKET).items() if is_open),
        public_url=environment.url("PUBLIC_URL", "", schemes=("http", "https")).rstrip("/"),
        cors_origins=environment.words("CORS_ORIGINS"),
        forwarded_allow_ips=environment.text("FORWARDED_ALLOW_IPS", "127.0.0.1"),
        log_level=log_level,
        drain_s=environment.number("DRAIN_SECONDS", 20, low=0, high=3600),
        ping_interval_s=environment.number("WS_PING_SECONDS", 20, low=1, high=3600),
        linger_s=environment.number("LINGER_SECONDS", 5, low=0, high=3600),
        limits=Limits(
            message_bytes=environment.integer("MAX_MESSAGE_BYTES", 64 * 1024, low=1024, high=1024 * 1024),
            outbox_bytes=environment.integer("OUTBOX_BYTES", 1024 * 1024, low=16 * 1024, high=64 * 1024 * 1024),
            connections=environment.integer("MAX_CONNECTIONS", 20_000, low=1, high=1_000_000),
            body_bytes=environment.integer("MAX_BODY_BYTES", 6 * 1024 * 1024, low=1024, high=64 * 1024 * 1024),
            bodies_bytes=environment.integer("MAX_BODIES_BYTES", 128 * 1024 * 1024, low=1024, high=64 * 1024**3),
            head_s=environment.number("HEAD_SECONDS", 10, low=0.1, high=3600),
            stall_s=environment.number("STALL_SECONDS", 60, low=0.1, high=3600),
            # Longer than a load balancer's usual 60 s, so that it is never us who closes as it sends.
            keep_alive_s=environment.integer("KEEP_ALIVE_SECONDS", 75, low=1, high=3600),
        ),
    )
