"""Where an answer's text goes: the port between answering and its two readers, a chat's log and a caller's stream."""

from collections.abc import Awaitable
from typing import Protocol

from llm_worker.provider import ToolCallDelta


class Sink(Protocol):
    """Called by one task."""

    @property
    def text(self) -> str:
        """All that was written, or was there before: what a reader has, or is about to have."""
        ...

    @property
    def restartable(self) -> bool:
        """Whether what was written can be taken back."""
        ...

    async def start(self, provider: str, model: str) -> None:
        """A target has begun: called once, before anything else."""
        ...

    def restart(self) -> None:
        """What was written is void: the answer begins again. Only where it is `restartable`, and text follows."""
        ...

    def reason(self, text: str) -> Awaitable[None] | None:
        """More of the model's reasoning, which is no part of the answer. As `write`."""
        ...

    def call_tools(self, deltas: tuple[ToolCallDelta, ...]) -> Awaitable[None] | None:
        """Pieces of tool calls. As `write`."""
        ...

    def write(self, text: str) -> Awaitable[None] | None:
        """Text to add, never empty. What it returns is awaited before more is read from the provider."""
        ...
