"""The kernel's words as protobuf messages and back. Nothing else in a service knows both.

Reading trusts the writer: our own services and Redis. A kind of event that this version does not know is read as None.
"""

from typing import Any, assert_never

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from switchboard.chat.v1 import chat_pb2, event_pb2

from chat.errors import ErrorCode, Failure
from chat.events import (
    ChatDeleted,
    ChatUpdated,
    Event,
    MessageCreated,
    MessageEdited,
    ParticipantAdded,
    ParticipantRemoved,
    Presence,
    ResponseCancelled,
    ResponseCompleted,
    ResponseDelta,
    ResponseFailed,
    ResponseRestarted,
    ResponseStarted,
    Typing,
)
from chat.messages import (
    Answer,
    AnswerSettings,
    AnswerState,
    Attempt,
    Chat,
    FinishReason,
    JsonObject,
    Message,
    Participant,
    ParticipantRole,
    Role,
    Source,
    Usage,
)
from chat.position import Position


def timestamp(time_us: int) -> Timestamp:
    """Microseconds since 1970 as a Timestamp."""
    seconds, micros = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def time_us(stamp: Timestamp) -> int:
    """A Timestamp as microseconds since 1970."""
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


def duration(seconds: float) -> Duration:
    """Seconds as a Duration, to the microsecond."""
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return Duration(seconds=whole, nanos=micros * 1000)


def seconds(span: Duration) -> float:
    """A Duration as seconds."""
    return span.seconds + span.nanos / 1e9


def struct(value: JsonObject | None) -> Struct | None:
    """A JSON object as a Struct."""
    if value is None:
        return None
    made = Struct()
    made.update(dict(value))
    return made


def json_object(value: Struct) -> dict[str, Any]:
    """A Struct as a JSON object; whole numbers come back as int, since Struct knows doubles alone."""
    made: dict[str, Any] = json_format.MessageToDict(value)
    return {key: _whole(item) for key, item in made.items()}


_EXACT = 2.0**53
"""Up to here a double holds every whole number; beyond, an int would only look exact, and JSON's 64 bits end soon."""


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer() and abs(value) <= _EXACT:
            return int(value)
        case dict():
            return {key: _whole(item) for key, item in value.items()}
        case list():
            return [_whole(item) for item in value]
        case _:
            return value


def position_to_proto(position: Position) -> chat_pb2.Position:
    """`part` is the gateway's own and stays behind."""
    return chat_pb2.Position(epoch=position.epoch, offset=position.offset)


def position_from_proto(proto: chat_pb2.Position) -> Position:
    return Position(proto.epoch, proto.offset)


def failure_to_proto(failure: Failure) -> chat_pb2.Failure:
    return chat_pb2.Failure(
        code=failure.code.value,  # type: ignore[arg-type]
        message=failure.message,
        retryable=failure.retryable,
        retry_after=None if failure.retry_after_s is None else duration(failure.retry_after_s),
    )


def failure_from_proto(proto: chat_pb2.Failure) -> Failure:
    code = ErrorCode(proto.code) if int(proto.code) in ErrorCode.__members__.values() else ErrorCode.INTERNAL
    retry_after_s = seconds(proto.retry_after) if proto.HasField("retry_after") else None
    return Failure(code, proto.message, retry_after_s)


def usage_to_proto(usage: Usage) -> chat_pb2.Usage:
    return chat_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        estimated=usage.estimated,
        cost_nano_usd=usage.cost_nano_usd,
    )


def usage_from_proto(proto: chat_pb2.Usage) -> Usage:
    return Usage(proto.input_tokens, proto.output_tokens, proto.estimated, proto.cost_nano_usd)


def attempt_to_proto(attempt: Attempt) -> chat_pb2.Attempt:
    first_token_s = attempt.time_to_first_token_s
    return chat_pb2.Attempt(
        provider=attempt.provider,
        model=attempt.model,
        failure=None if attempt.failure is None else failure_to_proto(attempt.failure),
        time_to_first_token=None if first_token_s is None else duration(first_token_s),
        duration=duration(attempt.duration_s),
        usage=None if attempt.usage is None else usage_to_proto(attempt.usage),
        billed=attempt.billed,
        own_key=attempt.own_key,
    )


def attempt_from_proto(proto: chat_pb2.Attempt) -> Attempt:
    return Attempt(
        provider=proto.provider,
        model=proto.model,
        duration_s=seconds(proto.duration),
        failure=failure_from_proto(proto.failure) if proto.HasField("failure") else None,
        time_to_first_token_s=seconds(proto.time_to_first_token) if proto.HasField("time_to_first_token") else None,
        usage=usage_from_proto(proto.usage) if proto.HasField("usage") else None,
        billed=proto.billed,
        own_key=proto.own_key,
    )


