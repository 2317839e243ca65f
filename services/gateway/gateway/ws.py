"""WebSockets: moves bytes between clients' connections, the hub and the turns. One task a connection, uvicorn's own.

Raw ASGI, since a chain of middleware and classes would cost an idle connection as much again as itself. Sending is a
plain call into the server's protocol (`Pipe`, see `server.py`): no task waits to send.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from http.cookies import SimpleCookie
from typing import Any, Protocol, assert_never
from urllib.parse import parse_qsl

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.position import Position
from starlette.routing import compile_path

from gateway import close_codes
from gateway.close_codes import Close
from gateway.connection import Connection
from gateway.dialect import Dialect, Reply, Say, Socket, Stop, Tell, Visit
from gateway.frame import Frame
from gateway.hub import Hub
from gateway.limits import check_key, too_large
from gateway.ports import Sessions, Turns, Utterance
from gateway.settings import Limits

log = logging.getLogger(__name__)

PIPE = "switchboard.pipe"
"""The ASGI extension under which the server offers its Pipe."""

_FULL = Failure(ErrorCode.OVERLOADED, "Too many connections just now. Please try again in a moment.")
_BROKEN = Failure(ErrorCode.INTERNAL, "Something went wrong on our side. Please reconnect.")


class Pipe(Protocol):
    """A client's WebSocket, for writing without waiting."""

    @property
    def has_room(self) -> bool:
        """Whether the client takes what is written; else `on_room` will be called."""
        ...

    on_room: Callable[[], None] | None
    """Called once when there is room again."""
    on_oversize: Callable[[], bytes] | None
    """Asked for last words when a message is over the server's own limit, which ends the connection with 1009."""

    def write(self, data: bytes) -> None:
        """Writes whole messages as they go over the wire. Does nothing when the connection is closed."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame behind what was written, and ends the connection soon, whatever the client does."""
        ...


class Request:
    """A client's request for a WebSocket, as ASGI tells it. Adapter of `dialect.Handshake`."""

    __slots__ = ("_headers", "path", "query")

    def __init__(self, scope: Mapping[str, Any], path: Mapping[str, str]) -> None:
        self.path = path
        self.query: Mapping[str, str] = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        self._headers: Mapping[bytes, bytes] = dict(scope["headers"])

    def header(self, name: str) -> str | None:
        """A header by its name in lower case; the last of a name."""
        value = self._headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    def cookie(self, name: str) -> str | None:
        """A cookie's value."""
        morsel = SimpleCookie(self.header("cookie") or "").get(name)
        return None if morsel is None else morsel.value


class Client:
    """One client that is connected: the shell around its `Connection`. Adapter of `feed.Reader`."""

    __slots__ = ("_connection", "_limits", "_pipe", "chats", "key", "resumes", "said", "socket")

    def __init__(self, socket: Socket, pipe: Pipe, limits: Limits) -> None:
        self._pipe = pipe
        pipe.on_oversize = self._oversize
        self._limits = limits
        self._connection = Connection(socket, limits)
        self.socket = socket
        self.chats: tuple[str, ...] = ()
        self.key = ""
        self.said = 0
        self.resumes = False

    @property
    def visit(self) -> Visit | None:
        """Its stay, once its dialect has let it in."""
        return self._connection.visit

    def enter(self, visit: Visit) -> None:
        """Its dialect has let it in."""
        self._connection.visit = visit

    def show_positions(self) -> None:
        """Frames carry their positions from now on."""
        self._connection.positions = True

    def deliver(self, frames: Sequence[Frame]) -> None:
        """Frames for the client: at once when it keeps up, else through its outbox."""
        connection, pipe = self._connection, self._pipe
        if pipe.has_room and not connection.waiting and connection.close is None:
            for frame in frames:
                pipe.write(connection.encode(frame))
        else:
            connection.send(frames)
            self._flush()

    def receive(self, text: str | None) -> str | None:
        """A client's message; what of it the dialect is to read."""
        wanted = self._connection.receive(text)
        self._flush()
        return wanted

    def fail(self, failure: Failure, *, stays: bool) -> None:
        """Shows a failure, and closes unless the connection `stays`."""
        self._connection.fail(failure, stays=stays)
        self._flush()

    def end(self, close: Close) -> None:
        """Closes the connection."""
        self._connection.end(close)
        self._flush()

    def ended(self) -> None:
        """The chat is gone."""
        self.end(close_codes.SESSION_ENDED)

    def failed(self, failure: Failure) -> None:
        """The hub can't go on."""
        self.fail(failure, stays=False)

    def _oversize(self) -> bytes:
        return self._connection.encode(self._connection.explain(too_large(self._limits.message_bytes).failure))

    def _flush(self) -> None:
        connection, pipe = self._connection, self._pipe
        close = connection.close
        # What waits goes out before a close frame whether there is room or not; it is bounded.
        while pipe.has_room or close is not None:
            data = connection.next()
            if data is None:
                break
            pipe.write(data)
        if close is not None:
            pipe.on_room = None
            pipe.close(close.code, close.reason)
        elif connection.waiting:
            pipe.on_room = self._flush


