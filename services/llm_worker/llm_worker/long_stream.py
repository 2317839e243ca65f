"""What both long-lived streams to the session service share: how they break, and how they are opened again."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import grpc.aio

log = logging.getLogger(__name__)

SILENCE_S = 15.0
"""Without an answer to what was sent, a stream counts as broken, however alive its connection is."""

FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 2.0


class StreamBrokenError(Exception):
    """A long-lived stream ended or fell silent."""


class StreamClosedError(StreamBrokenError):
    """We ended it ourselves."""


async def keep_open(name: str, use: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Opens and uses a stream again and again, with a growing pause, for as long as it is not cancelled.

    An outage is logged once, not once an attempt.
    """
    clock = asyncio.get_running_loop().time
    backoff_s = FIRST_BACKOFF_S
    while True:
        started_at = clock()
        try:
            await _alone(use())
        except* StreamClosedError:
            pass
        # InvalidStateError is what grpc.aio raises for a write to a call that has ended.
        except* (grpc.aio.AioRpcError, StreamBrokenError, asyncio.InvalidStateError) as broken:
            if backoff_s == FIRST_BACKOFF_S or clock() - started_at > LAST_BACKOFF_S:
                log.warning("stream broken", extra={"stream": name, "cause": _cause(broken)})
        if clock() - started_at > LAST_BACKOFF_S:
            backoff_s = FIRST_BACKOFF_S
        await asyncio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)


async def _alone(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` in a task of its own.

    Before Python 3.13, a TaskGroup that fails in the moment in which its task is cancelled swallows the cancellation,
    and leaves the task's count of them wrong (gh-116720): then it is that task's alone.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    task.result()


async def read(call: Any) -> Any:
    """The next response. Raises: StreamBrokenError, AioRpcError."""
    try:
        response = await call.read()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # It is the call that was cancelled, by ourselves.
        raise StreamClosedError from None
    if response is grpc.aio.EOF:
        raise StreamBrokenError("ended by the session service")
    return response


def _cause(broken: BaseExceptionGroup[Any]) -> str:
    first: BaseException = broken
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first.code().name if isinstance(first, grpc.aio.AioRpcError) else str(first)
