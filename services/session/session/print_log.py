"""`python -m session.print_log CHAT`: a chat's log, readable, for whoever debugs one.

CHAT is a chat's id, or `<dialect>/<name>` for the chat behind an open session. Reads Redis directly (REDIS_URL,
REDIS_CLUSTER), so that it works where the service runs and when the service does not. Prints texts unless --no-text is
given: look at whose terminal it is.
"""

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime

from chat.codec import event_from_proto
from chat.errors import SwitchboardError
from chat.events import (
    Event,
    MessageCreated,
    MessageEdited,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseStarted,
)
from chat.position import Position
from runtime.environment import Environment, SettingError
from switchboard.session.v1 import session_pb2

from session import keys
from session.chats import Chats
from session.log import Log
from session.redis_cluster import ClusterLink
from session.redis_link import RedisLink
from session.redis_server import ServerLink
from session.settings import read_redis

_SHOWN = 60


async def print_log(link: RedisLink, name: str, *, with_text: bool) -> None:
    """Prints one chat's log to standard output. Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
    chat_id = name
    if "/" in name:
        dialect, _, session_name = name.partition("/")
        stored = await link.execute("GET", keys.dialect_session(dialect, session_name))
        if stored is None:
            raise SystemExit(f"no session is open for {dialect}/{session_name}")
        chat_id = session_pb2.DialectSession.FromString(stored).chat_id
    log = Log(link)
    chat = await Chats(link, now_us=lambda: 0).get(chat_id, "")
    root = keys.chat(chat_id)
    turn, lease, fence = await link.execute("HMGET", root, "turn", "lease", "fence")
    waiting = await link.execute("LLEN", f"{root}:queue")
    end = await log.position(chat_id)
    first = await link.execute("XRANGE", f"{root}:log", "-", "+", "COUNT", 1)
    begin = int(first[0][0].split(b"-")[0]) if first else end.offset + 1
    print(f"chat      {chat.id}  {chat.dialect}  owner {chat.owner_id}  {chat.message_count} messages")
    print(f"position  {end}  ({end.offset + 1 - begin} events kept, from {begin})")
    state = "none" if turn is None else f"{turn.decode()} {'running' if lease else 'due'}"
    print(f"turn      {state}  fence {int(fence or 0)}  {waiting} waiting")
    at = Position(end.epoch, begin - 1)
    while at.offset < end.offset:
        reading = await log.read(chat_id, at, 0)
        if reading.snapshot:
            break
        for number, proto in enumerate(reading.events, at.offset + 1):
            event = event_from_proto(proto)
            kind = proto.WhichOneof("kind") or "unknown"
            print(f"{number:>7}  {kind:<19} {_line(event, with_text=with_text)}")
        at = reading.position


def _line(event: Event | None, *, with_text: bool) -> str:
    match event:
        case MessageCreated(message=message, turn_id=turn_id):
            said = _text(message.content, with_text)
            return f"{_time(message.created_at_us)}  {message.id} turn {turn_id or 'none'} {said}"
        case ResponseStarted(message=message):
            target = f"{message.answer.provider} {message.answer.model}" if message.answer else ""
            return f"{_time(message.created_at_us)}  {message.id} {target}"
        case ResponseDelta():
            return f"at {event.text_offset:<6} {_text(event.text, with_text)}"
        case ResponseCompleted(answer=answer) | ResponseFailed(answer=answer):
            failure = f" {answer.failure.code.name}: {answer.failure.message}" if answer.failure else ""
            usage = f" {answer.usage.input_tokens}+{answer.usage.output_tokens} tokens" if answer.usage else ""
            spent = f"{answer.duration_s:.3f} s, {len(answer.attempts)} attempts"
            return f"{event.text_length} bytes, {answer.finish_reason.name.lower()}, {spent}{usage}{failure}"
        case ResponseCancelled():
            return f"{event.text_length} bytes, by {event.cancelled_by or 'the system'}"
        case MessageEdited():
            return f"{_time(event.edited_at_us)}  {event.message_id} {_text(event.content, with_text)}"
        case _:
            return ""


def _text(text: str, with_text: bool) -> str:
    if not with_text:
        return f"({len(text.encode())} bytes)"
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return repr(shown)


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%H:%M:%S.%f")[:-3]


async def _main(url: str, name: str, *, cluster: bool, with_text: bool) -> None:
    link = ClusterLink(url) if cluster else ServerLink(url)
    try:
        await print_log(link, name, with_text=with_text)
    finally:
        await link.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="session.print_log", description="Print a chat's log, readable.")
    parser.add_argument("chat", help="a chat's id, or <dialect>/<name> for the chat behind an open session")
    parser.add_argument("--no-text", action="store_true", help="sizes in place of what people and models said")
    given = parser.parse_args()
    try:
        redis_url, redis_cluster = read_redis(Environment(os.environ))
        asyncio.run(_main(redis_url, given.chat, cluster=redis_cluster, with_text=not given.no_text))
    except SettingError as error:
        sys.exit(f"session.print_log: {error}")
    except SwitchboardError as error:
        sys.exit(f"session.print_log: {error}")
