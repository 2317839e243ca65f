"""`python -m launcher` as a person meets it: it starts, it says what goes wrong, it leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from .conftest import SIGNALS, LauncherProcess

Launch = Callable[..., LauncherProcess]


def start(launch: Launch, **variables: str) -> LauncherProcess:
    launcher = launch(**variables)
    launcher.wait_for("Ctrl-C stops everything")
    return launcher


def paste(line: str, **variables: str) -> bytes:
    """What a shell's user sees."""
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(("sh", "-c", line), env=environment, check=True, stdout=subprocess.PIPE, timeout=60).stdout


def test_the_line_to_paste_gets_an_answer(running: LauncherProcess) -> None:
    line = running.wait_for("curl ").strip()
    answer = json.loads(paste(line))
    assert "simulator" in answer["choices"][0]["message"]["content"]


def test_it_says_that_a_simulator_answers_and_where_its_data_is(running: LauncherProcess) -> None:
    assert "SIMULATOR" in running.output
    assert str(running.directory) in running.output
    assert "redis ready in " in running.output


def test_with_a_provider_key_there_is_no_simulator_and_the_key_is_not_shown(launch: Launch) -> None:
    launcher = start(launch, GROK_API_KEY="gk-secret")
    assert "SIMULATOR" not in launcher.output
    assert not [each for each in launcher.children() if "simulator" in each.cmdline()]
    assert "gk-secret" not in launcher.output


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_everything_in_order_with_exit_code_0(launch: Launch, number: int) -> None:
    launcher = start(launch)
    launcher.send(number)
    assert launcher.wait() == 0
    launcher.wait_until_gone()
    assert "Traceback" not in launcher.output
    assert launcher.lines[-1].endswith("stopped")


def test_a_signal_during_the_start_stops_it_with_exit_code_0(launch: Launch) -> None:
    launcher = launch()
    launcher.wait_for("redis ready")
    launcher.send(signal.SIGINT)
    assert launcher.wait() == 0
    launcher.wait_until_gone()
    assert "Traceback" not in launcher.output


def test_a_second_signal_ends_what_will_not_stop_at_once(launch: Launch) -> None:
    launcher = start(launch, DRAIN_SECONDS="3600")
    launcher.child("gateway").suspend()
    launcher.send(signal.SIGINT)
    launcher.wait_for("stopping")
    while launcher.running(for_s=0.1):
        launcher.send(signal.SIGINT)
    assert launcher.wait() == 0
    launcher.wait_until_gone()


def test_kill_9_of_the_launcher_leaves_no_process(launch: Launch) -> None:
    launcher = start(launch)
    launcher.send(signal.SIGKILL)
    launcher.wait_until_gone()


def test_after_kill_9_of_the_launcher_it_starts_again_at_once(launch: Launch) -> None:
    launcher = start(launch)
    launcher.send(signal.SIGKILL)
    again = start(launch)
    assert again.wait_for("API key") == launcher.wait_for("API key")


@pytest.mark.parametrize("module", ["session", "llm_worker", "gateway", "simulator", "valkey-server"])
def test_a_killed_child_is_restarted_on_its_port_and_that_is_said(running: LauncherProcess, module: str) -> None:
    name = {"llm_worker": "worker", "valkey-server": "redis"}.get(module, module)
    old = running.child(module)
    ports = {each.laddr.port for each in old.net_connections() if each.status == "LISTEN"}
    old.kill()
    assert "(SIGKILL); it is restarted " in running.wait_for(f"{name} died")
    running.wait_for(f"{name} is back")
    new = running.child(module)
    assert new.pid != old.pid
    assert {each.laddr.port for each in new.net_connections() if each.status == "LISTEN"} == ports


def test_one_that_keeps_dying_is_restarted_more_slowly_and_that_is_said(running: LauncherProcess) -> None:
    for _ in range(4):
        seen = len(running.lines)
        running.child("simulator").kill()
        running.wait_for("simulator is back", seen)
    running.wait_for("times in a row now (SIGKILL); it is restarted in 0.5 s")


