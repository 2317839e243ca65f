"""What the contract says of requests' fields: each check raises INVALID_ARGUMENT (or TOO_LARGE) and names the field."""

from collections.abc import Iterator

from chat.errors import ErrorCode, SwitchboardError
from chat.names import ID_FORM, NAME_BYTES, is_id
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2

_MAX_CONTENT_BYTES = 1024 * 1024
_MAX_STRUCT_BYTES = 16 * 1024
_MAX_STRUCT_DEPTH = 16
"""Protobuf reads nothing that is nested more than 100 deep. An object in an object takes three of these, and a message
stands in an event, and that in a response: what could be sent must also be readable by all who follow the chat."""
_MAX_KEY_BYTES = 255


def invalid(field: str, message: str) -> SwitchboardError:
    """The error for a field that breaks its range."""
    return SwitchboardError(ErrorCode.INVALID_ARGUMENT, f"{field} {message}", field=field)


def check_id(field: str, value: str) -> None:
    """An id: 1 to 128 characters."""
    if not is_id(value):
        raise invalid(field, f"must be {ID_FORM}")


def check_dialect(field: str, value: str) -> None:
    """A dialect's name: an id without a colon, which stands behind it in keys."""
    check_id(field, value)
    if ":" in value:
        raise invalid(field, "must not have a colon")


def check_name(field: str, value: str) -> None:
    """A user's or session's name: 1 to 200 bytes."""
    if not 1 <= len(value.encode()) <= NAME_BYTES:
        raise invalid(field, f"must be 1 to {NAME_BYTES} bytes")


def check_label(field: str, value: str) -> None:
    """Something to show beside a name, such as another name: at most 200 bytes."""
    if len(value.encode()) > NAME_BYTES:
        raise invalid(field, f"is at most {NAME_BYTES} bytes")


def check_content(field: str, value: str) -> None:
    """A message's text: 1 byte to 1 MiB."""
    if not value:
        raise invalid(field, "must not be empty")
    if len(value.encode()) > _MAX_CONTENT_BYTES:
        raise SwitchboardError(ErrorCode.TOO_LARGE, f"{field} is at most {_MAX_CONTENT_BYTES} bytes", field=field)


def check_limit(value: int, default: int) -> int:
    """How many to return: 1 to 1,000; 0 is the default."""
    if value > 1000:
        raise invalid("limit", "is at most 1000")
    return value or default


def check_span(field: str, span: Duration, given: bool, default_s: float, *, low: float, high: float) -> float:
    """A time in seconds, `low` to `high`; the default when it is not given."""
    if not given:
        return default_s
    seconds = span.seconds + span.nanos / 1e9
    if not low <= seconds <= high:
        raise invalid(field, f"must be {low:g} s to {high:g} s")
    return seconds


def check_attributes(field: str, attributes: Struct) -> None:
    """A product's own JSON object: at most 16 KiB, and 16 objects and lists deep, itself included."""
    if attributes.ByteSize() > _MAX_STRUCT_BYTES:
        raise invalid(field, f"is at most {_MAX_STRUCT_BYTES} bytes")
    if _is_deeper(attributes, _MAX_STRUCT_DEPTH):
        raise invalid(field, f"is at most {_MAX_STRUCT_DEPTH} deep")


def _is_deeper(value: Struct | ListValue, depth: int) -> bool:
    return depth == 0 or any(_is_deeper(nested, depth - 1) for nested in _nested_in(value))


def _nested_in(value: Struct | ListValue) -> Iterator[Struct | ListValue]:
    one: Value
    for one in value.fields.values() if isinstance(value, Struct) else value.values:
        if one.HasField("struct_value"):
            yield one.struct_value
        elif one.HasField("list_value"):
            yield one.list_value


def check_chat(chat: chat_pb2.Chat) -> None:
    """The lengths of a chat's fields."""
    if len(chat.title) > 200:
        raise invalid("chat.title", "is at most 200 characters")
    if len(chat.description) > 1000:
        raise invalid("chat.description", "is at most 1,000 characters")
    check_answers("chat.answers", chat.answers)
    check_attributes("chat.attributes", chat.attributes)


def check_turn(request: session_pb2.BeginTurnRequest) -> None:
    """A turn: the message that somebody sends, or the one to be answered again."""
    if request.answer_again:
        check_id("answer_again", request.answer_again)
        if request.HasField("message") or request.without_answer or request.ephemeral:
            raise invalid("answer_again", "can't be combined with message, without_answer or ephemeral")
    else:
        check_message(request.message)
    check_answers("answers", request.answers)
    if len(request.idempotency_key.encode()) > _MAX_KEY_BYTES:
        raise invalid("idempotency_key", f"is at most {_MAX_KEY_BYTES} bytes")
    if request.ephemeral and request.without_answer:
        raise invalid("ephemeral", "leaves nothing without an answer")


def check_message(message: chat_pb2.Message) -> None:
    """A message that somebody sends."""
    if message.role not in (chat_pb2.ROLE_USER, chat_pb2.ROLE_SYSTEM):
        raise invalid("message.role", "must be USER or SYSTEM")
    check_content("message.content", message.content)
    for field, value in (("message.id", message.id), ("message.reply_to_id", message.reply_to_id)):
        if value:
            check_id(field, value)
    check_label("message.sender_id", message.sender_id)
    check_attributes("message.metadata", message.metadata)


def check_answers(field: str, answers: chat_pb2.AnswerSettings) -> None:
    """How answers are to be made: names of at most 200 bytes, a prompt as long as a message."""
    check_label(f"{field}.persona", answers.persona)
    check_label(f"{field}.model", answers.model)
    # Said so that NaN fails, too.
    if answers.HasField("temperature") and not 0 <= answers.temperature <= 2:
        raise invalid(f"{field}.temperature", "must be 0 to 2")
    if answers.max_output_tokens > 128_000:
        raise invalid(f"{field}.max_output_tokens", "is at most 128000")
    if len(answers.system_prompt.encode()) > _MAX_CONTENT_BYTES:
        raise SwitchboardError(
            ErrorCode.TOO_LARGE, f"{field}.system_prompt is at most {_MAX_CONTENT_BYTES} bytes", field=field
        )


def check_passing(event: event_pb2.Event) -> None:
    """Typing or presence, which are small."""
    check_attributes("event.presence.attributes", event.presence.attributes)
    check_name("event.user_id", event.typing.user_id or event.presence.user_id)
    if event.ByteSize() > _MAX_STRUCT_BYTES:
        raise invalid("event", f"is at most {_MAX_STRUCT_BYTES} bytes")
