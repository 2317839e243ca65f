"""What a chat's events add up to: the history that a reader of all of them has.

The law that the session service and the gateway are tested against: folding a snapshot and the events behind it gives
the same view as folding every event from the first, wherever the cut lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from chat.events import (
    ChatDeleted,
    ChatUpdated,
    LogEvent,
    MessageCreated,
    MessageEdited,
    ParticipantAdded,
    ParticipantRemoved,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
    utf8_length,
)
from chat.messages import Answer, AnswerState, Message


class FoldError(ValueError):
    """The events can't follow one another: one was lost, doubled or made up."""


@dataclass(frozen=True, slots=True)
class View:
    """A chat's messages in the order of their sequence, answers under way included.

    `passing`: the answer under way that will be in no history (sequence 0). `deleted`: the chat is gone.
    """

    messages: tuple[Message, ...] = ()
    passing: Message | None = None
    deleted: bool = False

    @classmethod
    def of_snapshot(cls, messages: Sequence[Message]) -> "View":
        """What a snapshot shows."""
        passing = next((message for message in messages if not message.sequence), None)
        return cls(tuple(message for message in messages if message.sequence), passing)

    def message(self, message_id: str) -> Message | None:
        """The message of that id."""
        if self.passing is not None and self.passing.id == message_id:
            return self.passing
        return next((message for message in reversed(self.messages) if message.id == message_id), None)


def fold(view: View, event: LogEvent) -> View:
    """The view after one more event. Raises: FoldError."""
    match event:
        case MessageCreated(message=message) if not message.sequence:
            return view
        case ResponseStarted(message=message) if not message.sequence:
            return replace(view, passing=message)
        case MessageCreated(message=message) | ResponseStarted(message=message):
            if view.messages and message.sequence != view.messages[-1].sequence + 1:
                raise FoldError(f"message {message.sequence} after {view.messages[-1].sequence}")
            return replace(view, messages=(*view.messages, message))
        case ResponseDelta():
            answer = _answer(view, event.message_id)
            if utf8_length(answer.content) != event.text_offset:
                raise FoldError(f"delta at {event.text_offset} of a text of {utf8_length(answer.content)}")
            return _put(view, replace(answer, content=answer.content + event.text))
        case ResponseRestarted():
            return _put(view, replace(_answer(view, event.message_id), content=""))
        case ResponseCompleted():
            return _end(view, event.message_id, event.text_length, event.answer)
        case ResponseFailed():
            # A turn may fail or be stopped before its answer began: then there is no message to end.
            if view.message(event.message_id) is None:
                return view
            return _end(view, event.message_id, event.text_length, event.answer)
        case ResponseCancelled():
            stopped = view.message(event.message_id)
            if stopped is None:
                return view
            answer_now = stopped.answer or Answer(AnswerState.RUNNING)
            return _end(view, event.message_id, event.text_length, replace(answer_now, state=AnswerState.CANCELLED))
        case MessageEdited():
            edited = view.message(event.message_id)
            if edited is None:
                return view
            return _put(view, replace(edited, content=event.content, edited_at_us=event.edited_at_us))
        case ParticipantAdded() | ParticipantRemoved() | ChatUpdated():
            return view
        case ChatDeleted():
            return View(deleted=True)
        case _:
            assert_never(event)


def _answer(view: View, message_id: str) -> Message:
    message = view.message(message_id)
    if message is None or not message.is_running:
        raise FoldError(f"no answer {message_id} is under way")
    return message


def _end(view: View, message_id: str, text_length: int, answer: Answer) -> View:
    message = _answer(view, message_id)
    if utf8_length(message.content) != text_length:
        raise FoldError(f"an answer of {utf8_length(message.content)} ended as one of {text_length}")
    known = message.answer or answer
    # What the end leaves open (a deadline knows no model) stays as the start said it.
    if message is view.passing:
        return replace(view, passing=None)
    whole = replace(answer, provider=answer.provider or known.provider, model=answer.model or known.model)
    return _put(view, replace(message, answer=whole))


def _put(view: View, message: Message) -> View:
    if view.passing is not None and view.passing.id == message.id:
        return replace(view, passing=message)
    messages = tuple(message if known.id == message.id else known for known in view.messages)
    return replace(view, messages=messages)
