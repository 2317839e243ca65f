"""What the service makes of its environment."""

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
