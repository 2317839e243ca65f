"""One turn's way into its chat's log: what its answer has come to, and the append that says the next of it.

It does no I/O: text and the end go in, `put_next` fills in what is to be published, `settle` takes what became of it.
At most one append is under way; what comes meanwhile goes with the next, its text as one delta. Offsets and lengths
count bytes of UTF-8. See docs/subsystems/turns.md.
"""

import asyncio
from enum import Enum, auto

from chat import codec
from chat.events import ResponseCompleted, ResponseFailed, ResponseRestarted, ResponseStarted, utf8_length
from chat.messages import Answer, AnswerState, Message
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2

MAX_WAITING_BYTES = 256 * 1024
"""Text that the log has not acknowledged; beyond it, the provider is not read. It makes some 60,000 tokens."""

MAX_DELTA_CHARS = 128 * 1024
"""In one append, which may hold 1 MiB: a character has four bytes at the most, and a long one is bounded above."""


class Settled(Enum):
    """What is to be done after a result."""

    NOTHING = auto()
    """The result is of no append of ours, or the turn is over."""
    GO_ON = auto()
    """The next append may go."""
    REPEAT = auto()
    """The append is to be sent again, unchanged, after a moment."""


class TurnLog:
    """One claimed turn. `text_before`: what an earlier worker's answer had come to, with which this one goes
    on; None: it had not begun.

    `done` resolves once nothing more is to be published: True, the end is in the log; False, the turn is not ours
    any more.
    """

    def __init__(self, lease: session_pb2.Lease, answer_id: str, *, text_before: str | None) -> None:
        self.lease = lease
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.under_way: session_pb2.Append | None = None
        self._answer_id = answer_id
        self._begun = text_before is not None
        """ResponseStarted was published by this lease or an earlier one, or is about to be."""
        self._sequence = 0
        self._started: event_pb2.Event | None = None
        self._opening: event_pb2.Event | None = None
        """The beginning, or the restart, that our text stands behind."""
        self._opening_sent = False
        self._opened = 0
        self._end: event_pb2.Event | None = None
        self._waiting: list[str] = []
        self._void = 0
        """The append under way at the last restart: what it holds is of no text of ours any more."""
        self._sent: list[str] = [text_before] if text_before else []
        self._length = utf8_length(text_before or "")
        self._sent_length = self._acknowledged = self._length
        self._room: asyncio.Future[None] | None = None

    @property
    def text(self) -> str:
        """The answer so far: what a reader has, or will have once all is published."""
        return "".join((*self._sent, *self._waiting))

    def start(self, message: Message) -> None:
        """The answer begins, or goes on where an earlier worker began it; `message` is empty and RUNNING. Comes once,
        before any text."""
        self._started = codec.event_to_proto(ResponseStarted(message))
        if not self._begun:
            self._begun = True
            self._opening = self._started

    def restart(self) -> None:
        """The text so far is void; that of the answer's new beginning follows. Comes behind `start`."""
        if self._opening is None or self._opening_sent:
            self._opening = codec.event_to_proto(ResponseRestarted(self._answer_id))
            self._opening_sent = False
        self._void = self._sequence
        self._waiting, self._sent = [], []
        self._length = self._sent_length = self._acknowledged = 0
        self._give_room()

    def write(self, text: str) -> asyncio.Future[None] | None:
        """Adds text to the answer's end. What it returns is to be awaited before more is written."""
        self._waiting.append(text)
        self._length += utf8_length(text)
        if self._length - self._acknowledged <= MAX_WAITING_BYTES or self.done.done():
            return None
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def end(self, answer: Answer) -> None:
        """The answer is over, COMPLETED or FAILED; nothing may follow."""
        kind = ResponseCompleted if answer.state is AnswerState.COMPLETED else ResponseFailed
        self._end = codec.event_to_proto(kind(self._answer_id, self._length, answer))

    def put_next(self, request: session_pb2.PublishRequest) -> bool:
        """Adds the next append to a request, if there is something to say and nothing under way."""
        if self.under_way is not None or self.done.done():
            return False
        opening = None if self._opening_sent else self._opening
        if not self._waiting and self._end is None and opening is None:
            return False
        self._sequence += 1
        append = request.appends.add(sequence=self._sequence)
        append.lease.CopyFrom(self.lease)
        if opening is not None:
            append.events.append(opening)
            self._opening_sent = True
            self._opened = self._sequence
        append.opened = self._opened
        if self._waiting:
            self._put_delta(append)
        if self._end is not None and not self._waiting:
            append.events.append(self._end)
        self.under_way = append
        return True

    def _put_delta(self, append: session_pb2.Append) -> None:
        text = "".join(self._waiting)
        self._waiting.clear()
        if len(text) > MAX_DELTA_CHARS:
            self._waiting.append(text[MAX_DELTA_CHARS:])
            text = text[:MAX_DELTA_CHARS]
        # Field by field: an event object for each delta, only to be translated, cost as much as all the rest of this.
        delta = append.events.add().response_delta
        delta.message_id = self._answer_id
        delta.text_offset = self._sent_length
        delta.text = text
        self._sent.append(text)
        self._sent_length += utf8_length(text)

    def settle(self, result: session_pb2.AppendResult) -> Settled:
        """Takes what became of the append under way."""
        append = self.under_way
        if append is None or self.done.done() or result.sequence != append.sequence:
            return Settled.NOTHING
        if result.error == chat_pb2.ERROR_CODE_UNAVAILABLE:
            return Settled.REPEAT
        if result.error:
            self.lose()
            return Settled.NOTHING
        self.under_way = None
        if result.unopened:
            # The text behind the opening is gone with it; where there is nothing to restart, the beginning is gone.
            if append.events[0] == self._opening:
                self._opening = self._started
            self._go_back(append, 0)
            self._opening_sent = False
            return Settled.GO_ON
        if result.HasField("text_length"):
            self._go_back(append, result.text_length)
            return Settled.GO_ON
        if self._end is not None and append.events[-1] == self._end:
            self._resolve(ended=True)
            return Settled.NOTHING
        self._acknowledged = self._sent_length
        self._give_room()
        return Settled.GO_ON

    def lose(self) -> None:
        """The turn is not ours any more; nothing more is published. Idempotent."""
        if not self.done.done():
            self._resolve(ended=False)

    def _go_back(self, append: session_pb2.Append, stored_length: int) -> None:
        """Nothing of the append was applied, since the log holds less of our text than we went on from."""
        if append.sequence <= self._void:
            return
        if append.events[0] == self._opening:
            self._opening_sent = False
        whole = "".join((*self._sent, *self._waiting)).encode()
        kept = whole[:stored_length].decode(errors="ignore")
        self._sent = [kept]
        self._sent_length = self._acknowledged = stored_length
        rest = whole[stored_length:].decode(errors="ignore")
        self._waiting = [rest] if rest else []

    def _resolve(self, *, ended: bool) -> None:
        self.under_way = None
        self.done.set_result(ended)
        self._give_room()

    def _give_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
