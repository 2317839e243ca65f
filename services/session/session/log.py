"""Reading a chat's log: the events after a position, or a snapshot when they are gone."""

from dataclasses import dataclass, replace

from chat.position import Position
from switchboard.chat.v1 import chat_pb2, event_pb2

from session import keys, scripts, stored
from session.redis_link import RedisLink
from session.roles import CALLING_SERVICE, Asker, admitted

EVENTS_AT_MOST = 2000
"""In one read; a reader that is further behind reads again."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Brings a reader to `position`: by `events`, or by `messages` when `snapshot`."""

    position: Position
    snapshot: bool
    events: list[event_pb2.Event]
    messages: list[chat_pb2.Message]
    text_before: str = ""


class Log:
    """The logs of all chats, to read."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def read(
        self, chat_id: str, after: Position | None, snapshot_messages: int, asker: Asker = CALLING_SERVICE
    ) -> Reading:
        """Events after `after`, at most `EVENTS_AT_MOST`, or a snapshot.

        Raises: SwitchboardError(NOT_FOUND, PERMISSION_DENIED, UNAVAILABLE).
        """
        reading = await self._read(chat_id, after, snapshot_messages, asker)
        if reading.snapshot:
            return reading
        said = _first_said(reading.events)
        if said is None:
            # Nothing happened to the answer under way, if there is one: its text is what it was.
            return reading
        message_id, length = said
        if not length:
            return replace(reading, text_before="")
        text = await self._text(chat_id, message_id)
        if text is None or any(_restarts(event, message_id) for event in reading.events):
            # What the reader has can't be told any more: it starts again.
            return await self._read(chat_id, None, max(1, snapshot_messages), asker)
        return replace(reading, text_before=text.encode()[:length].decode())

    async def position(self, chat_id: str) -> Position:
        """Where a chat's log ends. Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
        return (await self._read(chat_id, None, 0, CALLING_SERVICE)).position

    async def _read(self, chat_id: str, after: Position | None, snapshot_messages: int, asker: Asker) -> Reading:
        epoch, offset = (after.epoch, after.offset) if after else ("", 0)
        raw = await self._link.run_packed(
            scripts.READ_LOG,
            [keys.chat(chat_id)],
            epoch,
            offset,
            snapshot_messages,
            EVENTS_AT_MOST,
            stored.PAGE_BYTES,
            *asker.arguments,
        )
        kind, epoch_now, offset_now, *rest = admitted(raw)
        position = Position(epoch_now.decode(), int(offset_now))
        if kind == b"events":
            blobs, text_now = rest
            events = [event_pb2.Event.FromString(blob) for blob in blobs]
            return Reading(position, False, events, [], text_now.decode())
        first, parts, answer_sequence, text, passing = rest
        messages = stored.messages(int(first), parts, int(answer_sequence), text)
        if passing:
            messages.append(chat_pb2.Message.FromString(passing))
            messages[-1].content = text.decode()
        return Reading(position, True, [], messages)

    async def _text(self, chat_id: str, message_id: str) -> str | None:
        raw = await self._link.run_packed(scripts.READ_TEXT, [keys.chat(chat_id)], message_id)
        if raw is False:
            return None
        stored_message, text = raw
        # An edited text is not the one that was streamed.
        edited = chat_pb2.Message.FromString(stored_message).HasField("edited_at")
        return None if edited else text.decode()


def _first_said(events: list[event_pb2.Event]) -> tuple[str, int] | None:
    """The answer that the first event about an answer is about, and its length before it; None: no event is."""
    for event in events:
        match event.WhichOneof("kind"):
            case "response_started":
                return event.response_started.message.id, 0
            case "response_restarted":
                return event.response_restarted.message_id, 0
            case "response_delta":
                return event.response_delta.message_id, event.response_delta.text_offset
            case "response_completed":
                return event.response_completed.message_id, event.response_completed.text_length
            case "response_failed":
                return event.response_failed.message_id, event.response_failed.text_length
            case "response_cancelled" if event.response_cancelled.text_length:
                # Without a text, one that waited behind the answer under way may have been stopped.
                return event.response_cancelled.message_id, event.response_cancelled.text_length
            case _:
                continue
    return None


def _restarts(event: event_pb2.Event, message_id: str) -> bool:
    return event.WhichOneof("kind") == "response_restarted" and event.response_restarted.message_id == message_id
