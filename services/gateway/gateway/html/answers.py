"""Answers that are streamed as HTML: a chat's events as frames, for every dialect whose answers are.

    {"type":"message_start"}                                     where the dialect has it
    {"type":"streaming","content":"<p>Yes, "}
    {"type":"message_stop","content":"<p>Yes, tofu is healthy.</p>"}
    {"type":"error","message":"..."}

What an answer's `streaming` frames add up to is its `message_stop`'s content, closing tags included, also before an
`error`. Only an answer that had to be restarted differs, and there `message_stop` comes before the `error` too, because
its content is the truth. Subsystem: docs/subsystems/html.md.
"""

from collections.abc import Callable, Mapping, Sequence

from chat.events import (
    Event,
    MessageCreated,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
)
from chat.messages import Answer, AnswerState, Message, Role

from gateway.answers import as_it_stands
from gateway.frame import Frame
from gateway.html.renderer import HtmlRenderer

_LOST = "The answer was lost on our side. Please ask again."
_FAILED = "The answer could not be made. Please try again."


def streaming(content: str) -> Frame:
    """A piece of an answer; those next to each other may be merged by `merge`."""
    return Frame({"type": "streaming", "content": content}, run="streaming")


def merge(frames: Sequence[Frame]) -> Frame:
    """One `streaming` frame for several."""
    return streaming("".join(str(frame.content["content"]) for frame in frames))


def error(message: str) -> Frame:
    """That something failed."""
    return Frame({"type": "error", "message": message})


def nothing_more(answer: Answer | None) -> Mapping[str, object]:
    """`message_stop` has its type and its content alone."""
    return {}


class _UnderWay:
    """An answer under way, as its readers see it."""

    __slots__ = ("html", "message_id", "restarted", "shown")

    def __init__(self, message_id: str, *, restarted: bool = False) -> None:
        self.message_id = message_id
        self.html = HtmlRenderer()
        self.shown: list[str] = []
        self.restarted = restarted

    def feed(self, text: str) -> str:
        made = self.html.feed(text)
        if made:
            self.shown.append(made)
        return made

    def finish(self) -> str:
        made = self.html.finish()
        if made:
            self.shown.append(made)
        return made


class HtmlAnswers:
    """A `dialect.Renderer`. What people say has no frame.

    `begins`: a `message_start` goes before each answer that was begun (one that failed or was stopped before it began
    has none). `more` gives the fields that `message_stop` has beside its content, by what is known of the answer; of a
    stopped one nothing may be.
    """

    __slots__ = ("_answer", "_begins", "_more", "_newest_id")

    def __init__(
        self, *, begins: bool = False, more: Callable[[Answer | None], Mapping[str, object]] = nothing_more
    ) -> None:
        self._begins = begins
        self._more = more
        self._answer: _UnderWay | None = None
        self._newest_id = ""
        """The last message that was seen to enter the chat, as far as one was."""

    def render(self, event: Event) -> Sequence[Frame]:
        """See `dialect.Renderer`."""
        match event:
            case ResponseDelta():
                if self._answer is None:
                    self._answer = _UnderWay(event.message_id)
                self._answer.message_id = event.message_id
                made = self._answer.feed(event.text)
                return (streaming(made),) if made else ()
            case MessageCreated():
                self._newest_id = event.message.id
            case ResponseStarted():
                return self._begin(event.message)
            case ResponseRestarted():
                self._answer = _UnderWay(event.message_id, restarted=True)
            case ResponseCompleted():
                return self._end(event.message_id, event.answer)
            case ResponseCancelled():
                return self._end(event.message_id, None)
            case ResponseFailed():
                return self._end(event.message_id, event.answer, _why(event.answer))
            case _:
                pass
        return ()

    def resume(self, text_before: str) -> None:
        """See `dialect.Renderer`."""
        if text_before:
            self._answer = _UnderWay("")
            self._answer.feed(text_before)

    def snapshot(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: the answers, each as if it came now."""
        frames: list[Frame] = []
        for message in messages:
            self._newest_id = message.id
            if message.role is Role.ASSISTANT:
                answer = _UnderWay(message.id)
                frames.extend(self._begin(message, answer))
                made = answer.feed(message.content)
                if made:
                    frames.append(streaming(made))
                frames.extend(self._end_of(message))
        return frames

    def resync(self, messages: Sequence[Message]) -> Sequence[Frame]:
        """See `dialect.Renderer`: what the answer under way still lacks, and the answers that began since."""
        before, self._answer = self._answer, None
        ids = [message.id for message in messages]
        if self._newest_id in ids:
            later = list(messages[ids.index(self._newest_id) + 1 :])
        else:
            # Which of the others are old is not known.
            later = [message for message in messages if message.is_running]
        if before is None:
            return self.snapshot(later)
        now = as_it_stands(before.message_id, messages)
        frames = [error(_LOST)] if now is None else self._catch_up(before, now)
        return [*frames, *self.snapshot([message for message in later if now is None or message.id != now.id])]

    def _catch_up(self, before: _UnderWay, now: Message) -> list[Frame]:
        """What the readers of an answer lack of it as it stands now."""
        self._answer = answer = _UnderWay(now.id)
        answer.feed(now.content)
        shown, whole = "".join(before.shown), "".join(answer.shown)
        # What can't be taken back is put right by message_stop.
        answer.restarted = not whole.startswith(shown)
        missed = whole[len(shown) :]
        frames = [streaming(missed)] if missed and not answer.restarted else []
        return [*frames, *self._end_of(now)]

    def _begin(self, message: Message, answer: _UnderWay | None = None) -> Sequence[Frame]:
        self._newest_id = message.id
        self._answer = answer or _UnderWay(message.id)
        return (Frame({"type": "message_start"}),) if self._begins else ()

    def _end_of(self, message: Message) -> Sequence[Frame]:
        answer = message.answer
        if answer is None or message.is_running:
            return ()
        return self._end(message.id, answer, _why(answer) if answer.state is AnswerState.FAILED else "")

    def _end(self, message_id: str, known: Answer | None, why: str = "") -> Sequence[Frame]:
        """The last frames of an answer; `why` it failed, if it did."""
        answer = self._answer
        if answer is not None and answer.message_id not in ("", message_id):
            # Another's turn ended while it waited: the answer under way goes on.
            answer = None
        else:
            self._answer = None
        frames: list[Frame] = []
        whole = ""
        if answer is not None:
            last = answer.finish()
            if last:
                frames.append(streaming(last))
            whole = "".join(answer.shown)
        if not why or (answer is not None and answer.restarted):
            frames.append(Frame({"type": "message_stop", "content": whole, **self._more(known)}))
        if why:
            frames.append(error(why))
        return frames


def _why(answer: Answer) -> str:
    return (answer.failure.message if answer.failure else "") or _FAILED
