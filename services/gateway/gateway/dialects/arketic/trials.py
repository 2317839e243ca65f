"""Endpoint 10, and `openai/test`: one answer without a chat, to see that answers are made."""

from collections.abc import AsyncIterator
from typing import Any

from chat.errors import ErrorCode, SwitchboardError
from chat.messages import Answer, Role
from fastapi import APIRouter, Request

from gateway.dialect import Services
from gateway.dialects.arketic.access import shown_name
from gateway.dialects.arketic.answer_replies import Tried
from gateway.dialects.arketic.answers import EMPTY, blank, empty
from gateway.dialects.arketic.forms import TryAI
from gateway.dialects.arketic.health import SERVICE_URL, look
from gateway.dialects.arketic.wire import finish_word, micros, milliseconds, timestamp, tokens_used
from gateway.http import caller_of, note_limit, while_connected
from gateway.openapi import responses
from gateway.ports import Finished, Model, Piece, Text
from gateway.prompts import GenerateRequest, Prompt

_LASTS_S = 180.0
"""The deadline of an answer without a chat: its place among the user's answers is free by then at the latest."""


def add_trials(router: APIRouter, services: Services) -> None:
    """Adds the endpoints."""

    async def trial(body: TryAI, request: Request) -> tuple[str, Answer, bool, int]:
        """The text, what is known of it, whether another provider than the model's own gave it, and milliseconds."""
        if blank(body.message):
            raise empty()
        caller, answer_id, began_s = caller_of(request), services.new_id(), services.now_s()
        limit = await services.limits.acquire(
            user_id=caller.user_id, key_id=caller.key_id, answer_id=answer_id, lasts_s=_LASTS_S
        )
        note_limit(request, limit)
        try:
            models = {model.id: model for model in await services.models.list_models()}
            # An unknown model takes the default route, as in a chat.
            asked = body.model if body.model in models else ""
            pieces = services.models.generate(_asked(body, asked), user_id=caller.user_id)
            text, answer = await while_connected(request, _whole(pieces))
        finally:
            await services.limits.release(user_id=caller.user_id, key_id=caller.key_id, answer_id=answer_id)
        return text, answer, _fell_back(answer, models.get(asked)), milliseconds(services.now_s() - began_s)

    async def report(body: TryAI, request: Request, message: str, integration: str) -> dict[str, Any]:
        text, answer, fell_back, took_ms = await trial(body, request)
        health, caller = await look(services.replicas), caller_of(request)
        content = {
            "request": {
                "message": body.message,
                "model": body.model,
                "temperature": body.temperature,
                "system_prompt": body.system_prompt,
            },
            "response": {
                "content": text,
                "model_used": answer.model or body.model,
                "processing_time_ms": milliseconds(answer.duration_s) or took_ms,
                "tokens_used": tokens_used(answer),
                "finish_reason": finish_word(answer),
                "fallback_used": fell_back,
            },
            "service_info": {
                "integration_type": f"{integration} (Fallback)" if fell_back else integration,
                "circuit_breaker_state": health.state,
                "service_url": SERVICE_URL,
            },
            "user_info": {"user_id": caller.user_id, "username": shown_name(caller)},
        }
        now = timestamp(micros(services.now_s()))
        return {"success": True, "message": message, "data": content, "timestamp": now}

    told = responses(limited=True, refusals={400: EMPTY})

    @router.post("/langchain/test", response_model=Tried, responses=told)
    async def test_langchain(body: TryAI, request: Request) -> dict[str, Any]:
        """One answer by the usual way: breakers and fallback included."""
        return await report(body, request, "LangChain service test completed successfully", "LangChain Service")

    @router.post("/openai/test", response_model=Tried, responses=told)
    async def test_openai(body: TryAI, request: Request) -> dict[str, Any]:
        """The same; the model named says which provider is asked first."""
        return await report(body, request, "OpenAI integration test completed successfully", "Direct OpenAI")


def _asked(body: TryAI, model: str) -> GenerateRequest:
    prompts = [Prompt(Role.USER, (body.message,))]
    if body.system_prompt and not blank(body.system_prompt):
        prompts.insert(0, Prompt(Role.SYSTEM, (body.system_prompt,)))
    return GenerateRequest(model=model, messages=tuple(prompts), temperature=body.temperature, own_keys=True)


async def _whole(pieces: AsyncIterator[Piece]) -> tuple[str, Answer]:
    texts: list[str] = []
    async for piece in pieces:
        match piece:
            case Text():
                texts.append(piece.text)
            case Finished():
                return "".join(texts), piece.answer
            case _:
                pass
    raise SwitchboardError(ErrorCode.UNAVAILABLE, "The answer ended before it was whole. Please try again.")


def _fell_back(answer: Answer, model: Model | None) -> bool:
    """Whether the model's own provider did not give the answer; where the model is unknown, the first one tried."""
    first = model.provider if model else answer.attempts[0].provider if answer.attempts else answer.provider
    return answer.provider != first
