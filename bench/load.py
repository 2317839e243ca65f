"""The load generator, a process of its own: `python -m bench.load SPEC`.

It connects, says `connected`, waits for `go`, runs its rounds, and prints one line of results. It ends when its
standard input does. All streams share one event loop; a delta costs it a regex and an append.
"""

import asyncio
import gc
import json
import math
import os
import resource
import sys
import threading
import time
from urllib.parse import urlsplit

import uvloop

from bench.direct import DirectClient, compose_request
from bench.spec import CONNECTED, GO, LoadResult, LoadSpec
from bench.stream import Stream, Tally
from bench.websocket_client import WebSocketClient

CONNECTS_AT_A_TIME = 64
SESSION_CONNECTIONS = 8
"""HTTP connections over which Faye's sessions are started."""
SETUP_TIMEOUT_S = 120.0


def raise_file_limit() -> None:
    """As many descriptors as we may have: a connection takes one here and one in the gateway."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Load:
    """The run that a spec describes."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        self._tally = Tally(self._stream_ended)
        self._left = 0
        self._incomplete = 0
        self._round_done = asyncio.Event()
        parts = urlsplit(spec.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._netloc = parts.netloc
        plan = {
            "deltas": spec.deltas,
            "delta_chars": 32,
            "interval_ms": spec.interval_ms,
            "timestamps": True,
        }
        self._message = f"[[sim {json.dumps(plan)}]]"
        self._request = b"" if spec.target == "faye" else compose_request(spec.target, self._netloc, self._message)
        self.rounds: list[list[Stream]] = [
            [Stream(self._tally, sends=n == 0) for _ in range(spec.streams) for n in range(spec.readers)]
            for _ in range(spec.rounds)
        ]

    async def connect(self) -> None:
        """Every connection of every round. Raises: OSError, TimeoutError, RuntimeError."""
        tokens = [f"{self.spec.name}-{r}-{n}" for r in range(self.spec.rounds) for n in range(self.spec.streams)]
        streams = [stream for one_round in self.rounds for stream in one_round]
        async with asyncio.timeout(SETUP_TIMEOUT_S):
            if self.spec.target == "faye":
                await self._start_sessions(tokens)
            waiting = iter(enumerate(streams))

            async def connect_some() -> None:
                for n, stream in waiting:
                    await self._connect(stream, tokens[n // self.spec.readers])

            await asyncio.gather(*(connect_some() for _ in range(CONNECTS_AT_A_TIME)))

    async def run(self) -> LoadResult:
        """Every round, one after another."""
        started_ns, busy_ns = 0, 0
        for streams in self.rounds if self.spec.deltas else ():
            self._left = len(streams)
            self._round_done.clear()
            started_ns = time.monotonic_ns()
            self._start(streams)
            ideal_s = self.spec.stagger_s + self.spec.deltas * self.spec.interval_ms / 1000
            try:
                await asyncio.wait_for(self._round_done.wait(), ideal_s + self.spec.grace_s)
            except TimeoutError:
                for stream in streams:
                    stream.end(complete=False)
            busy_ns += max(0, self._tally.last_ns - started_ns)
        return self._result(busy_ns)

    def _stream_ended(self, complete: bool) -> None:
        self._left -= 1
        self._incomplete += not complete
        if self._left == 0:
            self._round_done.set()

    def _start(self, streams: list[Stream]) -> None:
        loop = asyncio.get_running_loop()
        senders = [stream for stream in streams if stream.sends]
        for n, stream in enumerate(senders):
            loop.call_later(self.spec.stagger_s * n / len(senders), self._send, stream)
        if self.spec.readers > 1:
            moment = time.monotonic_ns()
            for stream in streams:
                stream.sent_ns = moment

    def _send(self, stream: Stream) -> None:
        stream.sent_ns = time.monotonic_ns()
        match stream.client:
            case WebSocketClient() as client:
                client.send(self._message)
            case DirectClient() as client:
                client.send(self._request)
            case None:
                stream.end(complete=False)

    async def _connect(self, stream: Stream, token: str) -> None:
        loop = asyncio.get_running_loop()
        if self.spec.target != "faye":
            _, direct = await loop.create_connection(
                lambda: DirectClient(
                    self.spec.target,
                    on_octets=stream.take_octets,
                    on_end=lambda complete: stream.end(complete=complete),
                ),
                self._host,
                self._port,
            )
            stream.client = direct
            return
        opened: asyncio.Future[None] = loop.create_future()

        def ended(code: int) -> None:
            if not opened.done():
                opened.set_exception(RuntimeError(f"the handshake failed ({code})"))
            stream.take_close(code)

        _, client = await loop.create_connection(
            lambda: WebSocketClient(
                self._netloc,
                f"/ws/faye/{token}",
                on_open=lambda: opened.set_result(None),
                on_message=stream.take_message,
                on_end=ended,
            ),
            self._host,
            self._port,
        )
        await opened
        stream.client = client

    async def _start_sessions(self, tokens: list[str]) -> None:
        waiting = iter(tokens)

        async def start_some() -> None:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            for token in waiting:
                body = json.dumps({"unique_token": token}).encode()
                writer.write(
                    f"POST /faye/chat/start_session HTTP/1.1\r\nHost: {self._netloc}\r\n"
                    f"Authorization: Bearer {self.spec.api_key}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                answer = await reader.readexactly(length)
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"start_session failed: {answer[:200]!r}")
            writer.close()

        await asyncio.gather(*(start_some() for _ in range(min(SESSION_CONNECTIONS, len(tokens)))))

    def _result(self, busy_ns: int) -> LoadResult:
        streams = [stream for one_round in self.rounds for stream in one_round]
        lags = sorted(self._tally.lags)
        ttfts = sorted(stream.first_ns - stream.sent_ns for stream in streams if stream.first_ns)
        ideal_ns = max(1.0, (self.spec.deltas - 1) * self.spec.interval_ms * 1e6)
        stretches = [(stream.last_ns - stream.first_ns) / ideal_ns for stream in streams if stream.first_ns]
        return LoadResult(
            deltas=len(lags),
            expected=len(streams) * self.spec.deltas,
            frames=sum(stream.frames for stream in streams),
            wall_s=busy_ns / 1e9,
            unfinished=self._incomplete,
            close_codes=dict(self._tally.close_codes),
            stretch=sum(stretches) / max(1, len(stretches)),
            ttft_p50=_percentile(ttfts, 0.5) / 1e6,
            ttft_p99=_percentile(ttfts, 0.99) / 1e6,
            lag_p50=_percentile(lags, 0.5) / 1e6,
            lag_p99=_percentile(lags, 0.99) / 1e6,
            lag_max=(lags[-1] if lags else 0) / 1e6,
        )


def _percentile(ordered: list[int], share: float) -> int:
    """Nearest rank; 0 of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0


def end_with_input(told: "asyncio.Event", loop: asyncio.AbstractEventLoop) -> None:
    """`go` sets the event; the end of standard input ends the process, whatever it is doing."""
    for line in sys.stdin:
        if line.strip() == GO:
            loop.call_soon_threadsafe(told.set)
    os._exit(1)


async def generate(spec: LoadSpec) -> None:
    told = asyncio.Event()
    threading.Thread(target=end_with_input, args=(told, asyncio.get_running_loop()), daemon=True).start()
    load = Load(spec)
    await load.connect()
    # Streams make no cycles worth a pause.
    gc.collect()
    gc.freeze()
    gc.disable()
    print(CONNECTED, flush=True)
    await told.wait()
    print((await load.run()).encode(), flush=True)
    # Until whoever measures us has read what we used; it ends us.
    await asyncio.Event().wait()


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(generate(LoadSpec.decode(sys.argv[1])))