def answer_to_proto(answer: Answer) -> chat_pb2.Answer:
    return chat_pb2.Answer(
        state=answer.state.value,  # type: ignore[arg-type]
        finish_reason=answer.finish_reason.value,  # type: ignore[arg-type]
        provider=answer.provider,
        model=answer.model,
        usage=None if answer.usage is None else usage_to_proto(answer.usage),
        failure=None if answer.failure is None else failure_to_proto(answer.failure),
        duration=duration(answer.duration_s),
        attempts=[attempt_to_proto(attempt) for attempt in answer.attempts],
        sources=[chat_pb2.Source(id=s.id, title=s.title, score=s.score) for s in answer.sources],
        without_knowledge=answer.without_knowledge,
    )


def answer_from_proto(proto: chat_pb2.Answer) -> Answer:
    return Answer(
        state=AnswerState(proto.state),
        finish_reason=FinishReason(proto.finish_reason)
        if int(proto.finish_reason) in FinishReason.__members__.values()
        else FinishReason.UNKNOWN,
        provider=proto.provider,
        model=proto.model,
        usage=usage_from_proto(proto.usage) if proto.HasField("usage") else None,
        failure=failure_from_proto(proto.failure) if proto.HasField("failure") else None,
        duration_s=seconds(proto.duration),
        attempts=tuple(attempt_from_proto(attempt) for attempt in proto.attempts),
        sources=tuple(Source(source.id, source.title, source.score) for source in proto.sources),
        without_knowledge=proto.without_knowledge,
    )


def message_to_proto(message: Message) -> chat_pb2.Message:
    return chat_pb2.Message(
        id=message.id,
        chat_id=message.chat_id,
        sequence=message.sequence,
        role=message.role.value,  # type: ignore[arg-type]
        sender_id=message.sender_id,
        content=message.content,
        created_at=timestamp(message.created_at_us),
        edited_at=None if message.edited_at_us is None else timestamp(message.edited_at_us),
        reply_to_id=message.reply_to_id,
        turn_id=message.turn_id,
        metadata=struct(message.metadata),
        answer=None if message.answer is None else answer_to_proto(message.answer),
    )


def message_from_proto(proto: chat_pb2.Message) -> Message:
    return Message(
        id=proto.id,
        chat_id=proto.chat_id,
        role=Role(proto.role),
        content=proto.content,
        created_at_us=time_us(proto.created_at),
        sequence=proto.sequence,
        sender_id=proto.sender_id,
        edited_at_us=time_us(proto.edited_at) if proto.HasField("edited_at") else None,
        reply_to_id=proto.reply_to_id,
        turn_id=proto.turn_id,
        metadata=json_object(proto.metadata) if proto.HasField("metadata") else None,
        answer=answer_from_proto(proto.answer) if proto.HasField("answer") else None,
    )


def participant_to_proto(participant: Participant) -> chat_pb2.Participant:
    return chat_pb2.Participant(
        user_id=participant.user_id,
        username=participant.username,
        role=participant.role.value,  # type: ignore[arg-type]
        joined_at=timestamp(participant.joined_at_us),
    )


def participant_from_proto(proto: chat_pb2.Participant) -> Participant:
    return Participant(proto.user_id, proto.username, ParticipantRole(proto.role), time_us(proto.joined_at))


def settings_to_proto(settings: AnswerSettings) -> chat_pb2.AnswerSettings:
    return chat_pb2.AnswerSettings(
        persona=settings.persona,
        model=settings.model,
        system_prompt=settings.system_prompt,
        temperature=settings.temperature,
        max_output_tokens=settings.max_output_tokens,
    )


def settings_from_proto(proto: chat_pb2.AnswerSettings) -> AnswerSettings:
    return AnswerSettings(
        persona=proto.persona,
        model=proto.model,
        system_prompt=proto.system_prompt,
        temperature=proto.temperature if proto.HasField("temperature") else None,
        max_output_tokens=proto.max_output_tokens,
    )


def chat_to_proto(chat: Chat) -> chat_pb2.Chat:
    return chat_pb2.Chat(
        id=chat.id,
        dialect=chat.dialect,
        owner_id=chat.owner_id,
        title=chat.title,
        description=chat.description,
        answers=settings_to_proto(chat.answers),
        attributes=struct(chat.attributes),
        created_at=timestamp(chat.created_at_us),
        last_activity_at=timestamp(chat.last_activity_at_us),
        message_count=chat.message_count,
        usage=usage_to_proto(chat.usage),
        revision=chat.revision,
        archived_at=None if chat.archived_at_us is None else timestamp(chat.archived_at_us),
    )


def chat_from_proto(proto: chat_pb2.Chat) -> Chat:
    return Chat(
        id=proto.id,
        dialect=proto.dialect,
        owner_id=proto.owner_id,
        title=proto.title,
        description=proto.description,
        answers=settings_from_proto(proto.answers),
        attributes=json_object(proto.attributes) if proto.HasField("attributes") else None,
        created_at_us=time_us(proto.created_at),
        last_activity_at_us=time_us(proto.last_activity_at),
        message_count=proto.message_count,
        usage=usage_from_proto(proto.usage),
        revision=proto.revision,
        archived_at_us=time_us(proto.archived_at) if proto.HasField("archived_at") else None,
    )


