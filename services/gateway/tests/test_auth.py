"""Who is let in."""

import time

import jwt
import pytest
from chat.errors import ErrorCode, SwitchboardError
from gateway.auth import Caller, Doorkeeper, bearer
from gateway.settings import Credentials

SECRET = "a-secret-that-is-long-enough-for-hs256"
NOW = int(time.time())


def doorkeeper(*, secret: str = SECRET, issuer: str = "", audience: str = "") -> Doorkeeper:
    return Doorkeeper(Credentials(("key-one", "key-two"), secret, issuer, audience))


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"sub": "alice", **claims}, secret, algorithm=algorithm)


@pytest.mark.parametrize(
    ("header", "credential"),
    [("Bearer abc", "abc"), ("bearer abc ", "abc"), ("Basic abc", ""), ("abc", ""), ("", ""), (None, "")],
)
def test_a_credential_is_read_from_a_bearer_header_alone(header: str | None, credential: str) -> None:
    assert bearer(header) == credential


@pytest.mark.parametrize("key", ["key-one", "key-two"])
def test_each_of_several_keys_is_good(key: str) -> None:
    assert doorkeeper().service(key) == Caller()


@pytest.mark.parametrize("key", ["", "key", "key-one ", "key-onekey-two", "\udcff", "clé"])
def test_anything_else_is_no_key(key: str) -> None:
    with pytest.raises(SwitchboardError) as caught:
        doorkeeper().service(key)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


def test_a_token_says_who_its_user_is() -> None:
    assert doorkeeper().user(token(preferred_username="Alice")) == Caller("alice", "Alice")
    assert doorkeeper().user(token(exp=NOW + 86_400, username="al")) == Caller("alice", "al")
    assert doorkeeper().user(token()) == Caller("alice")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "no.token.atall",
        token(secret="another-secret-that-is-long-enough-too"),
        token(exp=NOW - 60),
        token(nbf=NOW + 86_400),
        token(sub=""),
        token(sub="x" * 201),
        token(sub="é" * 101),
        token(sub="\ud800"),
        token(sub="alice\n"),
        jwt.encode({"name": "nobody"}, SECRET, algorithm="HS256"),
        jwt.encode({"sub": "alice"}, "", algorithm="none"),
        jwt.encode({"sub": "alice"}, SECRET * 2, algorithm="HS512"),
    ],
)
def test_a_token_that_is_forged_expired_or_nameless_is_refused(bad: str) -> None:
    with pytest.raises(SwitchboardError) as caught:
        doorkeeper().user(bad)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


def test_a_user_may_be_named_as_long_as_the_session_service_takes() -> None:
    assert doorkeeper().user(token(sub="é" * 100)).user_id == "é" * 100


def test_issuer_and_audience_are_checked_when_they_are_set() -> None:
    strict = doorkeeper(issuer="us", audience="chat")
    assert strict.user(token(iss="us", aud="chat")).user_id == "alice"
    for claims in ({"iss": "them", "aud": "chat"}, {"iss": "us", "aud": "mail"}, {"iss": "us"}, {"aud": "chat"}):
        with pytest.raises(SwitchboardError):
            strict.user(token(**claims))


def test_an_audience_that_nobody_asked_about_does_no_harm() -> None:
    assert doorkeeper().user(token(aud="anything")).user_id == "alice"


def test_where_either_is_welcome_a_key_is_a_key_and_a_token_a_token() -> None:
    assert doorkeeper().anyone("key-one") == Caller()
    assert doorkeeper().anyone(token()) == Caller("alice")
    with pytest.raises(SwitchboardError):
        doorkeeper().anyone("neither")


def test_without_a_secret_no_token_is_good() -> None:
    with pytest.raises(SwitchboardError):
        doorkeeper(secret="").user(token())
    with pytest.raises(SwitchboardError):
        doorkeeper(secret="").anyone(token())


def test_a_refusal_never_repeats_the_credential() -> None:
    with pytest.raises(SwitchboardError) as caught:
        doorkeeper().service("my-secret-key")
    assert "my-secret-key" not in caught.value.failure.message
