"""What requests' bodies may take of our memory: each, and all together.

A body is refused before more of it is read than that: FastAPI would take one of any size. Many of a middling size are
as bad as one that is huge, so that what all of them have in memory is bounded too, from the first byte to the answer's.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import HTTPException, Request, Response

Refusal = Callable[[Request, Exception], Awaitable[Response]]
"""Answers a request with its failure."""

_Application = Callable[[Any, Any, Any], Awaitable[None]]

SMALL_BYTES = 64 * 1024
"""Of each body, so much is never counted: who holds all places with large bodies refuses nobody's small ones."""

THROWN_AWAY = 4
"""Times the limit that is read of a body too large, before its sender is cut off."""

RETRY_AFTER_S = "1"
"""A body is held until its answer begins, mostly much less than a second."""


class BodyLimit:
    """ASGI middleware. `limit`: bytes of a body; `all_bytes`: of all bodies that are held at a time."""

    def __init__(self, app: _Application, limit: int, all_bytes: int, refuse: Refusal) -> None:
        self._app = app
        self._limit = limit
        self._all_bytes = all_bytes
        self._refuse = refuse
        self._held = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(length) > self._limit:
            await self._throw_away(scope, receive, send)
            return
        read = counted = 0

        async def limited() -> Any:
            nonlocal read, counted
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise self._too_large()
            more = max(0, read - SMALL_BYTES) - counted
            if more > 0:
                if self._held + more > self._all_bytes:
                    # Of all that reading a body may raise, FastAPI lets only this through as it is.
                    raise HTTPException(
                        503, "Too many large requests are under way; try again.", {"Retry-After": RETRY_AFTER_S}
                    )
                counted += more
                self._held += more
            return message

        async def answered(message: Any) -> None:
            nonlocal counted
            if message["type"] == "http.response.start":
                self._held -= counted
                counted = 0
            await send(message)

        try:
            await self._app(scope, limited, answered)
        finally:
            self._held -= counted

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The body is too large: at most {self._limit:,} bytes.")

    async def _throw_away(self, scope: Any, receive: Any, send: Any) -> None:
        """Reads a body that is too large, within reason: a client that is still sending would see a reset instead of
        the answer."""
        read = 0
        while read < THROWN_AWAY * self._limit:
            message = await receive()
            read += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        response = await self._refuse(Request(scope), self._too_large())
        await response(scope, receive, send)
