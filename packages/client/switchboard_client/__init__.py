"""A client of Switchboard's LLM worker, for teams that call gRPC directly: docs/generate.md.

    async with SwitchboardClient("localhost:50052", token=token) as client:
        print(await client.complete([user("Hi")]))
        async with client.generate([user("Hi")], model="claude", timeout_s=60) as answer:
            async for text in answer.texts():
                print(text, end="")
        print(answer.finished)

It needs the contract's stubs (`switchboard-protos`) and grpcio, and nothing else of Switchboard. Async alone: a second,
synchronous surface would double what there is to know; `asyncio.run(client.complete(...))` is a line, and the stubs
work without asyncio (examples/generate_bare.py).
"""

from switchboard_client.answer import Answer
from switchboard_client.client import SwitchboardClient
from switchboard_client.codec import Options
from switchboard_client.errors import ErrorCode, SwitchboardError
from switchboard_client.messages import (
    Image,
    Message,
    Role,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    assistant,
    system,
    user,
)
from switchboard_client.offers import BreakerState, Model, TargetStatus
from switchboard_client.pieces import (
    Attempt,
    Finished,
    FinishReason,
    Piece,
    Reasoning,
    Started,
    Text,
    ToolCallDelta,
    Usage,
    assemble,
)
from switchboard_client.retries import Retries

__all__ = [
    "Answer",
    "Attempt",
    "BreakerState",
    "ErrorCode",
    "FinishReason",
    "Finished",
    "Image",
    "Message",
    "Model",
    "Options",
    "Piece",
    "Reasoning",
    "Retries",
    "Role",
    "Started",
    "SwitchboardClient",
    "SwitchboardError",
    "TargetStatus",
    "Text",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "ToolResult",
    "Usage",
    "assemble",
    "assistant",
    "system",
    "user",
]
