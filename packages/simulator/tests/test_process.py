"""The program: how it starts, how it is told no, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from simulator.process import Simulator, SimulatorError, start_simulator


@contextmanager
def run(*arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "simulator", *arguments]
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_cleanly_with_streams_open(number: int) -> None:
    with run("--port", "0") as child:
        line = read_line(child)
        assert line.startswith("simulator listening on http://127.0.0.1:")
        simulator = Simulator(line.split()[-1], child.pid)
        simulator.set_plans("openai", {"deltas": 1000, "interval_ms": 10})
        with socket.create_connection(("127.0.0.1", int(simulator.base_url.rpartition(":")[2]))) as stream:
            body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'
            head = b"POST /openai/v1/chat/completions HTTP/1.1\r\nauthorization: Bearer k\r\ncontent-length: %d\r\n\r\n"
            stream.sendall(head % len(body) + body)
            simulator.wait_for_request("openai", least_deltas=1)
            child.send_signal(number)
            assert child.wait(10) == 0
        assert child.stderr is not None and child.stderr.read() == ""


def test_a_port_in_use_is_one_clear_sentence_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with run("--port", str(port)) as child:
            assert child.wait(20) == 1
            assert child.stdout is not None and child.stdout.read() == ""
            assert child.stderr is not None
            assert child.stderr.read() == f"simulator: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        with pytest.raises(SimulatorError, match="Address already in use"), start_simulator(port=port):
            pass


def test_a_wrong_default_plan_is_one_clear_sentence_and_exit_code_1() -> None:
    with run("--plan", '{"txt": 1}') as child:
        assert child.wait(20) == 1
        assert child.stderr is not None
        assert child.stderr.read().startswith("simulator: --plan: unknown plan field 'txt'")


def test_it_ends_when_its_parent_is_gone() -> None:
    read_end, write_end = os.pipe()
    with run("--until-stdin-closes", stdin=read_end) as child:
        os.close(read_end)
        assert read_line(child).startswith("simulator listening")
        os.close(write_end)
        assert child.wait(10) == 0


def test_the_child_is_ended_whatever_happens_inside() -> None:
    seen: list[Simulator] = []
    with pytest.raises(KeyError), start_simulator() as simulator:
        seen.append(simulator)
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0].pid, 0)


async def test_the_default_plan_is_for_requests_that_bring_none(body: Any) -> None:
    with start_simulator(plan={"text": "by default"}, delta_interval_ms=0) as simulator:
        async with openai.AsyncOpenAI(base_url=simulator.openai_url(), api_key="k", max_retries=0) as client:

            async def ask(content: str) -> str | None:
                answer = await client.chat.completions.create(
                    model="gpt-4.1", messages=[{"role": "user", "content": content}]
                )
                return answer.choices[0].message.content

            assert await ask("hi") == "by default"
            assert await ask('[[sim {"text": "by directive"}]]') == "by directive"
