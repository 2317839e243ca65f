"""What the service makes of its environment."""

import base64

import pytest
from runtime.environment import SettingError
from session.cluster_topology import read_slots
from session.settings import read

GIVEN = {"INTERNAL_TOKEN": "secret"}


def test_redis_is_one_server_unless_it_is_said_to_be_a_cluster() -> None:
    assert not read(GIVEN).redis_cluster
    settings = read({**GIVEN, "REDIS_CLUSTER": "true", "REDIS_URL": "rediss://:password@host:7000/0"})
    assert settings.redis_cluster
    assert settings.redis_url == "rediss://:password@host:7000/0"


@pytest.mark.parametrize(
    ("name", "value"),
    [("REDIS_URL", "http://host"), ("REDIS_URL", "redis://host/1"), ("REDIS_CLUSTER", "perhaps")],
)
def test_what_can_t_be_is_refused_by_the_variable_s_name(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        read({**GIVEN, "REDIS_CLUSTER": "true", name: value})


def test_a_topology_is_read_whatever_servers_call_themselves() -> None:
    reply = [
        [0, 8191, [b"", 7000, b"id", []], [b"10.0.0.2", 7003, b"id", []]],
        [8192, 8192, [None, 7001, b"id", []]],
        [8193, 16383, [b"?", 7001, b"id", []], [b"c.example", 7005, b"id", []]],
    ]
    topology = read_slots(reply, ("asked", 7000))
    assert topology.shares() == {
        ("asked", 7000): set(range(64)),
        ("asked", 7001): set(range(64, 128)),
    }
    assert topology.nodes == {("asked", 7000), ("10.0.0.2", 7003), ("asked", 7001), ("c.example", 7005)}
    assert read_slots([], ("asked", 7000)).masters == (None,) * 128


def test_master_keys_are_read_in_order_and_shown_nowhere() -> None:
    first, second = base64.b64encode(b"1" * 32).decode(), base64.b64encode(b"2" * 32).decode()
    settings = read({**GIVEN, "MASTER_KEYS": f"2026:{first}, old:er:{second},"})
    assert settings.master_keys == (("2026", b"1" * 32), ("old:er", b"2" * 32))
    assert "1" * 32 not in repr(settings)
    assert read(GIVEN).master_keys == ()


@pytest.mark.parametrize(
    "value",
    [
        base64.b64encode(b"1" * 32).decode(),
        f"id:{base64.b64encode(b'1' * 31).decode()}",
        f"id:{base64.b64encode(b'1' * 32).decode()}x",
        f"an id:{base64.b64encode(b'1' * 32).decode()}",
        f":{base64.b64encode(b'1' * 32).decode()}",
        ",".join([f"id:{base64.b64encode(b'1' * 32).decode()}"] * 2),
        ",",
    ],
)
def test_a_master_key_that_is_none_is_refused_without_being_repeated(value: str) -> None:
    with pytest.raises(SettingError, match="MASTER_KEYS") as refused:
        read({**GIVEN, "MASTER_KEYS": value})
    assert base64.b64encode(b"1" * 30).decode() not in str(refused.value)


def test_the_workers_token_is_another_than_the_services() -> None:
    assert read({**GIVEN, "WORKER_TOKEN": "one, two"}).worker_tokens == ("one", "two")
    assert read(GIVEN).worker_tokens == ()
    with pytest.raises(SettingError, match="WORKER_TOKEN") as refused:
        read({**GIVEN, "WORKER_TOKEN": "new,secret"})
    assert "secret" not in str(refused.value)


def test_limits_are_read_from_the_configuration_and_can_be_switched_off() -> None:
    settings = read({**GIVEN, "SWITCHBOARD__LIMITS__USER__MESSAGES": "7", "SWITCHBOARD__LIMITS__USER__WINDOW_S": "10"})
    assert set(settings.limits) == {"user", "key"}
    assert (settings.limits["user"].messages, settings.limits["user"].window_s) == (7, 10.0)
    assert settings.limits["user"].interval_us == 1_428_571
    assert [settings.limits[kind].tokens_a_day for kind in ("user", "key")] == [0, 0]
    assert read({**GIVEN, "SWITCHBOARD__LIMITS__USER__TOKENS_A_DAY": "20000"}).limits["user"].tokens_a_day == 20_000
    assert read({**GIVEN, "RATE_LIMITS": "off"}).limits == {}


@pytest.mark.parametrize(
    ("name", "value"), [("MESSAGES", "0"), ("MESSAGES", "-1"), ("ANSWERS", "0"), ("WINDOW_S", "0"), ("WINDOW_S", "nan")]
)
def test_a_limit_that_can_t_be_is_refused_by_its_table(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=r"limits\.key"):
        read({**GIVEN, f"SWITCHBOARD__LIMITS__KEY__{name}": value})


@pytest.mark.parametrize(("kind", "value"), [("USER", "-1"), ("USER", "1000000000000001"), ("KEY", "5")])
def test_a_budget_that_can_t_be_is_refused(kind: str, value: str) -> None:
    with pytest.raises(SettingError, match="tokens_a_day"):
        read({**GIVEN, f"SWITCHBOARD__LIMITS__{kind}__TOKENS_A_DAY": value})
