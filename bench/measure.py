"""Runs the load generator against a stack, and measures the stack's processes while it does."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.stack import Stack

from bench.processes import cpu_s
from bench.spec import CONNECTED, GO, LoadResult, LoadSpec

ROOT = Path(__file__).parent.parent
CONNECT_TIMEOUT_S = 150.0
OURS = ("worker", "session", "gateway", "redis")


class MeasureError(RuntimeError):
    """The load generator failed; the text says how."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run: what the load generator saw, and CPU seconds by process from its start to its end."""

    spec: LoadSpec
    result: LoadResult
    cpu: Mapping[str, float]

    def cpu_us(self, *names: str) -> float:
        """Microseconds a delta delivered, of these processes together."""
        return 1e6 * sum(self.cpu.get(name, 0.0) for name in names) / max(1, self.result.deltas)

    @property
    def ours_us(self) -> float:
        return self.cpu_us(*OURS)

    @property
    def deltas_per_s(self) -> float:
        return self.result.deltas / self.result.wall_s if self.result.wall_s else 0.0


class Generator:
    """A load generator whose connections stand."""

    def __init__(self, spec: LoadSpec, process: asyncio.subprocess.Process) -> None:
        self.spec = spec
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, stack: Stack) -> Measurement:
        """Lets it go, and returns when it is done. Raises: MeasureError."""
        pids = {child.name: child.pid for child in stack.children} | {"load": self.pid}
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        assert self._process.stdin is not None
        self._process.stdin.write(f"{GO}\n".encode())
        ideal_s = self.spec.stagger_s + self.spec.deltas * self.spec.interval_ms / 1000
        line = await self.read_line(self.spec.rounds * (ideal_s + self.spec.grace_s) + 10)
        used = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
        return Measurement(self.spec, LoadResult.decode(line), used)

    async def read_line(self, timeout_s: float) -> str:
        """Raises: MeasureError."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        except TimeoutError:
            raise MeasureError(f"the load generator said nothing for {timeout_s:g} s: {self.spec}") from None
        if not line:
            raise MeasureError(f"the load generator ended (see above): {self.spec}")
        return line.decode().strip()


@asynccontextmanager
async def connected(spec: LoadSpec) -> AsyncIterator[Generator]:
    """A load generator with all its connections up; it is gone after the block. Raises: MeasureError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        spec.encode(),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    generator = Generator(spec, process)
    try:
        if await generator.read_line(CONNECT_TIMEOUT_S) != CONNECTED:
            raise MeasureError("the load generator did not connect")
        yield generator
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def measure(spec: LoadSpec, stack: Stack) -> Measurement:
    """Connects, runs, and measures. Raises: MeasureError."""
    async with connected(spec) as generator:
        return await generator.run(stack)
