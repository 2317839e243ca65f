"""The leash: runs a command that cannot outlive the process that started it, however that one ends.

    python -I -S leash.py PARENT_PID SIGNAL COMMAND...

Linux: the kernel sends SIGNAL when the parent is gone (prctl(2), PR_SET_PDEATHSIG), and the command takes this
process's place, so that its pid and its exit code are its own. Elsewhere the leash stays beside the command, passes
signals on, and ends it when standard input, which the parent holds open and never writes to, closes.

A file that is run, never imported by what it runs: it must start in milliseconds. PR_SET_PDEATHSIG means the parent's
*thread*: start children from a thread that lives as long as they shall.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

PR_SET_PDEATHSIG = 1
LINUX = sys.platform == "linux"


def follow_parent(parent: int, number: int) -> None:
    """From here on the kernel sends `number` when the parent ends. Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), number)


def watch_parent(command: list[str], number: int) -> int:
    """Runs the command until it ends or standard input closes; returns its exit code, 128 + n for a signal's."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)

    def pass_on(received: int, _: FrameType | None) -> None:
        child.send_signal(received)

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, pass_on)

    def wait_for_end_of_input() -> None:
        while os.read(0, 1):
            pass
        child.send_signal(number)

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    code = child.wait()
    return 128 - code if code < 0 else code


def main(arguments: list[str]) -> int:
    parent, number, *command = arguments
    if LINUX:
        follow_parent(int(parent), int(number))
        os.execv(command[0], command)  # noqa: S606  (it is ours)
    return watch_parent(command, int(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
