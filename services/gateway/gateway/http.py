"""HTTP: the FastAPI application of all dialects' routes and our own; statuses for our failures.

What a failure looks like is said by the dialect whose path it is (`Dialect.errors`); elsewhere it is `{"detail": ...}`.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from chat.errors import ErrorCode, Failure, SwitchboardError
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gateway.about import Readiness, about_router
from gateway.asyncapi import asyncapi_document
from gateway.auth import Caller, bearer
from gateway.body_limit import BodyLimit, Refusal
from gateway.credential import Credential
from gateway.dialect import Dialect
from gateway.openapi import openapi_document, operation_id
from gateway.ports import RateLimit, Sessions

_STATUS = {
    ErrorCode.INVALID_ARGUMENT: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.ALREADY_EXISTS: 409,
    ErrorCode.CONFLICT: 409,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.QUEUE_FULL: 429,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.DEADLINE_EXCEEDED: 504,
    ErrorCode.PROVIDER_UNAVAILABLE: 503,
    ErrorCode.PROVIDER_REFUSED: 400,
    ErrorCode.NO_API_KEY: 400,
    ErrorCode.API_KEY_REFUSED: 400,
    ErrorCode.CONTEXT_TOO_LONG: 400,
}
_FRAMEWORKS = {413: ErrorCode.TOO_LARGE, 503: ErrorCode.OVERLOADED}
_Result = TypeVar("_Result")
_EXPOSED = ("Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate")
"""Headers that scripts of other origins may read."""


def status_of(code: ErrorCode) -> int:
    """The HTTP status of a failure."""
    return _STATUS.get(code, 500)


def headers_of(error: SwitchboardError) -> dict[str, str]:
    """The headers that go with a failure: how to authenticate, when to try again."""
    headers: dict[str, str] = {}
    if error.code is ErrorCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.failure.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.failure.retry_after_s))
    return headers


def detail(error: SwitchboardError | RequestValidationError) -> Response:
    """A failure as FastAPI writes its own: `{"detail": ...}`. The plain Shape."""
    if isinstance(error, RequestValidationError):
        # Without `input`: what a client sent by mistake, a credential say, is not repeated.
        errors = [{key: entry[key] for key in ("type", "loc", "msg")} for entry in error.errors()]
        return JSONResponse({"detail": errors}, 422)
    return JSONResponse({"detail": error.failure.message}, status_of(error.code), headers_of(error))


def guarded_router(
    prefix: str, tag: str, admit: Callable[[str], Awaitable[Caller]], *credentials: Credential
) -> APIRouter:
    """A dialect's router: `admit` is awaited with the Bearer credential before anything is read; see `caller_of`.

    `tag` and `credentials` (any one of which is wanted) are for the OpenAPI document.
    """

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                request.state.caller = await admit(bearer(request.headers.get("authorization")))
                # One of its own: it keeps the body, and the one that we were given lives as long as a stream does.
                its_request = Request(request.scope, request.receive)
                try:
                    response = await handle(its_request)
                except UnicodeEncodeError as error:
                    # JSON can escape half of a surrogate pair, which no text can hold and nothing behind us takes.
                    raise SwitchboardError(
                        ErrorCode.INVALID_ARGUMENT,
                        "A text in the request is not valid Unicode: it holds half of a surrogate pair.",
                    ) from error
                limit: RateLimit | None = getattr(request.state, "limit", None)
                if limit is not None:
                    response.headers.update(_limit_headers(limit))
                return response

            return guarded

    # The dependencies are for the document alone: the header has been looked at already.
    headers = [Depends(_bearer_header(credential)) for credential in credentials]
    return APIRouter(prefix=prefix, tags=[tag], route_class=GuardedRoute, dependencies=headers)


def _bearer_header(credential: Credential) -> HTTPBearer:
    scheme = credential.scheme
    return HTTPBearer(
        auto_error=False,
        scheme_name=credential.value,
        bearerFormat=scheme.get("bearerFormat"),
        description=scheme["description"],
    )


def caller_of(request: Request) -> Caller:
    """Whom a guarded router has let in."""
    caller: Caller = request.state.caller
    return caller


def note_limit(request: Request, limit: RateLimit | None) -> None:
    """Has a guarded router's answer say how the caller's limit stands. Call it with what `Begun` or `Limits` gave."""
    request.state.limit = limit


def _limit_headers(limit: RateLimit) -> dict[str, str]:
    """https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/, from its eighth version on."""
    name, window_s, reset_s = limit.name, math.ceil(limit.window_s), math.ceil(limit.reset_s)
    return {
        "RateLimit-Policy": f'"{name}";q={limit.quota};w={window_s}',
        "RateLimit": f'"{name}";r={limit.remaining};t={reset_s}',
    }


def _used_up(request: Request, failure: Failure) -> dict[str, str]:
    """Of a refusal only the time is known; whose limit it is, by who calls: a user or a key."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None or failure.retry_after_s is None:
        return {}
    name = "key" if caller.key_id else "user"
    return {"RateLimit": f'"{name}";r=0;t={math.ceil(failure.retry_after_s)}'}


