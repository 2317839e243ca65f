"""Forms of answers, for the OpenAPI document; `writer.py` writes them."""

from typing import Literal

from pydantic import BaseModel

from gateway.openapi import example


class RequestedFunction(BaseModel):
    """What the model asks for. `arguments` is JSON as text, as the model wrote it."""

    name: str
    arguments: str


class RequestedTool(BaseModel):
    """The model asks for a tool; its result is sent in a message of the role `tool`."""

    id: str
    type: Literal["function"]
    function: RequestedFunction


class AnswerMessage(BaseModel):
    """What the model said: text, null where it only asks for tools. Its reasoning is there where the model shows it."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[RequestedTool] = []


class Choice(BaseModel):
    """An answer; there is one."""

    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class TokenUsage(BaseModel):
    """What was read and written, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """A whole answer; with `stream`, events of `data: {...}` with its chunks instead, `data: [DONE]` the last."""

    model_config = example(
        {
            "id": "chatcmpl-8f14e45fceea467f9c1b3d5c8f0a7b21",
            "object": "chat.completion",
            "created": 1770000000,
            "model": "claude-x",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello!", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
        }
    )

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage


STREAM = (
    'data: {"id":"chatcmpl-8f14","object":"chat.completion.chunk","created":1770000000,"model":"claude-x","choices":'
    '[{"index":0,"delta":{"content":"Hello!"},"logprobs":null,"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
"""An answer's events."""
