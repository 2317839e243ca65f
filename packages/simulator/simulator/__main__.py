"""`python -m simulator`: serves until a signal, or until its parent is gone."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys

import orjson
import uvloop

from simulator.http_server import HttpConnection
from simulator.plan import PlanError, parse_plan
from simulator.service import Service, Settings


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulator", description="The provider simulator.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--delta-interval-ms", type=float, default=20.0, help="between deltas where no plan says (20)")
    parser.add_argument("--plan", default="{}", metavar="JSON", help="the plan of requests that bring none")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace, settings: Settings) -> int:
    """Serves until a signal; returns the exit code."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    service = Service(settings)
    connections: set[HttpConnection] = set()
    try:
        server = await loop.create_server(
            lambda: HttpConnection(service, connections), options.host, options.port, backlog=4096
        )
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        print(f"simulator: cannot listen on {options.host}:{options.port}: {reason}", file=sys.stderr)
        return 1
    if options.until_stdin_closes:
        # The parent holds the other end and never writes: readable means that it is gone, however it died.
        loop.add_reader(sys.stdin.fileno(), stopped.set)
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"simulator listening on http://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
    # What lives now lives for ever, and streams make few cycles: keep the collector out of the benchmark's way.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    await stopped.wait()
    server.close()
    for connection in list(connections):
        connection.abort()
    return 0


def main() -> int:
    options = read_arguments(sys.argv[1:])
    try:
        plan = parse_plan(orjson.loads(options.plan))
    except (orjson.JSONDecodeError, PlanError) as exc:
        print(f"simulator: --plan: {exc}", file=sys.stderr)
        return 1
    settings = Settings(delta_interval_ms=max(0.0, options.delta_interval_ms), plan=plan)
    return uvloop.run(serve(options, settings))


if __name__ == "__main__":
    sys.exit(main())
