"""The launcher's settings, read from the environment once. What only a service reads is passed on to it unread."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime import config
from runtime.environment import Environment, SettingError

from launcher.valkey import FSYNC_CHOICES

LOG_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class Settings:
    """What `make run` goes by."""

    data_dir: Path
    """SWITCHBOARD_DATA_DIR: the embedded Redis and the generated secrets live here (./data)."""
    gateway_host: str
    """GATEWAY_HOST: where the gateway listens (127.0.0.1)."""
    gateway_port: int
    """GATEWAY_PORT (8000); 0 takes any free one."""
    session_port: int
    """SESSION_PORT: when unset any free one, so that two systems run side by side."""
    worker_port: int
    """LLM_WORKER_PORT: likewise."""
    redis_url: str
    """REDIS_URL: empty embeds one. With REDIS_CLUSTER=true it is a cluster's."""
    appendfsync: str
    """REDIS_APPENDFSYNC, of the embedded one: everysec (default), always, or no."""
    simulate: bool
    """No provider key is set: the simulator stands in for all of them."""
    base_url_names: frozenset[str]
    """Variables that hold providers' base URLs; they give way to the simulator's."""
    log_json: bool
    """LOG_FORMAT=json passes the services' lines on as they are; text (default) makes them readable."""
    issuer: str
    """JWT_ISSUER, for the token that is printed."""
    audience: str
    """JWT_AUDIENCE, likewise."""
    own_tokens: bool
    """JWT_JWKS_URL is set and JWT_SECRET is not: users' tokens come from elsewhere, and none is made."""


def read_settings(variables: Mapping[str, str]) -> Settings:
    """Raises: SettingError, whose text names the variable."""
    environment = Environment(variables)
    providers = config.load(variables)["providers"].values()
    key_names = [name for provider in providers for name in provider.get("api_key_env", ())]
    if environment.flag("REDIS_CLUSTER", False) and not environment.text("REDIS_URL", ""):
        raise SettingError("REDIS_CLUSTER can't be true without REDIS_URL: the embedded Redis is one server")
    return Settings(
        data_dir=Path(environment.text("SWITCHBOARD_DATA_DIR", "./data")),
        gateway_host=environment.text("GATEWAY_HOST", "127.0.0.1"),
        gateway_port=environment.port("GATEWAY_PORT", 8000),
        session_port=environment.port("SESSION_PORT", 0),
        worker_port=environment.port("LLM_WORKER_PORT", 0),
        redis_url=environment.url("REDIS_URL", "", schemes=("redis", "rediss")),
        appendfsync=_choice(environment, "REDIS_APPENDFSYNC", FSYNC_CHOICES),
        simulate=not environment.first(*key_names),
        base_url_names=frozenset(name for provider in providers for name in provider.get("base_url_env", ())),
        log_json=_choice(environment, "LOG_FORMAT", LOG_FORMATS) == "json",
        issuer=environment.text("JWT_ISSUER", ""),
        audience=environment.text("JWT_AUDIENCE", ""),
        own_tokens=bool(environment.text("JWT_JWKS_URL", "")) and not environment.text("JWT_SECRET", ""),
    )


def _choice(environment: Environment, name: str, choices: tuple[str, ...]) -> str:
    value = environment.text(name, choices[0]).lower()
    if value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value
