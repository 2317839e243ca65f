"""A dialect as small as they come, for tests of the core: text in, `{"type": ..., "text": ...}` out."""

from collections.abc import Hashable, Sequence

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.events import (
    Event,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
    Typing,
)
from chat.messages import AnswerState, Message, Role
from gateway.dialect import Command, Handshake, Renderer, Reply, Say, Stop, Visit
from gateway.frame import Frame


class PlainRenderer:
    """Two frames at an answer's end, so that positions have parts."""

    def __init__(self) -> None:
        self.text = ""

    def render(self, event: Event) -> Sequence[Frame]:
        match event:
            case ResponseDelta():
                self.text += event.text
                return [delta(event.text)]
            case ResponseStarted() | ResponseRestarted():
                self.text = ""
            case ResponseCompleted() | ResponseCancelled() | ResponseFailed():
                return self._end()
            case Typing():
                return [Frame({"type": "typing", "user": event.user_id})]
            case _:
                pass
        return []

    def resume(self, text_before: str) -> None:
        self.text = text_before

    def snapshot(self, messages: Sequence[Message]) -> Sequence[Frame]:
        frames: list[Frame] = []
        for message in messages:
            if message.role is Role.ASSISTANT:
                self.text = message.content
                frames += [delta(message.content)] if message.content else []
                if message.answer is not None and message.answer.state is not AnswerState.RUNNING:
                    frames += self._end()
        return frames

    def resync(self, messages: Sequence[Message]) -> Sequence[Frame]:
        return [Frame({"type": "resync", "text": self.text})]

    def _end(self) -> list[Frame]:
        text, self.text = self.text, ""
        return [delta("."), Frame({"type": "stop", "text": text + "."})]


class PlainSocket:
    """Lets anyone in to the chat that the path names."""

    path = "/plain/{chat_id}"

    async def admit(self, handshake: Handshake) -> Visit:
        return Visit(user_id="somebody", chat_id=handshake.path["chat_id"])

    async def read(self, text: str, visit: Visit) -> Command:
        match text.split(" ", 1):
            case ["ping"]:
                return Reply((Frame({"type": "pong"}),))
            case ["stop"]:
                return Stop(visit.chat_id)
            case ["bad"]:
                raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, "bad")
            case _:
                return Say(visit.chat_id, text)

    def renderer(self, variant: Hashable, chat_id: str) -> Renderer:
        return PlainRenderer()

    def merge(self, frames: Sequence[Frame]) -> Frame:
        return delta("".join(str(frame.content["text"]) for frame in frames))

    def failure(self, failure: Failure, visit: Visit | None) -> Frame:
        return Frame({"type": "error", "text": failure.message})


def delta(text: str) -> Frame:
    return Frame({"type": "delta", "text": text}, run="delta")
