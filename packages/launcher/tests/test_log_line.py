"""Children's lines are read whatever they are, and shown as one readable line each."""

from launcher.log_line import READY, read_json, read_simulator, read_valkey, render


def test_a_service_s_line_is_shown_with_its_fields() -> None:
    raw = (
        '{"time":"2026-01-01T00:00:00.000Z","level":"warning","service":"gateway","event":"slow client",'
        '"logger":"gateway.outbox","connection":7,"reason":"a b"}'
    )
    line = read_json("gateway-2", raw)
    assert render(line, "12:00:00") == '12:00:00 warning gateway-2  slow client connection=7 reason="a b"'


def test_an_exception_s_traceback_stands_below_its_line() -> None:
    line = read_json("session", '{"level":"error","event":"failed","exception":"Traceback\\n  ValueError: x"}')
    assert render(line, "12:00:00").splitlines()[1:] == ["    Traceback", "      ValueError: x"]


def test_what_is_not_json_is_kept_word_for_word() -> None:
    for raw in ("Traceback (most recent call last):", "[1, 2]", '{"a": 1}', "null"):
        assert read_json("worker", raw).event == raw


def test_a_line_cannot_drive_the_terminal() -> None:
    line = read_json("worker", '{"level":"info","event":"a\\u001b[2Jb","x":"\\u009b1m\\nnext"}')
    shown = render(line, "12:00:00")
    assert shown.isprintable()


def test_valkey_says_when_it_is_ready_and_its_chatter_is_for_debugging() -> None:
    ready = read_valkey("redis", "1:M 20 Nov 2026 09:39:49.198 * Ready to accept connections tcp")
    chatter = read_valkey("redis", "1:M 20 Nov 2026 09:39:49.198 * Server initialized")
    warning = read_valkey("redis", "1:M 20 Nov 2026 09:39:49.198 # WARNING: disk is full")
    assert (ready.event, chatter.level, warning.level) == (READY, "debug", "warning")


def test_the_simulator_says_when_it_is_ready() -> None:
    line = read_simulator("simulator", "simulator listening on http://127.0.0.1:4321")
    assert (line.event, line.fields) == (READY, {"port": 4321})
