"""Endpoints 8, 9 and 11, and `test/connection`: the whole deployment, as its replicas report it."""

from typing import Any

from fastapi import APIRouter, Request

from gateway.dialect import Services
from gateway.dialects.arketic.access import shown_name
from gateway.dialects.arketic.chats import Fields
from gateway.dialects.arketic.health import SERVICE_URL, examine, look
from gateway.dialects.arketic.status_replies import ConnectionTested, HealthChecked, ServicesChecked, Stats
from gateway.dialects.arketic.wire import micros, timestamp
from gateway.http import caller_of, websocket_origin


def add_status(router: APIRouter, services: Services) -> None:
    """Adds the endpoints."""

    def now() -> str:
        return timestamp(micros(services.now_s()))

    def done(message: str, content: dict[str, Any]) -> dict[str, Any]:
        return {"success": True, "message": message, "data": content, "timestamp": now()}

    @router.get("/stats", response_model=Stats)
    async def stats() -> dict[str, Any]:
        """Open WebSockets, over all replicas."""
        health = await look(services.replicas)
        return {
            "websocket_connections": health.connections_object(),
            "system_status": "operational",
            "timestamp": now(),
        }

    @router.get("/langchain/health", response_model=HealthChecked, response_model_exclude_unset=True)
    async def langchain_health(fields: Fields = "document") -> dict[str, Any]:
        """How the workers and their breakers stand."""
        health = await examine(services.replicas, services.models, services.now_s)
        content = {
            "service_health": health.service_object(),
            "circuit_breaker": health.breaker_object(),
            "integration_status": "active",
            "fallback_available": health.has_fallback,
        }
        if fields == "all":
            content["targets"] = health.targets_object()
        return done("LangChain service health check completed", content)

    @router.get("/services/status", response_model=ServicesChecked, response_model_exclude_unset=True)
    async def services_status(fields: Fields = "document") -> dict[str, Any]:
        """All services at once."""
        health = await examine(services.replicas, services.models, services.now_s)
        content: dict[str, Any] = {
            "langchain_service": {
                "health": health.service_object(),
                "circuit_breaker": health.breaker_object(),
                "base_url": SERVICE_URL,
            },
            "websocket_manager": {"status": "operational", "connections": health.connections_object()},
            "fallback_services": {
                "direct_openai": {
                    "status": "available" if health.has_direct else "unavailable",
                    "description": "Direct OpenAI API integration for fallback",
                }
            },
            "integration_features": {
                "circuit_breaker": "enabled",
                "automatic_fallback": "enabled",
                "streaming_support": "enabled",
                "health_monitoring": "enabled",
            },
        }
        if fields == "all":
            content["langchain_service"]["targets"] = health.targets_object()
        return done("Services status check completed", content)

    @router.post("/test/connection", response_model=ConnectionTested, response_model_exclude_unset=True)
    async def test_connection(request: Request) -> dict[str, Any]:
        """Whether the caller's token is good, and what it reaches; the document prints the request alone."""
        caller = caller_of(request)
        connected = await services.sessions.check_store()
        health = await examine(services.replicas, services.models, services.now_s)
        content = {
            "user_info": {"user_id": caller.user_id, "username": shown_name(caller)},
            "redis": "connected" if connected else "disconnected",
            "langchain_service": health.service_object(),
            "websocket_url": f"{websocket_origin(request, services.public_url)}/api/v1/chat/chats/{{chat_id}}/ws",
        }
        return done("Connection test completed successfully", content)
