"""A child starts, ends, and never outlives us, by real processes."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from launcher.log_line import read_json
from launcher.process import LEASH, Child, ChildEndedError, Program

READY = 'print(\'{"event":"ready"}\', flush=True); '
SLEEP = "import time; time.sleep(600)"


def program(code: str, **settings: float) -> Program:
    return Program("child", (sys.executable, "-c", code), dict(os.environ), read_json, **settings)  # type: ignore[arg-type]


async def test_it_is_started_when_it_says_that_it_is_ready() -> None:
    child = Child(program(READY + SLEEP))
    await child.start()
    assert child.ready
    await child.stop()
    assert child.exit_code == -signal.SIGTERM


async def test_one_that_ends_while_starting_is_told_with_its_last_lines() -> None:
    child = Child(program("print('no disk'); raise SystemExit(3)"))
    with pytest.raises(ChildEndedError, match=r"^child ended while starting \(exit code 3\)$") as caught:
        await child.start()
    assert [line.event for line in caught.value.lines] == ["no disk"]
    assert caught.value.exit_code == 3


async def test_one_that_is_not_ready_in_time_is_killed() -> None:
    child = Child(program(SLEEP, ready_timeout_s=0.2))
    with pytest.raises(ChildEndedError, match=r"not ready within 0\.2 s"):
        await child.start()
    assert not child.running


async def test_one_that_ignores_sigterm_is_killed_with_all_that_it_started() -> None:
    code = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        'print(\'{"event":"ready","inner":%d}\' % inner.pid, flush=True); inner.wait()'
    )
    child = Child(program(code, stop_timeout_s=0.2))
    await child.start()
    inner = psutil.Process(int(str(child.lines[-1].fields["inner"])))
    await child.stop()
    assert child.exit_code == -signal.SIGKILL
    assert not psutil.wait_procs([inner], timeout=10)[1]


async def test_a_line_without_an_end_does_not_fill_memory_and_the_next_is_read() -> None:
    child = Child(program("print('x' * 5_000_000); " + READY + SLEEP))
    await child.start()
    assert max(len(line.raw) for line in child.lines) <= 262_144
    await child.kill()


async def test_an_event_can_be_waited_for() -> None:
    child = Child(program(READY + 'input(); print(\'{"event":"later"}\', flush=True)'))
    await child.spawn()
    with pytest.raises(TimeoutError):
        await child.next_event("later", timeout_s=0.05)
    await child.kill()
    assert await child.wait_ended() in (0, 1, -signal.SIGKILL)


LEAVING_PARENT = """
import asyncio, os, sys
from launcher.log_line import read_json
from launcher.process import Child, Program
async def main():
    child = Child(Program("child", (sys.executable, "-c", sys.argv[1]), dict(os.environ), read_json))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_it_ends_with_us_even_when_we_are_killed() -> None:
    command = (sys.executable, "-c", LEAVING_PARENT, READY + SLEEP)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert not psutil.wait_procs([child], timeout=30)[1]


WATCH = "import sys; sys.path.append(sys.argv[1]); import leash; sys.exit(leash.watch_parent(sys.argv[2:], 9))"


def test_without_the_kernel_s_help_the_leash_itself_watches_and_passes_signals_on() -> None:
    inner = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('up', flush=True); " + SLEEP
    )
    command = (sys.executable, "-I", "-c", WATCH, str(Path(LEASH).parent), sys.executable, "-c", inner)
    for end in ("signal", "orphaned"):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as leash:
            assert leash.stdout is not None
            assert leash.stdin is not None
            assert leash.stdout.readline() == "up\n"
            children = psutil.Process(leash.pid).children()
            if end == "signal":
                leash.terminate()
                assert leash.wait(30) == 7
            else:
                leash.stdin.close()
                assert leash.wait(30) == 128 + 9
            assert not psutil.wait_procs(children, timeout=30)[1]


async def test_two_can_be_told_apart_while_both_run() -> None:
    children = [Child(program(READY + SLEEP)) for _ in range(2)]
    await asyncio.gather(*(child.start() for child in children))
    assert children[0].pid != children[1].pid
    await asyncio.gather(*(child.kill() for child in children))
