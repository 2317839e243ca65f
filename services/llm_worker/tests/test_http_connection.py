"""Our own HTTP/1.1 below the transport: every form an answer can have, connections used again, proxies, bad manners."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from llm_worker import transport
from llm_worker.http_connection import MAX_UNREAD_BYTES, Connection
from llm_worker.pacer import Pacer
from llm_worker.transport import PacedBody, body_of, open_http_client

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Server:
    """Answers each request of each connection with the next of `answers`; None: ends the connection without a word."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []
        self.connections = 0
        self.ended: asyncio.Queue[int] = asyncio.Queue()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = next((line for line in head.lower().split("\r\n") if line.startswith("content-length:")), ":0")
                await reader.readexactly(int(length.partition(":")[2]))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer or b": " not in answer.partition(b"\r\n\r\n")[0]:
                    break
        writer.close()
        self.ended.put_nowait(number)


@asynccontextmanager
async def serving(*answers: bytes | None) -> AsyncIterator[Server]:
    server = Server(*answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


@asynccontextmanager
async def client_of(proxies: Mapping[str, str] | None = None) -> AsyncIterator[Callable[[str], Awaitable[PacedBody]]]:
    """A client; asks a URL and gives the answer's body."""
    async with open_http_client(pacer=Pacer(), connect_timeout_s=5, proxies=proxies or {}) as client:

        async def ask(url: str) -> PacedBody:
            return body_of(await client.send(client.build_request("POST", url, content=b"{}"), stream=True))

        yield ask


async def whole(body: PacedBody) -> bytes:
    octets = b"".join([part async for part in body])
    await body.aclose()
    return octets


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole", b"whole"),
        (CHUNKED + b"3\r\none\r\n3;x=y\r\ntwo\r\n0\r\ntrailer: t\r\n\r\n", b"onetwo"),
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    ],
)
async def test_a_body_is_read_to_its_end_however_that_is_told(answer: bytes, body: bytes) -> None:
    async with serving(answer) as server, client_of() as ask:
        assert await whole(await ask(server.url)) == body
    assert server.heads[0].startswith(f"POST /v1 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n")


async def test_a_connection_is_used_again_when_the_answer_was_whole_and_nobody_wants_to_end_it() -> None:
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    async with serving(ok, ok, ok.replace(b"content", b"connection: close\r\ncontent"), ok) as server:
        async with client_of() as ask:
            for _ in range(4):
                assert await whole(await ask(server.url)) == b"ok"
        assert server.connections == 2


async def test_an_answer_that_is_left_ends_its_connection() -> None:
    async with serving(CHUNKED + b"3\r\none\r\n") as server, client_of() as ask:
        body = await ask(server.url)
        assert await body.read() == b"one"
        await body.aclose()
        assert await asyncio.wait_for(server.ended.get(), 10) == 1


async def test_an_answer_that_is_finished_early_keeps_its_connection_once_it_has_ended() -> None:
    rest = asyncio.Event()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"{}")
                writer.write(CHUNKED + b"3\r\none\r\n")
                await rest.wait()
                writer.write(b"0\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with listener, client_of() as ask:
        first = await ask(url)
        assert await first.read() == b"one"
        connection = first._connection
        first.finish()
        rest.set()
        assert connection is not None
        while not connection.complete:
            await asyncio.sleep(0)
        assert await (await ask(url)).read() == b"one"
        assert connections == 1


async def test_a_server_that_ends_an_idle_connection_costs_no_request() -> None:
    ok = b"HTTP/1.1 200 OK\r\nkeep: alive\r\ncontent-length: 2\r\n\r\nok"
    async with serving(ok, None, ok) as server, client_of() as ask:
        assert await whole(await ask(server.url)) == b"ok"
        with pytest.raises(httpx2.ConnectError):
            await ask(server.url)
        assert await whole(await ask(server.url)) == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        None,
    ],
    ids=["garbage", "endless head", "bad header", "nothing"],
)
async def test_what_is_no_answer_is_a_failed_connection(answer: bytes | None) -> None:
    async with serving(answer) as server, client_of() as ask:
        with pytest.raises(httpx2.ConnectError):
            await ask(server.url)


async def test_a_second_answer_to_one_question_is_nobodys() -> None:
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    async with serving(ok + ok, ok) as server, client_of() as ask:
        assert await whole(await ask(server.url)) == b"ok"
        assert await whole(await ask(server.url)) == b"ok"
        assert server.connections == 2


async def test_a_second_answer_changes_nothing_of_the_first() -> None:
    both = b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 No\r\nz: z\r\ncontent-length: 0\r\n\r\n"
    async with serving(both) as server, open_http_client(pacer=Pacer(), connect_timeout_s=5) as client:
        response = await client.send(client.build_request("POST", server.url, content=b"{}"), stream=True)
        assert (response.status_code, dict(response.headers)) == (200, {"x": "y", "content-length": "2"})
        assert await whole(body_of(response)) == b"ok"


@pytest.mark.parametrize("rest", [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", b""], ids=["more", "its end"])
async def test_what_comes_behind_an_answer_that_was_left_unread_is_not_the_next_ones(rest: bytes) -> None:
    most, all_came, rest_came = asyncio.Event(), asyncio.Event(), asyncio.Event()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"{}")
        if connections == 2:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (MAX_UNREAD_BYTES + 1))
            writer.write(b"x" * MAX_UNREAD_BYTES)
            await most.wait()
            writer.write(b"x")
            await all_came.wait()
            writer.write(rest)
            await writer.drain()
            if not rest:
                writer.write_eof()
            rest_came.set()
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                # What an older question's answer would be taken for the answer to.
                await reader.readuntil(b"{}")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with listener, client_of() as ask:
        left = await ask(url)
        connection = left._connection
        assert connection is not None
        while connection._unread < MAX_UNREAD_BYTES:
            await asyncio.sleep(0)
        most.set()
        while not connection.complete:
            await asyncio.sleep(0)
        all_came.set()
        await rest_came.wait()
        await left.aclose()
        assert await whole(await ask(url)) == b"ok"


