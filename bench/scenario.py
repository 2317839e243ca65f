"""What is measured: each section of the report, from a stack that runs to the numbers of one table."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from launcher.stack import Stack

from bench.measure import Measurement, connected, measure
from bench.processes import memory_kib
from bench.spec import LoadSpec

SETTLE_S = 0.3
"""Between runs: what the last one left behind is done."""
SETTLE_LIMIT_S = 5.0
SETTLED_KIB = 64


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; `quick` fits in a minute."""

    streams: tuple[int, ...] = (1, 50, 200)
    deltas: int = 200
    burst_rounds: int = 3
    lone_rounds: int = 30
    """Rounds at one stream, where a round gives one sample."""
    idle_connections: int = 5000
    readers: int = 100
    starts: int = 3
    step_s: float = 4
    """Length of a step on the way to saturation."""
    long_s: float = 10
    """Length of the streams at 75 % of it."""
    first_step: int = 100
    step_factor: float = 1.5
    max_streams: int = 1600
    grace_s: float = 20


QUICK = Sizes(
    deltas=100,
    burst_rounds=1,
    lone_rounds=10,
    idle_connections=1000,
    starts=1,
    step_s=2,
    long_s=2,
    first_step=200,
    step_factor=2,
    max_streams=400,
    grace_s=5,
)

SATURATED_LAG_MS = 250.0
SATURATED_SHARE = 0.95
IDLE_PROCESSES = ("gateway", "session", "redis")


@dataclass(frozen=True, slots=True)
class Pair:
    """The same load through us and straight from the simulator."""

    ours: Measurement
    direct: Measurement


@dataclass(frozen=True, slots=True)
class Idle:
    """Memory a connection that waits, each of a chat of its own, in KiB by process."""

    connections: int
    kib: Mapping[str, float]
    connect_s: float
    """To start their sessions and connect them all."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """Steps up to saturation, then streams of `long_s` at 75 % of the last step that was not."""

    steps: tuple[Measurement, ...]
    saturated_streams: int
    """The first step that was; 0: none up to the bound."""
    good_streams: int
    at_75: Pair


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from `python -m launcher` to the line that says it is ready; and a bare Python's, to compare with."""

    launcher_s: tuple[float, ...]
    python_s: float
    parts_s: Mapping[str, float]
    """By process, as the stack saw it."""