async def event_stream(request: Request, events: AsyncGenerator[bytes, None]) -> Response:
    """Server-sent events. Waits for the first, so that a failure before it still has a status of its own.

    When the client goes away, the iterator is closed. Raises: what the iterator raises before its first event.
    """
    first = await while_connected(request, _first(events))

    async def all_events() -> AsyncIterator[bytes]:
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(all_events(), media_type="text/event-stream", headers=headers)


async def while_connected(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is cancelled when the client goes away. Raises: what `work` raises."""
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(_caught(work))
        leaving = tasks.create_task(_disconnected(request))
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        leaving.cancel()
    if working.cancelled():
        raise SwitchboardError(ErrorCode.CANCELLED, "The client has gone away.")
    result = working.result()
    if isinstance(result, SwitchboardError | UnicodeEncodeError):
        raise result
    return result


async def _first(events: AsyncIterator[bytes]) -> bytes:
    return await anext(events, b"")


async def _caught(work: Coroutine[Any, Any, _Result]) -> _Result | SwitchboardError | UnicodeEncodeError:
    try:
        return await work
    except (SwitchboardError, UnicodeEncodeError) as error:
        return error


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def websocket_origin(request: Request, public_url: str) -> str:
    """`ws://host` or `wss://host` as the client should use it, from PUBLIC_URL or from how it reached us."""
    base = public_url or f"{request.url.scheme}://{request.url.netloc}"
    return "ws" + base.removeprefix("http")


def http_application(
    dialects: Sequence[Dialect],
    *,
    sessions: Sessions,
    readiness: Readiness,
    cors_origins: Sequence[str],
    body_bytes: int,
    bodies_bytes: int,
    forwarded_allow_ips: str,
) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """The ASGI application for HTTP."""
    # The documents are our own routes.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, generate_unique_id_function=operation_id)
    openapi, asyncapi = partial(openapi_document, app.routes, dialects), partial(asyncapi_document, dialects)
    app.include_router(about_router(sessions, readiness, openapi, asyncapi))
    for dialect in dialects:
        app.include_router(dialect.router)
    refuse = _refusal(dialects)
    for kind in (SwitchboardError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)
    app.add_middleware(BodyLimit, limit=body_bytes, all_bytes=bodies_bytes, refuse=refuse)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
        )
    application: Callable[[Any, Any, Any], Awaitable[None]] = app
    return ProxyHeadersMiddleware(application, trusted_hosts=forwarded_allow_ips)


def _refusal(dialects: Sequence[Dialect]) -> Refusal:
    """Answers failures, each in the form of the dialect whose path the request has."""
    forms = {beginning: shape for dialect in dialects for beginning, shape in dialect.errors.items()}
    longest_first = sorted(forms, key=len, reverse=True)

    async def refuse(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        below = (beginning for beginning in longest_first if f"{path}/".startswith(f"{beginning}/"))
        shape = forms.get(next(below, ""), detail)
        match error:
            case SwitchboardError() | RequestValidationError():
                response = shape(error)
                if isinstance(error, SwitchboardError) and error.code is ErrorCode.RATE_LIMITED:
                    response.headers.update(_used_up(request, error.failure))
                return response
            case HTTPException():
                # The framework's own: an unknown path, a wrong method, a body that can't be read.
                code = _FRAMEWORKS.get(error.status_code, ErrorCode.INVALID_ARGUMENT)
                response = shape(SwitchboardError(code, error.detail))
                response.status_code = error.status_code
                response.headers.update(error.headers or {})
                return response
            case _:
                return shape(SwitchboardError(ErrorCode.INTERNAL, "Something went wrong on our side."))

    return refuse
