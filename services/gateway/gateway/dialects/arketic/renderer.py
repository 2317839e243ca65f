"""Events to Arketic's frames. See `dialect.Renderer`.

Times are those of events, so that a frame is the same on every replica. Only of an answer whose beginning none of the
events told of (somebody resumed in its middle) the time is reckoned from when its end is rendered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from chat.errors import ErrorCode, Failure
from chat.events import (
    ChatDeleted,
    ChatUpdated,
    Event,
    MessageCreated,
    MessageEdited,
    ParticipantAdded,
    ParticipantRemoved,
    Presence,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
    Typing,
)
from chat.messages import Answer, AnswerState, Message, Role

from gateway.answers import as_it_stands
from gateway.dialects.arketic.failures import error_code, error_text
from gateway.dialects.arketic.pacing import shown_length
from gateway.dialects.arketic.wire import (
    chat_object,
    micros,
    participant_object,
    processing_time_ms,
    said_object,
    status_word,
    timestamp,
    tokens_used,
)
from gateway.frame import Frame

_LOST = Failure(ErrorCode.INTERNAL, "The answer was lost on our side. Please ask again.")
_FAILED = Failure(ErrorCode.INTERNAL, "The answer could not be made. Please try again.")


@dataclass(frozen=True, slots=True)
class Wish:
    """How a client wants its frames."""

    full_content: bool = True
    """Each chunk repeats what came before it, and answers are shown in growing steps (`pacing.py`)."""
    all_events: bool = False
    """Frames and fields that the document does not print, too."""


class _Answer:
    """An answer under way, as its readers see it: `shown` characters of it."""

    __slots__ = ("began_us", "length", "message_id", "model", "pieces", "shown")

    def __init__(self, message_id: str, began_us: int = 0, model: str = "") -> None:
        self.message_id = message_id
        self.began_us = began_us
        self.model = model
        self.pieces: list[str] = []
        self.length = 0
        self.shown = 0

    def add(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            self.length += len(text)

    @property
    def text(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class ArketicRenderer:
    """See the module."""

    __slots__ = ("_answer", "_chat_id", "_newest_id", "_now_us", "_wish")

    def __init__(self, chat_id: str, wish: Wish, now_us: Callable[[], int]) -> None:
        self._chat_id = chat_id
        self._wish = wish
        self._now_us = now_us
        self._answer: _Answer | None = None
        self._newest_id = ""

    def render(self, event: Event) -> Sequence[Frame]:
        """See `dialect.Renderer`."""
        match event:
            case ResponseDelta():
                answer = self._under_way(event.message_id)
                answer.add(event.text)
                return self._chunks(answer, self._visible(answer.length))
            case MessageCreated():
                self._newest_id = event.message.id
                return (self._said(event.message),)
            case ResponseStarted():
                return (self._start(event.message),)
            case ResponseRestarted():
                before = self._under_way(event.message_id)
                self._answer = _Answer(before.message_id, before.began_us or self._now_us(), before.model)
                return (self._started(self._answer),)
            case ResponseCompleted():
                return self._end(event.message_id, event.answer)
            case ResponseCancelled():
                return self._end(event.message_id, Answer(AnswerState.CANCELLED))
            case ResponseFailed():
                return self._end(event.message_id, event.answer)
            case Typing():
                return (self._typing(event),)
            case MessageEdited() | ParticipantAdded() | ParticipantRemoved() | ChatUpdated() | ChatDeleted():
                return (self._change(event),) if self._wish.all_events else ()
            case Presence():
                return ()
            case _:
                assert_never(event)

    def resume(self, text_before: str) -> None:
        """See `dialect.Renderer`."""
        if text_before:
            self._answer = _Answer("")
            self._answer.add(text_before)
            self._answer.shown = self._visible(self._answer.length)

    def snapshot(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: each message as if it came now."""
        frames: list[Frame] = []
        for message in messages:
            if message.role is not Role.ASSISTANT:
                self._newest_id = message.id
                frames.append(self._said(message))
                continue
            frames.append(self._start(message))
            frames.extend(self._rest(message))
        return frames

    def resync(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: what the answer under way still lacks, and what was said since."""
        before, self._answer = self._answer, None
        frames: list[Frame] = []
        now = as_it_stands(before.message_id, messages) if before else None
        if before is not None and now is None:
            frames.append(self._error(_LOST, before.began_us))
        if before is not None and now is not None:
            seen = before.text[: before.shown]
            if now.content.startswith(seen):
                before.message_id = now.id
                before.pieces, before.length = [seen] if seen else [], before.shown
                self._answer = before
            else:
                frames.append(self._start(now))
            frames.extend(self._rest(now))
        ids = [message.id for message in messages]
        if self._newest_id in ids:
            later = messages[ids.index(self._newest_id) + 1 :]
        elif self._newest_id:
            later = messages
        else:
            later = [message for message in messages if message.is_running]
        frames.extend(self.snapshot([message for message in later if now is None or message.id != now.id]))
        return frames

    def _visible(self, length: int) -> int:
        return shown_length(length) if self._wish.full_content else length

    def _under_way(self, message_id: str) -> _Answer:
        if self._answer is None:
            self._answer = _Answer(message_id)
        self._answer.message_id = message_id
        return self._answer

    def _start(self, message: Message) -> Frame:
        self._newest_id = message.id
        self._answer = _Answer(message.id, message.created_at_us, message.answer.model if message.answer else "")
        return self._started(self._answer)

    def _rest(self, message: Message) -> Sequence[Frame]:
        """The frames of an answer, behind those of which the renderer knows."""
        answer = self._under_way(message.id)
        answer.add(message.content[answer.length :])
        if message.answer is None or message.is_running:
            return self._chunks(answer, self._visible(answer.length))
        return self._end(message.id, message.answer)

    def _chunks(self, answer: _Answer, visible: int) -> Sequence[Frame]:
        """One chunk up to so many characters, if that is further than what is shown."""
        if visible <= answer.shown:
            return ()
        content: dict[str, Any] = {
            "type": "ai_response_chunk",
            "message_id": answer.message_id,
            "chat_id": self._chat_id,
        }
        if self._wish.full_content:
            text = answer.text
            content |= {"chunk": text[answer.shown : visible], "full_content": text[:visible]}
        elif answer.pieces and answer.length - answer.shown == len(answer.pieces[-1]):
            content["chunk"] = answer.pieces[-1]
        else:
            content["chunk"] = answer.text[answer.shown :]
        answer.shown = visible
        return (Frame(content, run=f"chunk {answer.message_id}"),)

    def _end(self, message_id: str, ended: Answer) -> Sequence[Frame]:
        answer, begun = self._answer, True
        if answer is None or answer.message_id not in ("", message_id):
            # A turn may end before its answer began; another's may be under way.
            answer, begun = _Answer(message_id), False
        else:
            answer.message_id = message_id
            self._answer = None
        failed = ended.state is AnswerState.FAILED
        began_us = answer.began_us or self._now_us() - micros(ended.duration_s)
        frames = list(self._chunks(answer, answer.length))
        if begun or not failed:
            frames.append(self._complete(answer, ended, began_us))
        if failed:
            frames.append(self._error(ended.failure or _FAILED, began_us + micros(ended.duration_s)))
        return frames

    def _started(self, answer: _Answer) -> Frame:
        message = {
            "id": answer.message_id,
            "chat_id": self._chat_id,
            "sender_id": None,
            "content": "",
            "message_type": "AI",
            "ai_model_used": answer.model or None,
            "created_at": timestamp(answer.began_us),
            "status": status_word(AnswerState.RUNNING),
            "is_streaming": True,
        }
        return Frame({"type": "ai_response_start", "message": message})

    def _complete(self, answer: _Answer, ended: Answer, began_us: int) -> Frame:
        message = {
            "id": answer.message_id,
            "chat_id": self._chat_id,
            "sender_id": None,
            "content": answer.text,
            "message_type": "AI",
            "ai_model_used": ended.model or answer.model or None,
            "tokens_used": tokens_used(ended),
            "processing_time_ms": processing_time_ms(ended),
            "created_at": timestamp(began_us),
            "status": status_word(ended.state),
            "is_streaming": False,
        }
        return Frame({"type": "ai_response_complete", "message": message})

    def _said(self, message: Message) -> Frame:
        return Frame({"type": "new_message", "message": said_object(message, all_fields=self._wish.all_events)})

    def _typing(self, event: Typing) -> Frame:
        return Frame(
            {
                "type": "typing_indicator",
                "chat_id": self._chat_id,
                "user_id": event.user_id,
                "username": event.username,
                "timestamp": timestamp(event.time_us),
            }
        )

    def _change(
        self, event: MessageEdited | ParticipantAdded | ParticipantRemoved | ChatUpdated | ChatDeleted
    ) -> Frame:
        match event:
            case MessageEdited():
                edited = {
                    "id": event.message_id,
                    "chat_id": self._chat_id,
                    "content": event.content,
                    "is_edited": True,
                    "edited_at": timestamp(event.edited_at_us),
                }
                return Frame({"type": "message_edited", "message": edited})
            case ParticipantAdded():
                participant = participant_object(event.participant)
                return Frame({"type": "participant_added", "chat_id": self._chat_id, "participant": participant})
            case ParticipantRemoved():
                return Frame({"type": "participant_removed", "chat_id": self._chat_id, "user_id": event.user_id})
            case ChatUpdated():
                return Frame({"type": "chat_updated", "chat": chat_object(event.chat)})
            case ChatDeleted():
                return Frame({"type": "chat_deleted", "chat_id": self._chat_id})

    def _error(self, failure: Failure, time_us: int) -> Frame:
        return error_frame(failure, self._chat_id, time_us or self._now_us())


def error_frame(failure: Failure, chat_id: str | None, time_us: int) -> Frame:
    """The document's `ai_error`."""
    return Frame(
        {
            "type": "ai_error",
            "error": error_text(failure),
            "chat_id": chat_id,
            "error_code": error_code(failure.code),
            "timestamp": timestamp(time_us),
        }
    )


def merged_chunks(frames: Sequence[Frame]) -> Frame:
    """One chunk for several of one answer, in order."""
    chunk = "".join(str(frame.content["chunk"]) for frame in frames)
    # In the order of the document's keys; the last one's `full_content` is the longest.
    return Frame({**frames[-1].content, "chunk": chunk}, run=frames[-1].run)