class Bench:
    """A stack under measurement. `say` tells a person what is going on."""

    def __init__(self, stack: Stack, sizes: Sizes, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._sizes = sizes
        self._say = say
        self._numbers = count(1)

    def spec(self, target: str, streams: int, deltas: int) -> LoadSpec:
        """A load on the gateway ("faye") or on the simulator."""
        url = self._stack.gateway_urls[0] if target == "faye" else self._stack.simulator_url
        name = f"bench-{next(self._numbers)}"
        key = self._stack.secrets.api_key
        return LoadSpec(target, url, key, name, streams, deltas, grace_s=self._sizes.grace_s)

    async def pair(self, streams: int, deltas: int, **fields: float) -> Pair:
        """Both loads, one after the other: direct first, so that neither disturbs the other."""
        direct = await self.run("anthropic", streams, deltas, **fields)
        return Pair(ours=await self.run("faye", streams, deltas, **fields), direct=direct)

    async def run(self, target: str, streams: int, deltas: int, **fields: float) -> Measurement:
        spec = replace(self.spec(target, streams, deltas), **fields)  # type: ignore[arg-type]
        await asyncio.sleep(SETTLE_S)
        return await measure(spec, self._stack)

    async def warm_up(self) -> None:
        """Imports, connections, caches: what only the first streams would pay."""
        self._say("warming up")
        await self.pair(50, 100, stagger_s=0.2)

    async def relay(self) -> list[Pair]:
        """Streams at a steady rate, their starts spread: cost and lag of a delta."""
        made = []
        for streams in self._sizes.streams:
            deltas = self._sizes.deltas * (2 if streams == 1 else 1)
            self._say(f"relay: {streams} streams of {deltas} deltas")
            made.append(await self.pair(streams, deltas, stagger_s=0 if streams == 1 else 0.5))
        return made

    async def burst(self) -> list[Pair]:
        """All at once: the time to the first token."""
        made = []
        for streams in self._sizes.streams:
            rounds = self._sizes.lone_rounds if streams == 1 else self._sizes.burst_rounds
            self._say(f"first token: {streams} at once, {rounds} rounds")
            made.append(await self.pair(streams, 10, rounds=rounds))
        return made

    async def fanout(self) -> Measurement:
        """One chat, many readers."""
        self._say(f"fan-out: 1 chat, {self._sizes.readers} readers")
        return await self.run("faye", 1, self._sizes.deltas, readers=self._sizes.readers)

    async def idle(self) -> Idle:
        """Connections that only wait."""
        self._say(f"idle: {self._sizes.idle_connections} connections")
        await self._hold(self._sizes.idle_connections // 10)
        return await self._hold(self._sizes.idle_connections)

    async def _hold(self, connections: int) -> Idle:
        pids = {child.name: child.pid for child in self._stack.children}
        before = await _settled_kib([pids[name] for name in IDLE_PROCESSES])
        started = time.monotonic()
        async with connected(self.spec("faye", connections, 0)):
            connect_s = time.monotonic() - started
            after = await _settled_kib([pids[name] for name in IDLE_PROCESSES])
        each = [(late - early) / connections for early, late in zip(before, after, strict=True)]
        return Idle(connections, dict(zip(IDLE_PROCESSES, each, strict=True)), connect_s)

    async def saturation(self) -> Saturation:
        """More and more streams, until they come too late or too few."""
        sizes = self._sizes
        steps: list[Measurement] = []
        good, bad, streams = 0, 0, sizes.first_step
        while streams <= sizes.max_streams:
            self._say(f"saturation: {streams} streams")
            steps.append(await self._step(streams))
            if is_saturated(steps[-1]):
                bad = streams
                break
            good, streams = streams, round(streams * sizes.step_factor / 10) * 10
        if bad:
            middle = (good + bad) // 2
            self._say(f"saturation: {middle} streams")
            steps.append(await self._step(middle))
            good, bad = (good, middle) if is_saturated(steps[-1]) else (middle, bad)
        chosen = max(1, round(0.75 * good)) if good else sizes.first_step // 4
        self._say(f"saturation: {chosen} streams of {sizes.long_s:g} s")
        at_75 = await self.pair(chosen, round(sizes.long_s * 100), stagger_s=0.5)
        return Saturation(tuple(steps), bad, good, at_75)

    async def _step(self, streams: int) -> Measurement:
        return await self.run("faye", streams, round(self._sizes.step_s * 100), stagger_s=0.5)

    async def start(self) -> Start:
        """The whole system from nothing, and again."""
        self._say(f"start: {self._sizes.starts} times")
        seconds = [await _time_launcher() for _ in range(self._sizes.starts)]
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
        await process.wait()
        python_s = time.monotonic() - started
        return Start(tuple(seconds), python_s, {child.name: child.ready_s for child in self._stack.children})


def is_saturated(measurement: Measurement) -> bool:
    """Too late, or too few: streams that take longer than they should fall behind more and more."""
    result = measurement.result
    if result.unfinished or result.deltas < result.expected:
        return True
    return result.lag_p50 > SATURATED_LAG_MS or result.stretch * SATURATED_SHARE > 1


async def _settled_kib(pids: list[int]) -> list[int]:
    """Memory of each when it has stopped changing, or at the limit."""
    give_up = time.monotonic() + SETTLE_LIMIT_S
    last = [memory_kib(pid) for pid in pids]
    while time.monotonic() < give_up:
        await asyncio.sleep(SETTLE_S)
        now = [memory_kib(pid) for pid in pids]
        if all(abs(new - old) < SETTLED_KIB for new, old in zip(now, last, strict=True)):
            return now
        last = now
    return last


async def _time_launcher() -> float:
    with tempfile.TemporaryDirectory(prefix="switchboard-bench-") as directory:
        passed = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {**passed, "SWITCHBOARD_DATA_DIR": str(Path(directory) / "data"), "GATEWAY_PORT": "0"}
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "launcher",
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                async for line in process.stdout:
                    if b"is ready" in line:
                        return time.monotonic() - started
        finally:
            process.terminate()
            await process.wait()
    raise RuntimeError("the launcher did not become ready")
