"""How chats, messages and turns lie in Redis, and how they come out of it.

The stored form is protobuf, the published one: a field that is added there needs no other edit here.
"""

from collections.abc import Sequence

from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

PAGE_BYTES = 4 * 1024 * 1024
"""A page of messages or events is cut here, as they are stored: gRPC's messages end at 8 MiB."""
CONTEXT_BYTES = 1024 * 1024
"""Four times what the worker keeps by default (max_context_chars)."""
CONTEXT_MESSAGES = 200
"""What a worker is given of a conversation at the most; DESIGN's window by tokens is the worker's to cut."""
CHAT_FIELDS = ("meta", "active", "count", "input_tokens", "output_tokens", "estimated", "cost_nano_usd", "revision")
"""What a chat is made of; CHAT in lib.lua."""


def chat(fields: Sequence[object]) -> chat_pb2.Chat | None:
    """A chat from its `CHAT_FIELDS`; None: there is none."""
    meta, active, count, input_tokens, output_tokens, estimated, cost_nano_usd, revision = fields
    if not meta or not active or not count:
        return None
    made = chat_pb2.Chat.FromString(_bytes(meta))
    made.last_activity_at.FromMicroseconds(int(_bytes(active)))
    made.message_count = int(_bytes(count))
    made.revision = int(_bytes(revision)) if revision else 1
    if input_tokens and output_tokens:
        made.usage.input_tokens = int(_bytes(input_tokens))
        made.usage.output_tokens = int(_bytes(output_tokens))
        made.usage.estimated = bool(estimated)
        # Chats that were last answered before costs were counted have none.
        made.usage.cost_nano_usd = int(_bytes(cost_nano_usd)) if cost_nano_usd else 0
    return made


def chat_fixed(chat: chat_pb2.Chat) -> bytes:
    """The first of a chat's fields: all but what the others hold."""
    fixed = chat_pb2.Chat()
    fixed.CopyFrom(chat)
    for name in ("last_activity_at", "message_count", "usage", "revision"):
        fixed.ClearField(name)
    return fixed.SerializeToString()


def person(participant: chat_pb2.Participant) -> bytes:
    """A participant with the role in front, where scripts see it."""
    return b"%d" % participant.role + participant.SerializeToString()


def participant(person: bytes) -> chat_pb2.Participant:
    """A participant as stored."""
    return chat_pb2.Participant.FromString(person[1:])


def role_in(person: bytes | None) -> int | None:
    """The role of somebody as stored; None: a stranger."""
    return int(person[:1]) if person else None


def messages(
    first: int, parts: Sequence[bytes | bool], answer_sequence: int, answer_text: bytes
) -> list[chat_pb2.Message]:
    """Messages from the pairs (message, content) of a run of sequences; the answer under way gets its text so far."""
    made: list[chat_pb2.Message] = []
    for index in range(0, len(parts), 2):
        if not parts[index]:
            continue
        message = _message(parts[index], parts[index + 1])
        if first + index // 2 == answer_sequence:
            message.content = answer_text.decode()
        made.append(message)
    return made


def claimed_turn(chat_id: str, lease_id: str, raw: Sequence[object]) -> session_pb2.ClaimedTurn:
    """What a worker gets, from what the claim script returned."""
    (turn, fence, text, started, left_ms, claims, answer_id, settings, chat_fields, before, body, asked_by) = raw
    turn_chat = chat(_list(chat_fields))
    assert turn_chat is not None  # noqa: S101  for the type checker: the script found it
    answers = chat_pb2.AnswerSettings()
    answers.CopyFrom(turn_chat.answers)
    # Fields that are set win, field by field: that is what merging protobuf does.
    answers.MergeFromString(_bytes(settings))
    own = chat_pb2.Message.FromString(_bytes(body)) if body else None
    claimed = session_pb2.ClaimedTurn(
        lease=session_pb2.Lease(
            chat_id=chat_id, turn_id=_bytes(turn).decode(), lease_id=lease_id, fence=_number(fence)
        ),
        chat=turn_chat,
        answers=answers,
        context=context(_list(before), own),
        answer_id=_bytes(answer_id).decode(),
        started=bool(started),
        text=_bytes(text).decode(),
        claims=_number(claims),
        ephemeral=bool(body),
        asked_by=_bytes(asked_by).decode(),
    )
    claimed.time_left.FromMilliseconds(max(0, _number(left_ms)))
    return claimed


def context(before: Sequence[object], passing: chat_pb2.Message | None) -> list[chat_pb2.Message]:
    """The conversation that a turn answers, ending with its own message, each other one followed by its current answer.

    `before`: (answer, its content, message, its content), newest first; the first is the turn's own, unless that is
    `passing`, which is in no history.
    """
    newest_first = [passing] if passing else []
    for index in range(0, len(before), 4):
        answer, answer_content, stored, content = before[index : index + 4]
        message = _message(stored, content) if stored else None
        if message is None or message.role == chat_pb2.ROLE_ASSISTANT:
            # Of a chat that is older than the list of what was asked: an answer, which stands behind its message.
            continue
        if answer:
            said = _message(answer, answer_content)
            # How it was come by is nothing to a model, and most of the message.
            said.answer.ClearField("attempts")
            newest_first.append(said)
        newest_first.append(message)
    return newest_first[::-1]


def _message(stored: object, content: object) -> chat_pb2.Message:
    message = chat_pb2.Message.FromString(_bytes(stored))
    if isinstance(content, bytes):
        message.content = content.decode()
    return message


def _list(value: object) -> Sequence[object]:
    # Lua's empty table is an empty map or an empty array.
    assert isinstance(value, list | dict)  # noqa: S101  for the type checker: the script's shape is fixed
    return list(value)


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)  # noqa: S101  for the type checker
    return value


def _number(value: object) -> int:
    assert isinstance(value, int | float)  # noqa: S101  for the type checker: Lua knows doubles
    return int(value)
