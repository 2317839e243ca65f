"""Appends workers' events to logs, in batches that form by themselves: what gathers while one script call is under way
goes with the next. Idle, an append leaves at once; busy, its cost falls.

Promises: an append is applied whole or not at all, and once, however often it is sent (lease and sequence); its result
says so, or says that nothing is known.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chat.errors import ErrorCode, SwitchboardError
from chat.position import Position
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2

from session import keys, scripts
from session.redis_link import RedisLink, pack

_BATCH_AT_MOST = 512
"""Appends in one script call: at 5 us each it holds the server for 2.5 ms, which every other command then waits."""
_MAX_EVENTS = 1000
_MAX_BYTES = 1024 * 1024 + 64 * 1024
"""An append of 1 MiB, and what protobuf adds."""
_MAX_COUNT = 10**12
"""What one answer counts for at the most, in tokens and in billionths of a dollar: a sum that overflows would break the
script off in the middle."""

Appended = Callable[[str, Position, Sequence[event_pb2.Event]], None]
Answer = Callable[[], session_pb2.AppendResult]
"""Gives the message that is to say what became of an append; it is filled in at once."""
TurnDue = Callable[[str, str], None]


@dataclass(slots=True)
class _Waiting:
    request: session_pb2.Append
    root: str
    item: list[Any]
    answer: Answer


class _Queue:
    """What waits for one group of chats, of which the next script call takes all that it can."""

    __slots__ = ("waiting", "wake")

    def __init__(self) -> None:
        self.waiting: list[_Waiting] = []
        self.wake = asyncio.Event()


class Appender:
    """A queue towards each group of chats that a script call can reach together: one on one server, one a partition on
    a cluster, so that a slow shard does not hold up the others.

    `appended(chat_id, first, events)` is called with what has just got into a log: this replica's readers need not wait
    for the announcement. `turn_due(chat_id, turn_id)` is called when the end of a turn made another one due.
    """

    def __init__(self, link: RedisLink, *, appended: Appended, turn_due: TurnDue) -> None:
        self._link = link
        self._appended = appended
        self._turn_due = turn_due
        self._queues = [_Queue() for _ in range(link.group_count)]

    def submit(self, request: session_pb2.Append, answer: Answer) -> None:
        """Queues an append; `answer` is called once, when it is known what became of it. The worker bounds the queue:
        it has at most one append a turn under way."""
        events = _events(request)
        if events is None:
            _result(request, answer).error = chat_pb2.ERROR_CODE_INVALID_ARGUMENT
            return
        lease = request.lease
        item = [lease.turn_id, lease.lease_id, lease.fence, request.sequence, request.opened, events]
        queue = self._queues[self._link.group(lease.chat_id)]
        queue.waiting.append(_Waiting(request, keys.chat(lease.chat_id), item, answer))
        queue.wake.set()

    async def run(self) -> None:
        """Appends what is submitted, for as long as it is not cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for queue in self._queues:
                tasks.create_task(self._empty(queue))

    async def _empty(self, queue: _Queue) -> None:
        while True:
            await queue.wake.wait()
            batch, queue.waiting = queue.waiting[:_BATCH_AT_MOST], queue.waiting[_BATCH_AT_MOST:]
            if not queue.waiting:
                queue.wake.clear()
            await self._append(batch)

    async def _append(self, group: Sequence[_Waiting]) -> None:
        try:
            results = await self._link.run_packed(
                scripts.APPEND,
                [waiting.root for waiting in group],
                self._link.publish_command,
                self._link.channel(group[0].request.lease.chat_id),
                pack([waiting.item for waiting in group]),
            )
        except SwitchboardError as error:
            for waiting in group:
                _result(waiting.request, waiting.answer).error = _code(error.code)
            return
        for waiting, (outcome, *rest) in zip(group, results, strict=True):
            request = waiting.request
            match outcome:
                case b"ok":
                    epoch, offset, following, sequence, applied = rest
                    name, last = epoch.decode(), int(offset)
                    if applied:
                        if sequence:
                            request.events[0].response_started.message.sequence = int(sequence)
                        first = Position(name, last + 1 - len(request.events))
                        self._appended(request.lease.chat_id, first, request.events)
                    position = _result(request, waiting.answer).position
                    position.epoch, position.offset = name, last
                    if following:
                        self._turn_due(request.lease.chat_id, following.decode())
                case b"text":
                    _result(request, waiting.answer).text_length = int(rest[0])
                case b"unopened":
                    _result(request, waiting.answer).unopened = True
                case b"refused":
                    _result(request, waiting.answer).error = chat_pb2.ERROR_CODE_INVALID_ARGUMENT
                case _:
                    _result(request, waiting.answer).error = chat_pb2.ERROR_CODE_LEASE_LOST


def _code(code: ErrorCode) -> "chat_pb2.ErrorCode.ValueType":
    return chat_pb2.ErrorCode.Value(f"ERROR_CODE_{code.name}")


def _result(request: session_pb2.Append, answer: Answer) -> session_pb2.AppendResult:
    result, lease = answer(), request.lease
    result.turn_id, result.lease_id, result.sequence = lease.turn_id, lease.lease_id, request.sequence
    return result


def _events(request: session_pb2.Append) -> list[list[Any]] | None:
    """The events as append.lua takes them; None when one is not allowed."""
    if not 1 <= len(request.events) <= _MAX_EVENTS or request.sequence < 1 or request.ByteSize() > _MAX_BYTES:
        return None
    last = len(request.events) - 1
    opens = False
    items: list[list[Any]] = []
    for index, event in enumerate(request.events):
        blob = event.SerializeToString()
        match event.WhichOneof("kind"):
            case "response_delta":
                delta = event.response_delta
                text = delta.text.encode()
                if not text:
                    return None
                items.append(["d", blob, text, delta.text_offset])
            case "response_started" if index == 0 and _is_the_turns(event.response_started.message, request.lease):
                items.append(["s", blob, *_header(event.response_started.message)])
                opens = True
            case "response_restarted":
                items.append(["r", blob])
                opens = True
            case "response_completed" if index == last:
                completed = event.response_completed
                items.append(["completed", blob, *_end(completed.answer, completed.text_length)])
            case "response_failed" if index == last:
                failed = event.response_failed
                items.append(["failed", blob, *_end(failed.answer, failed.text_length)])
            case _:
                return None
    return items if opens == (request.opened == request.sequence) and request.opened <= request.sequence else None


def _is_the_turns(message: chat_pb2.Message, lease: session_pb2.Lease) -> bool:
    """Whether it can be the answer of a lease's turn; that it has the answer's id is the script's to check."""
    return (
        bool(message.id)
        and message.role == chat_pb2.ROLE_ASSISTANT
        and (message.chat_id, message.turn_id) == (lease.chat_id, lease.turn_id)
    )


def _header(message: chat_pb2.Message) -> tuple[bytes, str]:
    header = chat_pb2.Message()
    header.CopyFrom(message)
    # The script numbers it, and keeps its text apart.
    header.ClearField("sequence")
    header.ClearField("content")
    return header.SerializeToString(), message.id


def _end(answer: chat_pb2.Answer, text_length: int) -> tuple[bytes, int, int, int, bool, int]:
    """The patch of the answer's message, its length, and what it adds to the chat's usage."""
    patch, usage = chat_pb2.Message(answer=answer), answer.usage
    return (
        patch.SerializeToString(),
        text_length,
        min(usage.input_tokens, _MAX_COUNT),
        min(usage.output_tokens, _MAX_COUNT),
        usage.estimated,
        min(usage.cost_nano_usd, _MAX_COUNT),
    )
