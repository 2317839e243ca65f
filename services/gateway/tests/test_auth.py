"""Who is let in."""

import base64
import hashlib
import json
import time

import jwt
import pytest
from chat.errors import ErrorCode, SwitchboardError
from gateway.auth import LEEWAY_S, Caller, Doorkeeper, bearer
from gateway.settings import Credentials

SECRET = "a-secret-that-is-long-enough-for-hs256"
NOW = int(time.time())


def doorkeeper(*, secret: str = SECRET, issuer: str = "", audience: str = "") -> Doorkeeper:
    return Doorkeeper(Credentials(("key-one", "key-two"), secret, issuer, audience))


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: object) -> str:
    known = {name: value for name, value in ({"sub": "alice", "exp": NOW + 3600} | claims).items() if value is not None}
    return jwt.encode(known, secret, algorithm=algorithm)


def raw(header: object, signature: str = "") -> str:
    """A token with that header, and a payload that would be good."""
    parts = (json.dumps(part).encode() for part in (header, {"sub": "alice", "exp": NOW + 60}))
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), signature])


@pytest.mark.parametrize(
    ("header", "credential"),
    [("Bearer abc", "abc"), ("bearer abc ", "abc"), ("Basic abc", ""), ("abc", ""), ("", ""), (None, "")],
)
def test_a_credential_is_read_from_a_bearer_header_alone(header: str | None, credential: str) -> None:
    assert bearer(header) == credential


@pytest.mark.parametrize("key", ["key-one", "key-two"])
async def test_each_of_several_keys_is_good_and_has_a_name_that_does_not_tell_it(key: str) -> None:
    caller = await doorkeeper().service(key)
    assert caller == Caller(key_id=hashlib.sha256(key.encode()).hexdigest()[:16])
    assert caller.expires_at_s is None


@pytest.mark.parametrize("key", ["", "key", "key-one ", "key-onekey-two", "\udcff", "clé"])
async def test_anything_else_is_no_key(key: str) -> None:
    with pytest.raises(SwitchboardError) as caught:
        await doorkeeper().service(key)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


async def test_a_token_says_who_its_user_is_and_until_when() -> None:
    until = NOW + 3600 + LEEWAY_S
    assert await doorkeeper().user(token(preferred_username="Alice")) == Caller("alice", "Alice", until)
    assert await doorkeeper().user(token(exp=NOW + 86_400, username="al")) == Caller("alice", "al", NOW + 86_410)
    assert await doorkeeper().user(token()) == Caller("alice", "", until)


async def test_a_token_may_be_good_for_longer_than_anybody_counts() -> None:
    until = (await doorkeeper().user(token(exp=10**400))).expires_at_s
    assert until is not None
    assert until - time.time() > 1e12


async def test_clocks_may_differ_a_little() -> None:
    now = int(time.time())
    for near in (token(exp=now - 3), token(nbf=now + 5), token(iat=now + 5)):
        assert (await doorkeeper().user(near)).user_id == "alice"


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
        token(sub=None),
        token(sub=7),
        token(exp=None),
        token(exp="soon"),
        token(exp=float("inf")),
        token(exp=float("nan")),
        token(exp=[NOW + 60]),
        token(nbf=float("inf")),
        token(iat=float("inf")),
        token("", "none"),
        token(SECRET * 2, "HS512"),
        raw({}),
        raw({"alg": []}),
        raw({"alg": None}),
        raw({"alg": "hs256"}),
        raw({"alg": "HS256", "kid": 1}),
        *(raw({"alg": "HS256", "jwk": {"kty": "oct", "k": ""}}, signature) for signature in ("", "AAAA")),
        *(
            f"{part}.{part}.x"
            for part in ("W10", "bnVsbA", "\N{SNOWMAN}", base64.urlsafe_b64encode(b"[" * 6000).decode())
        ),
    ],
    # Their own text has the time in it.
    ids=lambda _: "token",
)
async def test_a_token_that_is_forged_expired_or_nameless_is_refused(bad: str) -> None:
    with pytest.raises(SwitchboardError) as caught:
        await doorkeeper().user(bad)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


async def test_a_user_may_be_named_as_long_as_the_session_service_takes() -> None:
    assert (await doorkeeper().user(token(sub="é" * 100))).user_id == "é" * 100


async def test_issuer_and_audience_are_checked_when_they_are_set() -> None:
    strict = doorkeeper(issuer="us", audience="chat")
    assert (await strict.user(token(iss="us", aud="chat"))).user_id == "alice"
    for claims in ({"iss": "them", "aud": "chat"}, {"iss": "us", "aud": "mail"}, {"iss": "us"}, {"aud": "chat"}):
        with pytest.raises(SwitchboardError):
            await strict.user(token(**claims))


async def test_an_audience_that_nobody_asked_about_does_no_harm() -> None:
    assert (await doorkeeper().user(token(aud="anything"))).user_id == "alice"


async def test_where_either_is_welcome_a_key_is_a_key_and_a_token_a_token() -> None:
    assert await doorkeeper().anyone("key-one") == await doorkeeper().service("key-one")
    assert await doorkeeper().anyone(token()) == await doorkeeper().user(token())
    with pytest.raises(SwitchboardError):
        await doorkeeper().anyone("neither")


async def test_without_a_secret_no_token_is_good() -> None:
    with pytest.raises(SwitchboardError):
        await doorkeeper(secret="").user(token())
    with pytest.raises(SwitchboardError):
        await doorkeeper(secret="").anyone(token())


async def test_a_refusal_never_repeats_the_credential() -> None:
    with pytest.raises(SwitchboardError) as caught:
        await doorkeeper().service("my-secret-key")
    assert "my-secret-key" not in caught.value.failure.message