async def test_what_an_idle_connection_brought_is_seen_before_it_is_used_again() -> None:
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    theirs, ours = socket.socketpair()
    loop = asyncio.get_running_loop()
    connection = Connection(lambda _: None)
    await loop.create_connection(lambda: connection, sock=ours)
    theirs.sendall(ok + b"ok")
    await connection.ask(b"GET / HTTP/1.1\r\n\r\n")
    assert await connection.read() == b"ok"
    assert connection.reusable
    assert connection.quiet
    # The loop has had no time to look at it.
    theirs.sendall(ok + b"no")
    assert connection.reusable
    assert not connection.quiet
    connection.close()
    theirs.close()


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"0\r\n", b"x: " + b"y" * 1000 + b"\r\n"),
        (b"0\r\nx: ", b"y" * 1000),
        (b"3;", b"y" * 1000),
    ],
    ids=["trailers", "a trailer", "a chunk's extension"],
)
async def test_what_is_no_body_ends_sometime(begin: bytes, piece: bytes) -> None:
    async with serving(CHUNKED + b"3\r\none\r\n" + begin + piece * 200) as server, client_of() as ask:
        body = await ask(server.url)
        with pytest.raises(httpx2.ReadError):
            await whole(body)
        assert await asyncio.wait_for(server.ended.get(), 10) == 1


async def test_an_error_that_does_not_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_WHOLE_BYTES", 100_000)
    async with serving(b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 200_000) as server, client_of() as ask:
        with pytest.raises(httpx2.ReadError):
            await whole(await ask(server.url))


async def test_nothing_is_unpacked() -> None:
    packed = gzip.compress(b"x" * 1_000_000)
    answer = b"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed
    async with serving(answer) as server, open_http_client(pacer=Pacer(), connect_timeout_s=5) as client:
        response = await client.send(client.build_request("POST", server.url, content=b"{}"), stream=True)
        assert await response.aread() == packed


async def test_a_header_with_a_line_end_is_not_sent() -> None:
    async with serving() as server, open_http_client(pacer=Pacer(), connect_timeout_s=5) as client:
        request = client.build_request("POST", server.url, content=b"{}", headers={"x": "a\r\nb: c"})
        with pytest.raises(httpx2.LocalProtocolError):
            await client.send(request, stream=True)
        assert server.connections == 0


async def test_a_body_that_nobody_reads_stays_with_its_sender() -> None:
    size = 16 * 1024 * 1024
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
    async with serving(answer) as server, client_of() as ask:
        body = await ask(server.url)
        connection = body._connection
        assert connection is not None
        while not connection._full:
            await asyncio.sleep(0)
        assert connection._unread < 4 * MAX_UNREAD_BYTES
        assert len(await whole(body)) == size


async def test_a_request_that_is_given_up_ends_its_connection() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        asked.set()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener, client_of() as ask:
        asking = asyncio.ensure_future(ask(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"))
        await asyncio.wait_for(asked.wait(), 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_host_that_takes_no_connection_is_said_to_be_unreachable() -> None:
    async with serving() as server:
        pass
    async with client_of() as ask:
        with pytest.raises(httpx2.ConnectError):
            await ask(server.url)


async def test_through_a_proxy_a_plain_request_goes_with_its_whole_url_and_the_proxys_credential() -> None:
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    async with serving(ok) as server:
        proxies = {"http": f"http://u:p%40ss@127.0.0.1:{server.port}", "no": "internal.example"}
        async with client_of(proxies) as ask:
            assert await whole(await ask("http://provider.example:8080/v1?x=y")) == b"ok"
    assert server.heads[0].startswith(
        "POST http://provider.example:8080/v1?x=y HTTP/1.1\r\nHost: provider.example:8080"
    )
    assert "proxy-authorization: Basic dTpwQHNz\r\n" in server.heads[0]


async def test_through_a_proxy_tls_reaches_the_provider_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = _tls_for("provider.example", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    provider = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    behind = await asyncio.start_server(provider.serve, "127.0.0.1", 0, ssl=tls)
    asked: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        there = await asyncio.open_connection(*behind.sockets[0].getsockname()[:2])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with behind, proxy, client_of({"https": f"http://127.0.0.1:{port}"}) as ask:
        assert await whole(await ask("https://provider.example/v1")) == b"ok"
        with pytest.raises(httpx2.ConnectError):
            await ask("https://another.example/v1")
    assert asked[0] == b"CONNECT provider.example:443 HTTP/1.1\r\nhost: provider.example:443\r\n\r\n"
    assert provider.heads[0].startswith("POST /v1 HTTP/1.1\r\nHost: provider.example\r\n")


async def test_a_proxy_that_refuses_is_no_way_to_the_provider() -> None:
    async with serving(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n") as server:
        async with client_of({"https": f"http://127.0.0.1:{server.port}"}) as ask:
            with pytest.raises(httpx2.ConnectError):
                await ask("https://provider.example/v1")
        assert await asyncio.wait_for(server.ended.get(), 10) == 1


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while octets := await reader.read(65536):
            writer.write(octets)
    writer.close()


def _tls_for(host: str, folder: Path) -> ssl.SSLContext:
    """A server's TLS by a certificate of its own for `host`, which is left in `folder` for clients to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
