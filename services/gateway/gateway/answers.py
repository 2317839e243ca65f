"""What renderers ask of a chat's messages, whichever dialect they render."""

from collections.abc import Sequence

from chat.messages import Message, Role


def as_it_stands(message_id: str, messages: Sequence[Message]) -> Message | None:
    """The answer that a reader saw under way, in a snapshot taken since; None: it is not there.

    An empty id is of one that was resumed in its middle, before anything had named it: that is the last answer.
    """
    answers = [message for message in messages if message.role is Role.ASSISTANT]
    if not message_id:
        return answers[-1] if answers else None
    return next((answer for answer in answers if answer.id == message_id), None)
