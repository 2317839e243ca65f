"""The worker as a process: what it says when it starts, when it cannot, and when it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .harness import NOWHERE

COMMAND = [sys.executable, "-m", "llm_worker"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith("PYTHON")},
    "INTERNAL_TOKEN": "very-secret-token",
    "OPENAI_API_KEY": "very-secret-key",
    "LLM_WORKER_PORT": "0",
    "SESSION_ADDR": NOWHERE,
}


@contextmanager
def start(**environment: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(COMMAND, env={**ENVIRONMENT, **environment}, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def next_event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    assert process.stderr is not None
    for line in process.stderr:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_its_port_once_ready_and_ends_well_at_a_signal(number: signal.Signals) -> None:
    with start() as process:
        ready = next_event(process, "ready")
        assert ready["service"] == "llm_worker"
        assert 0 < ready["port"] < 65536
        assert (ready["providers"], ready["knowledge"]) == (["openai"], "none")
        process.send_signal(number)
        assert "secret" not in process.communicate(timeout=20)[1]
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"INTERNAL_TOKEN": ""}, "llm_worker: INTERNAL_TOKEN must be set\n"),
        (
            {"SWITCHBOARD__PROVIDERS__GROK__KIND": "gork"},
            "llm_worker: providers.grok.kind must be one of anthropic, grok, openai, not 'gork'\n",
        ),
    ],
)
def test_a_bad_setting_is_one_sentence_and_exit_code_two(environment: dict[str, str], sentence: str) -> None:
    with start(**environment) as process:
        assert process.communicate(timeout=20)[1] == sentence
        assert process.returncode == 2


def test_a_port_that_is_taken_is_one_sentence_and_exit_code_one() -> None:
    with start() as first:
        port = str(next_event(first, "ready")["port"])
        with start(LLM_WORKER_PORT=port) as second:
            said = second.communicate(timeout=20)[1]
            assert f"llm_worker: cannot listen on 127.0.0.1:{port}: is the port taken?\n" in said
            assert second.returncode == 1
