"""What Arketic answers about itself, with the document's own examples."""

from typing import Any, Literal

from pydantic import BaseModel

from gateway.dialects.arketic.replies import TIME, USER, Circuit, Timestamp, UserInfo, Word, done
from gateway.openapi import example

_CONNECTIONS: dict[str, Any] = {
    "total_connections": 5,
    "active_chats": 2,
    "connections_per_chat": {"chat-123": 2, "chat-456": 3},
}
_SERVICE: dict[str, Any] = {
    "status": "healthy",
    "response_time_ms": 45,
    "circuit_breaker_state": "CLOSED",
    "failure_count": 0,
    "service_url": "grpc://llm_worker",
}
_BREAKER: dict[str, Any] = {
    "state": "CLOSED",
    "failure_count": 0,
    "failure_threshold": 5,
    "timeout_seconds": 25,
    "last_failure_time": None,
}


class Connections(BaseModel):
    """Open WebSockets, over all replicas."""

    total_connections: int
    active_chats: int
    connections_per_chat: dict[str, int]


class Stats(BaseModel):
    """The chat system's statistics."""

    model_config = example({"websocket_connections": _CONNECTIONS, "system_status": "operational", "timestamp": TIME})
    websocket_connections: Connections
    system_status: Literal["operational"]
    timestamp: Timestamp


class ServiceHealth(BaseModel):
    """How the workers are. `response_time_ms` when they are healthy, `error` when not."""

    status: Word
    response_time_ms: int = 0
    circuit_breaker_state: Circuit
    failure_count: int
    service_url: str
    error: str = ""


class BreakerState(BaseModel):
    """The breaker that stands worst."""

    state: Circuit
    failure_count: int
    failure_threshold: int
    timeout_seconds: int
    last_failure_time: Timestamp | None


class TargetState(BaseModel):
    """One model of one provider, as one worker finds it."""

    worker: int
    provider: str
    model: str
    state: Circuit
    failure_count: int
    last_failure_time: Timestamp | None
    cooling_down_until: Timestamp | None
    """Its provider asked to be left alone until then, or refused the key: no failure."""


class HealthCheck(BaseModel):
    """How the workers and their breakers stand. `targets` with `?fields=all` alone."""

    service_health: ServiceHealth
    circuit_breaker: BreakerState
    integration_status: Literal["active"]
    fallback_available: bool
    targets: list[TargetState] = []


class HealthChecked(BaseModel):
    """Endpoint 9's answer."""

    model_config = example(
        done(
            "LangChain service health check completed",
            {
                "service_health": _SERVICE,
                "circuit_breaker": _BREAKER,
                "integration_status": "active",
                "fallback_available": True,
            },
        )
    )
    success: Literal[True]
    message: str
    data: HealthCheck
    timestamp: Timestamp


class LangchainService(BaseModel):
    """The workers. `targets` with `?fields=all` alone."""

    health: ServiceHealth
    circuit_breaker: BreakerState
    base_url: str
    targets: list[TargetState] = []


class WebsocketManager(BaseModel):
    """The gateways."""

    status: Literal["operational"]
    connections: Connections


class DirectService(BaseModel):
    """A provider that is called directly."""

    status: Literal["available", "unavailable"]
    description: str


class FallbackServices(BaseModel):
    """Who stands in."""

    direct_openai: DirectService


class ServicesStatus(BaseModel):
    """All services at once."""

    langchain_service: LangchainService
    websocket_manager: WebsocketManager
    fallback_services: FallbackServices
    integration_features: dict[str, str]


class ServicesChecked(BaseModel):
    """Endpoint 11's answer."""

    model_config = example(
        done(
            "Services status check completed",
            {
                "langchain_service": {
                    "health": _SERVICE,
                    "circuit_breaker": _BREAKER,
                    "base_url": "grpc://llm_worker",
                },
                "websocket_manager": {"status": "operational", "connections": _CONNECTIONS},
                "fallback_services": {
                    "direct_openai": {
                        "status": "available",
                        "description": "Direct OpenAI API integration for fallback",
                    }
                },
                "integration_features": {
                    "circuit_breaker": "enabled",
                    "automatic_fallback": "enabled",
                    "streaming_support": "enabled",
                    "health_monitoring": "enabled",
                },
            },
        )
    )
    success: Literal[True]
    message: str
    data: ServicesStatus
    timestamp: Timestamp


class ConnectionTest(BaseModel):
    """What the caller reaches."""

    user_info: UserInfo
    redis: Literal["connected", "disconnected"]
    langchain_service: ServiceHealth
    websocket_url: str


class ConnectionTested(BaseModel):
    """The answer of `test/connection`."""

    model_config = example(
        done(
            "Connection test completed successfully",
            {
                "user_info": USER,
                "redis": "connected",
                "langchain_service": _SERVICE,
                "websocket_url": "ws://localhost:8000/api/v1/chat/chats/{chat_id}/ws",
            },
        )
    )
    success: Literal[True]
    message: str
    data: ConnectionTest
    timestamp: Timestamp
