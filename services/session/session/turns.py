"""Turns: begun, claimed, renewed, ended. Each step is one script, so that it happens whole or not at all."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.position import Position
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2

from session import keys, scripts, stored
from session.redis_link import RedisLink, pack
from session.roles import CALLING_SERVICE, Asker, admitted

log = logging.getLogger(__name__)

Found = TypeVar("Found")

LONGEST_S = 3600
"""What a turn may last at the most, from when it is due."""
LEASE_MS = 10_000
"""How long a claim lasts. A dead worker's turn stands still for that long; a live one renews every third of it."""
SHARD_PATIENCE_S = 1.0
"""For one shard's part of what is asked of all: less than what a lease has left at any renewal."""
_POLL_AT_MOST = 1000

_STATES = {
    b"queued": session_pb2.TURN_STATE_QUEUED,
    b"due": session_pb2.TURN_STATE_DUE,
    b"running": session_pb2.TURN_STATE_RUNNING,
    b"completed": session_pb2.TURN_STATE_COMPLETED,
    b"failed": session_pb2.TURN_STATE_FAILED,
    b"cancelled": session_pb2.TURN_STATE_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Begun:
    """What BeginTurn did. `claimed`: the turn, if it was claimed for a worker in the same step."""

    message: chat_pb2.Message
    turn_id: str
    answer_id: str
    position: Position
    state: "session_pb2.TurnState.ValueType"
    repeated: bool
    claimed: session_pb2.ClaimedTurn | None
    participants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The turns that a stop ended, and whether it made another one due."""

    turn_ids: tuple[str, ...]
    following: str


@dataclass(frozen=True, slots=True)
class TurnName:
    """Which turn of which chat."""

    chat_id: str
    turn_id: str


class Turns:
    """The turns of all chats. `new_id` makes ids that nobody can guess; `now_us` is for what people see, not for
    deadlines: those go by Redis' clock."""

    def __init__(
        self, link: RedisLink, *, new_id: Callable[[], str], now_us: Callable[[], int], max_waiting: int
    ) -> None:
        self._link = link
        self._new_id = new_id
        self._now_us = now_us
        self._max_waiting = max_waiting
        self._polls = 0

    async def begin(
        self, request: session_pb2.BeginTurnRequest, limit_s: float, lease_id: str, turn_id: str, asker: Asker
    ) -> Begun:
        """Appends the message, unless one is to be answered again, and makes its turn due; claims it under `lease_id`
        unless that is empty.

        `turn_id`: of the turn, new; empty without an answer.

        Raises: SwitchboardError(NOT_FOUND, PERMISSION_DENIED: archived, or by role, ALREADY_EXISTS, QUEUE_FULL,
        UNAVAILABLE).
        """
        answer_id = self._new_id() if turn_id else ""
        event = b""
        if request.answer_again:
            message = await self._question(request.chat_id, request.answer_again)
        else:
            message = self._message(request.chat_id, request.message)
            message.turn_id = turn_id
            created = event_pb2.MessageCreated(message=message, turn_id=turn_id, answer_id=answer_id)
            event = event_pb2.Event(message_created=created).SerializeToString()
        arguments = [
            event,
            b"" if request.answer_again else message.SerializeToString(),
            request.answer_again or message.id,
            _key(request, asker),
            turn_id,
            answer_id,
            request.answers.SerializeToString(),
            round(limit_s * 1000),
            self._max_waiting,
            lease_id,
            LEASE_MS,
            request.ephemeral,
            message.sequence if request.answer_again else False,
            asker.user_id or message.sender_id,
            stored.CONTEXT_MESSAGES,
            stored.CONTEXT_BYTES,
            *asker.arguments,
        ]
        raw = await self._link.run_packed(
            scripts.BEGIN_TURN,
            [keys.chat(request.chat_id)],
            self._link.publish_command,
            self._link.channel(request.chat_id),
            pack(arguments),
        )
        outcome, *rest = admitted(raw)
        match outcome:
            case b"ok":
                sequence, epoch, offset, state, claimed, people = rest
                message.sequence = int(sequence)
                return Begun(
                    message=message,
                    turn_id=turn_id,
                    answer_id=answer_id,
                    position=Position(epoch.decode(), int(offset)),
                    state=_STATES.get(state, session_pb2.TURN_STATE_UNSPECIFIED),
                    repeated=False,
                    claimed=stored.claimed_turn(request.chat_id, lease_id, claimed) if claimed else None,
                    participants=tuple(user.decode() for user in people),
                )
            case b"again":
                first, state = rest
                return await self._again(request, first, state)
            case b"archived":
                raise SwitchboardError(ErrorCode.PERMISSION_DENIED, "the chat is archived; nothing can be posted to it")
            case b"taken":
                raise SwitchboardError(ErrorCode.ALREADY_EXISTS, "this message id is taken", field="message.id")
            case b"unknown":
                raise SwitchboardError(
                    ErrorCode.NOT_FOUND, "no such message of a person in this chat", field="answer_again"
                )
            case _:
                raise SwitchboardError(
                    ErrorCode.QUEUE_FULL, "too many messages wait for an answer in this chat; wait for one to end"
                )

    def _message(self, chat_id: str, given: chat_pb2.Message) -> chat_pb2.Message:
        message = chat_pb2.Message(
            id=given.id or self._new_id(),
            chat_id=chat_id,
            role=given.role,
            sender_id=given.sender_id,
            content=given.content,
            reply_to_id=given.reply_to_id,
        )
        message.created_at.FromMicroseconds(self._now_us())
        if given.HasField("metadata"):
            message.metadata.CopyFrom(given.metadata)
        return message

    async def _question(self, chat_id: str, message_id: str) -> chat_pb2.Message:
        """A person's message, as stored; an empty one if there is none of that id: the script says so in its turn. What
        is looked at here never changes."""
        raw = await self._link.run_packed(scripts.READ_TEXT, [keys.chat(chat_id)], message_id)
        message = chat_pb2.Message.FromString(raw[0] if raw else b"")
        if message.role != chat_pb2.ROLE_USER:
            return chat_pb2.Message()
        message.content = raw[1].decode() or message.content
        return message

    async def _again(self, request: session_pb2.BeginTurnRequest, first: Sequence[Any], state: bytes | bool) -> Begun:
        message_id, sequence, turn_id, answer_id, epoch, offset = first[:6]
        if sequence:
            raw = await self._link.run_packed(
                scripts.READ_MESSAGES,
                [keys.chat(request.chat_id)],
                1,
                int(sequence) - 1,
                0,
                stored.PAGE_BYTES,
                *CALLING_SERVICE.arguments,
            )
            _, first_sequence, parts, answer_sequence, text = admitted(raw)
            message = stored.messages(int(first_sequence), parts, int(answer_sequence), text)[0]
        else:
            # Of an ephemeral message nothing is kept but its name.
            message = self._message(request.chat_id, request.message)
            message.id, message.turn_id = message_id.decode(), turn_id.decode()
        return Begun(
            message=message,
            turn_id=turn_id.decode(),
            answer_id=answer_id.decode(),
            position=Position(epoch.decode(), int(offset)),
            state=_STATES[state] if isinstance(state, bytes) else session_pb2.TURN_STATE_UNSPECIFIED,
            repeated=True,
            claimed=None,
            participants=(),
        )

    async def repeated(self, request: session_pb2.BeginTurnRequest, asker: Asker) -> Begun | None:
        """What an earlier call with this idempotency key did; None: there was none. Raises: SwitchboardError."""
        key = _key(request, asker)
        if not key:
            return None
        raw = await self._link.run_packed(scripts.REPEAT_TURN, [keys.chat(request.chat_id)], key, *asker.arguments)
        if raw is False:
            return None
        _, first, state = raw
        return await self._again(request, first, state)

    async def claim(self, name: TurnName, lease_id: str) -> session_pb2.ClaimedTurn | None:
        """Claims a turn (any of the chat, if its id is empty); None: nothing to claim. Raises: SwitchboardError."""
        raw = await self._link.run_packed(
            scripts.CLAIM_TURN,
            [keys.chat(name.chat_id)],
            name.turn_id,
            lease_id,
            LEASE_MS,
            stored.CONTEXT_MESSAGES,
            stored.CONTEXT_BYTES,
        )
        # Lua's empty table is an empty map or an empty array.
        return stored.claimed_turn(name.chat_id, lease_id, raw) if admitted(raw) else None

    async def renew(self, leases: Sequence[session_pb2.Lease]) -> list[session_pb2.Lease]:
        """Extends leases; returns those that are lost. Those in a shard that is out of reach are neither.

        Raises: SwitchboardError(UNAVAILABLE) when no shard can be reached.
        """
        groups = self._link.groups(leases, lambda lease: lease.chat_id)
        return [lease for lost in await _together(map(self._renew, groups)) for lease in lost]

    async def _renew(self, group: Sequence[session_pb2.Lease]) -> list[session_pb2.Lease]:
        raw = await self._link.run_packed(
            scripts.RENEW,
            [keys.chat(lease.chat_id) for lease in group],
            LEASE_MS,
            pack([[lease.turn_id, lease.lease_id, lease.fence] for lease in group]),
        )
        return [group[int(index) - 1] for index in raw]

    async def cancel(
        self, chat_id: str, turn_id: str, *, by: str, everything: bool, asker: Asker = CALLING_SERVICE
    ) -> Ended:
        """Stops a turn (the one that runs or is due, if its id is empty). Raises: SwitchboardError."""
        patch = chat_pb2.Message(answer=chat_pb2.Answer(state=chat_pb2.ANSWER_STATE_CANCELLED))
        rest = event_pb2.ResponseCancelled(cancelled_by=by)
        return await self._end(
            chat_id, turn_id, "cancelled", rest, patch, asker, only_late=False, everything=everything
        )

    async def fail_late(self, name: TurnName) -> Ended:
        """Fails a turn if its deadline has passed, by Redis' clock. Raises: SwitchboardError."""
        failure = Failure(ErrorCode.DEADLINE_EXCEEDED, "the answer took too long; try again")
        answer = chat_pb2.Answer(
            state=chat_pb2.ANSWER_STATE_FAILED,
            failure=chat_pb2.Failure(
                code=chat_pb2.ERROR_CODE_DEADLINE_EXCEEDED, message=failure.message, retryable=failure.retryable
            ),
        )
        return await self._end(
            name.chat_id,
            name.turn_id,
            "failed",
            event_pb2.ResponseFailed(answer=answer),
            chat_pb2.Message(answer=answer),
            CALLING_SERVICE,
            only_late=True,
            everything=False,
        )

    async def _end(
        self,
        chat_id: str,
        turn_id: str,
        state: str,
        rest: event_pb2.ResponseCancelled | event_pb2.ResponseFailed,
        patch: chat_pb2.Message,
        asker: Asker,
        *,
        only_late: bool,
        everything: bool,
    ) -> Ended:
        arguments = [
            turn_id,
            state,
            rest.SerializeToString(),
            patch.SerializeToString(),
            only_late,
            everything,
            *asker.arguments,
        ]
        raw = await self._link.run_packed(
            scripts.END_TURN,
            [keys.chat(chat_id)],
            self._link.publish_command,
            self._link.channel(chat_id),
            pack(arguments),
        )
        ended, following = admitted(raw)
        return Ended(tuple(turn.decode() for turn in ended), following.decode() if following else "")

    async def get(self, name: TurnName) -> session_pb2.GetTurnResponse:
        """Where a turn stands. Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
        root = keys.chat(name.chat_id)
        there, (state, message, answer, deadline) = await asyncio.gather(
            self._link.execute("EXISTS", root),
            self._link.execute("HMGET", f"{root}:turn:{name.turn_id}", "state", "message", "answer", "deadline_ms"),
        )
        # Those that had ended outlive a chat that was deleted.
        if not there or state is None:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "no such turn in this chat, or it ended more than a day ago")
        response = session_pb2.GetTurnResponse(
            state=_STATES[state], message_id=message.decode(), answer_id=answer.decode()
        )
        if deadline is not None:
            response.deadline.FromMilliseconds(int(deadline))
        return response

    async def poll(self) -> tuple[list[TurnName], list[TurnName]]:
        """The turns that may be claimed, and those whose deadline has passed; without those in a shard out of reach.

        Raises: SwitchboardError(UNAVAILABLE) when no shard can be reached.
        """
        due: list[TurnName] = []
        late: list[TurnName] = []
        self._polls += 1
        for found_due, found_late in await _together(map(self._poll, self._link.partition_groups())):
            due.extend(map(_turn_name, found_due))
            late.extend(map(_turn_name, found_late))
        return due, late

    async def _poll(self, group: range) -> tuple[list[bytes], list[bytes]]:
        # From another partition each time: a thousand due turns of one must not hide the others for ever.
        start = self._polls * 37 % len(group)
        names = [
            name for index in (*group[start:], *group[:start]) for name in (keys.due(index), keys.deadlines(index))
        ]
        due, late = await self._link.run_packed(scripts.POLL, names, _POLL_AT_MOST)
        return due, late


async def _together(calls: Iterable[Coroutine[Any, Any, Found]]) -> list[Found]:
    """What calls to different shards found, made at once: a shard that fails, or is slow, does not spoil the others'.

    Raises: SwitchboardError(UNAVAILABLE) when all of them fail.
    """
    made = list(calls)
    if len(made) == 1:
        return [await made[0]]

    async def in_time(call: Coroutine[Any, Any, Found]) -> Found | SwitchboardError:
        try:
            async with asyncio.timeout(SHARD_PATIENCE_S):
                return await call
        except SwitchboardError as error:
            return error
        except TimeoutError:
            return SwitchboardError(ErrorCode.UNAVAILABLE, "a shard of the chat store is slow")

    outcomes = await asyncio.gather(*map(in_time, made))
    found = [outcome for outcome in outcomes if not isinstance(outcome, SwitchboardError)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, SwitchboardError)]
    if failed and not found:
        raise failed[0]
    if failed:
        log.warning("shards_failed", extra={"failed": len(failed), "of": len(outcomes)})
    return found


def _key(request: session_pb2.BeginTurnRequest, asker: Asker) -> str:
    """An idempotency key as it is stored: each sender's own. Empty: none."""
    sender = request.message.sender_id or asker.user_id
    return f"{len(sender)}|{sender}|{request.idempotency_key}" if request.idempotency_key else ""


def _turn_name(member: bytes) -> TurnName:
    chat_id, _, turn_id = member.decode().rpartition("|")
    return TurnName(chat_id, turn_id)
