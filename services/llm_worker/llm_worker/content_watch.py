"""The timer of one stream: it ends the attempt when content, not keep-alives, stays away for too long."""

import asyncio


class ContentWatch:
    """Ends `limit` when content stays away for too long: one timer a stream, and one store a read.

    httpx's own read time-out is reset by a provider's keep-alives; this timer is not.
    """

    def __init__(self, limit: asyncio.Timeout, *, ttft_s: float, idle_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._idle_s = idle_s
        self._due_s = ttft_s
        self._last = self._loop.time()
        self._held = False
        self._timer = self._loop.call_later(ttft_s, self._check)

    def seen(self) -> None:
        """Content came."""
        self._last = self._loop.time()
        self._due_s = self._idle_s

    def held(self) -> "ContentWatch":
        """While entered, it is not the provider that we wait for."""
        return self

    def __enter__(self) -> None:
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False
        self._last = self._loop.time()

    def stop(self) -> None:
        """Must be called before the limit is left."""
        self._timer.cancel()

    def _check(self) -> None:
        now = self._loop.time()
        due = now + self._idle_s if self._held else self._last + self._due_s
        if due <= now:
            self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(due, self._check)
