"""Answers in Arketic's chats: how a chat's settings become an answer's, what is asked, and what is stopped."""

from dataclasses import dataclass

from chat.errors import ErrorCode, SwitchboardError
from chat.messages import AnswerSettings, Chat, Message, Role

from gateway.dialects.arketic.access import find_message
from gateway.dialects.arketic.wire import NAME
from gateway.ports import Sessions

CANNOT_SEND = "Cannot send messages to this chat"
EMPTY = "Message content cannot be empty"
_LATEST_MESSAGES = 100
"""Many times what can wait for an answer in a chat."""


def settings(
    ai_model: str | None, ai_persona: str | None, system_prompt: str | None, temperature: float | None, max_tokens: int
) -> AnswerSettings:
    """How answers are made. A model that nobody knows is left to the worker, which takes the persona's route.

    A system prompt beats a persona, which is one in few words.
    """
    return AnswerSettings(
        persona=NAME,
        model=ai_model or "",
        system_prompt=system_prompt or persona_prompt(ai_persona),
        temperature=temperature,
        max_output_tokens=max_tokens,
    )


def persona_prompt(ai_persona: str | None) -> str:
    """The system prompt of a chat that says only who the AI is to be; empty: it does not even say that."""
    return f"You are this: {ai_persona}." if ai_persona and ai_persona.strip() else ""


def blank(content: str) -> bool:
    """Whether there is nothing to read in it."""
    return not content.strip()


def empty() -> SwitchboardError:
    """The refusal of an empty message: 400, unlike that of other bad bodies."""
    return SwitchboardError(ErrorCode.INVALID_ARGUMENT, EMPTY, field="content")


@dataclass(frozen=True, slots=True)
class Stopped:
    """What came of a wish to stop an answer."""

    message_id: str
    was_running: bool


async def turn_of(sessions: Sessions, chat: Chat, message_id: str, user_id: str) -> str:
    """The turn that is to be stopped: of an answer, or of the message it answers; empty: it is over.

    Raises: NOT_FOUND, PERMISSION_DENIED.
    """
    # The one look that shows answers under way which will be in no history, too.
    page = await sessions.read_log(chat.id, None, snapshot_messages=_LATEST_MESSAGES, user_id=user_id)
    latest = page.messages or ()
    for message in latest:
        if message.is_running and message_id in (message.id, message.reply_to_id):
            return message.turn_id
    known = next((message for message in latest if message.id == message_id), None)
    message = known or await find_message(sessions, chat, message_id, user_id)
    return "" if message.role is Role.ASSISTANT else message.turn_id


async def stop(sessions: Sessions, chat: Chat, message_id: str, user_id: str) -> Stopped:
    """Stops an answer; what was said so far is kept. Raises: NOT_FOUND, PERMISSION_DENIED."""
    turn_id = await turn_of(sessions, chat, message_id, user_id)
    if not turn_id:
        return Stopped(message_id, was_running=False)
    ended = await sessions.cancel_turn(chat.id, turn_id=turn_id, cancelled_by=user_id)
    return Stopped(message_id, was_running=bool(ended))


async def answered_message(sessions: Sessions, chat: Chat, message_id: str, user_id: str) -> Message:
    """The person's message that another answer is wanted for, named by itself or by an answer to it.

    Raises: NOT_FOUND, PERMISSION_DENIED.
    """
    message = await find_message(sessions, chat, message_id, user_id)
    if message.role is Role.ASSISTANT:
        message = await find_message(sessions, chat, message.reply_to_id, user_id)
    return message
