"""What one stream has to send next: gathers while the last batch is under way, and goes as one response.

So batches form by themselves: idle, each thing leaves at once; busy, many share a message.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

Response = TypeVar("Response")

RESPONSE_BYTES = 4 * 1024 * 1024
"""A response gathers no more than this: messages end at 8 MiB, and one that is longer ends its whole stream."""


class Outbound(Generic[Response]):
    """`next` is the response being gathered; who adds to it calls `wake`."""

    __slots__ = ("_ended", "_make", "_sealed", "_wake", "next")

    def __init__(self, make: Callable[[], Response]) -> None:
        self._make = make
        self.next = make()
        self._sealed: list[Response] = []
        self._wake = asyncio.Event()
        self._ended = False

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def seal(self) -> None:
        """What has gathered is a response of its own; the next one begins."""
        self._sealed.append(self.next)
        self.next = self._make()

    def end(self) -> None:
        """Nothing more will come; what has gathered is still sent."""
        self._ended = True
        self._wake.set()

    async def batches(self) -> AsyncIterator[Response]:
        """Each batch as it is ready, until `end`."""
        while True:
            if not self._wake.is_set() and self._ended:
                return
            await self._wake.wait()
            self._wake.clear()
            sealed, self._sealed = self._sealed, []
            gathered, self.next = self.next, self._make()
            for response in sealed:
                yield response
            yield gathered