def event_to_proto(event: Event) -> event_pb2.Event:
    match event:
        case ResponseDelta():
            return event_pb2.Event(
                response_delta=event_pb2.ResponseDelta(
                    message_id=event.message_id, text_offset=event.text_offset, text=event.text
                )
            )
        case MessageCreated():
            return event_pb2.Event(
                message_created=event_pb2.MessageCreated(
                    message=message_to_proto(event.message), turn_id=event.turn_id, answer_id=event.answer_id
                )
            )
        case ResponseStarted():
            return event_pb2.Event(response_started=event_pb2.ResponseStarted(message=message_to_proto(event.message)))
        case ResponseCompleted():
            return event_pb2.Event(
                response_completed=event_pb2.ResponseCompleted(
                    message_id=event.message_id, text_length=event.text_length, answer=answer_to_proto(event.answer)
                )
            )
        case ResponseFailed():
            return event_pb2.Event(
                response_failed=event_pb2.ResponseFailed(
                    message_id=event.message_id, text_length=event.text_length, answer=answer_to_proto(event.answer)
                )
            )
        case ResponseCancelled():
            return event_pb2.Event(
                response_cancelled=event_pb2.ResponseCancelled(
                    message_id=event.message_id, text_length=event.text_length, cancelled_by=event.cancelled_by
                )
            )
        case ResponseRestarted():
            return event_pb2.Event(response_restarted=event_pb2.ResponseRestarted(message_id=event.message_id))
        case MessageEdited():
            return event_pb2.Event(
                message_edited=event_pb2.MessageEdited(
                    message_id=event.message_id, content=event.content, edited_at=timestamp(event.edited_at_us)
                )
            )
        case ParticipantAdded():
            return event_pb2.Event(
                participant_added=event_pb2.ParticipantAdded(participant=participant_to_proto(event.participant))
            )
        case ParticipantRemoved():
            return event_pb2.Event(participant_removed=event_pb2.ParticipantRemoved(user_id=event.user_id))
        case ChatUpdated():
            return event_pb2.Event(chat_updated=event_pb2.ChatUpdated(chat=chat_to_proto(event.chat)))
        case ChatDeleted():
            return event_pb2.Event(chat_deleted=event_pb2.ChatDeleted(reason=event.reason))
        case Typing():
            return event_pb2.Event(
                typing=event_pb2.Typing(user_id=event.user_id, username=event.username, time=timestamp(event.time_us))
            )
        case Presence():
            return event_pb2.Event(
                presence=event_pb2.Presence(
                    user_id=event.user_id, present=event.present, attributes=struct(event.attributes)
                )
            )
        case _:
            assert_never(event)


def event_from_proto(proto: event_pb2.Event) -> Event | None:
    """None: a kind that this version does not know; its position counts all the same."""
    match proto.WhichOneof("kind"):
        case "response_delta":
            delta = proto.response_delta
            return ResponseDelta(delta.message_id, delta.text_offset, delta.text)
        case "message_created":
            created = proto.message_created
            return MessageCreated(message_from_proto(created.message), created.turn_id, created.answer_id)
        case "response_started":
            return ResponseStarted(message_from_proto(proto.response_started.message))
        case "response_completed":
            done = proto.response_completed
            return ResponseCompleted(done.message_id, done.text_length, answer_from_proto(done.answer))
        case "response_failed":
            broken = proto.response_failed
            return ResponseFailed(broken.message_id, broken.text_length, answer_from_proto(broken.answer))
        case "response_cancelled":
            stopped = proto.response_cancelled
            return ResponseCancelled(stopped.message_id, stopped.text_length, stopped.cancelled_by)
        case "response_restarted":
            return ResponseRestarted(proto.response_restarted.message_id)
        case "message_edited":
            edited = proto.message_edited
            return MessageEdited(edited.message_id, edited.content, time_us(edited.edited_at))
        case "participant_added":
            return ParticipantAdded(participant_from_proto(proto.participant_added.participant))
        case "participant_removed":
            return ParticipantRemoved(proto.participant_removed.user_id)
        case "chat_updated":
            return ChatUpdated(chat_from_proto(proto.chat_updated.chat))
        case "chat_deleted":
            return ChatDeleted(proto.chat_deleted.reason)
        case "typing":
            return Typing(proto.typing.user_id, proto.typing.username, time_us(proto.typing.time))
        case "presence":
            presence = proto.presence
            attributes = json_object(presence.attributes) if presence.HasField("attributes") else None
            return Presence(presence.user_id, presence.present, attributes)
        case None:
            return None
