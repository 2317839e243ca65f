"""WebSockets: moves bytes between clients' connections, the hub and the turns. One task a connection, uvicorn's own.

Raw ASGI, since a chain of middleware and classes would cost an idle connection as much again as itself. How a client
is written to, and when its time is over, is in `ws_client.py`.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, assert_never
from urllib.parse import parse_qsl

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.position import Position
from starlette.requests import cookie_parser
from starlette.routing import compile_path

from gateway import close_codes
from gateway.dialect import Dialect, Reply, Say, Socket, Stop, Tell
from gateway.frame import Frame
from gateway.headcount import Headcount
from gateway.hub import Hub
from gateway.limits import CHATS_AT_ONCE, check_key, too_many_chats
from gateway.ports import Sessions, Turns, Utterance
from gateway.settings import Limits
from gateway.ws_client import Client

log = logging.getLogger(__name__)

PIPE = "switchboard.pipe"
"""The ASGI extension under which the server offers its Pipe."""

_FULL = Failure(ErrorCode.OVERLOADED, "Too many connections just now. Please try again in a moment.")
_BROKEN = Failure(ErrorCode.INTERNAL, "Something went wrong on our side. Please reconnect.")
_NOTHING_STORED = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.QUEUE_FULL})
"""Refusals of a message by which it is known to be in no chat."""
_REFUSALS = 10
"""Messages in a row that are over the limit and are told so: a person stops sooner, and a program that goes on should
not cost us a look at its limits for each message."""


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
        """A cookie's value; the others, which other programs of the site have set, may have any form."""
        return cookie_parser(self.header("cookie") or "").get(name)


class WebSockets:
    """The ASGI application of all dialects' WebSockets."""

    def __init__(
        self,
        dialects: Sequence[Dialect],
        *,
        hub: Hub,
        turns: Turns,
        sessions: Sessions,
        limits: Limits,
        now_s: Callable[[], float],
    ) -> None:
        sockets = [(dialect.name, socket) for dialect in dialects for socket in dialect.sockets]
        # A path without variables is meant more exactly than one with: /ws/chat is not the user "chat" of /ws/{user}.
        sockets.sort(key=lambda named: named[1].path.count("{"))
        self._routes = [(compile_path(socket.path)[0], name, socket) for name, socket in sockets]
        self._hub = hub
        self._turns = turns
        self._sessions = sessions
        self._limits = limits
        self._now_s = now_s
        self._clients: set[Client] = set()
        self.headcount = Headcount({name for name, _ in sockets})
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
        name, socket, path = route
        # Accepted before anything is checked: a browser sees close codes only of an accepted connection.
        await send({"type": "websocket.accept"})
        client = Client(name, socket, scope["extensions"][PIPE], self._limits, self._now_s)
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
            self._leave(client)

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

    def _route(self, path: str) -> tuple[str, Socket, Mapping[str, str]] | None:
        for pattern, name, socket in self._routes:
            if match := pattern.match(path):
                return name, socket, match.groupdict()
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
        self.headcount.enter(client.dialect)
        if visit.chat_id:
            self._show(client, visit.chat_id, after, visit.greeting)
        elif visit.greeting:
            client.deliver(visit.greeting)

    def _show(self, client: Client, chat_id: str, after: Position | None, greeting: Sequence[Frame] = ()) -> None:
        if chat_id not in client.chats and client.visit is not None:
            self._check_room(client)
            client.chats += (chat_id,)
            self.headcount.show(client.dialect, chat_id)
            visit = client.visit
            self._hub.attach(
                chat_id,
                client,
                client.socket,
                visit.variant,
                after,
                user_id=visit.user_id,
                shown_messages=visit.shown_messages,
                greeting=greeting,
            )

    def _leave(self, client: Client) -> None:
        client.leave()
        self._clients.discard(client)
        if not self._clients:
            self._empty.set()
        if client.visit is None:
            return
        self.headcount.leave(client.dialect, client.chats)
        for chat_id in client.chats:
            self._hub.detach(chat_id, client)

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
                    await self._say(client, visit.user_id, command)
                    client.refused = 0
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
            failure, limited = error.failure, error.code is ErrorCode.RATE_LIMITED
            client.refused += limited
            client.fail(when_to_return(failure) if limited else failure, stays=client.refused <= _REFUSALS)

    async def _say(self, client: Client, user_id: str, said: Say) -> None:
        """Has something said, in a chat that the client is shown from then on. Raises: SwitchboardError."""
        chat_id, undo = said.chat_id, said.undo
        if undo is not None:
            # It is shown once something was said in it, from there on: till then it may have to go again.
            self._check_room(client)
        elif chat_id not in client.chats:
            self._show(client, chat_id, None)
            await self._hub.caught_up(chat_id, client)
        client.said += 1
        key = said.key or (f"{client.key}:{client.said}" if client.key else "")
        try:
            begun = await self._turns.begin(Utterance(chat_id, said.content, user_id, key, key_id=said.key_id))
        except SwitchboardError as error:
            if error.code in _NOTHING_STORED:
                # Its number goes to what is said next: who repeats what was said counts what was taken.
                client.said -= 1
                if undo is not None:
                    await _undone(undo, chat_id)
            elif undo is not None:
                self._show(client, chat_id, None)
            raise
        if undo is not None:
            self._show(client, chat_id, Position(begun.position.epoch, begun.position.offset - 1))

    @staticmethod
    def _check_room(client: Client) -> None:
        if len(client.chats) >= CHATS_AT_ONCE:
            raise too_many_chats()


async def _undone(undo: Callable[[], Awaitable[None]], chat_id: str) -> None:
    try:
        await undo()
    except SwitchboardError as error:
        log.warning("chat_not_taken_back", extra={"chat_id": chat_id, "code": error.code.name})


def when_to_return(failure: Failure) -> Failure:
    """The same in words that say when to try again: an error frame has no header for it."""
    if failure.retry_after_s is None:
        return failure
    wait = _span(failure.retry_after_s)
    return Failure(failure.code, f"{failure.message.rstrip('.')}. Try again in {wait}.", failure.retry_after_s)


def _span(seconds: float) -> str:
    """As people say it, rather too long than too short."""
    for unit, length, most in (("s", 1, 120), ("minutes", 60, 120)):
        if seconds <= most * length:
            return f"{max(1, math.ceil(seconds / length))} {unit}"
    return f"{math.ceil(seconds / 3600)} hours"


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
