"""The secrets of one data directory: made once, kept in a file that only its owner can read, beaten by the environment.

The file (`secrets.env`) holds NAME=value lines, so that a shell can read it too: `set -a; . data/secrets.env`.
Values are never logged.
"""

import base64
import os
import secrets as random_secrets
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "secrets.env"
TOKEN_DAYS = 30

_MAKERS: dict[str, Callable[[], str]] = {
    "INTERNAL_TOKEN": lambda: random_secrets.token_urlsafe(32),
    "API_KEY": lambda: f"sb-{random_secrets.token_urlsafe(32)}",
    "JWT_SECRET": lambda: random_secrets.token_urlsafe(48),
    "REDIS_PASSWORD": lambda: random_secrets.token_urlsafe(32),
    "WORKER_TOKEN": lambda: random_secrets.token_urlsafe(32),
    "MASTER_KEYS": lambda: f"{random_secrets.token_hex(4)}:{base64.b64encode(random_secrets.token_bytes(32)).decode()}",
}


@dataclass(frozen=True, slots=True)
class Secrets:
    """What holds: the environment's values, else the file's."""

    values: Mapping[str, str]
    given: frozenset[str]
    """Names of those that the environment gave: they are somebody's own, and are not printed."""

    @property
    def internal_token(self) -> str:
        return self.values["INTERNAL_TOKEN"]

    @property
    def api_key(self) -> str:
        """The first of them: API_KEY may list several."""
        return self.values["API_KEY"].split(",")[0].strip()

    @property
    def jwt_secret(self) -> str:
        return self.values["JWT_SECRET"]

    @property
    def worker_token(self) -> str:
        """The first of them: WORKER_TOKEN may list several."""
        return self.values["WORKER_TOKEN"].split(",")[0].strip()

    @property
    def redis_password(self) -> str:
        return self.values["REDIS_PASSWORD"]

    def user_token(self, user: str, *, issuer: str = "", audience: str = "", days: float = TOKEN_DAYS) -> str:
        """A user's token, as the gateway verifies it: `sub` and `preferred_username` are `user`."""
        # Importing it takes 0.15 s, which the children's start should not wait for.
        import jwt  # noqa: PLC0415

        now = int(time.time())
        claims: dict[str, str | int] = {
            "sub": user,
            "preferred_username": user,
            "iat": now,
            "exp": now + int(days * 86_400),
        }
        if issuer:
            claims["iss"] = issuer
        if audience:
            claims["aud"] = audience
        with warnings.catch_warnings():
            # A short JWT_SECRET is the gateway's to judge.
            warnings.simplefilter("ignore")
            return jwt.encode(claims, self.jwt_secret, algorithm="HS256")


def load_secrets(data_dir: Path, environment: Mapping[str, str]) -> Secrets:
    """Reads the directory's secrets, making those that are missing. Raises: OSError."""
    path = data_dir / FILE_NAME
    kept = _read(path)
    missing = {name: make() for name, make in _MAKERS.items() if not kept.get(name)}
    if missing:
        kept = _add(path, {**kept, **missing}, replace=bool(kept))
    given = {name: value for name in _MAKERS if (value := environment.get(name, "").strip())}
    return Secrets({**{name: kept[name] for name in _MAKERS}, **given}, frozenset(given))


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _add(path: Path, values: Mapping[str, str], *, replace: bool) -> dict[str, str]:
    """Writes the file whole or not at all. Of two that make it at once, the first one's values hold for both."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{FILE_NAME}.{os.getpid()}.{random_secrets.token_hex(4)}")
    text = "# Made by the launcher for this data directory. Keep it to yourself.\n"
    text += "".join(f"{name}={value}\n" for name, value in values.items())
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
            return dict(values)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return _read(path)
        return dict(values)
    finally:
        draft.unlink(missing_ok=True)
