"""`make run`: the system in the foreground, from the settings to the last process's end.

Every failure to start is one sentence (`Console.fail`) and an exit code: FAILED, or BAD_SETTING when the operator can
mend it by a variable. A crash that is nobody's setting also shows the last lines of what crashed.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from runtime.environment import SettingError

from launcher.announce import USER, Announcement, compose
from launcher.console import Console
from launcher.data_dir import DataDirError, DataDirTakenError
from launcher.ports import BadHostError, PortTakenError
from launcher.process import ChildEndedError
from launcher.settings import Settings, read_settings
from launcher.stack import Stack

STOPPED, FAILED, BAD_SETTING = 0, 1, 2
SAME_KEY_PRESS_S = 0.5
"""make, uv and the terminal each pass a Ctrl-C on: what comes within this is the same one."""
OURS = frozenset({"SESSION_ADDR", "LLM_WORKER_ADDR", "SESSION_HOST", "LLM_WORKER_HOST", "REDIS_URL"})
"""Said by the stack alone: whatever a shell has left in them would lead elsewhere."""
SHOWN_LINES = 20
REDIS_TIMEOUT_S = 3.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RedisUnreachableError(RuntimeError):
    """REDIS_URL leads to nobody; the text is one sentence."""


async def run(variables: Mapping[str, str]) -> int:
    """Runs the system until a signal; returns the exit code."""
    console = Console(
        sys.stdout,
        sys.stderr,
        json=variables.get("LOG_FORMAT", "").strip().lower() == "json",
        level=variables.get("LOG_LEVEL", "").strip().lower(),
    )
    work = asyncio.create_task(serve(variables, console))
    last_signal = -SAME_KEY_PRESS_S

    def end() -> None:
        # The first one stops in order; the next one, while that goes on, kills what is left.
        nonlocal last_signal
        now = time.monotonic()
        if now - last_signal >= SAME_KEY_PRESS_S:
            last_signal = now
            work.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        await work
    except asyncio.CancelledError:
        console.notice("stopped")
        return STOPPED
    except (SettingError, BadHostError, DataDirError) as exc:
        console.fail(str(exc))
        return BAD_SETTING
    except (PortTakenError, DataDirTakenError, RedisUnreachableError) as exc:
        console.fail(str(exc))
    except ChildEndedError as exc:
        console.fail(describe(exc))
        return BAD_SETTING if exc.exit_code == BAD_SETTING else FAILED
    except TimeoutError:
        console.release()
        console.fail("every process is up, but the gateway does not take traffic (GET /readyz)")
    except OSError as exc:
        console.fail(str(exc))
    finally:
        # Whoever goes on pressing keys must not change how an ended run ends.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    return FAILED


async def serve(variables: Mapping[str, str], console: Console) -> None:
    """Runs until cancelled. Raises: whatever Stack raises, and SettingError."""
    settings = read_settings(variables)
    if settings.redis_url:
        await check_redis(settings.redis_url)
    stack = Stack(
        simulator=settings.simulate,
        redis_url=settings.redis_url,
        appendfsync=settings.appendfsync,
        data_dir=settings.data_dir,
        environment=pass_on(variables, settings),
        gateway_host=settings.gateway_host,
        gateway_port=settings.gateway_port,
        session_port=settings.session_port,
        worker_port=settings.worker_port,
        supervised=True,
        listener=console.show,
        notice=console.notice,
    )
    async with stack:
        console.release()
        console.announce(compose(announcement(stack, settings)))
        try:
            await asyncio.Event().wait()
        finally:
            console.notice("stopping; one more Ctrl-C stops at once")


async def check_redis(url: str) -> None:
    """Raises: RedisUnreachableError, with a sentence that spares the URL: it may hold a password."""
    parts = urlsplit(url)
    port = parts.port or 6379
    try:
        async with asyncio.timeout(REDIS_TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__
        raise RedisUnreachableError(f"REDIS_URL: nobody answers at {parts.hostname}:{port} ({why})") from exc
    writer.close()


def pass_on(variables: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The caller's variables as the services may see them. An empty one counts as unset."""
    hidden = OURS | settings.base_url_names if settings.simulate else OURS
    return {name: value for name, value in variables.items() if value.strip() and name not in hidden}


def announcement(stack: Stack, settings: Settings) -> Announcement:
    given = stack.secrets.given
    own_token = settings.own_tokens or "JWT_SECRET" in given
    return Announcement(
        url=stack.gateway_urls[0],
        worker=stack.worker_addresses[0],
        api_key="" if "API_KEY" in given else stack.secrets.api_key,
        token="" if own_token else stack.secrets.user_token(USER, issuer=settings.issuer, audience=settings.audience),
        simulated=settings.simulate,
        data_dir=settings.data_dir,
        redis_host=urlsplit(settings.redis_url).hostname or "" if settings.redis_url else "",
    )


def describe(error: ChildEndedError) -> str:
    """One sentence: the child's own, when it ended in good order; after a crash also its last lines, to say where."""
    told = [line for line in error.lines if line.level in ("error", "critical")] or error.lines
    crashed = any(line.exception or line.event.startswith("Traceback") for line in error.lines)
    if error.exit_code in (FAILED, BAD_SETTING) and told and not crashed:
        reason = told[-1].fields.get("error") or told[-1].event
        # What our services print before their logs are set up begins with their name.
        return told[-1].event if told[-1].event == told[-1].raw else f"{error.name}: {reason}"
    lines = "".join(f"\n    {line.raw}" for line in error.lines[-SHOWN_LINES:])
    return f"{error}{':' if lines else ''}{lines}"
