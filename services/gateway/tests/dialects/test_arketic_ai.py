"""Arketic with the real worker and simulated providers: answers over HTTP, tests, and how the deployment stands."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from launcher.stack import Stack

from ..client import http
from .arketic_user import PREFIX, TIME, UUID, User

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = Path(__file__).parents[4] / "examples" / "arketic_client.py"
TEXT = "Machine learning is a subset of artificial intelligence."
USAGE = {"input_tokens": 45, "output_tokens": 120}
FORM = {
    "circuit_breaker": {
        "state": "CLOSED",
        "failure_count": 0,
        "failure_threshold": 5,
        "timeout_seconds": 25,
        "last_failure_time": None,
    },
    "service": {"status": "healthy", "circuit_breaker_state": "CLOSED", "failure_count": 0},
}


def plan(**fields: Any) -> str:
    """A message that says what the simulator shall do with it."""
    return f"[[sim {json.dumps(fields)}]] Hello! Can you explain the concept of machine learning?"


def someone(stack: Stack, name: str = "user") -> User:
    return User(stack, f"{name} {uuid.uuid4()}")


async def eventually(look: Callable[[], Awaitable[object]]) -> None:
    """Asks until it is so; the system tells others by and by."""
    async with asyncio.timeout(60):
        while not await look():
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def failing() -> AsyncIterator[Stack]:
    """A system of its own, whose providers may be broken; two of each."""
    async with Stack(workers=2, gateways=2, environment={"RATE_LIMITS": "off"}) as stack:
        await stack.wait_serving()
        yield stack


async def test_an_answer_over_http_is_as_printed(whole: Stack) -> None:
    user = someone(whole)
    chat_id = await user.make_chat(ai_model="gpt-4")
    question = plan(text=TEXT, usage=USAGE)
    body = {"message": question, "stream": False, "save_to_history": True}
    given = await user.good("POST", f"/chats/{chat_id}/ai-message", body)
    content = given["data"]
    asked, answer = content["user_message"], content["ai_response"]
    assert all(UUID.fullmatch(one["id"]) and TIME.fullmatch(one["timestamp"]) for one in (asked, answer))
    assert isinstance(answer["processing_time_ms"], int)
    assert given == {
        "success": True,
        "message": "AI response generated successfully via LangChain service",
        "streaming": False,
        "service_used": "langchain",
        "data": {
            "user_message": {"id": asked["id"], "content": question, "timestamp": asked["timestamp"]},
            "ai_response": {
                "id": answer["id"],
                "content": TEXT,
                "model_used": "gpt-4",
                "processing_time_ms": answer["processing_time_ms"],
                "tokens_used": {"input": 45, "output": 120, "total": 165},
                "finish_reason": "stop",
                "timestamp": answer["timestamp"],
                "via_langchain": True,
            },
            "chat_info": {"chat_id": chat_id, "total_messages": 2, "total_tokens_used": 165},
            "service_info": {"circuit_breaker_state": "CLOSED", "service_health": "healthy"},
        },
        "timestamp": given["timestamp"],
    }
    [first, second] = await user.history(chat_id)
    assert [first["id"], second["id"]] == [asked["id"], answer["id"]]
    assert (second["tokens_used"], second["processing_time_ms"]) == (165, answer["processing_time_ms"])
    again = await user.good("POST", f"/chats/{chat_id}/ai-message", {"message": plan(text="x", finish_reason="length")})
    assert again["data"]["ai_response"]["finish_reason"] == "length"
    assert again["data"]["chat_info"]["total_messages"] == 4


async def test_a_streamed_answer_gives_its_ids_and_comes_over_the_socket(whole: Stack) -> None:
    user = someone(whole)
    chat_id = await user.make_chat(ai_model="gpt-4")
    visit = await (await user.visit(chat_id)).present()
    body = {"message": plan(text=TEXT, usage=USAGE), "stream": True, "save_to_history": True}
    given = await user.good("POST", f"/chats/{chat_id}/ai-message", body)
    ids = given["data"]["user_message_id"], given["data"]["ai_message_id"]
    assert given == {
        "success": True,
        "message": "AI response generation started via LangChain",
        "streaming": True,
        "service_used": "langchain",
        "data": {
            "user_message_id": ids[0],
            "ai_message_id": ids[1],
            "chat_id": chat_id,
            "model_used": "gpt-4",
            "stream_via": "websocket",
            "service_info": {"circuit_breaker_state": "CLOSED", "langchain_available": True},
        },
        "timestamp": given["timestamp"],
    }
    frames = await visit.receive_until("ai_response_complete")
    assert [frames[0]["message"]["id"], frames[-1]["message"]["id"]] == list(ids)
    end = frames[-1]["message"]
    assert (end["content"], end["tokens_used"], end["ai_model_used"]) == (TEXT, 165, "gpt-4")
    await visit.close()


async def test_what_is_not_to_be_kept_is_in_no_history_and_its_tokens_count(whole: Stack) -> None:
    user = someone(whole)
    chat_id = await user.make_chat()
    visit = await (await user.visit(chat_id)).present()
    body = {"message": plan(text=TEXT, usage=USAGE), "save_to_history": False}
    given = await user.good("POST", f"/chats/{chat_id}/ai-message", body)
    assert given["data"]["ai_response"]["content"] == TEXT
    assert given["data"]["chat_info"] == {"chat_id": chat_id, "total_messages": 0, "total_tokens_used": 165}
    assert await user.history(chat_id) == []
    end = (await visit.receive_until("ai_response_complete"))[-1]["message"]
    assert (end["id"], end["content"]) == (given["data"]["ai_response"]["id"], TEXT)
    await visit.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"message": ""}, 400),
        ({"message": "  "}, 400),
        ({}, 422),
        ({"message": "x" * 50_001}, 422),
        ({"message": "Hi", "stream": "perhaps"}, 422),
        ({"message": plan(code="content_policy")}, 400),
    ],
)
async def test_a_bad_question_has_the_documents_status(whole: Stack, body: dict[str, Any], status: int) -> None:
    user = someone(whole)
    chat_id = await user.make_chat()
    response = await user.ask("POST", f"/chats/{chat_id}/ai-message", body)
    assert (response.status, list(response.body)) == (status, ["detail"])


async def test_an_answer_asked_twice_with_one_key_is_made_once(whole: Stack) -> None:
    user = someone(whole)
    chat_id = await user.make_chat()
    body = {"message": plan(text=TEXT)}
    answers = [await user.good("POST", f"/chats/{chat_id}/ai-message", body, idempotency_key="once") for _ in range(2)]
    assert [answer["data"]["ai_response"]["content"] for answer in answers] == [TEXT, TEXT]
    assert answers[0]["data"]["ai_response"]["id"] == answers[1]["data"]["ai_response"]["id"]
    assert len(await user.history(chat_id)) == 2


async def test_a_client_that_goes_away_does_not_stop_its_answer(whole: Stack) -> None:
    user = someone(whole)
    chat_id = await user.make_chat()
    visit = await (await user.visit(chat_id)).present()
    body = json.dumps({"message": plan(text=TEXT, interval_ms=50)}).encode()
    host, _, port = whole.gateway_urls[0].removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {PREFIX}/chats/{chat_id}/ai-message HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user.token}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await visit.receive_until("ai_response_chunk")
    writer.close()
    await writer.wait_closed()
    assert (await visit.receive_until("ai_response_complete"))[-1]["message"]["content"] == TEXT
    await visit.close()


async def test_an_answer_that_somebody_stops_is_given_as_far_as_it_came(whole: Stack) -> None:
    user = someone(whole)
    chat_id = await user.make_chat()
    visit = await (await user.visit(chat_id)).present()
    asking = asyncio.create_task(
        user.good("POST", f"/chats/{chat_id}/ai-message", {"message": plan(deltas=1000, interval_ms=20)})
    )
    await visit.receive_until("ai_response_chunk")
    await visit.socket.send('{"type": "cancel"}')
    answer = (await asking)["data"]["ai_response"]
    end = (await visit.receive_until("ai_response_complete"))[-1]["message"]
    assert (answer["finish_reason"], answer["content"]) == ("cancelled", end["content"])
    await visit.close()


async def test_who_waits_for_an_answer_in_a_chat_that_is_deleted_is_told(whole: Stack) -> None:
    user = someone(whole)
    chat_id = await user.make_chat()
    visit = await (await user.visit(chat_id)).present()
    asking = asyncio.create_task(
        user.ask("POST", f"/chats/{chat_id}/ai-message", {"message": plan(deltas=1000, interval_ms=20)})
    )
    await visit.receive_until("ai_response_chunk")
    await user.good("DELETE", f"/chats/{chat_id}")
    response = await asking
    assert (response.status, list(response.body)) == (404, ["detail"])
    assert (await visit.socket.closing())[1] == 1000


async def run(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_documents_flow_works_as_its_samples_show_it(whole: Stack) -> None:
    url, user = whole.gateway_urls[0], someone(whole)
    status, out, err = await run("--url", url, "--token", user.token, plan(text=TEXT, usage=USAGE))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert TEXT in lines
    assert any(line.startswith("(gpt-4, 165 tokens, ") for line in lines)
    assert lines[-1] == "everything worked"
    [chat] = await user.good("GET", "/chats")
    assert chat["title"] == "Python Learning Chat"


async def test_the_samples_script_says_what_went_wrong(whole: Stack) -> None:
    status, _, err = await run("--url", whole.gateway_urls[0], "--token", "of.bad.news")
    assert status == 1
    assert "401" in err
    assert (await run("--url", whole.gateway_urls[0], "--token", ""))[0] == 2


@pytest.mark.parametrize(
    ("path", "message", "integration"),
    [
        ("/langchain/test", "LangChain service test completed successfully", "LangChain Service"),
        ("/openai/test", "OpenAI integration test completed successfully", "Direct OpenAI"),
    ],
)
async def test_a_test_is_answered_as_printed(whole: Stack, path: str, message: str, integration: str) -> None:
    user = someone(whole)
    request = {
        "message": plan(text="Hello!", usage={"input_tokens": 80, "output_tokens": 5}),
        "model": "gpt-3.5-turbo",
        "temperature": 0.7,
        "system_prompt": "You are testing the LangChain service.",
    }
    given = await user.good("POST", path, request)
    took = given["data"]["response"]["processing_time_ms"]
    assert isinstance(took, int)
    assert given == {
        "success": True,
        "message": message,
        "data": {
            "request": request,
            "response": {
                "content": "Hello!",
                "model_used": "gpt-3.5-turbo",
                "processing_time_ms": took,
                "tokens_used": 85,
                "finish_reason": "stop",
                "fallback_used": False,
            },
            "service_info": {
                "integration_type": integration,
                "circuit_breaker_state": "CLOSED",
                "service_url": "grpc://llm_worker",
            },
            "user_info": {"user_id": user.id, "username": user.id},
        },
        "timestamp": given["timestamp"],
    }
    unheard_of = await user.good("POST", path, {"message": plan(text="Hi"), "model": "unheard-of"})
    assert unheard_of["data"]["response"]["content"] == "Hi"
    for wrong, status in (({"message": ""}, 400), ({}, 422), ({"message": "Hi", "temperature": 2}, 422)):
        assert (await user.ask("POST", path, wrong)).status == status


async def test_how_the_services_stand_is_told_as_printed(whole: Stack) -> None:
    user = someone(whole)
    await eventually(lambda: _healthy(user))
    health = await user.good("GET", "/langchain/health")
    service = FORM["service"] | {"service_url": "grpc://llm_worker"}
    took = health["data"]["service_health"].pop("response_time_ms")
    assert isinstance(took, int)
    # Others' tests may have had a provider fail: the time of that stands for as long as its worker lives.
    failed_at = health["data"]["circuit_breaker"]["last_failure_time"]
    breaker = FORM["circuit_breaker"] | {"last_failure_time": failed_at}
    assert failed_at is None or failed_at.endswith("Z")
    assert health == {
        "success": True,
        "message": "LangChain service health check completed",
        "data": {
            "service_health": service,
            "circuit_breaker": breaker,
            "integration_status": "active",
            "fallback_available": True,
        },
        "timestamp": health["timestamp"],
    }
    status = await user.good("GET", "/services/status")
    del status["data"]["langchain_service"]["health"]["response_time_ms"]
    connections = status["data"]["websocket_manager"]["connections"]
    assert list(connections) == ["total_connections", "active_chats", "connections_per_chat"]
    assert status == {
        "success": True,
        "message": "Services status check completed",
        "data": {
            "langchain_service": {
                "health": service,
                "circuit_breaker": breaker,
                "base_url": "grpc://llm_worker",
            },
            "websocket_manager": {"status": "operational", "connections": connections},
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
        "timestamp": status["timestamp"],
    }
    tested = await user.good("POST", "/test/connection")
    assert (tested["success"], tested["data"]["redis"]) == (True, "connected")
    assert tested["data"]["user_info"] == {"user_id": user.id, "username": user.id}
    assert tested["data"]["websocket_url"].startswith("ws://")


async def test_each_target_and_its_cooldown_apart_from_its_failures_can_be_seen(whole: Stack) -> None:
    user = someone(whole)

    async def cooling() -> list[dict[str, Any]]:
        targets = (await user.good("GET", "/langchain/health?fields=all"))["data"]["targets"]
        return [one for one in targets if one["cooling_down_until"]]

    models = {"claude-sonnet-4-5": "anthropic", "gpt-4.1-mini": "openai"}
    targets = (await user.good("GET", "/services/status?fields=all"))["data"]["langchain_service"]["targets"]
    assert {one["model"]: one["provider"] for one in targets}.items() >= models.items()
    limited = {"openai": {"status": 429, "retry_after": 60}, "*": {"text": "Hi"}}
    await user.good("POST", "/openai/test", {"message": plan(**limited), "model": "gpt-4.1-mini"})
    await eventually(cooling)
    [target] = await cooling()
    assert (target["model"], target["state"], target["failure_count"]) == ("gpt-4.1-mini", "CLOSED", 0)
    assert target["last_failure_time"] is None


async def _healthy(user: User) -> bool:
    health = await user.good("GET", "/langchain/health")
    return bool(health["data"]["service_health"]["status"] == "healthy")


async def test_a_users_own_keys_are_kept_and_never_shown(whole: Stack) -> None:
    user, other = someone(whole), someone(whole)
    path, secret = "/api/v1/settings/api-keys", "sk-live-0123456789"
    assert (await user.ask("GET", f"{path}/openai")).status == 404
    put = await user.good("PUT", f"{path}/openai", {"api_key": secret})
    assert put == {"provider": "openai", "configured": True, "version": 1, "updated_at": put["updated_at"]}
    assert TIME.fullmatch(put["updated_at"])
    assert await user.good("GET", f"{path}/openai") == put
    assert (await user.good("PUT", f"{path}/openai", {"api_key": secret + "x"}))["version"] == 2
    listed = await user.good("GET", path)
    assert [key["provider"] for key in listed] == ["openai"]
    assert secret not in json.dumps([put, listed])
    assert await other.good("GET", path) == []
    for wrong in ({}, {"api_key": ""}, {"api_key": "has spaces in it"}, {"api_key": 5}):
        refused = await user.ask("PUT", f"{path}/openai", wrong)
        assert (refused.status, refused.body["detail"][0]["loc"]) == (422, ["api_key"])
        assert "spaces" not in json.dumps(refused.body)
    assert (await user.ask("PUT", f"{path}/nobody", {"api_key": secret})).status == 404
    assert await user.good("DELETE", f"{path}/openai") == {"provider": "openai", "configured": False}
    assert (await user.ask("GET", f"{path}/openai")).status == 404
    assert (await http("GET", whole.gateway_urls[0] + path)).status == 401


async def test_an_answer_is_made_with_the_users_own_key_and_a_refused_key_is_told(whole: Stack) -> None:
    user = someone(whole)
    chat_id = await user.make_chat(ai_model="gpt-4o")
    await user.good("PUT", "/api/v1/settings/api-keys/openai", {"api_key": "sk-user-0123456789"})
    refused = await user.ask("POST", f"/chats/{chat_id}/ai-message", {"message": plan(code="invalid_api_key")})
    assert refused.status == 400
    assert "own openai key" in refused.body["detail"]
    await user.good("DELETE", "/api/v1/settings/api-keys/openai")
    # In another chat: the simulator would read the first question once more.
    chat_id = await user.make_chat(ai_model="gpt-4o")
    given = await user.good("POST", f"/chats/{chat_id}/ai-message", {"message": plan(text="Fine")})
    assert given["data"]["ai_response"]["content"] == "Fine"


async def test_statistics_count_all_replicas_and_who_dies_stops_counting(failing: Stack) -> None:
    user = someone(failing)
    chats = [await user.make_chat(), await user.make_chat()]
    visits = [await user.visit(chat_id, replica=replica) for chat_id in chats for replica in (0, 1)]
    visits.append(await user.visit(chats[0], replica=1))

    async def counted(per_chat: dict[str, int], replica: int) -> bool:
        stats = await user.good("GET", "/stats", replica=replica)
        assert list(stats) == ["websocket_connections", "system_status", "timestamp"]
        assert stats["system_status"] == "operational"
        return bool(
            stats["websocket_connections"]
            == {
                "total_connections": sum(per_chat.values()),
                "active_chats": len(per_chat),
                "connections_per_chat": per_chat,
            }
        )

    await eventually(lambda: counted({chats[0]: 3, chats[1]: 2}, 0))
    await eventually(lambda: counted({chats[0]: 3, chats[1]: 2}, 1))
    await visits.pop().close()
    await eventually(lambda: counted({chats[0]: 2, chats[1]: 2}, 0))
    await failing.gateways[1].kill()
    await eventually(lambda: counted({chats[0]: 1, chats[1]: 1}, 0))
    await failing.gateways[1].start()
    await failing.wait_serving()
    for visit in visits:
        await visit.close()


async def test_another_provider_stands_in_and_the_test_says_so(failing: Stack) -> None:
    user = someone(failing)
    message = plan(openai={"status": 401}, anthropic={"text": "Standing in"})
    given = (await user.good("POST", "/langchain/test", {"message": message, "model": "gpt-4o"}))["data"]
    assert given["response"]["content"] == "Standing in"
    assert (given["response"]["fallback_used"], given["service_info"]["integration_type"]) == (
        True,
        "LangChain Service (Fallback)",
    )


async def test_when_no_provider_answers_it_is_503_in_the_documents_form_and_the_breaker_opens(failing: Stack) -> None:
    user = someone(failing)
    chat_id = await user.make_chat(ai_model="gpt-4")
    visit = await (await user.visit(chat_id)).present()
    down = plan(status=503)

    async def opened() -> bool:
        response = await user.ask("POST", f"/chats/{chat_id}/ai-message", {"message": down})
        assert response.status == 503
        form = {
            "success": False,
            "error": "LangChain service temporarily unavailable",
            "error_code": "langchain_service_unavailable",
            "service_info": response.body["service_info"],
            "timestamp": response.body["timestamp"],
        }
        assert response.body == form
        error = (await visit.receive_until("ai_error"))[-1]
        assert error["error_code"] == "langchain_service_unavailable"
        return bool(response.body["service_info"] == {"circuit_breaker_state": "OPEN", "service_health": "unhealthy"})

    await eventually(opened)
    health = (await user.good("GET", "/langchain/health"))["data"]
    service, breaker = health["service_health"], health["circuit_breaker"]
    assert list(service) == ["status", "circuit_breaker_state", "failure_count", "service_url", "error"]
    assert (service["status"], service["error"]) == ("unhealthy", "Service unavailable")
    assert service["circuit_breaker_state"] == breaker["state"] == "OPEN"
    assert service["failure_count"] == breaker["failure_count"] >= 5
    assert TIME.fullmatch(breaker["last_failure_time"])
    await visit.close()


async def test_without_any_key_the_user_is_asked_to_set_one_up() -> None:
    async with Stack(simulator=False, environment={"RATE_LIMITS": "off"}) as stack:
        await stack.wait_serving()
        user = someone(stack)
        chat_id = await user.make_chat()
        visit = await (await user.visit(chat_id)).present()
        await user.say(chat_id, "Hello")
        error = (await visit.receive_until("ai_error"))[-1]
        assert error == {
            "type": "ai_error",
            "error": "Please set up your OpenAI API key in Settings to enable AI responses.",
            "chat_id": chat_id,
            "error_code": "no_api_key",
            "timestamp": error["timestamp"],
        }
        refused = await user.ask("POST", f"/chats/{chat_id}/ai-message", {"message": "Hello"})
        assert (refused.status, refused.body) == (400, {"detail": error["error"]})
        await visit.close()
