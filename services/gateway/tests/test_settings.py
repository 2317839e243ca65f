"""Settings: read once, refused by name."""

import pytest
from gateway.settings import read_settings
from runtime.environment import Environment, SettingError

NEEDED = {"API_KEY": "key", "INTERNAL_TOKEN": "token"}


def test_with_the_needed_ones_alone_everything_else_has_its_default() -> None:
    settings = read_settings(Environment(NEEDED))
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.session_addr, settings.llm_worker_addr) == ("localhost:50051", "localhost:50052")
    assert settings.credentials.api_keys == ("key",)
    assert settings.limits.message_bytes == 64 * 1024
    assert settings.cors_origins == ()


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_needed_one_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        read_settings(Environment({**NEEDED, name: " "}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_PORT", "65536"),
        ("GATEWAY_PORT", "http"),
        ("LOG_LEVEL", "loud"),
        ("PUBLIC_URL", "example.com"),
        ("DRAIN_SECONDS", "-1"),
        ("MAX_MESSAGE_BYTES", "1"),
        ("OUTBOX_BYTES", "1.5"),
        ("HEAD_SECONDS", "0"),
        ("JWT_SECRET", "x" * 31),
        ("JWT_JWKS_URL", "file:///etc/passwd"),
        ("JWT_JWKS_URL", "keys.example"),
        ("FOODHAK_OPEN_WS", "maybe"),
    ],
)
def test_a_malformed_one_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        read_settings(Environment({**NEEDED, name: value}))


def test_of_several_tokens_in_rotation_all_are_known_in_their_order() -> None:
    assert read_settings(Environment({**NEEDED, "INTERNAL_TOKEN": "new, old"})).internal_tokens == ("new", "old")


def test_a_websocket_is_open_to_everybody_only_where_its_dialect_is_named() -> None:
    assert read_settings(Environment(NEEDED)).open_sockets == frozenset()
    variables = {
        **NEEDED,
        "FOODHAK_OPEN_WS": "true",
        "FAYE_OPEN_WS": "false",
        "_OPEN_WS": "true",
        "ARKETIC_OPEN_WS": "",
    }
    assert read_settings(Environment(variables)).open_sockets == {"foodhak"}


def test_user_tokens_may_be_signed_by_somebody_elses_keys() -> None:
    url = "https://id.example/.well-known/jwks.json"
    assert read_settings(Environment({**NEEDED, "JWT_JWKS_URL": url})).credentials.jwks_url == url


def test_keys_are_a_list_so_that_they_can_be_rotated() -> None:
    assert read_settings(Environment({**NEEDED, "API_KEY": "a, b,,"})).credentials.api_keys == ("a", "b")
