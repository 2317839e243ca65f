"""Waits for the whole answer to a message, for dialects that give it over HTTP. Knows no dialect.

It reads the chat's log as every client does, through the hub: from where the message stands, so that nothing is missed,
whichever worker answers and whatever becomes of the stream. Whoever waits may go away; the turn goes on.
"""

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import replace

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import (
    Event,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
)
from chat.messages import Answer, AnswerState, Message, Role

from gateway.channel import Channel
from gateway.dialect import Command, Handshake, Renderer, Visit
from gateway.frame import Frame
from gateway.hub import Hub
from gateway.ports import Begun

_LONGEST_S = 3_600.0
"""The longest deadline of a turn. Session ends every turn by its own; what waits behind others ends later than that."""
_LOST = "The answer was lost on our side. Please ask again."
_GONE = "The chat is gone."


class AnswerWait:
    """Adapter of `ports.Answers`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def wait(self, chat_id: str, begun: Begun) -> Message:
        """See `ports.Answers`."""
        listener = _Listener(chat_id, begun.message.id, begun.answer_id)
        self._hub.attach(chat_id, listener, listener, None, begun.position)
        try:
            async with asyncio.timeout(_LONGEST_S):
                return await listener.answered
        except TimeoutError as exc:
            raise SwitchboardError(ErrorCode.DEADLINE_EXCEEDED, "The answer takes too long.") from exc
        finally:
            self._hub.detach(chat_id, listener)


class _Listener:
    """One answer's reader, with a rendering of its own that has no frames."""

    path = ""
    channel = Channel(name="", title="", summary="", hears=(), tells=())
    resumes = True

    def __init__(self, chat_id: str, question_id: str, answer_id: str) -> None:
        self._question_id = question_id
        self._answer_id = answer_id
        self._message = Message(answer_id, chat_id, Role.ASSISTANT, "", 0)
        self._texts: list[str] = []
        self.answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        return self

    def merge(self, frames: Sequence[Frame]) -> Frame:
        raise AssertionError("it makes no frames")

    def render(self, event: Event) -> Sequence[Frame]:
        match event:
            case ResponseStarted() if event.message.id == self._answer_id:
                self._message = event.message
                self._texts.clear()
            case ResponseDelta() if event.message_id == self._answer_id:
                self._texts.append(event.text)
            case ResponseRestarted() if event.message_id == self._answer_id:
                self._texts.clear()
            case ResponseCompleted() | ResponseFailed() if event.message_id == self._answer_id:
                self._end(event.answer)
            case ResponseCancelled() if event.message_id == self._answer_id:
                known = self._message.answer or Answer(AnswerState.RUNNING)
                self._end(replace(known, state=AnswerState.CANCELLED))
            case _:
                pass
        return ()

    def resume(self, text_before: str) -> None:
        # Where the message stands its answer has not begun: the text is another's.
        return

    def snapshot(self, messages: Sequence[Message]) -> Sequence[Frame]:
        found = next((message for message in messages if message.id == self._answer_id), None)
        if found is None:
            # As long as its question is there, it has not begun. There are more messages than may wait for answers.
            if all(message.id != self._question_id for message in messages):
                self._fail(ErrorCode.INTERNAL, _LOST)
        elif found.is_running or found.answer is None:
            self._message, self._texts = found, [found.content]
        else:
            self._message, self._texts = found, [found.content]
            self._end(found.answer)
        return ()

    def resync(self, messages: Sequence[Message]) -> Sequence[Frame]:
        return ()

    def deliver(self, frames: Sequence[Frame]) -> None:
        return

    def ended(self) -> None:
        self._fail(ErrorCode.NOT_FOUND, _GONE)

    def failed(self, failure: Failure) -> None:
        self._fail(failure.code, failure.message)

    def removed(self, user_id: str) -> None:
        return

    async def admit(self, handshake: Handshake) -> Visit:
        raise AssertionError("nobody connects to it")

    async def read(self, text: str, visit: Visit) -> Command:
        raise AssertionError("nobody connects to it")

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        raise AssertionError("nobody connects to it")

    def _end(self, answer: Answer) -> None:
        if not self.answered.done():
            known = self._message.answer or answer
            whole = replace(answer, provider=answer.provider or known.provider, model=answer.model or known.model)
            self.answered.set_result(replace(self._message, content="".join(self._texts), answer=whole))

    def _fail(self, code: ErrorCode, message: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(SwitchboardError(code, message))
