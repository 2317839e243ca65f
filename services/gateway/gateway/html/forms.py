"""The frames of answers that are streamed as HTML, as the AsyncAPI document describes them. `answers.py` makes them."""

from typing import Literal

from pydantic import BaseModel, RootModel

from gateway.channel import heard, told


class Question(RootModel[str]):
    """What a person says, as plain text; not blank."""

    model_config = heard("Is tofu healthy?")
    root: str


class MessageStart(BaseModel):
    """An answer begins."""

    model_config = told({"type": "message_start"})
    type: Literal["message_start"]


class Streaming(BaseModel):
    """A piece of an answer's HTML. All pieces of an answer add up to the content of its `message_stop`."""

    model_config = told({"type": "streaming", "content": "<p>Yes, "})
    type: Literal["streaming"]
    content: str


class MessageStop(BaseModel):
    """An answer has ended: the whole of it. Where it differs from what was streamed, this is the truth."""

    model_config = told({"type": "message_stop", "content": "<p>Yes, tofu is healthy.</p>"})
    type: Literal["message_stop"]
    content: str


class Error(BaseModel):
    """Something failed: an answer, a message that can't be taken, or, before the connection is closed, the visit."""

    model_config = told({"type": "error", "message": "The answer could not be made. Please try again."})
    type: Literal["error"]
    message: str
