"""The session service's three streams: each reads what the peer sends beside what it is sent, until one of them ends.

They look at no acting user: who may open one is who has the service token.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any

from chat.errors import ErrorCode, SwitchboardError
from chat.names import is_id
from runtime.rpc_errors import status_of
from switchboard.session.v1 import session_pb2

from session.appender import Appender
from session.caller import Context
from session.checks import invalid
from session.dispatcher import Dispatcher, WorkerStream
from session.fanout import Fanout
from session.outbound import Outbound
from session.reader import GatewayReader

log = logging.getLogger(__name__)

_MAX_CREDIT = 10_000


async def claim_turns(
    dispatcher: Dispatcher, requests: AsyncIterator[session_pb2.ClaimTurnsRequest], context: Context
) -> AsyncGenerator[session_pb2.ClaimTurnsResponse, None]:
    """A worker's stream: turns out, credit and renewals in."""
    first = await anext(aiter(requests), None)
    if first is None:
        return
    if not is_id(first.worker_id):
        await context.abort_with_status(status_of(invalid("worker_id", "is needed in the first request").failure))
    stream = WorkerStream(first.worker_id)

    async def take(request: session_pb2.ClaimTurnsRequest) -> None:
        if request.credit > _MAX_CREDIT:
            raise invalid("credit", f"is at most {_MAX_CREDIT}")
        dispatcher.add_credit(stream, request.credit)
        if request.renew:
            await dispatcher.renew(stream, list(request.renew))

    async def intake() -> None:
        await take(first)
        async for request in requests:
            await take(request)

    dispatcher.join(stream)
    reading = _reading(intake(), stream.outbound)
    try:
        async for response in stream.outbound.batches():
            yield response
        refused = reading.exception() if reading.done() else None
        if isinstance(refused, SwitchboardError):
            await context.abort_with_status(status_of(refused.failure, refused.field))
    finally:
        reading.cancel()
        dispatcher.leave(stream)


async def publish(
    appender: Appender, requests: AsyncIterator[session_pb2.PublishRequest]
) -> AsyncGenerator[session_pb2.PublishResponse, None]:
    """A worker's stream: appends in, what became of them out."""
    outbound = Outbound(session_pb2.PublishResponse)

    def answer() -> session_pb2.AppendResult:
        outbound.wake()
        return outbound.next.results.add()

    async def intake() -> None:
        async for request in requests:
            for append in request.appends:
                appender.submit(append, answer)

    reading = _reading(intake(), outbound)
    try:
        async for response in outbound.batches():
            yield response
    finally:
        reading.cancel()


async def subscribe(
    fanout: Fanout, requests: AsyncIterator[session_pb2.SubscribeRequest], context: Context
) -> AsyncGenerator[session_pb2.SubscribeResponse, None]:
    """A gateway's stream: which chats in, what happens in them out."""
    reader = GatewayReader()

    async def add(chat_id: str) -> None:
        reader.chats.add(chat_id)
        try:
            position = await fanout.add(chat_id, reader)
        except SwitchboardError as error:
            reader.lose(chat_id, error.code)
            return
        if chat_id in reader.chats:
            reader.confirm(chat_id, position)
        else:
            fanout.remove(chat_id, reader)

    async def intake() -> None:
        async with asyncio.TaskGroup() as adding:
            async for request in requests:
                for chat_id in request.remove:
                    reader.chats.discard(chat_id)
                    fanout.remove(chat_id, reader)
                for chat_id in request.add:
                    adding.create_task(add(chat_id))

    reading = _reading(intake(), reader.outbound)
    try:
        async for response in reader.batches():
            if not reader.overrun:
                yield response
            if reader.overrun:
                full = SwitchboardError(ErrorCode.OVERLOADED, "the reader is too slow; reconnect and read the log")
                await context.abort_with_status(status_of(full.failure))
    finally:
        reading.cancel()
        for chat_id in reader.chats:
            fanout.remove(chat_id, reader)
        reader.chats.clear()


def _reading(intake: Coroutine[Any, Any, None], outbound: Outbound[Any]) -> "asyncio.Task[None]":
    """Reads the peer's requests beside the responses; when the peer has ended its side, or broke it, so do we."""
    reading = asyncio.create_task(intake)

    def ended(task: "asyncio.Task[None]") -> None:
        outbound.end()
        if not task.cancelled() and not isinstance(task.exception(), SwitchboardError | None):
            log.warning("stream_broke", exc_info=task.exception())

    reading.add_done_callback(ended)
    return reading
