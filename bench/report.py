"""The report: tables for a person, and the same numbers as JSON."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.failover import Failover
from bench.measure import Measurement
from bench.scenario import Idle, Pair, Saturation, Start

RESULTS = Path(__file__).parent / "results"


@dataclass(slots=True)
class Report:
    """What was measured; a section that was left out is None."""

    relay: list[Pair] | None = None
    burst: list[Pair] | None = None
    fanout: Measurement | None = None
    idle: Idle | None = None
    saturation: Saturation | None = None
    start: Start | None = None
    failover: Failover | None = None


def render(report: Report) -> str:
    """All sections, as text."""
    parts: list[str] = []
    if report.relay is not None:
        parts.append(_relay(report.relay))
    if report.burst is not None:
        parts.append(_burst(report.burst))
    if report.fanout is not None:
        parts.append(_fanout(report.fanout))
    if report.idle is not None:
        parts.append(_idle(report.idle))
    if report.saturation is not None:
        parts.append(_saturation(report.saturation))
    if report.start is not None:
        parts.append(_start(report.start))
    if report.failover is not None:
        parts.append(_failover(report.failover))
    parts.append(_failures(report))
    return "\n\n".join(part for part in parts if part)


def save(report: Report, options: dict[str, object]) -> Path:
    """Writes everything to bench/results/<time>.json; returns the path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    path.write_text(
        json.dumps({"machine": machine, "options": options, **asdict(report)}, indent=1, default=str) + "\n"
    )
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the right."""
    widths = [max(len(row[n]) for row in (header, *rows)) for n in range(len(header))]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows))
    return "\n".join("  " + line for line in lines)


def _relay(pairs: Sequence[Pair]) -> str:
    cost = table(
        (
            *("streams", "deltas/s", "of direct", "worker", "session", "gateway", "redis", "OURS us", "x reader"),
            *("simulator", "load", "frames/delta", "lost"),
        ),
        [
            (
                str(pair.ours.spec.streams),
                f"{pair.ours.deltas_per_s:,.0f}",
                f"{_share(pair.ours.deltas_per_s, pair.direct.deltas_per_s):.0%}",
                *(f"{pair.ours.cpu_us(name):.0f}" for name in ("worker", "session", "gateway", "redis")),
                f"{pair.ours.ours_us:.0f}",
                f"{_share(pair.ours.ours_us, pair.direct.cpu_us('load')):.1f}",
                f"{pair.ours.cpu_us('simulator'):.0f}",
                f"{pair.ours.cpu_us('load'):.0f}",
                f"{_share(pair.ours.result.frames, pair.ours.result.deltas):.2f}",
                _lost(pair.ours),
            )
            for pair in pairs
        ],
    )
    lag = table(
        ("streams", "lag p50", "direct", "added", "ratio", "lag p99", "direct", "added", "ratio", "max"),
        [(str(pair.ours.spec.streams), *_beside(pair, "lag"), f"{pair.ours.result.lag_max:.1f}") for pair in pairs],
    )
    return (
        "RELAY: streams at 100 deltas a second each, over Faye's WebSocket\n"
        f"CPU a delta delivered, in us; `x reader`: OURS by what the same reader used on the direct stream\n{cost}\n"
        f"lag of a delta, from the simulator's sending to the client, in ms\n{lag}"
    )


def _burst(pairs: Sequence[Pair]) -> str:
    rows = [
        (str(pair.ours.spec.streams), str(pair.ours.spec.rounds), *_beside(pair, "ttft"), _lost(pair.ours))
        for pair in pairs
    ]
    header = ("at once", "rounds", "p50", "direct", "added", "ratio", "p99", "direct", "added", "ratio", "lost")
    return (
        f"FIRST TOKEN: from the message to the first delta, all streams started at once, in ms\n{table(header, rows)}"
    )


def _beside(pair: Pair, kind: str) -> tuple[str, ...]:
    """p50 and p99: ours, direct, the difference, the ratio."""
    cells: list[str] = []
    for rank in ("p50", "p99"):
        ours = float(getattr(pair.ours.result, f"{kind}_{rank}"))
        direct = float(getattr(pair.direct.result, f"{kind}_{rank}"))
        cells += [f"{ours:.2f}", f"{direct:.2f}", f"{ours - direct:+.2f}", f"{_share(ours, direct):.1f}"]
    return tuple(cells)


def _fanout(run: Measurement) -> str:
    result = run.result
    per_frame = 1e6 * (run.cpu.get("gateway", 0) + run.cpu.get("session", 0)) / max(1, result.frames)
    return (
        f"FAN-OUT: 1 chat, {run.spec.readers} readers\n"
        f"  {run.deltas_per_s:,.0f} deltas/s delivered in {result.frames / result.wall_s if result.wall_s else 0:,.0f}"
        f" frames/s; gateway and session {per_frame:.1f} us a frame; lag p50 {result.lag_p50:.1f} ms,"
        f" p99 {result.lag_p99:.1f} ms; lost {_lost(run)}"
    )


def _idle(idle: Idle) -> str:
    each = ", ".join(f"{name} {kib:.1f}" for name, kib in idle.kib.items())
    return (
        f"IDLE: {idle.connections} WebSockets, each of a chat of its own\n"
        f"  KiB a connection (PSS): {each}; sessions started and connected in {idle.connect_s:.1f} s"
        f" ({idle.connections / idle.connect_s:,.0f}/s)"
    )


def _saturation(saturation: Saturation) -> str:
    rows = [
        (
            str(step.spec.streams),
            f"{step.deltas_per_s:,.0f}",
            f"{step.ours_us:.0f}",
            f"{step.result.lag_p50:.1f}",
            f"{step.result.lag_p99:.1f}",
            f"{step.result.stretch:.2f}",
            _lost(step),
        )
        for step in saturation.steps
    ]
    steps = table(("streams", "deltas/s", "OURS us", "lag p50", "lag p99", "stretch", "lost"), rows)
    reached = f"saturates at {saturation.saturated_streams}" if saturation.saturated_streams else "was not saturated"
    pair = saturation.at_75
    lag = table(
        ("streams", "p50", "direct", "added", "ratio", "p99", "direct", "added", "ratio", "lost"),
        [(str(pair.ours.spec.streams), *_beside(pair, "lag"), _lost(pair.ours))],
    )
    seconds = pair.ours.spec.deltas * pair.ours.spec.interval_ms / 1000
    return (
        f"SATURATION: steps of streams; {reached}, {saturation.good_streams} were carried\n{steps}\n"
        f"at 75 % of that, streams of {seconds:g} s: lag in ms; {pair.ours.deltas_per_s:,.0f} deltas/s,"
        f" OURS {pair.ours.ours_us:.0f} us a delta\n{lag}"
    )


def _start(start: Start) -> str:
    best, worst = min(start.launcher_s), max(start.launcher_s)
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in start.parts_s.items())
    return (
        f"START: from nothing to ready {best:.2f} s at best, {worst:.2f} s at worst of {len(start.launcher_s)}:"
        f" {best / start.python_s:.0f} times a bare Python's start\n  by process, in s: {parts}"
    )


def _failover(failover: Failover) -> str:
    stalls = table(
        ("setting", "calls", "first token at the latest, s"),
        [(stall.setting, str(len(stall.ttft_s)), f"{max(stall.ttft_s):.2f}") for stall in failover.stalls],
    )
    outages = table(
        ("fault", "calls", "answered", "attempts at the dead one", "back after, s", "first token at the latest, s"),
        [
            (
                outage.fault,
                str(outage.calls),
                str(outage.answered),
                str(outage.attempts),
                "never" if outage.recovered_after_s is None else f"{outage.recovered_after_s:.1f}",
                f"{outage.ttft_max_s:.2f}",
            )
            for outage in failover.outages
        ],
    )
    costs = table(
        ("fault", "calls", "failed attempts a call", "they took", "next target's own", "cost p50", "p90"),
        [
            (
                cost.fault,
                str(cost.calls),
                str(cost.attempts),
                f"{cost.failed_ms:.2f}",
                f"{cost.healthy_ms:.2f}",
                f"{cost.cost_p50_ms:+.2f}",
                f"{cost.cost_p90_ms:+.2f}",
            )
            for cost in failover.costs
        ],
    )
    return (
        f"FAILOVER: the primary stalls 20 s before its first token\n{stalls}\n"
        f"the primary is down for 60 s, a call every 4 s\n{outages}\n"
        "first token of a call that fails over, without its failed attempts and the next target's own first token,"
        f" in ms; back-off turned off\n{costs}"
    )


def _lost(run: Measurement) -> str:
    """Deltas that never came, and streams that did not end well."""
    missing = run.result.expected - run.result.deltas
    return f"{missing} ({run.result.unfinished} streams)" if run.result.unfinished else str(missing)


def _failures(report: Report) -> str:
    """Why streams failed; a stream without a reason was not done in time."""
    runs = [pair.ours for pair in (*(report.relay or ()), *(report.burst or ()))]
    if report.fanout is not None:
        runs.append(report.fanout)
    if report.saturation is not None:
        runs += [*report.saturation.steps, report.saturation.at_75.ours]
    lines = []
    for run in runs:
        if run.result.unfinished:
            told = "; ".join(f"{count} x {why}" for why, count in run.result.close_codes.items())
            late = run.result.unfinished - sum(run.result.close_codes.values())
            lines.append(
                f"  of {run.spec.streams * run.spec.rounds} streams: {told or 'none told why'}; {late} not done in time"
            )
    return "FAILURES\n" + "\n".join(lines) if lines else ""


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
