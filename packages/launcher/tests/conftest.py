"""Launchers as real processes, each ended whatever happens to the test."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

DEADLINE_S = 60.0
"""A cold start takes seconds on a loaded machine; what takes longer is broken."""


class LauncherProcess:
    """`python -m launcher`, its lines, and every process that it ever had."""

    def __init__(self, directory: Path, arguments: tuple[str, ...] = (), **variables: str) -> None:
        self.directory = directory
        passed = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        environment = {**passed, "SWITCHBOARD_DATA_DIR": str(directory), "GATEWAY_PORT": "0", **variables}
        self._process = subprocess.Popen(
            (sys.executable, "-P", "-m", "launcher", *arguments),
            env=environment,
            cwd=directory.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._seen: set[psutil.Process] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, start: int = 0) -> str:
        """The first line from `start` on that holds `text`."""
        give_up = time.monotonic() + DEADLINE_S
        with self._more:
            while True:
                for line in self.lines[start:]:
                    if text in line:
                        return line
                assert not self._ended, f"it ended without {text!r}:\n{self.output}"
                assert self._more.wait(give_up - time.monotonic()), f"no {text!r} in time:\n{self.output}"

    def children(self) -> list[psutil.Process]:
        """Its children now; they are remembered for `wait_until_gone`."""
        found = psutil.Process(self.pid).children(recursive=True)
        self._seen.update(found)
        return found

    def child(self, module: str) -> psutil.Process:
        """The child that runs `module`, or a program of that name."""
        return next(each for each in self.children() if each.cmdline() and module in " ".join(each.cmdline()[:4]))

    def send(self, number: int) -> None:
        """Nothing, when it has ended meanwhile."""
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            self.children()
            os.kill(self.pid, number)

    def running(self, *, for_s: float) -> bool:
        """Whether it still runs after so long; returns at once when it ends."""
        try:
            self._process.wait(for_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def wait(self) -> int:
        """Its exit code, when its output has ended as well."""
        code = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def wait_until_gone(self) -> None:
        """Every child that was ever seen has ended."""
        _, alive = psutil.wait_procs(list(self._seen), timeout=DEADLINE_S)
        assert not alive

    def end(self) -> None:
        """Whatever is left of it."""
        if self._process.poll() is None:
            self.children()
            self._process.kill()
            self._process.wait()
        for each in self._seen:
            if each.is_running():
                each.kill()
        psutil.wait_procs(list(self._seen), timeout=DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., LauncherProcess]]:
    """Starts a launcher on this test's own data directory."""
    started: list[LauncherProcess] = []

    def start(*arguments: str, directory: Path = tmp_path / "data", **variables: str) -> LauncherProcess:
        started.append(LauncherProcess(directory, arguments, **variables))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LauncherProcess]:
    """One that runs, for all tests of a module that do not end it."""
    launcher = LauncherProcess(tmp_path_factory.mktemp("shared") / "data")
    try:
        launcher.wait_for("Ctrl-C stops everything")
        yield launcher
    finally:
        launcher.end()


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
