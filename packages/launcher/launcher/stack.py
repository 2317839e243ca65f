"""The stack: the whole system, or parts of it, as processes on this machine; for `make run`, for tests, for the bench.

    async with Stack(sessions=2, workers=2, gateways=2) as stack:
        url = stack.gateway_urls[0]                    # "http://127.0.0.1:41234"
        key, token = stack.secrets.api_key, stack.secrets.user_token("alice")
        await stack.sessions[0].kill()                 # SIGKILL; it stays dead until start()
        await stack.sessions[0].start()                # on the same port
        await stack.gateways[1].stop()                 # SIGTERM, as a rollout does it
        await stack.workers[0].restart({"LOG_LEVEL": "debug"})
        line = await stack.workers[1].next_event("turn_claimed")

Parts: `Stack(gateways=0, workers=0)` is Redis, session service and simulator; `Stack(sessions=0, workers=0, gateways=0,
redis=False)` the simulator alone; `Stack(redis_url=...)` uses that Redis and starts none. A part that is left out and
that others need is given by `environment` (SESSION_ADDR, LLM_WORKER_ADDR, ...), which beats what the stack would say.

Nothing leaks in: of the caller's environment only what every program needs is passed on, so that a test never calls a
real provider by a key that its developer happens to have. Nothing leaks out: leaving the block stops everything, and
children end with this process however it ends (`leash`). A Stack belongs to the event loop, and the thread, that
entered it. It holds no data after the block unless `data_dir` says where.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from launcher.data_dir import DataDir
from launcher.environments import (
    DRAIN_S,
    PREFIXES,
    base_environment,
    gateway_environment,
    grpc_target,
    lay_over,
    service_command,
    session_environment,
    simulated_providers,
    simulator_command,
    worker_environment,
)
from launcher.log_line import LogLine, read_json, read_simulator
from launcher.ports import LOOPBACK, BadHostError, HeldPort, PortTakenError
from launcher.process import Child, ChildEndedError, Program
from launcher.secrets import Secrets, load_secrets
from launcher.serving import wait_serving
from launcher.supervisor import keep_running
from launcher.valkey import valkey_program, valkey_url

STOP_SPARE_S = 5.0
"""From the end of a drain to SIGKILL."""
KILL_WAIT_S = 1.0


class Stack:
    """See the module. `environment`: variables for every service. `listener` sees each line of each child.

    `supervised` restarts children that die, each saying so to `notice`; without it they stay dead, as tests want it.
    """

    def __init__(
        self,
        *,
        sessions: int = 1,
        workers: int = 1,
        gateways: int = 1,
        simulator: bool = True,
        redis: bool | None = None,
        redis_url: str = "",
        appendfsync: str = "everysec",
        data_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
        gateway_host: str = LOOPBACK,
        gateway_port: int = 0,
        session_port: int = 0,
        worker_port: int = 0,
        python_arguments: Mapping[str, tuple[str, ...]] | None = None,
        supervised: bool = False,
        listener: Callable[[LogLine], None] | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`redis`: whether to embed one; by default when nothing else is said by `redis_url`, and not for a simulator
        alone. `data_dir`: a temporary one when None. Ports of 0 are any free ones; several of a kind get free ones
        beside the first. `python_arguments`: by part ("session", "worker", "gateway"), before its `-m`; a profiler's,
        say."""
        self._counts = {"session": sessions, "worker": workers, "gateway": gateways}
        self._with_simulator = simulator
        self._with_redis = not redis_url if redis is None else redis
        self._appendfsync = appendfsync
        self._data = DataDir(data_dir)
        self._given = dict(environment or {})
        self._gateway_host = gateway_host
        self._first_ports = {"session": session_port, "worker": worker_port, "gateway": gateway_port}
        self._stop_timeout_s = STOP_SPARE_S + _seconds(self._given.get("DRAIN_SECONDS", ""), DRAIN_S)
        self._python_arguments = dict(python_arguments or {})
        self._supervised = supervised
        self._listener = listener
        self._notice = notice
        self._cleanup = ExitStack()
        self._supervisors: list[asyncio.Task[None]] = []
        self._ports: dict[str, list[HeldPort]] = {}
        self.redis_url = redis_url
        self.redis: Child | None = None
        self.simulator: Child | None = None
        self.sessions: list[Child] = []
        self.workers: list[Child] = []
        self.gateways: list[Child] = []
        self.secrets = Secrets({}, frozenset())

    @property
    def children(self) -> list[Child]:
        """All that this stack runs, in the order in which they are stopped."""
        rest = [child for child in (self.simulator, self.redis) if child is not None]
        return [*self.gateways, *self.workers, *self.sessions, *rest]

    @property
    def data_dir(self) -> Path:
        return self._data.path

    @property
    def gateway_ports(self) -> list[int]:
        return [port.number for port in self._ports["gateway"]]

    @property
    def gateway_urls(self) -> list[str]:
        """`http://host:port` of each, as this machine reaches it."""
        host = {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(self._gateway_host, self._gateway_host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return [f"http://{host}:{number}" for number in self.gateway_ports]

    @property
    def simulator_url(self) -> str:
        return f"http://{self._ports['simulator'][0].address}"

    @property
    def session_addresses(self) -> list[str]:
        """`host:port` of each."""
        return [port.address for port in self._ports["session"]]

    @property
    def worker_addresses(self) -> list[str]:
        return [port.address for port in self._ports["worker"]]

    @property
    def session_target(self) -> str:
        """One gRPC target for all of them."""
        return grpc_target(self.session_addresses)

    @property
    def worker_target(self) -> str:
        return grpc_target(self.worker_addresses)

    async def __aenter__(self) -> "Stack":
        """Raises: DataDirError, DataDirTakenError, PortTakenError, BadHostError, ChildEndedError, TimeoutError,
        OSError; then nothing runs."""
        try:
            self._prepare()
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait_serving(self, timeout_s: float = 30.0) -> None:
        """Returns when every gateway that runs says that it takes traffic (`/readyz`). Raises: TimeoutError."""
        urls = [url for url, gateway in zip(self.gateway_urls, self.gateways, strict=True) if gateway.running]
        await asyncio.gather(*(wait_serving(url, timeout_s) for url in urls))

    async def stop(self) -> None:
        """Stops everything in order, gateways first, Redis last; each is killed when it takes too long. Cancelled, it
        kills what is left at once. Twice is fine."""
        for child in self.children:
            child.stopping = True
        for task in self._supervisors:
            task.cancel()
        try:
            await asyncio.gather(*self._supervisors, return_exceptions=True)
            for part in (self.gateways, self.workers, [*self.sessions, self.simulator], [self.redis]):
                await asyncio.gather(*(self._stop_child(child) for child in part if child is not None))
        finally:
            await self._kill_rest()
            self._supervisors = []
            self._cleanup.close()

    async def _stop_child(self, child: Child) -> None:
        if not await child.stop():
            self._notice(f"{child.name} did not stop within {child.program.stop_timeout_s:g} s and was killed")

    async def _kill_rest(self) -> None:
        rest = [child for child in self.children if child.running]
        if not rest:
            return
        for child in rest:
            if child is not self.redis:
                child.kill_now()
        if self.redis is not None and self.redis.running:
            # It needs milliseconds to write what it holds.
            self.redis.send_signal(self.redis.program.orphan_signal)
        waits = [asyncio.create_task(child.wait_ended()) for child in rest]
        _, late = await asyncio.wait(waits, timeout=KILL_WAIT_S)
        for child in rest:
            child.kill_now()
        if late:
            await asyncio.wait(late, timeout=KILL_WAIT_S)

    def _prepare(self) -> None:
        """Locks the directory, holds the ports, and makes the children."""
        self._cleanup.enter_context(self._data)
        self.secrets = load_secrets(self._data.path, self._given)
        for kind, count in self._counts.items():
            self._ports[kind] = [self._hold_for(kind, first=n == 0) for n in range(count)]
        base = base_environment(self.secrets)
        if self._with_redis:
            held = self._hold(LOOPBACK, 0)
            program = valkey_program(
                self._data.path / "redis",
                port=held.number,
                password=self.secrets.redis_password,
                appendfsync=self._appendfsync,
                lock_fd=self._data.lock_fd,
            )
            self.redis = Child(program, self._listener)
            self.redis_url = valkey_url(held.number, self.secrets.redis_password)
        if self._with_simulator:
            self._ports["simulator"] = [self._hold(LOOPBACK, 0)]
            port = self._ports["simulator"][0].number
            self.simulator = self._child("simulator", simulator_command(port), base)
        addresses = {"SESSION_ADDR": self.session_target, "LLM_WORKER_ADDR": self.worker_target}
        providers = simulated_providers(self.simulator_url) if self._with_simulator else {}
        self.sessions = self._replicas("session", {**base, **session_environment(self.secrets, self.redis_url)})
        knowledge = {"KNOWLEDGE_DIR": str(self._data.path / "knowledge")}
        self.workers = self._replicas(
            "worker", {**base, **addresses, **providers, **knowledge, **worker_environment(self.secrets)}
        )
        credentials = gateway_environment(self.secrets, own_tokens=bool(self._given.get("JWT_JWKS_URL")))
        self.gateways = self._replicas("gateway", {**base, **addresses, **credentials})

    def _hold_for(self, kind: str, *, first: bool) -> HeldPort:
        """A port for one replica; an error names the variable to change."""
        prefix = PREFIXES[kind]
        try:
            return self._hold(
                self._gateway_host if kind == "gateway" else LOOPBACK, self._first_ports[kind] if first else 0
            )
        except PortTakenError as exc:
            raise PortTakenError(f"{exc}: set {prefix}_PORT to a free one") from exc
        except BadHostError as exc:
            raise BadHostError(f"{prefix}_HOST: {exc}") from exc

    def _hold(self, host: str, number: int) -> HeldPort:
        port = HeldPort(host, number)
        self._cleanup.callback(port.release)
        return port

    def _replicas(self, kind: str, environment: Mapping[str, str]) -> list[Child]:
        held, prefix = self._ports[kind], PREFIXES[kind]
        names = [kind] if len(held) == 1 else [f"{kind}-{n}" for n in range(1, len(held) + 1)]
        command = service_command(kind, self._python_arguments.get(kind, ()))
        return [
            self._child(name, command, {**environment, f"{prefix}_HOST": port.host, f"{prefix}_PORT": str(port.number)})
            for name, port in zip(names, held, strict=True)
        ]

    def _child(self, name: str, command: tuple[str, ...], environment: Mapping[str, str]) -> Child:
        program = Program(
            name=name,
            command=command,
            environment=lay_over(environment, self._given),
            read=read_simulator if name == "simulator" else read_json,
            stop_timeout_s=self._stop_timeout_s,
        )
        return Child(program, self._listener)

    async def _start(self) -> None:
        """Everything at once; only session waits for Redis, which takes 0.05 s."""
        others = [*self.workers, *self.gateways, *([self.simulator] if self.simulator is not None else [])]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_sessions())
                for child in others:
                    group.create_task(self._start_child(child))
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from None
        if self._supervised:
            self._supervisors = [asyncio.create_task(keep_running(each, self._notice)) for each in self.children]
        if self.sessions and self.workers:
            await self.wait_serving()

    async def _start_sessions(self) -> None:
        if self.redis is not None:
            await self._start_child(self.redis)
        await asyncio.gather(*(self._start_child(session) for session in self.sessions))

    async def _start_child(self, child: Child) -> None:
        await child.start()
        self._notice(f"{child.name} ready in {child.ready_s:.2f} s")


def _seconds(text: str, default: float) -> float:
    """What the services judge, read leniently."""
    try:
        return float(text)
    except ValueError:
        return default


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that ended the others' start; a child's end before anything else."""
    ended, rest = group.split(ChildEndedError)
    found: BaseException = ended if ended is not None else rest or group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
