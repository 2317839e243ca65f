"""What Arketic answers to who asks the AI over HTTP, with the document's own examples."""

from typing import Any, Literal

from pydantic import BaseModel

from gateway.dialects.arketic.replies import CHAT_ID, USER, Circuit, FinishReason, Timestamp, UserInfo, Word, done
from gateway.openapi import example

_BRIEF: dict[str, Any] = {"circuit_breaker_state": "CLOSED", "service_health": "healthy"}


class ServiceBrief(BaseModel):
    """How the workers are, in short."""

    circuit_breaker_state: Circuit
    service_health: Word


class TrialRequest(BaseModel):
    """What was asked."""

    message: str
    model: str
    temperature: float
    system_prompt: str | None


class TrialResponse(BaseModel):
    """What was answered."""

    content: str
    model_used: str
    processing_time_ms: int
    tokens_used: int | None
    finish_reason: FinishReason
    fallback_used: bool


class TrialService(BaseModel):
    """Who answered."""

    integration_type: str
    circuit_breaker_state: Circuit
    service_url: str


class Trial(BaseModel):
    """One answer without a chat."""

    request: TrialRequest
    response: TrialResponse
    service_info: TrialService
    user_info: UserInfo


class Tried(BaseModel):
    """The answer of `langchain/test` and `openai/test`."""

    model_config = example(
        done(
            "LangChain service test completed successfully",
            {
                "request": {
                    "message": "Hello! This is a test message for LangChain integration.",
                    "model": "gpt-3.5-turbo",
                    "temperature": 0.7,
                    "system_prompt": "You are testing the LangChain service.",
                },
                "response": {
                    "content": "Hello! LangChain service integration is working correctly.",
                    "model_used": "gpt-3.5-turbo",
                    "processing_time_ms": 1250,
                    "tokens_used": 85,
                    "finish_reason": "stop",
                    "fallback_used": False,
                },
                "service_info": {
                    "integration_type": "LangChain Service",
                    "circuit_breaker_state": "CLOSED",
                    "service_url": "grpc://llm_worker",
                },
                "user_info": USER,
            },
        )
    )
    success: Literal[True]
    message: str
    data: Trial
    timestamp: Timestamp


class AskedMessage(BaseModel):
    """What the user said."""

    id: str
    content: str
    timestamp: Timestamp


class TokensUsed(BaseModel):
    """What was read and written."""

    input: int
    output: int
    total: int


class GivenAnswer(BaseModel):
    """What the AI said."""

    id: str
    content: str
    model_used: str | None
    processing_time_ms: int | None
    tokens_used: TokensUsed
    finish_reason: FinishReason
    timestamp: Timestamp
    via_langchain: Literal[True]


class ChatInfo(BaseModel):
    """The chat's sums."""

    chat_id: str
    total_messages: int
    total_tokens_used: int


class Exchange(BaseModel):
    """A question and its answer."""

    user_message: AskedMessage
    ai_response: GivenAnswer
    chat_info: ChatInfo
    service_info: ServiceBrief


class Answered(BaseModel):
    """Endpoint 12's answer, whole."""

    success: Literal[True]
    message: str
    streaming: Literal[False]
    service_used: Literal["langchain"]
    data: Exchange
    timestamp: Timestamp


class StreamService(BaseModel):
    """How the workers are."""

    circuit_breaker_state: Circuit
    langchain_available: bool


class Begun(BaseModel):
    """Where an answer that is under way comes."""

    user_message_id: str
    ai_message_id: str
    chat_id: str
    model_used: str | None
    stream_via: Literal["websocket"]
    service_info: StreamService


class Streaming(BaseModel):
    """Endpoint 12's answer with `stream`: the text goes over the WebSocket."""

    success: Literal[True]
    message: str
    streaming: Literal[True]
    service_used: Literal["langchain"]
    data: Begun
    timestamp: Timestamp


class ServiceDown(BaseModel):
    """Endpoint 12's failure when no provider can answer."""

    success: Literal[False]
    error: str
    error_code: Literal["langchain_service_unavailable"]
    service_info: ServiceBrief
    timestamp: Timestamp


ANSWERED: dict[str, Any] = {
    "success": True,
    "message": "AI response generated successfully via LangChain service",
    "streaming": False,
    "service_used": "langchain",
    "data": {
        "user_message": {
            "id": "msg-123",
            "content": "Hello! Can you explain the concept of machine learning?",
            "timestamp": "2024-01-01T12:35:00Z",
        },
        "ai_response": {
            "id": "msg-124",
            "content": "Machine learning is a way to have computers learn from data.",
            "model_used": "gpt-4",
            "processing_time_ms": 1250,
            "tokens_used": {"input": 45, "output": 120, "total": 165},
            "finish_reason": "stop",
            "timestamp": "2024-01-01T12:35:15Z",
            "via_langchain": True,
        },
        "chat_info": {"chat_id": CHAT_ID, "total_messages": 25, "total_tokens_used": 2450},
        "service_info": _BRIEF,
    },
    "timestamp": "2024-01-01T12:35:15Z",
}
STREAMING: dict[str, Any] = {
    "success": True,
    "message": "AI response generation started via LangChain",
    "streaming": True,
    "service_used": "langchain",
    "data": {
        "user_message_id": "msg-123",
        "ai_message_id": "msg-124",
        "chat_id": CHAT_ID,
        "model_used": "gpt-4",
        "stream_via": "websocket",
        "service_info": {"circuit_breaker_state": "CLOSED", "langchain_available": True},
    },
    "timestamp": "2024-01-01T12:35:00Z",
}
SERVICE_DOWN: dict[str, Any] = {
    "success": False,
    "error": "LangChain service temporarily unavailable",
    "error_code": "langchain_service_unavailable",
    "service_info": {"circuit_breaker_state": "OPEN", "service_health": "unhealthy"},
    "timestamp": "2024-01-01T12:35:10Z",
}
