"""The port to Redis: scripts, plain commands, and what is published. Nobody else in the system talks to Redis.

Two adapters: `redis_server` for one server, `redis_cluster` for a cluster. Both raise `SwitchboardError(UNAVAILABLE)`
for every way in which Redis can be out of reach, so that callers know one.
See docs/subsystems/log.md for what is promised when it fails.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgpack
from chat.errors import ErrorCode, SwitchboardError

Item = TypeVar("Item")
_LUA = Path(__file__).parent / "lua"


class Script:
    """One Lua file, with the library in front of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (_LUA / "lib.lua").read_text() + (_LUA / f"{name}.lua").read_text()


class Listener(Protocol):
    """Who is told what is published. Its methods must not block."""

    def stands(self, groups: Collection[int]) -> None:
        """The subscription to these groups stands, for the first time or again: what was published to them before may
        have been missed."""

    def heard(self, message: bytes) -> None:
        """A message; one may come twice, or not at all."""


class RedisLink(ABC):
    """Chats are in groups, by number: what one script call can reach together. On one server all chats are one group;
    on a cluster each partition is one, and groups fail and heal apart from one another."""

    publish_command: str
    """PUBLISH or SPUBLISH, for scripts."""
    group_count: int

    @abstractmethod
    def group(self, chat_id: str) -> int:
        """The number of a chat's group."""

    @abstractmethod
    def channel(self, chat_id: str) -> str:
        """Where a chat's events are announced."""

    @abstractmethod
    def groups(self, items: Sequence[Item], chat_id: Callable[[Item], str]) -> list[Sequence[Item]]:
        """Items by the groups that their chats are in."""

    @abstractmethod
    def partition_groups(self) -> list[range]:
        """All partitions by what one script call can reach together."""

    @abstractmethod
    async def run(self, script: Script, key_names: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Runs a script as one atomic step. Raises: SwitchboardError(UNAVAILABLE): not known whether it ran."""

    async def run_packed(self, script: Script, key_names: Sequence[str], *arguments: str | bytes | int) -> Any:
        """As `run`, for scripts that return msgpack. Texts come back as bytes."""
        return unpack(await self.run(script, key_names, *arguments))

    @abstractmethod
    async def execute(self, *command: str | bytes | int | float) -> Any:
        """Runs one plain command, whose first argument is its one key or channel; texts come back as bytes.

        Raises: SwitchboardError(UNAVAILABLE): not known whether it ran.
        """

    @abstractmethod
    async def ping(self, timeout_s: float) -> bool:
        """Whether every chat can be served: all of Redis answers in time."""

    @abstractmethod
    async def follow(self, listener: Listener) -> None:
        """Tells what is published to all groups, for as long as it is not cancelled; what breaks is made anew by
        itself, and said to stand again. A group's silence counts as a break: heartbeats travel the same way."""

    @abstractmethod
    async def close(self) -> None:
        """Closes every connection."""


def pack(value: Any) -> bytes:
    """For Lua's cmsgpack, which knows strings of bytes alone."""
    return msgpack.packb(value, use_bin_type=False)  # type: ignore[no-any-return]


def unpack(packed: bytes) -> Any:
    """From Lua's cmsgpack; texts come back as bytes."""
    return msgpack.unpackb(packed, raw=True, strict_map_key=False)


def unavailable() -> SwitchboardError:
    """What every failure of Redis is to callers."""
    return SwitchboardError(ErrorCode.UNAVAILABLE, "the chat store can't be reached; try again", retry_after_s=1.0)


BEAT = pack(["beat"])
"""What heartbeats say."""