class WebSockets:
    """The ASGI application of all dialects' WebSockets."""

    def __init__(
        self, dialects: Sequence[Dialect], *, hub: Hub, turns: Turns, sessions: Sessions, limits: Limits
    ) -> None:
        sockets = [socket for dialect in dialects for socket in dialect.sockets]
        # A path without variables is meant more exactly than one with: /ws/chat is not the user "chat" of /ws/{user}.
        sockets.sort(key=lambda socket: socket.path.count("{"))
        self._routes = [(compile_path(socket.path)[0], socket) for socket in sockets]
        self._hub = hub
        self._turns = turns
        self._sessions = sessions
        self._limits = limits
        self._clients: set[Client] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one client until it or we close."""
        await receive()
        route = self._route(scope["path"])
        if route is None:
            await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"There is no WebSocket at this path.\n"})
            return
        socket, path = route
        # Accepted before anything is checked: a browser sees close codes only of an accepted connection.
        await send({"type": "websocket.accept"})
        client = Client(socket, scope["extensions"][PIPE], self._limits)
        if self._draining:
            client.end(close_codes.DRAINING)
            return
        if len(self._clients) >= self._limits.connections:
            client.fail(_FULL, stays=False)
            return
        self._clients.add(client)
        self._empty.clear()
        try:
            await self._enter(client, Request(scope, path))
            while (message := await receive())["type"] == "websocket.receive":
                text = client.receive(message.get("text"))
                if text is not None:
                    await self._act(client, text)
        except Exception:  # this connection's boundary
            log.exception("connection_failed", extra={"path": socket.path})
            client.fail(_BROKEN, stays=False)
        finally:
            self._clients.discard(client)
            if not self._clients:
                self._empty.set()
            for chat_id in client.chats:
                self._hub.detach(chat_id, client)

    async def drain(self, spread_s: float, random: Callable[[], float]) -> None:
        """Closes all connections with 1001, each at a random moment of `spread_s`; new ones at once."""
        self._draining = True
        loop = asyncio.get_running_loop()
        moments = sorted(((random() * spread_s, client) for client in self._clients), key=lambda pair: pair[0])
        begun = loop.time()
        for moment, client in moments:
            if (left := begun + moment - loop.time()) > 0:
                await asyncio.sleep(left)
            client.end(close_codes.DRAINING)

    async def emptied(self) -> None:
        """Returns once no client is connected."""
        await self._empty.wait()

    def _route(self, path: str) -> tuple[Socket, Mapping[str, str]] | None:
        for pattern, socket in self._routes:
            if match := pattern.match(path):
                return socket, match.groupdict()
        return None

    async def _enter(self, client: Client, request: Request) -> None:
        """Lets the client in and shows it its chat, or refuses it."""
        try:
            after, client.resumes = _resume(request)
            if request.query.get("positions") == "true":
                client.show_positions()
            if "client_id" in request.query:
                client.key = check_key(request.query["client_id"], "client_id")
            visit = await client.socket.admit(request)
            client.enter(visit)
        except SwitchboardError as error:
            client.fail(error.failure, stays=False)
            return
        if visit.greeting:
            client.deliver(visit.greeting)
        if visit.chat_id:
            self._show(client, visit.chat_id, after)

    def _show(self, client: Client, chat_id: str, after: Position | None) -> None:
        if chat_id not in client.chats and client.visit is not None:
            client.chats += (chat_id,)
            visit = client.visit
            self._hub.attach(chat_id, client, client.socket, visit.variant, after, shown_messages=visit.shown_messages)

    async def _act(self, client: Client, text: str) -> None:
        visit = client.visit
        if visit is None:
            return
        try:
            # Whoever speaks before it listens could miss the whole answer to what it says.
            for chat_id in client.chats:
                await self._hub.caught_up(chat_id, client)
            command = await client.socket.read(text, visit)
            match command:
                case Say():
                    client.said += 1
                    key = command.key or (f"{client.key}:{client.said}" if client.key else "")
                    if command.chat_id not in client.chats:
                        self._show(client, command.chat_id, None)
                        await self._hub.caught_up(command.chat_id, client)
                    await self._turns.begin(Utterance(command.chat_id, command.content, visit.user_id, key))
                case Stop():
                    await self._sessions.cancel_turn(
                        command.chat_id, turn_id=command.turn_id, cancelled_by=visit.user_id
                    )
                case Reply():
                    client.deliver(command.frames)
                case Tell():
                    await self._sessions.notify(command.chat_id, command.event, user_id=visit.user_id)
                case _:
                    assert_never(command)
        except SwitchboardError as error:
            client.fail(error.failure, stays=True)


def _resume(request: Request) -> tuple[Position | None, bool]:
    """The position that the client gave, and whether it knows of positions. Raises: SwitchboardError."""
    text = request.query.get("after")
    positions = request.query.get("positions", "false")
    if positions not in ("true", "false"):
        raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, "positions must be true or false", field="positions")
    if text is None:
        return None, positions == "true"
    try:
        return Position.parse(text), True
    except ValueError as exc:
        raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, f"after: {exc}", field="after") from exc
