"""Events as a chat would have them, for tests."""

from chat.errors import ErrorCode, Failure
from chat.events import (
    LogEvent,
    MessageCreated,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
    utf8_length,
)
from chat.messages import Answer, AnswerState, FinishReason, Message, Role


class Story:
    """Writes one chat's events, with the ids, sequences and offsets that they must have."""

    def __init__(self) -> None:
        self.sequence = 0
        self.text = ""
        self.answer_id = ""

    def _message(self, role: Role, content: str, answer: Answer | None = None) -> Message:
        self.sequence += 1
        return Message(f"m{self.sequence}", "chat-1", role, content, 0, self.sequence, answer=answer)

    def ask(self, content: str = "Is tofu healthy?") -> LogEvent:
        return MessageCreated(self._message(Role.USER, content), "turn", "answer")

    def start(self) -> LogEvent:
        message = self._message(Role.ASSISTANT, "", Answer(AnswerState.RUNNING))
        self.text, self.answer_id = "", message.id
        return ResponseStarted(message)

    def say(self, text: str) -> LogEvent:
        offset = utf8_length(self.text)
        self.text += text
        return ResponseDelta(self.answer_id, offset, text)

    def restart(self) -> LogEvent:
        self.text = ""
        return ResponseRestarted(self.answer_id)

    def complete(self) -> LogEvent:
        answer = Answer(AnswerState.COMPLETED, FinishReason.STOP)
        return ResponseCompleted(self.answer_id, utf8_length(self.text), answer)

    def cancel(self) -> LogEvent:
        return ResponseCancelled(self.answer_id, utf8_length(self.text))

    def fail(self, message: str = "No provider could answer.") -> LogEvent:
        answer = Answer(AnswerState.FAILED, failure=Failure(ErrorCode.PROVIDER_UNAVAILABLE, message))
        return ResponseFailed(self.answer_id, utf8_length(self.text), answer)
