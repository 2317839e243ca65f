"""`POST /v1/chat/completions`: the answer to a conversation, counted by the limits while it is made."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.dialect import Services
from gateway.dialects.openai_compat.failures import UNKNOWN_MODEL
from gateway.dialects.openai_compat.forms import CompletionRequest
from gateway.dialects.openai_compat.reading import read_request
from gateway.dialects.openai_compat.replies import STREAM, Completion
from gateway.dialects.openai_compat.writer import Writer
from gateway.http import caller_of, event_stream, note_limit, while_connected
from gateway.openapi import responses

_LASTS_S = 200.0
"""An answer's place counts as given back after this, if we die: a little over the deadline of Generate."""
_EVENTS = {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM}}


def add_completions(router: APIRouter, services: Services) -> None:
    """Adds the route."""
    refusals = {400: "logprobs is not supported here.", 404: UNKNOWN_MODEL}
    answered = responses(limited=True, refusals=refusals)
    answered[200] |= {"model": Completion, "content": _EVENTS}

    @router.post("/chat/completions", response_model=None, responses=answered)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Answers the conversation, at once or as a stream of events."""
        wanted, caller, answer_id = read_request(body), caller_of(request), services.new_id()
        writer = Writer(f"chatcmpl-{answer_id.replace('-', '')}", int(services.now_s()), body)
        limit = await services.limits.acquire(
            user_id=caller.user_id, key_id=caller.key_id, answer_id=answer_id, lasts_s=_LASTS_S
        )
        note_limit(request, limit)

        async def release() -> None:
            await services.limits.release(user_id=caller.user_id, key_id=caller.key_id, answer_id=answer_id)

        streams = False
        try:
            pieces = services.models.generate(wanted, user_id=caller.user_id)
            if not body.stream:
                return JSONResponse(await while_connected(request, writer.whole(pieces)))
            response = await event_stream(request, _then(writer.events(pieces), release))
            streams = True
            return response
        finally:
            if not streams:
                await release()


async def _then(
    events: AsyncGenerator[bytes, None], over: Callable[[], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    """The same events, and `over` at their end, however they end."""
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    finally:
        await over()
