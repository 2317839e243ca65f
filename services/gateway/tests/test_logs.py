"""What the gateway writes of what it is told in confidence: nothing, at the most talkative level, whatever happens."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from launcher.log_line import LogLine
from launcher.stack import Stack
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from .client import TIMEOUT_S, http
from .test_jwks import RSA, token
from .test_server import UPGRADE, Raw

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONFIDED = "c0nf1ded"
"""In each credential, bad or good, and in each text."""
WHERE = (
    "/",
    "/nowhere",
    "/health",
    "/faye/chat/start_session",
    "/chat/start_session",
    "/v1/models",
    "/v1/usage",
    "/chat/sessions",
)
SOCKETS = (
    "/ws/ai/ai-chat/me",
    "/ws/chat/",
    f"/ws/faye/{CONFIDED}",
    f"/ws/{CONFIDED}",
    "/ws/nowhere/at/all",
    "/ws/chat",
)
C = CONFIDED.encode()
MALFORMED = (
    b"GET /?token=" + C + b" HTTP/9.9\r\n\r\n",
    b"GET /?token=" + C + b"\r\n\r\n",
    b"GET /\x00?token=" + C + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?token=%ff" + C + b" HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + C + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nAuthorization Bearer " + C + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nAuthorization: Bearer \xff" + C + b"\r\nCookie: a=\xff" + C + b"\r\nHost: x\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: " + C + b"\r\n\r\n" + C,
    b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + C,
    b"GET /?token=" + C + b" HTTP/1.1\r\nHost: x\r\nX: " + C * 9000 + b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\n" + C,
    C * 100,
    b"\x16\x03\x01" + C,
    *(
        b"GET /ws/faye/x?token=" + C + b" HTTP/1.1\r\n" + more + UPGRADE.replace(old, new) + b"\r\n" + behind
        for more, old, new, behind in (
            (b"", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 7", b""),
            (b"", b"dGhlIHNhbXBsZSBub25jZQ==", C, b""),
            (b"", b"Host: x\r\n", b"", b""),
            (b"Authorization: Bearer " + C * 2000 + b"\r\n", b"", b"", b""),
            (b"Content-Length: 8\r\n", b"", b"", C),
            (b"Cookie: access_token=" + C + b"\r\n", b"", b"", b"\x81\x08" + C),
            (b"", b"", b"", b"\xff\xff" + C),
            (b"", b"", b"", b"\x81\x88\0\0\0\0" + C + b"\x88\x8a\0\0\0\0\x00\x01" + C),
        )
    ),
)


async def test_what_a_client_confides_is_in_no_line_of_the_log() -> None:
    lines: list[LogLine] = []
    environment = {
        "LOG_LEVEL": "debug",
        "API_KEY": f"key-{CONFIDED}",
        "JWT_SECRET": f"secret-{CONFIDED}-{'x' * 32}",
        "JWT_JWKS_URL": f"http://127.0.0.1:9/{CONFIDED}",
        "INTERNAL_TOKEN": f"internal-{CONFIDED}",
        "LLM_WORKER_ADDR": "127.0.0.1:1",
    }
    async with Stack(workers=0, simulator=False, environment=environment, listener=lines.append) as stack:
        await stack.wait_serving()
        good = token(environment["JWT_SECRET"], "HS256", None, sub=f"user-{CONFIDED}", name=CONFIDED)
        credentials = [
            CONFIDED,
            environment["API_KEY"],
            good,
            f"{good[:-3]}AAA",
            token(environment["JWT_SECRET"], "HS256", None, exp=1, jti=CONFIDED),
            token(RSA, "RS256", CONFIDED, jti=CONFIDED),
        ]
        secrets = [*credentials, CONFIDED, good.rpartition(".")[2]]
        url = stack.gateway_urls[0]
        await asyncio.gather(*(send(url, credential) for credential in credentials))
        for octets in MALFORMED:
            async with Raw.connected(int(url.rpartition(":")[2]), octets) as raw:
                raw.writer.write_eof()
                async with asyncio.timeout(TIMEOUT_S):
                    await raw.rest()
        await stack.sessions[0].kill()
        await visit(f"ws{url[4:]}/ws/ai/ai-chat/me?token={good}", {})
    ours = [line for line in lines if line.service == "gateway"]
    assert {"ready", "jwks_unavailable", "stopped"} <= {line.event for line in ours}
    told = [line.raw for line in ours if any(secret in line.raw for secret in secrets)]
    assert told == []


async def send(url: str, credential: str) -> None:
    """Shows a credential in every way, where it is wanted and where it is not."""
    ways = {"authorization": f"Bearer {credential}", "cookie": f"access_token={credential}"}
    for path in WHERE:
        for name, value in ways.items():
            for body in (None, b"{" + credential.encode(), {"unique_token": CONFIDED, "user_id": CONFIDED}):
                method = "GET" if body is None else "POST"
                await http(method, f"{url}{path}?token={credential}&ticket={credential}", body, headers={name: value})
    queries = ("", f"?token={credential}&ticket={credential}&session_id={CONFIDED}&client_id={CONFIDED}")
    addresses = [f"ws{url[4:]}{path}{query}" for path in SOCKETS for query in queries]
    await asyncio.gather(*(visit(each, {name: value}) for each in addresses for name, value in ways.items()))


async def visit(address: str, headers: dict[str, str]) -> None:
    with suppress(ConnectionClosed, InvalidStatus, InvalidMessage):
        async with connect(address, additional_headers=headers) as client:
            for text in (CONFIDED, b"\xff" + C, f'{{"content":"{CONFIDED}","message":"{CONFIDED}"}}'):
                await client.send(text)
            async with asyncio.timeout(TIMEOUT_S):
                await client.recv()
