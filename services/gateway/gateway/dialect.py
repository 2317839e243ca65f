"""The dialect port: what one public chat API tells the core about itself.

A dialect is a module of `gateway.dialects` with a function `dialect(services: Services) -> Dialect`; the scan in
`registry.py` finds it. It reads frames, writes events and shapes errors; it calls ports only and does no I/O of its
own. The core knows nothing of what it serves: positions, resume, merging, limits and closing are the core's.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from chat.errors import Failure, SwitchboardError
from chat.events import Event, Presence, Typing
from chat.messages import Message
from fastapi import APIRouter, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from gateway.auth import Doorkeeper
from gateway.channel import Channel
from gateway.error_forms import Detail, WrongFields
from gateway.frame import Frame
from gateway.ports import Answers, Models, Sessions, Turns
from gateway.records import Limits, Replicas, Usages, Users
from gateway.tickets import Tickets


class Renderer(Protocol):
    """Turns a chat's events into a dialect's frames. Shared by all readers of a chat and variant that are in step.

    A pure function of what the answer's text is so far, whatever the chunking: two renderers at one position go on
    alike. Idle, it should hold next to nothing.
    """

    def render(self, event: Event) -> Sequence[Frame]:
        """The frames that one more event gives; often one, sometimes none."""
        ...

    def resume(self, text_before: str) -> None:
        """Called at most once, before any event of the answer under way: its reader has seen this much of it."""
        ...

    def snapshot(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """Called first, if at all: the frames for a reader that knows nothing of these messages."""
        ...

    def resync(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """Events were lost and this is how the chat stands now: the frames that bring a reader who has seen all
        that was rendered so far, and can't be told to forget it, to the right end. The last call: a new renderer goes
        on from `snapshot(messages)`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Say:
    """The client says something in a chat. `key` makes it repeatable; empty: the connection's own, if it has one."""

    chat_id: str
    content: str
    key: str = ""
    key_id: str = ""
    """Names the API key that the client showed (`Caller.key_id`): its limits count, too."""
    undo: Callable[[], Awaitable[None]] | None = None
    """The chat was made for this message, and nobody is shown it yet. Called when the message was refused for certain:
    takes the chat back. May raise SwitchboardError: then the chat stays. None: the chat was there before."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The client stops an answer; empty turn: the one that runs or is due."""

    chat_id: str
    turn_id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The dialect answers the client by itself."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """The client tells who reads a chat now something that nobody keeps: that its user types, say."""

    chat_id: str
    event: Typing | Presence


Command: TypeAlias = Say | Stop | Reply | Tell


class Handshake(Protocol):
    """A client's request for a WebSocket."""

    path: Mapping[str, str]
    """The values of the path's variables, decoded."""
    query: Mapping[str, str]
    """The query's parameters, decoded; the last of a name."""

    def header(self, name: str) -> str | None:
        """A header by its name in lower case."""
        ...

    def cookie(self, name: str) -> str | None:
        """A cookie's value. Who lets in by it checks the `origin` header too."""
        ...


@dataclass(slots=True)
class Visit:
    """One client's stay on a WebSocket, as its dialect let it in; a dialect may extend it with what it remembers."""

    user_id: str
    """Who speaks; the sender of what is said."""
    chat_id: str = ""
    """The chat that is shown from the start; empty: none yet, a Say's chat is shown from then on."""
    variant: Hashable = None
    """What the client asked for that changes how events are rendered."""
    greeting: tuple[Frame, ...] = ()
    """Sent before anything else; where a chat is shown from the start, once all that is said in it will be seen."""
    shown_messages: int = 0
    """How many of the last messages `Renderer.snapshot` gets when the client comes without a position, beside the
    answer under way, which it gets always."""
    expires_at_s: float | None = None
    """When the client's credential is good no longer (`Caller.expires_at_s`), in seconds since 1970: the client is told
    and the connection closed with 1008. None: never."""
    idle_s: float | None = None
    """A client that sends no frame for so long is closed with 4408; pings of the WebSocket protocol are none. None: it
    may be silent for ever."""


class Socket(Protocol):
    """One WebSocket endpoint of a dialect."""

    path: str
    """As Starlette writes paths: `/ws/faye/{unique_token}`."""
    channel: Channel
    """The same endpoint for the AsyncAPI document."""

    async def admit(self, handshake: Handshake) -> Visit:
        """Lets a client in. Raises: SwitchboardError; it is shown to the client and closes the connection."""
        ...

    async def read(self, text: str, visit: Visit) -> Command:
        """What a client's message asks for. Raises: SwitchboardError; it is shown and the connection stays."""
        ...

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        """A renderer of that chat in the state of who knows nothing."""
        ...

    def merge(self, frames: Sequence[Frame]) -> Frame:
        """One frame for two or more of the same run, in order."""
        ...

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        """The error frame for this client; None: it has not been let in."""
        ...


Shape: TypeAlias = Callable[[SwitchboardError | RequestValidationError], Response]
"""A failure of an HTTP request in a dialect's form."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One public API: its HTTP routes and its WebSockets."""

    name: str
    router: APIRouter
    sockets: tuple[Socket, ...] = ()
    errors: Mapping[str, Shape] = field(default_factory=dict)
    """Beginnings of paths, without a slash at the end, and what every failure below them looks like: the dialect's own,
    but also an unknown path, a wrong method, a body that can't be read. Of several beginnings the longest holds."""
    failure: type[BaseModel] = Detail
    """The body that `errors` write, for the OpenAPI document."""
    invalid: type[BaseModel] = WrongFields
    """The same for a request that is not as it must be."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a dialect is given to work with."""

    sessions: Sessions
    models: Models
    turns: Turns
    answers: Answers
    users: Users
    limits: Limits
    usages: Usages
    replicas: Replicas
    doorkeeper: Doorkeeper
    tickets: Tickets
    open_sockets: frozenset[str]
    """Names of dialects whose WebSocket needs no credential in this deployment."""
    public_url: str
    """Empty: taken from the request."""
    new_id: Callable[[], str]
    """A fresh id, a UUID."""
    now_s: Callable[[], float]
    """Seconds since 1970."""
    origins: frozenset[str]
    """Browsers' origins whose pages may use a cookie as their credential; no other page's cookie is believed."""
