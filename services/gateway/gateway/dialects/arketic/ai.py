"""Endpoint 12: asks the AI in a chat, and gives the answer over HTTP, or its ids at once while it goes over WebSockets.

A client that goes away stops nothing: the answer is a turn like any other, and stands in the history.
"""

from typing import Any

from chat.errors import SwitchboardError
from chat.messages import AnswerState, Chat, Message
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.dialect import Services
from gateway.dialects.arketic.access import NO_ACCESS, NO_CHAT, enter
from gateway.dialects.arketic.answer_replies import ANSWERED, SERVICE_DOWN, STREAMING, Answered, ServiceDown, Streaming
from gateway.dialects.arketic.answers import EMPTY
from gateway.dialects.arketic.failures import SERVICE_UNAVAILABLE, UNAVAILABLE
from gateway.dialects.arketic.forms import AskAI
from gateway.dialects.arketic.health import Health, look
from gateway.dialects.arketic.messages import Key, check_answers, say
from gateway.dialects.arketic.wire import Attributes, finish_word, micros, processing_time_ms, timestamp
from gateway.http import caller_of, headers_of, while_connected
from gateway.openapi import responses
from gateway.ports import Begun


def add_ai(router: APIRouter, services: Services) -> None:
    """Adds the endpoint."""

    def now() -> str:
        return timestamp(micros(services.now_s()))

    told = responses(limited=True, refusals={400: EMPTY, 403: NO_ACCESS, 404: NO_CHAT})
    examples = {"whole": {"value": ANSWERED}, "streaming": {"value": STREAMING}}
    told[200] |= {"model": Answered | Streaming, "content": {"application/json": {"examples": examples}}}
    told[503] = {
        "model": ServiceDown,
        "description": "No provider can answer.",
        "content": {"application/json": {"example": SERVICE_DOWN}},
    }

    @router.post("/chats/{chat_id}/ai-message", response_model=None, responses=told)
    async def ask_ai(chat_id: str, body: AskAI, request: Request, key: Key = None) -> Response:
        """Asks the AI. 503, in a form of its own: no provider can answer."""
        user_id = caller_of(request).user_id
        chat = await enter(services.sessions, chat_id, user_id)
        check_answers(chat)
        begun = await say(services, request, chat, body.message, key=key, ephemeral=not body.save_to_history)
        if body.stream:
            return JSONResponse(_streaming(chat, begun, await look(services.replicas), now()))
        answer = await while_connected(request, services.answers.wait(chat.id, begun))
        health = await look(services.replicas)
        failure = answer.answer.failure if answer.answer and answer.answer.state is AnswerState.FAILED else None
        if failure is None:
            chat = await enter(services.sessions, chat_id, user_id, archived_too=True)
            return JSONResponse(_whole(chat, begun.message, answer, health, now()))
        error = SwitchboardError(failure.code, failure.message, retry_after_s=failure.retry_after_s)
        if failure.code not in UNAVAILABLE:
            raise error
        unavailable = {
            "success": False,
            "error": "LangChain service temporarily unavailable",
            "error_code": SERVICE_UNAVAILABLE,
            "service_info": health.brief_object(),
            "timestamp": now(),
        }
        return JSONResponse(unavailable, 503, headers_of(error))


def _streaming(chat: Chat, begun: Begun, health: Health, now: str) -> dict[str, Any]:
    return {
        "success": True,
        "message": "AI response generation started via LangChain",
        "streaming": True,
        "service_used": "langchain",
        "data": {
            "user_message_id": begun.message.id,
            "ai_message_id": begun.answer_id,
            "chat_id": chat.id,
            "model_used": Attributes.of(chat).ai_model,
            "stream_via": "websocket",
            "service_info": {
                "circuit_breaker_state": health.state,
                "langchain_available": health.can_answer,
            },
        },
        "timestamp": now,
    }


def _whole(chat: Chat, asked: Message, answer: Message, health: Health, now: str) -> dict[str, Any]:
    known = answer.answer
    usage = known.usage if known else None
    tokens = (usage.input_tokens, usage.output_tokens) if usage else (0, 0)
    return {
        "success": True,
        "message": "AI response generated successfully via LangChain service",
        "streaming": False,
        "service_used": "langchain",
        "data": {
            "user_message": {
                "id": asked.id,
                "content": asked.content,
                "timestamp": timestamp(asked.created_at_us),
            },
            "ai_response": {
                "id": answer.id,
                "content": answer.content,
                "model_used": (known.model if known else "") or Attributes.of(chat).ai_model,
                "processing_time_ms": processing_time_ms(known),
                "tokens_used": {"input": tokens[0], "output": tokens[1], "total": sum(tokens)},
                "finish_reason": finish_word(known) if known else "stop",
                "timestamp": now,
                "via_langchain": True,
            },
            "chat_info": {
                "chat_id": chat.id,
                "total_messages": chat.message_count,
                "total_tokens_used": chat.usage.input_tokens + chat.usage.output_tokens,
            },
            "service_info": health.brief_object(),
        },
        "timestamp": now,
    }
