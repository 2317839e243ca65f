"""`python -m bench`: starts a stack of its own, measures it, prints the tables and writes them to bench/results/."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from launcher.process import ChildEndedError
from launcher.stack import Stack

from bench.failover import FailoverError, measure_failover
from bench.load import raise_file_limit
from bench.measure import MeasureError
from bench.report import RESULTS, Report, render, save
from bench.scenario import QUICK, Bench, Sizes

SECTIONS = ("relay", "burst", "fanout", "idle", "saturation", "start")
FAILOVER = "failover"
"""Only where it is asked for: it waits for minutes, and says nothing of what a delta costs."""
LIMIT_S = 900.0
"""Whatever hangs, it ends."""


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    parser.add_argument("--streams", type=_numbers, metavar="N,N", help="numbers of streams (1,50,200)")
    parser.add_argument("--deltas", type=int, help="deltas a stream, 10 ms apart (200; with --quick 100)")
    parser.add_argument("--only", type=_sections, metavar="SECTION,...", help=f"of {', '.join((*SECTIONS, FAILOVER))}")
    parser.add_argument(
        "--profile",
        choices=("worker", "session", "gateway"),
        help="run that service under cProfile, into bench/results/",
    )
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


def _sections(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    for each in chosen:
        if each not in (*SECTIONS, FAILOVER):
            raise argparse.ArgumentTypeError(f"{each!r} is not one of {', '.join(SECTIONS)}")
    return chosen


async def run(options: argparse.Namespace) -> Report:
    """Raises: MeasureError, ChildEndedError, TimeoutError."""
    sizes = QUICK if options.quick else Sizes()
    if options.streams:
        sizes = replace(sizes, streams=options.streams)
    if options.deltas:
        sizes = replace(sizes, deltas=options.deltas)
    chosen = options.only or SECTIONS
    report = Report()
    profile = RESULTS / f"{options.profile}-{time.strftime('%Y%m%dT%H%M%S')}.pstats"
    profiler = {options.profile: ("-m", "cProfile", "-o", str(profile))} if options.profile else {}
    if options.profile:
        RESULTS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", file=sys.stderr, flush=True)

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    def stack() -> Stack:
        return Stack(environment={"RATE_LIMITS": "off"}, python_arguments=profiler, notice=say)

    async with asyncio.timeout(LIMIT_S):
        if set(chosen) - {"idle", FAILOVER}:
            async with stack() as running:
                await measure_sections(Bench(running, sizes, say), chosen, report)
        if "idle" in chosen:
            # In processes of its own: memory that earlier streams have left free would hide what a connection takes.
            async with stack() as running:
                report.idle = await Bench(running, sizes, say).idle()
        if FAILOVER in chosen:
            report.failover = await measure_failover(say)
    if options.profile:
        say(f"profile: {profile} (python -m pstats)")
    return report


async def measure_sections(bench: Bench, chosen: Collection[str], report: Report) -> None:
    """All but the idle one. Raises: MeasureError."""
    if set(chosen) - {"start", FAILOVER}:
        await bench.warm_up()
    if "relay" in chosen:
        report.relay = await bench.relay()
    if "burst" in chosen:
        report.burst = await bench.burst()
    if "fanout" in chosen:
        report.fanout = await bench.fanout()
    if "saturation" in chosen:
        report.saturation = await bench.saturation()
    if "start" in chosen:
        report.start = await bench.start()


def main() -> int:
    options = read_arguments(sys.argv[1:])
    raise_file_limit()
    try:
        report = asyncio.run(run(options))
    except (ChildEndedError, MeasureError, FailoverError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"bench: not done within {LIMIT_S:g} s", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    print(render(report))
    path = save(report, {name: value for name, value in vars(options).items() if value})
    print(f"\nwritten to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
