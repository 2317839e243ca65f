"""What a provider's failure costs who waits for the answer: a stall, an outage of a minute, and a single failed call.

Asked as a stream over `/v1/chat/completions`, of stacks of its own whose primary is the simulated Anthropic and whose
next target the simulated xAI. Settings are the defaults but where a figure names another. It takes two minutes and a
half, nearly all of them waiting, and ends by itself. Where the behaviour is set down: docs/subsystems/providers.md.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import httpx2
from launcher.stack import Stack
from simulator.process import Simulator
from simulator.record import RecordedRequest

MODEL, PRIMARY, NEXT = "claude", "anthropic", "grok"
"""The route's name, and the first two of its targets."""
PRIMARY_MODELS = "claude-"
"""How the primary's models begin."""
NEXT_MODEL = "grok"
"""The name by which the next target is asked first."""
PATH = "/v1/chat/completions"
WELL: Mapping[str, Any] = {"deltas": 10, "interval_ms": 1}
TTFT_SETTING = "SWITCHBOARD__WORKER__TTFT_TIMEOUT_S"
SHORT_TTFT_S = "2.5"
STALL_MS = 20_000
STALLED_CALLS = 3
"""At once: fewer than open a breaker."""

EVERY_S = 4.0
FIRST_S = -6.0
"""From the outage's start to the first call: none coincides with its beginning or its end."""
OUTAGE_S = 60.0
GIVE_UP_S = 40.0
"""How long a provider that is well again is waited for."""

SAMPLES = 30
UNFORGIVING = {
    "SWITCHBOARD__BREAKER__FAILURE_THRESHOLD": "1000000",
    "SWITCHBOARD__BREAKER__MAX_COOLDOWN_S": "0.001",
    "SWITCHBOARD__RETRIES__BACKOFF_BASE_S": "0.001",
}
"""So that the primary is asked in each of many calls, and what is waited on purpose does not count as cost."""
FAULTS: Mapping[str, Mapping[str, Any]] = {
    "429, no Retry-After": {"status": 429},
    "503": {"status": 503},
    "reset": {"reset_before_headers": True},
}


class FailoverError(RuntimeError):
    """A call that had to be answered was not."""


