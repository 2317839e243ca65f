"""One child process: its start, its readiness, its log lines, its end. It restarts nothing by itself (`supervisor`).

Every child runs on a leash (`leash`), so that it ends with us even when we are killed, and in a process group of its
own, so that a terminal's Ctrl-C reaches only us and that a hard kill reaches whatever it started.
A child belongs to the event loop, and to the thread, that started it.
"""

import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.log_line import READY, LogLine

LEASH = str(Path(__file__).with_name("leash.py"))
KEPT_LINES = 200
"""Enough to say why a child ended, and for a test to look back."""
MAX_LINE_CHARS = 262_144
"""A longer line is cut: a child that writes without an end of line must not fill our memory."""
READ_BYTES = 65_536
STOP_TIMEOUT_S = 5.0
LAST_LINES_TIMEOUT_S = 1.0


class ChildEndedError(RuntimeError):
    """A child ended before it was ready, or was not ready in time; the text is one sentence. `lines`: its last ones."""

    def __init__(self, child: "Child", sentence: str, exit_code: int | None) -> None:
        super().__init__(f"{child.name} {sentence}")
        self.name = child.name
        self.exit_code = exit_code
        self.lines = tuple(child.lines)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `read` makes a line out of what it writes; the line whose event is READY says that it is up."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    read: Callable[[str, str], LogLine]
    ready_timeout_s: float = 30.0
    stop_timeout_s: float = STOP_TIMEOUT_S
    """From SIGTERM to SIGKILL."""
    orphan_signal: int = signal.SIGKILL
    """What it gets when we are gone."""
    inherited_fds: tuple[int, ...] = ()


class Child:
    """A program that can run, again and again. `listener` sees every line as it comes."""

    def __init__(self, program: Program, listener: Callable[[LogLine], None] | None = None) -> None:
        self.program = program
        self.lines: deque[LogLine] = deque(maxlen=KEPT_LINES)
        self.ready_s = 0.0
        """How long the last start took."""
        self._listener = listener
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._waiters: list[tuple[str, asyncio.Future[LogLine]]] = []
        self.stopping = False
        """Whether its end is wanted; tells a supervisor a stop from a death."""

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def pid(self) -> int:
        """Raises: RuntimeError when it was never started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return None if self._process is None else self._process.returncode

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def ready(self) -> bool:
        return self.running and self._ready.is_set()

    async def start(self) -> None:
        """Runs it and waits until it is ready. Raises: ChildEndedError; it is then not running."""
        await self.spawn()
        await self.wait_ready()

    async def spawn(self) -> None:
        """Runs it; `wait_ready` comes next."""
        if self.running:
            raise RuntimeError(f"{self.name} already runs")
        self.lines.clear()
        self._ready.clear()
        self.stopping = False
        self._started = time.monotonic()
        leash = (sys.executable, "-I", "-S", LEASH, str(os.getpid()), str(int(self.program.orphan_signal)))
        self._process = await asyncio.create_subprocess_exec(
            *leash,
            *self.program.command,
            # Off Linux the leash watches this pipe; the end we hold closes with us.
            stdin=asyncio.subprocess.DEVNULL if sys.platform == "linux" else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self.program.environment),
            pass_fds=self.program.inherited_fds,
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101  (asked for above)
        self._reader = asyncio.create_task(self._read(self._process.stdout))

    async def wait_ready(self) -> None:
        """Returns when it takes work. Raises: ChildEndedError; it is then not running."""
        assert self._reader is not None  # noqa: S101  (spawn comes first)
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                {ready, self._reader}, timeout=self.program.ready_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        if self._ready.is_set():
            return
        if self._reader.done():
            code = await self.wait_ended()
            raise ChildEndedError(self, f"ended while starting ({describe_exit(code)})", code)
        await self.kill()
        raise ChildEndedError(self, f"was not ready within {self.program.ready_timeout_s:g} s and was killed", None)

    async def wait_ended(self) -> int:
        """Returns its exit code when it has ended and its last line was read."""
        assert self._process is not None  # noqa: S101  (spawn comes first)
        code = await self._process.wait()
        if self._reader is not None:
            # Something it started may still hold the other end.
            await asyncio.wait({self._reader}, timeout=LAST_LINES_TIMEOUT_S)
        return code

    async def stop(self) -> bool:
        """SIGTERM, and SIGKILL when that takes longer than `stop_timeout_s`: then False. Nothing, when it does not
        run."""
        self.stopping = True
        if not self.running:
            return True
        self.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self.wait_ended()), self.program.stop_timeout_s)
        except TimeoutError:
            await self.kill()
            return False
        return True

    async def kill(self) -> None:
        """SIGKILL to its whole group; returns when it is gone. Nothing, when it does not run."""
        if self.running:
            self.kill_now()
            await self.wait_ended()

    def kill_now(self) -> None:
        """SIGKILL to its whole group, without waiting."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def restart(self, environment: Mapping[str, str] | None = None) -> None:
        """Stops and starts it, from now on with `environment` over its own. Raises: ChildEndedError."""
        await self.stop()
        if environment is not None:
            merged = {**self.program.environment, **environment}
            self.program = replace(self.program, environment=merged)
        await self.start()

    def send_signal(self, number: int) -> None:
        """To the process alone. SIGSTOP freezes it, SIGCONT thaws it."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def next_event(self, event: str, timeout_s: float = 10.0) -> LogLine:
        """The next line, from now on, that has this event. Raises: TimeoutError."""
        future: asyncio.Future[LogLine] = asyncio.get_running_loop().create_future()
        self._waiters.append((event, future))
        return await asyncio.wait_for(future, timeout_s)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        """Reads its output to the end."""
        rest = b""
        while chunk := await stream.read(READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[:MAX_LINE_CHARS]
            for line in lines:
                self._take(line)
        if rest:
            self._take(rest)

    def _take(self, octets: bytes) -> None:
        raw = octets[:MAX_LINE_CHARS].decode(errors="replace").rstrip()
        if not raw:
            return
        line = self.program.read(self.name, raw)
        self.lines.append(line)
        if line.event == READY and not self._ready.is_set():
            self.ready_s = time.monotonic() - self._started
            self._ready.set()
        for waiter in [each for each in self._waiters if each[0] == line.event or each[1].done()]:
            self._waiters.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(line)
        if self._listener is not None:
            self._listener(line)


def describe_exit(code: int) -> str:
    """`exit code 3`, or `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
