"""One answer as it comes: the call behind it, made again while nothing has come, and ended when nobody reads on."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TypeAlias

import grpc.aio
from switchboard.llm.v1 import llm_pb2

from switchboard_client import codec
from switchboard_client.errors import ErrorCode, SwitchboardError, answered
from switchboard_client.messages import Message, ToolCall, assistant
from switchboard_client.pieces import Finished, Piece, Reasoning, Started, Text, ToolCallDelta, assemble
from switchboard_client.retries import Tries

Call: TypeAlias = "grpc.aio.UnaryStreamCall[llm_pb2.GenerateRequest, llm_pb2.GenerateResponse]"


class Answer:
    """Reads one answer, once, in one task. The call begins with the block and is over with it, read to its end or not:

        async with client.generate(...) as answer:
            async for piece in answer: ...         # or answer.texts(), or await answer.finish()

    Reading raises SwitchboardError, also in the middle; then what came is not the whole answer. It is whole once
    `finished` is there.
    """

    def __init__(self, start: Callable[[float], Call], tries: Callable[[], Tries]) -> None:
        """`start` makes the call, with that many seconds to its deadline. Made by `SwitchboardClient.generate`."""
        self._start = start
        self._make_tries = tries
        self._tries: Tries | None = None
        self._call: Call | None = None
        self._closed = False
        self._read_any = False
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self.started: Started | None = None
        """Who began to answer; None: nobody yet."""
        self.finished: Finished | None = None
        """None: it is not whole (yet)."""

    @property
    def text(self) -> str:
        """So far."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """So far; empty where the model shows none."""
        return "".join(self._reasonings)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """What the model asks for. Their arguments are whole only once the answer is."""
        return assemble(self._deltas)

    def as_message(self) -> Message:
        """The answer as a message of the conversation that goes on. Raises: ValueError while it is not whole."""
        if self.finished is None:
            raise ValueError("the answer is not whole")
        return assistant(*([self.text] if self._texts else []), *self.tool_calls)

    async def __aenter__(self) -> Answer:
        self._tries = self._make_tries()
        self._call = self._start(self._tries.left_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        if self._call is not None:
            # Ends the provider's call too; without effect on one that is over.
            self._call.cancel()

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Piece:
        while (response := await self._read()) is not None:
            if (piece := codec.piece_of(response)) is not None:
                self._note(piece)
                return piece
        if self.finished is None:
            raise SwitchboardError(ErrorCode.INTERNAL, "The stream ended without saying that the answer is whole.")
        raise StopAsyncIteration

    async def texts(self) -> AsyncIterator[str]:
        """The text alone, as it comes, to the answer's end. Raises: SwitchboardError."""
        async for piece in self:
            if isinstance(piece, Text):
                yield piece.text

    async def finish(self) -> Finished:
        """Reads what is left; `text` and the rest then hold all of it. Raises: SwitchboardError."""
        async for _ in self:
            pass
        assert self.finished is not None  # noqa: S101  (for mypy: the loop ends no other way)
        return self.finished

    def _note(self, piece: Piece) -> None:
        match piece:
            case Text():
                self._texts.append(piece.text)
            case Reasoning():
                self._reasonings.append(piece.text)
            case ToolCallDelta():
                self._deltas.append(piece)
            case Started():
                self.started = piece
            case Finished():
                self.finished = piece

    async def _read(self) -> llm_pb2.GenerateResponse | None:
        """The next response; None: there is none. Makes the call again where that is safe. Raises: SwitchboardError."""
        if self._call is None or self._tries is None or self._closed:
            raise RuntimeError("an answer is read within its `async with` block")
        while True:
            try:
                response = await answered(self._call.read())
            except SwitchboardError as error:
                if self._read_any:
                    # Another answer would be another answer: what was read can't be taken back.
                    raise
                await self._tries.pause(error)
                self._call = self._start(self._tries.left_s)
            else:
                self._read_any = True
                return response if isinstance(response, llm_pb2.GenerateResponse) else None
