"""How messages and turns lie in Redis, and how they come out of it.

The stored form is protobuf, the published one: a field that is added there needs no other edit here.
"""

from collections.abc import Iterable, Sequence

from chat.messages import AnswerState
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

PAGE_BYTES = 4 * 1024 * 1024
"""A page of messages or events is cut here: gRPC's messages end at 8 MiB."""
CONTEXT_BYTES = 1024 * 1024
"""Four times what the worker keeps by default (max_context_chars)."""
CONTEXT_MESSAGES = 200
"""What a worker is given of a conversation at the most; DESIGN's window by tokens is the worker's to cut."""


def messages(
    first: int, parts: Sequence[bytes | bool], answer_sequence: int, answer_text: bytes
) -> list[chat_pb2.Message]:
    """Messages from the pairs (message, content) of a run of sequences; the answer under way gets its text so far."""
    made: list[chat_pb2.Message] = []
    for index in range(0, len(parts), 2):
        stored, content = parts[index], parts[index + 1]
        if not isinstance(stored, bytes):
            continue
        message = chat_pb2.Message.FromString(stored)
        if isinstance(content, bytes):
            message.content = content.decode()
        if first + index // 2 == answer_sequence:
            message.content = answer_text.decode()
        made.append(message)
    return made


def claimed_turn(chat_id: str, lease_id: str, raw: Sequence[object]) -> session_pb2.ClaimedTurn:
    """What a worker gets, from what the claim script returned."""
    (turn, fence, text, started, left_ms, claims, sequence, answer_id, settings, meta, first, parts, body) = raw
    chat = chat_pb2.Chat.FromString(_bytes(meta))
    answers = chat_pb2.AnswerSettings()
    answers.CopyFrom(chat.answers)
    # Fields that are set win, field by field: that is what merging protobuf does.
    answers.MergeFromString(_bytes(settings))
    # Lua's empty table is an empty map or an empty array.
    assert isinstance(parts, list | dict)  # noqa: S101  for the type checker: the script's shape is fixed
    turn_sequence, first_sequence, time_left_ms = _number(sequence), _number(first), _number(left_ms)
    history = messages(first_sequence, list(parts), 0, b"")
    claimed = session_pb2.ClaimedTurn(
        lease=session_pb2.Lease(
            chat_id=chat_id, turn_id=_bytes(turn).decode(), lease_id=lease_id, fence=_number(fence)
        ),
        chat=chat,
        answers=answers,
        context=context(history, turn_sequence, chat_pb2.Message.FromString(_bytes(body)) if body else None),
        answer_id=_bytes(answer_id).decode(),
        started=bool(started),
        text=_bytes(text).decode(),
        claims=_number(claims),
        ephemeral=bool(body),
    )
    claimed.time_left.FromMilliseconds(max(0, time_left_ms))
    return claimed


def context(
    history: Iterable[chat_pb2.Message], turn_sequence: int, passing: chat_pb2.Message | None = None
) -> list[chat_pb2.Message]:
    """The conversation that a turn answers: each answer behind the message it answers, ending with the turn's own.

    That is the one at `turn_sequence`, or `passing`, which is in no history, behind it. Messages that came after it
    wait for turns of their own; an answer to it, by an earlier claim, is not context.
    """
    known = list(history)
    sequence_of = {message.id: message.sequence for message in known}
    places: list[tuple[tuple[int, int], chat_pb2.Message]] = []
    for message in known:
        if message.role == chat_pb2.ROLE_ASSISTANT:
            if message.answer.state == AnswerState.RUNNING.value:
                continue
            # An answer whose question is out of sight stands where it was appended.
            answered = sequence_of.get(message.reply_to_id, message.sequence)
            if answered < turn_sequence or (passing and answered == turn_sequence):
                # How it was come by is nothing to a model, and most of the message.
                message.answer.ClearField("attempts")
                places.append(((answered, message.sequence), message))
        elif message.sequence <= turn_sequence:
            places.append(((message.sequence, 0), message))
    places.sort(key=lambda place: place[0])
    ordered = [message for _, message in places]
    if passing:
        ordered.append(passing)
    return newest(ordered[-CONTEXT_MESSAGES:], CONTEXT_BYTES)


def newest(messages: Sequence[chat_pb2.Message], most_bytes: int) -> list[chat_pb2.Message]:
    """The last messages that fit together, the last one always."""
    kept = len(messages)
    size = 0
    for message in reversed(messages):
        size += message.ByteSize()
        if size > most_bytes and kept < len(messages):
            break
        kept -= 1
    return list(messages[kept:])


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)  # noqa: S101  for the type checker
    return value


def _number(value: object) -> int:
    assert isinstance(value, int | float)  # noqa: S101  for the type checker: Lua knows doubles
    return int(value)
