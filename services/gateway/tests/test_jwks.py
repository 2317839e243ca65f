"""User tokens that an identity provider signs: a real key server on loopback, real signatures."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from chat.errors import ErrorCode, SwitchboardError
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gateway import jwks
from gateway.auth import Doorkeeper
from gateway.jwks import KeySet, fetch_from
from gateway.settings import Credentials
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from launcher.stack import Stack

from .client import http

SECRET = "a-secret-that-is-long-enough-for-hs256"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
SHORT_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def published(key: Any, key_id: str | None, **more: str) -> dict[str, Any]:
    """A key as a set has it."""
    kinds: dict[type, Any] = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind = next((algorithm for kind, algorithm in kinds.items() if isinstance(key, kind)), OKPAlgorithm)
    named = {} if key_id is None else {"kid": key_id}
    return {**kind.to_jwk(key.public_key(), as_dict=True), **named, **more}


def token(key: Any, algorithm: str, key_id: str | None, **claims: object) -> str:
    headers = {} if key_id is None else {"kid": key_id}
    return jwt.encode({"sub": "ada", "exp": time.time() + 60, **claims}, key, algorithm=algorithm, headers=headers)


class KeyServer:
    """Publishes `body`, or refuses with `status`; counts who asks."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.open.wait(20)
                self.send_response(outer.status)
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    made = KeyServer()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.open.set()
        made.server.shutdown()
        thread.join()
        made.server.server_close()


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Door:
    """A doorkeeper before a key server."""

    def __init__(self, url: str, tasks: asyncio.TaskGroup, secret: str) -> None:
        self.clock = Clock()
        keys = KeySet(fetch_from(url), tasks, self.clock)
        self.keeper = Doorkeeper(Credentials(("key",), secret, "", "", url), keys)

    async def opens(self, credential: str) -> str:
        """The user, or the code of the refusal."""
        try:
            return (await self.keeper.user(credential)).user_id
        except SwitchboardError as error:
            return error.code.name


@asynccontextmanager
async def door(server: KeyServer, *, secret: str = "") -> AsyncIterator[Door]:
    async with asyncio.TaskGroup() as tasks:
        yield Door(server.url, tasks, secret)


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
async def test_each_algorithm_is_good_with_a_key_that_is_published(server: KeyServer, key: Any, algorithm: str) -> None:
    server.publish(published(OTHER_RSA, "other"), published(key, "mine"))
    async with door(server) as at:
        assert await at.opens(token(key, algorithm, "mine")) == "ada"
        assert (await at.keeper.anyone(token(key, algorithm, "mine"))).user_id == "ada"
        assert server.asked == 1


async def test_a_token_without_a_key_id_is_good_while_there_is_one_key_for_it(server: KeyServer) -> None:
    server.publish(published(RSA, None), published(EC, "e"))
    async with door(server) as at:
        assert await at.opens(token(RSA, "RS256", None)) == "ada"
        assert await at.opens(token(EC, "ES256", None)) == "ada"
        server.publish(published(RSA, "a"), published(OTHER_RSA, "b"))
        at.clock.now_s += 3600
        while server.asked < 2:
            await at.opens(token(RSA, "RS256", None))
            await asyncio.sleep(0)
    async with door(server) as at:
        assert await at.opens(token(RSA, "RS256", None)) == "UNAUTHENTICATED"


async def test_secret_and_key_set_stand_side_by_side(server: KeyServer) -> None:
    server.publish(published(RSA, "r"))
    async with door(server, secret=SECRET) as at:
        assert await at.opens(token(SECRET, "HS256", None)) == "ada"
        assert server.asked == 0
        assert await at.opens(token(RSA, "RS256", "r")) == "ada"


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def confused(secret: bytes, key_id: str) -> str:
    """HS256 with what everybody knows for its secret. By hand, since PyJWT refuses to make such a thing."""
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    head, payload, _ = token(SECRET, "HS256", key_id).split(".")
    signature = algorithm.sign(f"{head}.{payload}".encode(), secret)
    return f"{head}.{payload}.{jwt.utils.base64url_encode(signature).decode()}"


