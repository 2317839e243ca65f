"""What a gateway tells of itself over HTTP: its welcome, its health, and its documents for machines.

There is no page that shows the documents: FastAPI's takes its scripts from somebody else's servers, at each look.
Subsystem: docs/subsystems/gateway.md.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from chat.errors import SwitchboardError
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from gateway.openapi import responses
from gateway.ports import Sessions

_WELCOME = {
    "message": "Welcome to Switchboard.",
    "openapi": "/openapi.json",
    "asyncapi": "/asyncapi.json",
    "health": "/health",
}
_HEALTHY = {"status": "healthy", "redis": "connected"}
_UNHEALTHY = {"status": "unhealthy", "redis": "disconnected"}


class Readiness(Protocol):
    """Whether this process takes traffic."""

    @property
    def draining(self) -> bool:
        """Whether it is on its way out."""
        ...


class Welcome(BaseModel):
    """Hello, and where to go on."""

    message: str
    openapi: str
    asyncapi: str
    health: str


class Health(BaseModel):
    """Whether chats can be served."""

    status: str
    redis: str


class Status(BaseModel):
    """How a process stands."""

    status: str


def about_router(
    sessions: Sessions, readiness: Readiness, openapi: Callable[[], bytes], asyncapi: Callable[[], bytes]
) -> APIRouter:
    """The routes; each document is made when it is first asked for, and kept."""
    router = APIRouter(tags=["gateway"])
    openapi, asyncapi = cache(openapi), cache(asyncapi)

    @router.get("/", responses=responses(_WELCOME))
    async def welcome() -> Welcome:
        """Says hello."""
        return Welcome(**_WELCOME)

    @router.get("/openapi.json", response_model=dict[str, Any], responses=responses({"openapi": "3.1.0"}))
    def openapi_document() -> Response:
        """This document."""
        # In a thread, since it is no coroutine: making it takes long enough for clients to notice.
        return Response(openapi(), media_type="application/json")

    @router.get("/asyncapi.json", response_model=dict[str, Any], responses=responses({"asyncapi": "3.0.0"}))
    def asyncapi_document() -> Response:
        """The document of the WebSockets."""
        return Response(asyncapi(), media_type="application/json")

    unhealthy = _refusal(Health, "Redis or the session service can't be reached.", _UNHEALTHY)

    @router.get("/health", response_model=Health, responses=responses(_HEALTHY) | unhealthy)
    async def health() -> Response:
        """Whether chats can be served, Redis included."""
        try:
            connected = await sessions.check_store()
        except SwitchboardError:
            connected = False
        return JSONResponse(_HEALTHY) if connected else JSONResponse(_UNHEALTHY, 503)

    @router.get("/livez", responses=responses({"status": "alive"}))
    async def live() -> Status:
        """Whether this process runs."""
        return Status(status="alive")

    unready = _refusal(Status, "Draining, or the session service can't be reached.", {"status": "draining"})

    @router.get("/readyz", response_model=Status, responses=responses({"status": "ready"}) | unready)
    async def ready() -> Response:
        """Whether this process takes new clients."""
        if readiness.draining:
            return JSONResponse({"status": "draining"}, 503)
        try:
            await sessions.check_store()
        except SwitchboardError:
            return JSONResponse({"status": "session service unreachable"}, 503)
        return JSONResponse({"status": "ready"})

    return router


def _refusal(model: type[BaseModel], description: str, example: object) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"example": example}}
    return {503: {"model": model, "description": description, "content": content}}
