"""What a process has used, from /proc: CPU and memory."""

from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def cpu_s(pid: int) -> float:
    """CPU seconds of all its threads, user and system: schedstat counts nanoseconds, where stat counts hundredths."""
    total_ns = 0
    for task in (PROC / str(pid) / "task").iterdir():
        with suppress(OSError):  # the thread has just ended
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def memory_kib(pid: int) -> int:
    """Its proportional share of memory: pages that processes have in common count once between them."""
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise OSError("no Pss in smaps_rollup")
