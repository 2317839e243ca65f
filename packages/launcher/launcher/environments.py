"""What each part of a stack is told by its environment, and by which command it runs."""

import os
import sys
from collections.abc import Mapping, Sequence

from launcher.ports import LOOPBACK
from launcher.secrets import Secrets

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Of the caller's environment, beside PYTHON*."""
PREFIXES = {"session": "SESSION", "worker": "LLM_WORKER", "gateway": "GATEWAY"}
"""Of the variables that say where each kind listens."""
MODULES = {"session": "session", "worker": "llm_worker", "gateway": "gateway"}
DRAIN_S = 2.0
"""What services are told to drain in (DRAIN_SECONDS): here nobody waits behind a load balancer."""
SIMULATED_KEY = "simulator"
HELD_BACK = frozenset({"MASTER_KEYS", "WORKER_TOKEN"})
"""What the parts that need it get and no other, whoever gives it: by these, users' own provider keys can be read."""

_NOWHERE = f"{LOOPBACK}:9"
"""The discard port, at which nobody answers."""


def base_environment(secrets: Secrets) -> dict[str, str]:
    """What every part gets."""
    passed = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("PYTHON")}
    return {**passed, "INTERNAL_TOKEN": secrets.internal_token, "DRAIN_SECONDS": f"{DRAIN_S:g}"}


def session_environment(secrets: Secrets, redis_url: str) -> dict[str, str]:
    """Beside what every part gets."""
    return {"REDIS_URL": redis_url, **{name: secrets.values[name] for name in sorted(HELD_BACK)}}


def worker_environment(secrets: Secrets) -> dict[str, str]:
    """Beside the addresses: the one that it shows, of several."""
    return {"WORKER_TOKEN": secrets.worker_token}


def gateway_environment(secrets: Secrets, *, own_tokens: bool) -> dict[str, str]:
    """Beside the addresses. `own_tokens`: users' tokens are verified by JWT_JWKS_URL."""
    credentials = {"API_KEY": secrets.values["API_KEY"], "JWT_SECRET": secrets.jwt_secret}
    if own_tokens:
        del credentials["JWT_SECRET"]
    return credentials


def simulated_providers(simulator_url: str) -> dict[str, str]:
    """What points the real SDKs at the simulator. Its keys are accepted by nobody else."""
    return {
        "ANTHROPIC_API_KEY": SIMULATED_KEY,
        "ANTHROPIC_BASE_URL": f"{simulator_url}/anthropic",
        "OPENAI_API_KEY": SIMULATED_KEY,
        "OPENAI_BASE_URL": f"{simulator_url}/openai/v1",
        "GROK_API_KEY": SIMULATED_KEY,
        "GROK_BASE_URL": f"{simulator_url}/grok/v1",
    }


def lay_over(environment: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What the caller of the stack gave beats the rest, but for where a part listens: others were told that; and for
    what is held back from it."""
    listens = {name: value for name, value in environment.items() if name.endswith(("_HOST", "_PORT"))}
    # Their `ready` line is at info: whoever listens leaves out what he does not want to see.
    quiet = given.get("LOG_LEVEL", "").lower() in ("warning", "error")
    shown = {name: value for name, value in given.items() if name not in HELD_BACK}
    return {**environment, **shown, **({"LOG_LEVEL": "info"} if quiet else {}), **listens}


def service_command(kind: str, python_arguments: Sequence[str]) -> tuple[str, ...]:
    """-P: whatever lies in the working directory is not imported."""
    return (sys.executable, "-P", *python_arguments, "-m", MODULES[kind])


def simulator_command(port: int) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "simulator", "--host", LOOPBACK, "--port", str(port))


def grpc_target(addresses: Sequence[str]) -> str:
    """Several addresses as gRPC's `ipv4:` scheme lists them; with none, one at which nobody answers."""
    if not addresses:
        return _NOWHERE
    return addresses[0] if len(addresses) == 1 else "ipv4:" + ",".join(addresses)