@dataclass(frozen=True, slots=True)
class Call:
    """One whole answer as its reader saw it: times by the monotonic clock, and the model that its first token names."""

    asked_ns: int
    first_ns: int
    model: str

    @property
    def ttft_s(self) -> float:
        return (self.first_ns - self.asked_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Stall:
    """Calls whose primary sends no token: until their first one."""

    setting: str
    ttft_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outage:
    """A minute without the primary, and what follows."""

    fault: str
    calls: int
    answered: int
    attempts: int
    """At the primary, while it was down."""
    recovered_after_s: float | None
    """From its return to the first call that it answered; None: it answered none."""
    ttft_max_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """First tokens of calls that failed over, less what the failed attempts took by the simulator's record and less the
    next target's own first token in healthy calls of the same run. In milliseconds."""

    fault: str
    attempts: int
    """That failed, a call."""
    calls: int
    failed_ms: float
    healthy_ms: float
    cost_p50_ms: float
    cost_p90_ms: float


@dataclass(frozen=True, slots=True)
class Failover:
    """All of it."""

    stalls: tuple[Stall, ...]
    outages: tuple[Outage, ...]
    costs: tuple[Cost, ...]


async def measure_failover(say: Callable[[str], None]) -> Failover:
    """Raises: FailoverError, ChildEndedError."""
    async with opened() as caller:
        say(f"a primary that stalls {STALL_MS / 1000:g} s before its first token")
        usual = Stall("defaults", await caller.stalled())
    async with opened({TTFT_SETTING: SHORT_TTFT_S}) as caller:
        short = Stall(f"{TTFT_SETTING}={SHORT_TTFT_S}", await caller.stalled())
    say(f"the primary is down for {OUTAGE_S:g} s, on two stacks at the same time")
    async with opened() as one, opened() as other:
        names = ("503", "reset")
        outages = await asyncio.gather(
            *(caller.outage(name, FAULTS[name]) for caller, name in zip((one, other), names, strict=True))
        )
    async with opened(UNFORGIVING) as caller:
        say(f"{SAMPLES} calls that fail over, for each fault")
        costs = [await caller.cost(name, fault) for name, fault in FAULTS.items()]
    return Failover((usual, short), tuple(outages), tuple(costs))


@asynccontextmanager
async def opened(environment: Mapping[str, str] | None = None) -> AsyncIterator["Caller"]:
    """A stack whose providers are all well, and who calls it."""
    async with (
        Stack(environment={"RATE_LIMITS": "off", **(environment or {})}) as stack,
        httpx2.AsyncClient(base_url=stack.gateway_urls[0], timeout=60) as client,
    ):
        await stack.wait_serving()
        assert stack.simulator is not None
        caller = Caller(client, stack.secrets.api_key, Simulator(stack.simulator_url, stack.simulator.pid))
        for provider in (PRIMARY, NEXT):
            await caller.simulator.aset_plans(provider, then=WELL)
        # What a first call finds cold is not what is measured.
        for model in (MODEL, NEXT_MODEL):
            await caller.call(model)
        yield caller


class Caller:
    """Who asks one stack, over one connection a call at a time."""

    def __init__(self, client: httpx2.AsyncClient, api_key: str, simulator: Simulator) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {api_key}"}
        self.simulator = simulator

    async def call(self, model: str = MODEL) -> Call:
        """Asks, and reads the stream to its end. Raises: FailoverError."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
        asked_ns, first_ns, named, whole = time.monotonic_ns(), 0, "", False
        try:
            async with self._client.stream("POST", PATH, json=body, headers=self._headers) as response:
                if response.status_code != httpx2.codes.OK:
                    raise FailoverError(f"a call was not answered: {response.status_code}")
                async for line in response.aiter_lines():
                    if not first_ns and '"content":"' in line and '"content":""' not in line:
                        first_ns = time.monotonic_ns()
                        named = json.loads(line.removeprefix("data: "))["model"]
                    whole = whole or line == "data: [DONE]"
        except httpx2.TransportError as exc:
            raise FailoverError(f"a call was not answered: {type(exc).__name__}") from exc
        if not whole or not first_ns:
            raise FailoverError("a call's stream broke off")
        return Call(asked_ns, first_ns, named)

    async def stalled(self) -> tuple[float, ...]:
        """Calls at once whose primary says nothing for a long time. Raises: FailoverError."""
        await self.simulator.aset_plans(PRIMARY, then={**WELL, "first_token_ms": STALL_MS})
        calls = await asyncio.gather(*(self.call() for _ in range(STALLED_CALLS)))
        return tuple(call.ttft_s for call in calls)

    async def outage(self, name: str, fault: Mapping[str, Any]) -> Outage:
        """A call every few seconds, from before the outage until the primary answers again."""
        loop = asyncio.get_running_loop()
        begins = loop.time() - FIRST_S
        calls: list[Call | None] = []

        async def ask() -> None:
            try:
                calls.append(await self.call())
            except FailoverError:
                calls.append(None)

        async def go_down() -> tuple[int, int]:
            await asyncio.sleep(begins - loop.time())
            down_ns = time.monotonic_ns()
            await self.simulator.aset_plans(PRIMARY, then=fault)
            await asyncio.sleep(begins + OUTAGE_S - loop.time())
            await self.simulator.aset_plans(PRIMARY, then=WELL)
            return down_ns, time.monotonic_ns()

        async with asyncio.TaskGroup() as group:
            down = group.create_task(go_down())
            at = begins + FIRST_S
            while at < begins + OUTAGE_S + GIVE_UP_S and not (down.done() and _back_ns(calls, down.result()[1])):
                await asyncio.sleep(at - loop.time())
                group.create_task(ask())
                at += EVERY_S
        (down_ns, up_ns), answered = down.result(), [call for call in calls if call is not None]
        back_ns = _back_ns(calls, up_ns)
        asked = await self.simulator.arequests(PRIMARY)
        return Outage(
            fault=name,
            calls=len(calls),
            answered=len(answered),
            attempts=sum(down_ns <= request.arrived_ns < up_ns for request in asked),
            recovered_after_s=(back_ns - up_ns) / 1e9 if back_ns else None,
            ttft_max_s=max((call.ttft_s for call in answered), default=0.0),
        )

    async def cost(self, name: str, fault: Mapping[str, Any]) -> Cost:
        """Calls that fail over, each behind a healthy one of the next target's. Raises: FailoverError."""
        await self.simulator.aset_plans(PRIMARY, then=fault)
        healthy: list[float] = []
        failed: list[float] = []
        totals: list[float] = []
        attempts = 0
        for _ in range(SAMPLES):
            healthy.append((await self.call(NEXT_MODEL)).ttft_s * 1e3)
            await self.simulator.aclear_requests()
            totals.append((await self.call()).ttft_s * 1e3)
            asked = await self.simulator.arequests(PRIMARY)
            attempts = len(asked)
            failed.append(sum(_took_ms(request) for request in asked))
        own = median(healthy)
        costs = [total - spent - own for total, spent in zip(totals, failed, strict=True)]
        return Cost(name, attempts, SAMPLES, median(failed), own, median(costs), quantiles(costs, n=10)[-1])


def _took_ms(request: RecordedRequest) -> float:
    return 0.0 if request.ended_ns is None else (request.ended_ns - request.arrived_ns) / 1e6


def _back_ns(calls: Sequence[Call | None], up_ns: int) -> int:
    """When the first call that was made after the primary's return had its first token from it; 0: none has."""
    times = [
        call.first_ns for call in calls if call and call.asked_ns > up_ns and call.model.startswith(PRIMARY_MODELS)
    ]
    return min(times, default=0)