@pytest.mark.parametrize("secret", ["", SECRET])
async def test_no_key_is_ever_tried_for_an_algorithm_of_the_other_kind(server: KeyServer, secret: str) -> None:
    octets = {"kty": "oct", "kid": "o", "k": jwt.utils.base64url_encode(b"k" * 32).decode()}
    server.publish(published(RSA, "r"), octets, {**octets, "kid": "lies", "alg": "RS256"})
    modulus = json.dumps(published(RSA, "r")).encode()
    attacks = [
        *(confused(guess, "r") for guess in (public_pem(RSA), public_pem(RSA).strip(), modulus, b"", b"r")),
        *(confused(b"k" * 32, key_id) for key_id in ("o", "lies")),
        token(None, "none", "r"),
        token(RSA, "RS512", "r"),
        token(RSA, "PS256", "r"),
        token(OTHER_RSA, "RS256", "r"),
        token(EC, "ES256", "r"),
    ]
    async with door(server, secret=secret) as at:
        assert await at.opens(token(RSA, "RS256", "r")) == "ada"
        for attack in attacks:
            assert await at.opens(attack) == "UNAUTHENTICATED"


async def test_a_header_can_only_choose_among_the_keys_that_are_published(server: KeyServer) -> None:
    server.publish(published(RSA, "r"))
    own = published(OTHER_RSA, "evil")
    injected: list[dict[str, Any]] = [
        {"kid": "evil", "jwk": own},
        {"kid": "evil", "jku": "http://127.0.0.1:9/keys"},
        {"kid": "evil", "x5u": "http://127.0.0.1:9/cert"},
        *({"kid": key_id} for key_id in ("../../etc/passwd", "' or 1=1 --", "|id", "\x00", "", "r" * 6000)),
    ]
    async with door(server) as at:
        assert await at.opens(token(RSA, "RS256", "r")) == "ada"
        for headers in injected:
            claims = {"sub": "ada", "exp": time.time() + 60}
            forged = jwt.encode(claims, OTHER_RSA, algorithm="RS256", headers=headers)
            assert await at.opens(forged) == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "bad",
    [
        published(RSA, "k", use="enc"),
        {**RSAAlgorithm.to_jwk(RSA, as_dict=True), "kid": "k"},
        {"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"},
        {"kid": "k"},
        {"kty": "oct", "kid": "k"},
        {"kty": "RSA", "kid": "k"},
        {"kty": "EC", "kid": "k", "crv": "P-256", "x": 5, "y": []},
        {"kty": ["RSA"], "kid": "k"},
        {**published(RSA, "k"), "alg": ["RS256"]},
        {**published(RSA, "k"), "n": "\u00e9"},
        None,
        "no key",
    ],
)
async def test_a_key_that_is_not_for_this_is_left_out_and_the_others_are_good(server: KeyServer, bad: Any) -> None:
    server.publish(bad, published(EC, "good"))
    async with door(server) as at:
        assert await at.opens(token(EC, "ES256", "good")) == "ada"
        assert await at.opens(token(RSA, "RS256", "k")) == "UNAUTHENTICATED"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_key_that_can_be_broken_is_left_out(server: KeyServer) -> None:
    server.publish(published(SHORT_RSA, "k"), published(EC, "good"))
    async with door(server) as at:
        assert await at.opens(token(EC, "ES256", "good")) == "ada"
        assert await at.opens(token(SHORT_RSA, "RS256", "k")) == "UNAUTHENTICATED"


async def test_a_rotated_key_is_found_at_once_and_a_withdrawn_one_soon_forgotten(server: KeyServer) -> None:
    server.publish(published(RSA, "old"))
    async with door(server) as at:
        assert await at.opens(token(RSA, "RS256", "old")) == "ada"
        server.publish(published(OTHER_RSA, "new"))
        at.clock.now_s += 20
        assert await at.opens(token(OTHER_RSA, "RS256", "new")) == "ada"
        assert await at.opens(token(RSA, "RS256", "old")) == "UNAUTHENTICATED"
        assert server.asked == 2


async def test_keys_that_nobody_publishes_are_asked_for_now_and_then_and_not_each_time(server: KeyServer) -> None:
    server.publish(published(RSA, "r"))
    async with door(server) as at:
        for number in range(50):
            assert await at.opens(token(OTHER_RSA, "RS256", f"made-up-{number}")) == "UNAUTHENTICATED"
        assert server.asked == 1
        at.clock.now_s += 20
        await asyncio.gather(*(at.opens(token(OTHER_RSA, "RS256", f"again-{number}")) for number in range(50)))
        assert server.asked == 2