def test_a_taken_port_is_one_sentence_that_names_it(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        launcher = launch(GATEWAY_PORT=str(port))
        assert launcher.wait() == 1
    assert launcher.lines == [f"switchboard: port {port} on 127.0.0.1 is taken: set GATEWAY_PORT to a free one"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_PORT", "eighty"),
        ("GATEWAY_HOST", "no.such.host.invalid"),
        ("GATEWAY_HOST", "192.0.2.1"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_CLUSTER", "true"),
        ("REDIS_APPENDFSYNC", "sometimes"),
        ("LOG_FORMAT", "xml"),
        ("SWITCHBOARD_DATA_DIR", "/dev/null"),
        ("SWITCHBOARD_CONFIG", "/no/such/file.toml"),
        ("LOG_LEVEL", "loud"),
        ("DRAIN_SECONDS", "long"),
        ("MAX_MESSAGE_BYTES", "1"),
    ],
)
def test_a_bad_setting_is_one_sentence_that_names_it(launch: Launch, variable: str, value: str) -> None:
    launcher = launch(**{variable: value})
    assert launcher.wait() == 2
    said = [line for line in launcher.lines if " ready in " not in line]
    assert len(said) == 1
    assert variable in said[0]
    launcher.wait_until_gone()


def test_a_redis_url_at_which_nobody_answers_is_one_sentence_without_its_password(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    launcher = launch(REDIS_URL=f"redis://:hidden@127.0.0.1:{port}/0")
    assert launcher.wait() == 1
    (said,) = launcher.lines
    assert said.startswith(f"switchboard: REDIS_URL: nobody answers at 127.0.0.1:{port}")


def test_a_chat_s_log_is_printed_while_it_runs_and_when_it_does_not(launch: Launch) -> None:
    launcher = start(launch)
    url = launcher.wait_for("Switchboard is ready").split()[-1]
    key = launcher.wait_for("API key").split()[-1]
    request = urllib.request.Request(  # noqa: S310  (our own)
        f"{url}/faye/chat/start_session",
        data=b'{"unique_token": "me"}',
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310  (our own)
    meanwhile = launch("log", "faye/me")
    assert meanwhile.wait() == 0
    launcher.send(signal.SIGTERM)
    launcher.wait()
    afterwards = launch("log", "faye/me")
    assert afterwards.wait() == 0
    assert meanwhile.lines[0].split()[2] == afterwards.lines[0].split()[2] == "faye"


def test_of_two_on_one_data_directory_the_second_says_so(launch: Launch, running: LauncherProcess) -> None:
    second = launch(directory=running.directory)
    assert second.wait() == 1
    (said,) = second.lines
    assert f"another Switchboard (process {running.pid}) uses the data directory" in said


def test_two_on_two_data_directories_run_side_by_side(launch: Launch, tmp_path: Path) -> None:
    launchers = [launch(directory=tmp_path / name) for name in ("one", "two")]
    for launcher in launchers:
        url = launcher.wait_for("Switchboard is ready").split()[-1]
        launcher.wait_for("Ctrl-C")
        assert urllib.request.urlopen(f"{url}/livez", timeout=30).status == 200  # noqa: S310  (our own)


def test_secrets_stay_the_same_over_a_restart(launch: Launch) -> None:
    shown = []
    for _ in range(2):
        launcher = start(launch)
        shown.append(launcher.wait_for("API key"))
        launcher.send(signal.SIGTERM)
        launcher.wait()
    assert shown[0] == shown[1]


def test_secrets_of_ones_own_are_used_and_not_shown(launch: Launch) -> None:
    launcher = start(launch, API_KEY="sb-first,sb-second", JWT_SECRET="j" * 40)
    line = launcher.wait_for("curl ").strip()
    assert "sb-first" not in launcher.output
    assert "eyJ" not in launcher.output
    assert b"simulator" in paste(line, API_KEY="sb-first,sb-second")


def test_a_token_is_made_for_any_user(launch: Launch, tmp_path: Path) -> None:
    launcher = launch("token", "alice", JWT_ISSUER="https://issuer", JWT_AUDIENCE="chat")
    assert launcher.wait() == 0
    (token,) = launcher.lines
    secrets = dict(line.split("=", 1) for line in (tmp_path / "data/secrets.env").read_text().splitlines()[1:])
    claims = jwt.decode(token, secrets["JWT_SECRET"], ["HS256"], issuer="https://issuer", audience="chat")
    assert claims["sub"] == claims["preferred_username"] == "alice"


def test_json_lines_are_passed_on_as_they_are(launch: Launch) -> None:
    launcher = start(launch, LOG_FORMAT="json")
    launcher.send(signal.SIGTERM)
    assert launcher.wait() == 0
    lines = [json.loads(line) for line in launcher.lines if line.startswith("{")]
    assert {"launcher", "gateway", "session", "redis"} <= {line["service"] for line in lines}
