"""The simulator as a child process, for other suites: start it, steer it, read what it was asked, always end it.

    with start_simulator(delta_interval_ms=1) as simulator:
        simulator.set_plans("anthropic", {"cut_after": 3}, then={"text": "fine"})
        ...
        call = simulator.wait_for_request("anthropic", outcome="client_closed")

Only the standard library, over HTTP. The `a`-named twins run in a thread, for a loop that must go on meanwhile. The
child watches its standard input, so it ends with its parent however that dies.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import quote, urlsplit

from simulator.record import RecordedRequest

START_TIMEOUT_S = 20.0
"""A cold start takes 0.2 s; the rest is for a machine under full load."""

END_TIMEOUT_S = 5.0
ADMIN_TIMEOUT_S = 10.0
POLL_S = 0.005
LINE = "simulator listening on "


class SimulatorError(RuntimeError):
    """The simulator did not start, or refused what it was told; the text is its own."""


class Simulator:
    """A running simulator, reached over its admin endpoints."""

    def __init__(self, base_url: str, pid: int) -> None:
        self.base_url = base_url
        self.pid = pid

    @property
    def anthropic_url(self) -> str:
        """What ANTHROPIC_BASE_URL wants: the SDK appends /v1/messages."""
        return f"{self.base_url}/anthropic"

    def openai_url(self, provider: str = "openai") -> str:
        """What OPENAI_BASE_URL and its like want, for any OpenAI-compatible provider."""
        return f"{self.base_url}/{provider}/v1"

    def set_plans(self, provider: str, *plans: Mapping[str, Any], then: Mapping[str, Any] | None = None) -> None:
        """Queues plans for a provider's next requests, in place of what was queued. Raises: SimulatorError."""
        self._call("PUT", f"/sim/plans/{quote(provider)}", {"plans": plans, "then": then})

    def clear_plans(self) -> None:
        self._call("DELETE", "/sim/plans")

    def remaining_plans(self, provider: str) -> int:
        """Queued plans that no request has taken yet."""
        return int(self._call("GET", "/sim/plans")["remaining"].get(provider, 0))

    def requests(self, provider: str | None = None) -> Sequence[RecordedRequest]:
        """What was asked, oldest first; the last thousand."""
        query = "" if provider is None else f"?provider={quote(provider)}"
        return [RecordedRequest(**entry) for entry in self._call("GET", f"/sim/requests{query}")["requests"]]

    def clear_requests(self) -> None:
        self._call("DELETE", "/sim/requests")

    def wait_for_request(
        self,
        provider: str | None = None,
        *,
        outcome: str | None = None,
        least_deltas: int = 0,
        count: int = 1,
        timeout_s: float = 10.0,
    ) -> RecordedRequest:
        """The newest of at least `count` requests that match. Raises: TimeoutError, with all that was recorded."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = self.requests(provider)
            matching = [each for each in seen if outcome in {None, each.outcome} and each.deltas_sent >= least_deltas]
            if len(matching) >= count:
                return matching[-1]
            if time.monotonic() > deadline:
                told = ", ".join(f"{each.provider} {each.outcome} {each.deltas_sent}" for each in seen) or "nothing"
                raise TimeoutError(f"no {count} x {provider} {outcome} within {timeout_s} s; recorded: {told}")
            time.sleep(POLL_S)

    def reset(self) -> None:
        """Forgets plans and requests: for between two tests."""
        self.clear_plans()
        self.clear_requests()

    async def aset_plans(self, provider: str, *plans: Mapping[str, Any], then: Mapping[str, Any] | None = None) -> None:
        await asyncio.to_thread(self.set_plans, provider, *plans, then=then)

    async def aclear_plans(self) -> None:
        await asyncio.to_thread(self.clear_plans)

    async def arequests(self, provider: str | None = None) -> Sequence[RecordedRequest]:
        return await asyncio.to_thread(self.requests, provider)

    async def aclear_requests(self) -> None:
        await asyncio.to_thread(self.clear_requests)

    async def await_request(
        self,
        provider: str | None = None,
        *,
        outcome: str | None = None,
        least_deltas: int = 0,
        count: int = 1,
        timeout_s: float = 10.0,
    ) -> RecordedRequest:
        """`wait_for_request` for a loop."""
        return await asyncio.to_thread(
            self.wait_for_request,
            provider,
            outcome=outcome,
            least_deltas=least_deltas,
            count=count,
            timeout_s=timeout_s,
        )

    async def areset(self) -> None:
        await asyncio.to_thread(self.reset)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        address = urlsplit(self.base_url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=ADMIN_TIMEOUT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            value = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise SimulatorError(f"{method} {path}: {response.status}: {value.get('error')}")
        return value


@contextmanager
def start_simulator(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    delta_interval_ms: float | None = None,
    plan: Mapping[str, Any] | None = None,
) -> Iterator[Simulator]:
    """Runs a simulator for the length of a `with`; `plan` is for requests that bring none. Raises: SimulatorError."""
    command = [sys.executable, "-m", "simulator", "--host", host, "--port", str(port), "--until-stdin-closes"]
    if delta_interval_ms is not None:
        command += ["--delta-interval-ms", str(delta_interval_ms)]
    if plan is not None:
        command += ["--plan", json.dumps(plan)]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True) as child,
    ):
        try:
            yield Simulator(_read_address(child, complaints), child.pid)
        finally:
            child.terminate()
            try:
                child.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()


def _read_address(child: subprocess.Popen[str], complaints: IO[str]) -> str:
    assert child.stdout is not None  # noqa: S101  (for mypy; it was asked for above)
    readable, _, _ = select.select([child.stdout], [], [], START_TIMEOUT_S)
    line = child.stdout.readline() if readable else ""
    if not line.startswith(LINE):
        child.kill()
        child.wait()
        complaints.seek(0)
        raise SimulatorError(complaints.read().strip() or f"no address within {START_TIMEOUT_S} s")
    return line.removeprefix(LINE).strip()