async def test_a_set_that_is_old_is_renewed_while_it_goes_on_being_believed(server: KeyServer) -> None:
    server.publish(published(RSA, "old"))
    async with door(server) as at:
        assert await at.opens(token(RSA, "RS256", "old")) == "ada"
        server.publish(published(EC, "new"))
        server.open.clear()
        at.clock.now_s += 600
        assert await at.opens(token(RSA, "RS256", "old")) == "ada"
        server.open.set()
        assert await at.opens(token(EC, "ES256", "new")) == "ada"
        assert await at.opens(token(RSA, "RS256", "old")) == "UNAUTHENTICATED"


@pytest.mark.parametrize("how", ["status", "garbage", "no keys", "no list", "no object"])
async def test_while_the_server_is_down_known_keys_go_on_for_a_day(
    server: KeyServer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(published(RSA, "r"))
    good, body = token(RSA, "RS256", "r"), server.body
    async with door(server) as at:
        assert await at.opens(good) == "ada"
        server.status = 503 if how == "status" else 200
        bodies = {
            "garbage": b"<html>",
            "no keys": b'{"keys":[]}',
            "no list": b'{"keys":{"kty":"RSA"}}',
            "no object": b"[]",
        }
        server.body = bodies.get(how, b"")
        for _ in range(5):
            at.clock.now_s += 600
            assert await at.opens(good) == "ada"
            assert await at.opens(token(EC, "ES256", "new")) == "UNAUTHENTICATED"
        assert server.asked == 6
        assert [record.message for record in caplog.records].count("jwks_unavailable") == 1
        at.clock.now_s = 86_500
        assert await at.opens(good) == "UNAVAILABLE"
        server.status, server.body = 200, body
        at.clock.now_s += 2
        assert await at.opens(good) == "ada"


@pytest.mark.parametrize("how", ["too much of it", "a byte now and then"])
async def test_an_answer_that_does_not_end_is_none(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_FETCH_S", 0.3)
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" " if how == "a byte now and then" else b" " * 65536)
                await writer.drain()
                await asyncio.sleep(0.01 if how == "a byte now and then" else 0)
        left.set()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/keys"
    async with listener, asyncio.TaskGroup() as tasks, asyncio.timeout(20):
        assert await Door(url, tasks, "").opens(token(RSA, "RS256", "r")) == "UNAVAILABLE"
        await left.wait()


async def test_without_any_set_nobody_knows_which_is_not_the_clients_fault(server: KeyServer) -> None:
    server.status = 500
    async with door(server) as at:
        with pytest.raises(SwitchboardError) as caught:
            await at.keeper.user(token(RSA, "RS256", "r"))
        assert caught.value.code is ErrorCode.UNAVAILABLE
        assert caught.value.failure.retry_after_s is not None
        assert await at.opens(token(RSA, "RS256", "r")) == "UNAVAILABLE"
        assert await at.opens(token(SECRET, "HS256", "r")) == "UNAUTHENTICATED"
        assert server.asked == 1
        server.status = 200
        server.publish(published(RSA, "r"))
        at.clock.now_s += 2
        assert await at.opens(token(RSA, "RS256", "r")) == "ada"


async def test_a_client_that_leaves_does_not_end_the_fetch_that_others_wait_for(server: KeyServer) -> None:
    server.publish(published(RSA, "r"))
    server.open.clear()
    async with door(server) as at:
        first = asyncio.create_task(at.opens(token(RSA, "RS256", "r")))
        second = asyncio.create_task(at.opens(token(RSA, "RS256", "r")))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        server.open.set()
        assert await second == "ada"
        assert server.asked == 1


async def test_the_gateway_takes_the_tokens_of_its_identity_provider_and_no_others(server: KeyServer) -> None:
    server.publish(published(RSA, "r"))
    async with Stack(workers=0, simulator=False, environment={"JWT_JWKS_URL": server.url}) as stack:
        await stack.wait_serving()
        url = f"{stack.gateway_urls[0]}/chat/sessions"
        assert (await http("GET", url, key=token(RSA, "RS256", "r"))).status == 200
        assert (await http("GET", url, key=token(OTHER_RSA, "RS256", "r"))).status == 401
        assert (await http("GET", url, key=stack.secrets.user_token("ada"))).status == 401
