"""The client: one connection to the workers, and what each call carries: the token, the acting user, a deadline."""

from __future__ import annotations  # grpc.aio classes are generic in their stubs only

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TypeVar, Unpack

import grpc.aio
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc

from switchboard_client import codec
from switchboard_client.answer import Answer, Call
from switchboard_client.channel import connected, metadata_of, open_channel, target_of
from switchboard_client.codec import Options
from switchboard_client.errors import SwitchboardError, answered
from switchboard_client.messages import Message
from switchboard_client.offers import Model, TargetStatus
from switchboard_client.retries import Retries, Tries

GENERATE_S = 180.0
"""The worker's own default, said aloud: no call is without a deadline."""
UNARY_S = 10.0

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class SwitchboardClient:
    """Calls the LLM workers; one for a process is enough, and any number of its calls run at the same time.

    `address`: `host:port`, or any gRPC target, or several `ip:port`, over which the calls go round robin. Every
    `timeout_s` is for the whole call, its repetitions and their waits included. Every call raises SwitchboardError.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        token: str,
        retries: Retries = Retries(),  # noqa: B008  (frozen)
    ) -> None:
        """`token`: the service token. Raises: ValueError for addresses that can't stand together."""
        self._target = target_of(address)
        self._token = token
        self._retries = retries
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> SwitchboardClient:
        self._channel = open_channel(self._target)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends every call that is under way."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def generate(
        self,
        messages: Sequence[Message],
        *,
        user_id: str = "",
        timeout_s: float = GENERATE_S,
        **options: Unpack[Options],
    ) -> Answer:
        """An answer to read as it comes, in an `async with` block. `user_id`: on whose behalf."""
        request = codec.request_of(messages, options)
        metadata = metadata_of(self._token, user_id)

        def start(left_s: float) -> Call:
            call: Call = self._stub().Generate(request, timeout=left_s, metadata=metadata)
            return call

        return Answer(start, lambda: self._tries(timeout_s))

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        user_id: str = "",
        timeout_s: float = GENERATE_S,
        **options: Unpack[Options],
    ) -> str:
        """The whole answer's text. Why it ended, what it cost and which tools it wants, `generate` alone tells."""
        async with self.generate(messages, user_id=user_id, timeout_s=timeout_s, **options) as answer:
            await answer.finish()
            return answer.text

    async def list_models(self, *, timeout_s: float = UNARY_S) -> tuple[Model, ...]:
        """The models and routes that can be asked for."""
        return codec.models_of(await self._ask(lambda: self._stub().ListModels, llm_pb2.ListModelsRequest(), timeout_s))

    async def provider_status(self, *, timeout_s: float = UNARY_S) -> tuple[TargetStatus, ...]:
        """How each provider's models stand, in whichever worker is asked."""
        return codec.targets_of(
            await self._ask(lambda: self._stub().GetProviderStatus, llm_pb2.GetProviderStatusRequest(), timeout_s)
        )

    async def _ask(
        self,
        method: Callable[[], grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]],
        request: _Request,
        timeout_s: float,
    ) -> _Response:
        tries = self._tries(timeout_s)
        metadata = metadata_of(self._token, "")
        while True:
            try:
                return await answered(method()(request, timeout=tries.left_s, metadata=metadata))
            except SwitchboardError as error:
                await tries.pause(error)

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("a client is used within its `async with` block")
        return self._channel

    def _stub(self) -> llm_pb2_grpc.LLMServiceAsyncStub:
        return llm_pb2_grpc.LLMServiceStub(self._open())

    def _tries(self, timeout_s: float) -> Tries:
        wait = partial(connected, self._open())
        return Tries(self._retries, timeout_s, connected=wait, clock=time.monotonic, random=random.random)
