"""Endpoint 6: the WebSocket of one chat. Messages are sent over HTTP; here come pings, heartbeats, typing and cancels.

in:  {"type":"ping","timestamp":"2024-01-01T12:00:00Z"}
     {"type":"heartbeat","timestamp":"2024-01-01T12:00:00Z"}        (no reply)
     {"type":"typing"}                                              (ours)
     {"type":"cancel","message_id":"..."}                           (ours; without an id: the answer under way)
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import Typing
from chat.messages import Chat
from chat.names import is_id

from gateway.auth import bearer
from gateway.dialect import Command, Handshake, Renderer, Reply, Services, Stop, Tell, Visit
from gateway.dialects.arketic.access import NO_OPEN_CHAT, enter, refused_as, shown_name
from gateway.dialects.arketic.answers import turn_of
from gateway.dialects.arketic.frames import channel
from gateway.dialects.arketic.reading import Readings
from gateway.dialects.arketic.renderer import ArketicRenderer, Wish, error_frame, merged_chunks
from gateway.dialects.arketic.typing_pace import TYPING_S
from gateway.dialects.arketic.wire import micros, timestamp
from gateway.frame import Frame

IDLE_S = 300.0
"""The document's five minutes."""
_TIMESTAMP_CHARS = 64
_NOTHING = Reply(())


@dataclass(slots=True)
class ArketicVisit(Visit):
    """A user's stay. `username`: as others see it. `typed_s`: when others were last told that the user types."""

    username: str = ""
    typed_s: float = 0.0


class ArketicSocket:
    """`/api/v1/chat/chats/{chat_id}/ws`."""

    path = "/api/v1/chat/chats/{chat_id}/ws"
    channel = channel(IDLE_S)

    def __init__(self, services: Services, readings: Readings) -> None:
        self._services = services
        self._readings = readings

    async def admit(self, handshake: Handshake) -> ArketicVisit:
        """Lets in a participant of the chat."""
        credential = handshake.query.get("token") or bearer(handshake.header("authorization"))
        caller = await self._services.doorkeeper.user(credential)
        wish = Wish(
            full_content=_choice(handshake, "full_content", "true", ("true", "false")) == "true",
            all_events=_choice(handshake, "events", "document", ("document", "all")) == "all",
        )
        chat = await enter(self._services.sessions, handshake.path["chat_id"], caller.user_id, unknown=NO_OPEN_CHAT)
        await self._readings.note(chat.id, caller.user_id)
        name = shown_name(caller)
        return ArketicVisit(
            user_id=caller.user_id,
            chat_id=chat.id,
            variant=wish,
            greeting=(self._welcome(chat, caller.user_id, name),),
            expires_at_s=caller.expires_at_s,
            idle_s=IDLE_S,
            username=name,
        )

    async def read(self, text: str, visit: Visit) -> Command:
        """A frame is a JSON object with a `type`; other keys are ignored."""
        frame = _parse(text)
        match frame["type"]:
            case "ping":
                return Reply((self._pong(frame),))
            case "heartbeat":
                return _NOTHING
            case "typing":
                return self._typing(visit)
            case "cancel":
                return await self._cancel(frame.get("message_id"), visit)
            case _:
                raise _bad("type must be ping, heartbeat, typing or cancel", "type")

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        """The variant: how frames are wanted."""
        return ArketicRenderer(chat_id, variant if isinstance(variant, Wish) else Wish(), self._now_us)

    def merge(self, frames: Sequence[Frame]) -> Frame:
        """Only chunks of one answer are of a run."""
        return merged_chunks(frames)

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        """The document's error frame; its `chat_id` is null for who was not let in."""
        return error_frame(failure, visit.chat_id if visit else None, self._now_us())

    def _typing(self, visit: Visit) -> Command:
        if not isinstance(visit, ArketicVisit):
            raise TypeError(visit)
        now_s = self._services.now_s()
        if abs(now_s - visit.typed_s) < TYPING_S:
            return _NOTHING
        visit.typed_s = now_s
        return Tell(visit.chat_id, Typing(visit.user_id, visit.username, micros(now_s)))

    async def _cancel(self, message_id: object, visit: Visit) -> Command:
        if message_id is None:
            return Stop(visit.chat_id)
        if not isinstance(message_id, str) or not is_id(message_id):
            raise _bad("message_id must be the id of an answer, or of the message it answers", "message_id")
        sessions = self._services.sessions
        chat = await enter(sessions, visit.chat_id, visit.user_id)
        async with refused_as("Cannot stop answers in this chat", "Message not found"):
            turn_id = await turn_of(sessions, chat, message_id, visit.user_id)
        # Stopping what is over is no mistake: it may have ended while the wish was on its way.
        return Stop(chat.id, turn_id) if turn_id else _NOTHING

    def _welcome(self, chat: Chat, user_id: str, username: str) -> Frame:
        now = timestamp(self._now_us())
        return Frame(
            {
                "type": "welcome",
                "message": "Connected to chat",
                "chat_id": chat.id,
                "user_id": user_id,
                "username": username,
                "timestamp": now,
                "server_time": now,
            }
        )

    def _pong(self, frame: dict[str, Any]) -> Frame:
        now = timestamp(self._now_us())
        sent = frame.get("timestamp", now)
        if not isinstance(sent, str) or len(sent) > _TIMESTAMP_CHARS:
            raise _bad("timestamp must be a time, such as 2024-01-01T12:00:00Z", "timestamp")
        return Frame({"type": "pong", "timestamp": sent, "server_time": now})

    def _now_us(self) -> int:
        return micros(self._services.now_s())


def _choice(handshake: Handshake, name: str, usual: str, choices: Sequence[str]) -> str:
    chosen = handshake.query.get(name, usual)
    if chosen not in choices:
        raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, f"{name} must be {' or '.join(choices)}", field=name)
    return chosen


def _parse(text: str) -> dict[str, Any]:
    try:
        frame: Any = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise _bad("The message is not valid JSON", "type") from exc
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise _bad("The message must be a JSON object with a type", "type")
    return frame


def _bad(what: str, field: str) -> SwitchboardError:
    return SwitchboardError(ErrorCode.INVALID_ARGUMENT, what, field=field)
