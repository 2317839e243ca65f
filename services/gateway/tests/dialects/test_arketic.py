"""Arketic over the running system, answers as a test scripts them: chats, messages, the WebSocket, limits, statuses."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from switchboard.session.v1 import session_pb2

from ..client import Socket, http
from ..conftest import System
from .arketic_user import CHAT_KEYS, MESSAGE_KEYS, PREFIX, TIME, UUID, User

pytestmark = pytest.mark.asyncio(loop_scope="session")

PRINTED_CHAT = {
    "title": "My AI Chat",
    "description": "Chat about AI development topics",
    "chat_type": "DIRECT",
    "ai_model": "gpt-4",
    "ai_persona": "helpful assistant",
    "system_prompt": "You are a helpful AI assistant specialized in software development.",
    "temperature": 0.7,
    "max_tokens": 2048,
    "is_private": False,
    "tags": ["ai", "development", "assistance"],
}


def someone(system: System, name: str = "user") -> User:
    return User(system.stack, f"{name} {uuid.uuid4()}")


async def test_a_chat_is_made_as_the_document_prints_it(system: System) -> None:
    user = someone(system)
    made = await user.good("POST", "/chats", PRINTED_CHAT)
    assert list(made) == CHAT_KEYS
    assert UUID.fullmatch(made["id"])
    assert TIME.fullmatch(made["created_at"])
    assert made["last_activity_at"] == made["created_at"]
    kept = ("title", "description", "chat_type", "ai_model", "ai_persona", "is_private", "tags")
    assert {key: made[key] for key in kept} == {key: PRINTED_CHAT[key] for key in kept}
    assert made["message_count"] == 0
    assert await user.good("GET", "/chats") == [made]
    assert await user.good("GET", f"/chats/{made['id']}") == {"chat": made, "messages": [], "participant_count": 1}


async def test_a_title_is_all_that_a_chat_needs(system: System) -> None:
    made = await someone(system).good("POST", "/chats", {"title": "T"})
    assert made | {"id": 0, "created_at": 0, "last_activity_at": 0} == {
        "id": 0,
        "title": "T",
        "description": None,
        "chat_type": "DIRECT",
        "ai_model": "gpt-3.5-turbo",
        "ai_persona": None,
        "message_count": 0,
        "last_activity_at": 0,
        "created_at": 0,
        "is_private": False,
        "tags": None,
    }


async def test_how_answers_are_made_is_told_to_the_worker(system: System) -> None:
    user = someone(system)
    chats = [
        await user.make_chat(system_prompt="Be brief.", ai_persona="pirate", temperature=0, max_tokens=7),
        await user.make_chat(ai_persona="a pirate", ai_model="unheard-of"),
    ]
    asked = [await system.worker.call(system.worker.session.GetChat, _get(chat_id)) for chat_id in chats]
    answers = [one.chat.answers for one in asked]
    assert [(one.persona, one.model, one.system_prompt) for one in answers] == [
        ("arketic", "gpt-3.5-turbo", "Be brief."),
        ("arketic", "unheard-of", "You are this: a pirate."),
    ]
    assert [(one.temperature, one.max_output_tokens) for one in answers] == [(0.0, 7), (0.7, 2048)]


def _get(chat_id: str) -> session_pb2.GetChatRequest:
    return session_pb2.GetChatRequest(chat_id=chat_id)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": None}, "title"),
        ({"description": "x" * 1001}, "description"),
        ({"chat_type": "direct"}, "chat_type"),
        ({"temperature": 1.01}, "temperature"),
        ({"temperature": -0.01}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 32_001}, "max_tokens"),
        ({"is_private": "perhaps"}, "is_private"),
        ({"tags": "ai"}, "tags"),
        ({"ai_model": ""}, "ai_model"),
    ],
)
async def test_a_chat_out_of_range_is_422_and_the_field_is_named(
    system: System, wrong: dict[str, Any], field: str
) -> None:
    response = await someone(system).ask("POST", "/chats", {"title": "T", **wrong})
    assert response.status == 422
    [problem] = response.body["detail"]
    assert problem["loc"] == [field]
    assert set(problem) == {"loc", "msg", "type"}


async def test_a_chat_at_the_limits_is_made(system: System) -> None:
    widest = {"title": "ü" * 200, "description": "x" * 1000, "temperature": 1.0, "max_tokens": 32_000}
    made = await someone(system).good("POST", "/chats", widest)
    assert (made["title"], made["description"]) == (widest["title"], widest["description"])


async def test_what_is_no_json_or_has_no_title_is_422(system: System) -> None:
    user = someone(system)
    assert (await user.ask("POST", "/chats", b"{")).body["detail"][0]["loc"] == ["body"]
    assert (await user.ask("POST", "/chats", {})).body["detail"][0]["loc"] == ["title"]


async def test_chats_are_listed_by_last_activity_in_pages(system: System) -> None:
    user = someone(system)
    chats = [await user.make_chat(ai_model=None) for _ in range(3)]
    await user.say(chats[0], "Up")
    order = [chats[0], chats[2], chats[1]]
    assert [chat["id"] for chat in await user.good("GET", "/chats")] == order
    assert [chat["id"] for chat in await user.good("GET", "/chats?limit=1&offset=1")] == order[1:2]
    for query in ("limit=0", "limit=1001", "offset=-1", "limit=many"):
        response = await user.ask("GET", f"/chats?{query}")
        assert (response.status, response.body["detail"][0]["loc"]) == (422, [query.split("=")[0]])


async def test_every_endpoint_wants_a_token(system: System) -> None:
    chat_id = await someone(system).make_chat()
    paths = {
        "POST": ["/chats", "/chats/{}/messages", "/chats/{}/typing", "/chats/{}/ai-message", "/langchain/test"],
        "GET": ["/chats", "/chats/{}", "/chats/{}/participants", "/stats", "/langchain/health", "/services/status"],
    }
    paths["POST"] += ["/test/connection", "/openai/test"]
    for method, some in paths.items():
        for path in some:
            for token in ("", "of.bad.news"):
                url = system.urls[0] + PREFIX + path.format(chat_id)
                response = await http(method, url, {} if method == "POST" else None, key=token)
                assert (response.status, list(response.body)) == (401, ["detail"]), path
                assert response.headers["www-authenticate"] == "Bearer"


async def test_nobody_else_gets_in_and_what_is_not_there_is_404(system: System) -> None:
    owner, stranger = someone(system), someone(system)
    chat_id = await owner.make_chat()
    for method, path, body in (
        ("GET", "", None),
        ("POST", "/messages", {"content": "Hi"}),
        ("POST", "/typing", None),
        ("POST", "/ai-message", {"message": "Hi"}),
        ("GET", "/participants", None),
        ("POST", "/participants", {"user_id": stranger.id}),
        ("PATCH", "", {"title": "Mine"}),
        ("DELETE", "", None),
    ):
        response = await stranger.ask(method, f"/chats/{chat_id}{path}", body)
        assert (response.status, response.body) == (403, {"detail": "Access denied to this chat"}), path
        for unknown in (str(uuid.uuid4()), "no%20id"):
            response = await owner.ask(method, f"/chats/{unknown}{path}", body)
            # The document knows no 404 where participants are listed.
            assert response.status == (403 if (method, path) == ("GET", "/participants") else 404), path
    assert (await owner.ask("GET", f"/chats/{uuid.uuid4()}")).body == {"detail": "Chat not found or archived"}
    assert await stranger.good("GET", "/chats") == []


async def test_a_chat_is_changed_archived_brought_back_and_deleted(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat(ai_persona="pirate", description="old")
    changed = await user.good("PATCH", f"/chats/{chat_id}", {"title": "New", "tags": ["x"], "ai_model": "claude"})
    assert (changed["title"], changed["tags"], changed["ai_model"], changed["description"], changed["ai_persona"]) == (
        "New",
        ["x"],
        "claude",
        "old",
        "pirate",
    )
    visit = await (await user.visit(chat_id)).present()
    await user.good("PATCH", f"/chats/{chat_id}", {"archived": True})
    assert await user.good("GET", "/chats") == []
    for method, path, body in (
        ("GET", "", None),
        ("POST", "/messages", {"content": "Hi"}),
        ("POST", "/ai-message", {"message": "Hi"}),
    ):
        assert (await user.ask(method, f"/chats/{chat_id}{path}", body)).status == 404
    frames, code, _ = await (await Socket.open(user.address(chat_id))).closing()
    assert ([frame["error"] for frame in frames], code) == (["Chat not found or archived"], 1008)
    await user.good("PATCH", f"/chats/{chat_id}", {"archived": False})
    assert [chat["id"] for chat in await user.good("GET", "/chats")] == [chat_id]
    deleted = await user.good("DELETE", f"/chats/{chat_id}")
    assert (deleted["status"], deleted["chat_id"]) == ("deleted", chat_id)
    assert (await visit.socket.closing())[1] == 1000
    assert (await user.ask("GET", f"/chats/{chat_id}")).status == 404


async def test_changes_at_the_same_moment_all_stand(system: System) -> None:
    user = someone(system)
    for _ in range(5):
        chat_id = await user.make_chat()
        changes = (
            {"title": "New"},
            {"archived": True},
            {"tags": ["x"]},
            {"ai_model": "claude"},
            {"description": "told"},
        )
        await asyncio.gather(*(user.good("PATCH", f"/chats/{chat_id}", change) for change in changes))
        chat = await user.good("PATCH", f"/chats/{chat_id}", {"archived": False})
        assert (chat["title"], chat["tags"], chat["ai_model"], chat["description"]) == ("New", ["x"], "claude", "told")


async def test_a_message_is_sent_answered_and_in_the_history_as_printed(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat(ai_model="gpt-4")
    metadata = {"source": "web_app", "user_agent": "Mozilla/5.0...", "deep": {"n": -(2**53), "list": [True, None]}}
    body = {
        "content": "Can you explain how async/await works in Python?",
        "message_type": "USER",
        "reply_to_id": None,
        "message_metadata": metadata,
    }
    sent = await user.good("POST", f"/chats/{chat_id}/messages", body)
    assert list(sent) == MESSAGE_KEYS
    assert UUID.fullmatch(sent["id"])
    assert TIME.fullmatch(sent["created_at"])
    assert sent | {"id": 0, "created_at": 0} == {
        "id": 0,
        "chat_id": chat_id,
        "sender_id": user.id,
        "content": body["content"],
        "message_type": "USER",
        "ai_model_used": None,
        "tokens_used": None,
        "processing_time_ms": None,
        "status": "DELIVERED",
        "created_at": 0,
        "is_edited": False,
    }
    turn = await system.worker.claim(chat_id)
    await turn.say("Like ")
    [_, running] = await user.history(chat_id)
    assert (running["status"], running["content"]) == ("PROCESSING", "Like ")
    await turn.say("this.")
    await turn.complete()
    [asked, answer] = await user.history(chat_id)
    assert asked == sent
    assert list(answer) == MESSAGE_KEYS
    assert (answer["sender_id"], answer["content"], answer["message_type"]) == (None, "Like this.", "AI")
    assert (answer["status"], answer["ai_model_used"]) == ("DELIVERED", "m")
    [asked, answer] = await user.history(chat_id, "?fields=all")
    assert (asked["reply_to_id"], asked["message_metadata"]) == (None, metadata)
    assert (answer["reply_to_id"], answer["message_metadata"]) == (sent["id"], None)
    chat = (await user.good("GET", f"/chats/{chat_id}"))["chat"]
    assert chat["message_count"] == 2


async def test_a_reply_names_a_message_of_the_chat(system: System) -> None:
    user = someone(system)
    chat_id, other = await user.make_chat(ai_model=None), await user.make_chat(ai_model=None)
    first, elsewhere = await user.say(chat_id, "First"), await user.say(other, "Elsewhere")
    reply = await user.good(
        "POST", f"/chats/{chat_id}/messages?fields=all", {"content": "Second", "reply_to_id": first["id"]}
    )
    assert reply["reply_to_id"] == first["id"]
    for wrong in (elsewhere["id"], str(uuid.uuid4()), "no id"):
        body = {"content": "Hi", "reply_to_id": wrong}
        response = await user.ask("POST", f"/chats/{chat_id}/messages", body)
        assert (response.status, response.body["detail"][0]["loc"]) == (422, ["reply_to_id"])


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"content": ""}, 400, ""),
        ({"content": " \n\t"}, 400, ""),
        ({}, 422, "content"),
        ({"content": None}, 422, "content"),
        ({"content": "x" * 50_001}, 422, "content"),
        ({"content": "Hi", "message_type": "BOT"}, 422, "message_type"),
        ({"content": "Hi", "message_type": "AI"}, 403, ""),
        ({"content": "Hi", "message_metadata": []}, 422, "message_metadata"),
        ({"content": "Hi", "message_metadata": {"x": "y" * 17_000}}, 422, "message_metadata"),
        ({"content": "Hi", "message_metadata": {"x": [float("nan")]}}, 422, "message_metadata"),
        ({"content": "Hi", "message_metadata": {"x": 2**70}}, 422, "message_metadata"),
        ({"content": "Hi", "message_metadata": {"x": [2**53 + 1]}}, 422, "message_metadata"),
        ({"content": "Hi", "message_metadata": {"x": -(2**53) - 1}}, 422, "message_metadata"),
        ({"content": "Hi", "message_metadata": json.loads('{"a":' * 20 + "1" + "}" * 20)}, 422, "message_metadata"),
    ],
)
async def test_a_message_that_can_not_be_taken_has_the_documents_status(
    system: System, body: dict[str, Any], status: int, field: str
) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    response = await user.ask("POST", f"/chats/{chat_id}/messages", body)
    assert response.status == status
    if status == 422:
        assert [problem["loc"] for problem in response.body["detail"]] == [[field]]
    else:
        assert isinstance(response.body["detail"], str)
    assert await user.history(chat_id) == []


async def test_a_message_of_50000_characters_is_taken(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat(ai_model=None)
    assert (await user.say(chat_id, "ü" * 50_000))["content"] == "ü" * 50_000


async def test_without_a_model_nobody_answers(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat(ai_model=None)
    assert (await user.good("GET", f"/chats/{chat_id}"))["chat"]["ai_model"] is None
    said = await user.say(chat_id, "Anybody?")
    assert await user.history(chat_id) == [said]
    refused = await user.ask("POST", f"/chats/{chat_id}/ai-message", {"message": "Hi"})
    assert (refused.status, list(refused.body)) == (400, ["detail"])


async def test_history_comes_in_pages_from_the_newest(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat(ai_model=None)
    for number in range(7):
        await user.say(chat_id, str(number))
    for query, expected in (("", "0123456"), ("?limit=3", "456"), ("?limit=3&offset=3", "123"), ("?offset=9", "")):
        assert "".join(message["content"] for message in await user.history(chat_id, query)) == expected
    for query in ("limit=0", "limit=1001", "offset=-1"):
        assert (await user.ask("GET", f"/chats/{chat_id}?{query}")).status == 422
    assert len(await user.history(chat_id, "?limit=1000")) == 7


async def test_a_keyed_message_sent_again_is_there_once(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat(ai_model=None)
    path = f"/chats/{chat_id}/messages"
    sent = [await user.good("POST", path, {"content": "Once"}, replica=at, idempotency_key="k") for at in (0, 1)]
    assert sent[0] == sent[1]
    assert len(await user.history(chat_id)) == 1
    assert (await user.ask("POST", path, {"content": "Once"}, idempotency_key="no key!")).status == 400


async def test_an_edited_message_says_so(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat(ai_model=None)
    said = await user.say(chat_id, "Helo")
    plain, knowing = [await (await user.visit(chat_id, events=kind)).present() for kind in ("document", "all")]
    path = f"/chats/{chat_id}/messages/{said['id']}"
    assert await user.good("PATCH", path, {"content": "Hello"}) == said | {"content": "Hello", "is_edited": True}
    assert (await user.history(chat_id))[0]["is_edited"] is True
    frame = await knowing.receive()
    assert (frame["type"], frame["message"]["content"]) == ("message_edited", "Hello")
    # For who knows the document alone nothing has come.
    await plain.present()
    assert (await user.ask("PATCH", path, {"content": " "})).status == 400
    assert (await user.ask("PATCH", f"/chats/{chat_id}/messages/{uuid.uuid4()}", {"content": "x"})).status == 404
    for visit in (plain, knowing):
        await visit.close()


async def test_another_answer_is_made_to_the_same_message(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    visit = await (await user.visit(chat_id)).present()
    said = await user.say(chat_id, "Question")
    turn = await system.worker.claim(chat_id)
    await turn.say("First")
    await turn.complete()
    first = (await visit.receive_until("ai_response_complete"))[-1]["message"]
    for named in (said["id"], first["id"]):
        again = await user.good("POST", f"/chats/{chat_id}/messages/{named}/regenerate")
        assert list(again) == MESSAGE_KEYS
        assert (again["status"], again["content"], again["message_type"]) == ("PROCESSING", "", "AI")
        turn = await system.worker.claim(chat_id)
        await turn.say("Another")
        await turn.complete()
        frames = await visit.receive_until("ai_response_complete")
        assert [frame["type"] for frame in frames] == [
            "ai_response_start",
            "ai_response_chunk",
            "ai_response_complete",
        ]
        assert frames[-1]["message"]["id"] == again["id"]
    answers = (await user.history(chat_id, "?fields=all"))[1:]
    assert [answer["reply_to_id"] for answer in answers] == [said["id"]] * 3
    # The message that is answered once more names the answer under way.
    await user.good("POST", f"/chats/{chat_id}/messages/{said['id']}/regenerate")
    await system.worker.claim(chat_id)
    assert (await user.good("POST", f"/chats/{chat_id}/messages/{said['id']}/cancel"))["status"] == "cancelled"
    assert (await user.ask("POST", f"/chats/{chat_id}/messages/{uuid.uuid4()}/regenerate")).status == 404
    await visit.close()


@pytest.mark.parametrize("way", ["http answer", "http message", "socket answer", "socket message", "socket"])
async def test_an_answer_is_stopped_by_any_device_and_what_was_said_is_kept(system: System, way: str) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    here, there = await (await user.visit(chat_id)).present(), await (await user.visit(chat_id, replica=1)).present()
    said = await user.say(chat_id, "Question")
    turn = await system.worker.claim(chat_id)
    await turn.say("So far")
    start = (await here.receive_until("ai_response_start"))[-1]
    message_id = start["message"]["id"] if "answer" in way else said["id"]
    if way.startswith("http"):
        path = f"/chats/{chat_id}/messages/{message_id}/cancel"
        stopped = await user.good("POST", path, replica=1)
        assert (stopped["status"], stopped["message_id"]) == ("cancelled", message_id)
        assert (await user.good("POST", path))["status"] == "not_running"
    else:
        named = {} if way == "socket" else {"message_id": message_id}
        await there.socket.send(json.dumps({"type": "cancel", **named}))
    for visit in (here, there):
        end = (await visit.receive_until("ai_response_complete"))[-1]["message"]
        assert (end["status"], end["content"], end["is_streaming"]) == ("CANCELLED", "So far", False)
        await visit.close()
    assert [message["status"] for message in await user.history(chat_id)] == ["DELIVERED", "CANCELLED"]
    assert (await user.ask("POST", f"/chats/{chat_id}/messages/{uuid.uuid4()}/cancel")).status == 404


async def test_a_history_with_more_text_than_one_answer_may_have_is_paged_by_what_came(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat(ai_model=None)
    for start in range(0, 96, 8):
        numbers = range(start, start + 8)
        await asyncio.gather(*(user.say(chat_id, f"{number:02}" + "\U0001f600" * 49_998) for number in numbers))
    seen: list[str] = []
    pages = 0
    while len(seen) < 96:
        page = await user.history(chat_id, f"?limit=1000&offset={len(seen)}")
        assert page
        pages += 1
        seen[:0] = [message["content"][:2] for message in page]
    assert pages == 2
    assert sorted(seen) == [f"{number:02}" for number in range(96)]


async def test_typing_over_http_is_told_once_a_second_at_the_most(system: System) -> None:
    user, other = someone(system), someone(system)
    chat_id = await user.make_chat(chat_type="GROUP", ai_model=None)
    await user.good("POST", f"/chats/{chat_id}/participants", {"user_id": other.id})
    visit = await (await user.visit(chat_id)).present()
    sent = [(await user.good("POST", f"/chats/{chat_id}/typing"))["timestamp"] for _ in range(5)]
    await other.good("POST", f"/chats/{chat_id}/typing")
    told = []
    while True:
        told.append((await visit.receive())["user_id"])
        if told[-1] == other.id:
            break
    # As many as there were seconds, whatever the machine's speed.
    seconds = int(sent[-1][-3:-1]) - int(sent[0][-3:-1])
    assert 1 <= told.count(user.id) <= 1 + seconds % 60
    await visit.close()


async def test_typing_is_seen_by_all_who_are_connected(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    visits = [await (await user.visit(chat_id, replica=at)).present() for at in (0, 1)]
    sent = await user.good("POST", f"/chats/{chat_id}/typing")
    assert sent == {"status": "sent", "timestamp": sent["timestamp"]}
    assert TIME.fullmatch(sent["timestamp"])
    typing = {
        "type": "typing_indicator",
        "chat_id": chat_id,
        "user_id": user.id,
        "username": user.id,
        "timestamp": sent["timestamp"],
    }
    for visit in visits:
        assert await visit.receive() == typing
    await visits[0].socket.send('{"type": "typing"}')
    for visit in visits:
        assert (await visit.receive()) | {"timestamp": 0} == typing | {"timestamp": 0}
        await visit.close()


@pytest.mark.parametrize("way", ["query", "header"])
async def test_the_socket_welcomes_and_answers_pings_as_printed(system: System, way: str) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    address = user.address(chat_id)
    headers = None
    if way == "header":
        address, headers = address.partition("?")[0], {"authorization": f"Bearer {user.token}"}
    socket = await Socket.open(address, headers=headers)
    welcome = await socket.receive()
    assert TIME.fullmatch(welcome["timestamp"])
    assert welcome == {
        "type": "welcome",
        "message": "Connected to chat",
        "chat_id": chat_id,
        "user_id": user.id,
        "username": user.id,
        "timestamp": welcome["timestamp"],
        "server_time": welcome["timestamp"],
    }
    await socket.send('{"type": "heartbeat", "timestamp": "2024-01-01T12:00:00Z"}')
    await socket.send('{"type": "ping", "timestamp": "2024-01-01T12:00:00.123Z"}')
    pong = await socket.receive()
    assert TIME.fullmatch(pong["server_time"])
    assert pong == {"type": "pong", "timestamp": "2024-01-01T12:00:00.123Z", "server_time": pong["server_time"]}
    await socket.send('{"type": "message", "content": "Hi"}')
    error = await socket.receive()
    assert list(error) == ["type", "error", "chat_id", "error_code", "timestamp"]
    assert (error["type"], error["chat_id"], error["error_code"]) == ("ai_error", chat_id, "invalid_argument")
    await socket.close()


async def test_who_may_not_come_in_is_told_why_and_closed_with_1008(system: System) -> None:
    owner, stranger = someone(system), someone(system)
    chat_id = await owner.make_chat()
    good = owner.address(chat_id)
    for address, code in (
        (stranger.address(chat_id), "permission_denied"),
        (owner.address(str(uuid.uuid4())), "not_found"),
        (good.partition("?")[0], "unauthenticated"),
        (good.partition("?")[0] + "?token=of.bad.news", "unauthenticated"),
        (good + "&full_content=perhaps", "invalid_argument"),
        (good + "&events=some", "invalid_argument"),
    ):
        frames, close, _ = await (await Socket.open(address)).closing()
        assert [(frame["type"], frame["error_code"], frame["chat_id"]) for frame in frames] == [
            ("ai_error", code, None)
        ]
        assert close == 1008


async def test_who_resumes_at_any_position_gets_exactly_the_rest_while_chunks_repeat_themselves(
    system: System,
) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    visit = await (await user.visit(chat_id, positions="true")).present()
    await user.say(chat_id, "Question")
    turn = await system.worker.claim(chat_id)
    for number in range(60):
        await turn.say(f"word {number} ")
    await turn.complete()
    frames = await visit.receive_until("ai_response_complete")
    chunks = [frame for frame in frames if frame["type"] == "ai_response_chunk"]
    assert "".join(frame["chunk"] for frame in chunks) == turn.text
    for index, frame in list(enumerate(frames[:-1]))[::5]:
        again = await user.visit(chat_id, replica=index % 2, after=frame["position"])
        rest = await again.receive_until("ai_response_complete")
        expected = [one for one in frames[index + 1 :] if one["type"] == "ai_response_chunk"]
        got = [one for one in rest if one["type"] == "ai_response_chunk"]
        assert "".join(one["chunk"] for one in got) == "".join(one["chunk"] for one in expected)
        # Read from the log at once, they have become one.
        assert [one["full_content"] for one in got] == [turn.text] * bool(expected)
        assert rest[-1]["message"]["content"] == turn.text
        await again.close()
    await visit.close()


async def test_who_comes_in_the_middle_gets_the_text_so_far_and_then_the_rest(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    first = await (await user.visit(chat_id)).present()
    await user.say(chat_id, "Question")
    turn = await system.worker.claim(chat_id)
    await turn.say("one two three four five six seven ")
    await first.receive_until("ai_response_chunk")
    late = await (await user.visit(chat_id)).socket.receive()
    assert late["type"] == "ai_response_start"
    later = await user.visit(chat_id, replica=1)
    so_far = (await later.receive_until("ai_response_chunk"))[-1]
    assert turn.text.startswith(so_far["full_content"])
    await turn.say("eight")
    await turn.complete()
    rest = await later.receive_until("ai_response_complete")
    assert so_far["chunk"] + "".join(frame["chunk"] for frame in rest[:-1]) == rest[-1]["message"]["content"]
    assert rest[-1]["message"]["content"] == "one two three four five six seven eight"
    for visit in (first, later):
        await visit.close()


async def test_a_slow_reader_of_repeating_chunks_keeps_its_connection(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    slow = await (await user.visit(chat_id, small=True)).present()
    fast = await (await user.visit(chat_id, full_content="false")).present()
    await user.say(chat_id, "Question")
    turn = await system.worker.claim(chat_id)
    for _ in range(300):
        await turn.say("z" * 999 + " ")
    await turn.complete()
    await fast.receive_until("ai_response_complete")
    frames = await slow.receive_until("ai_response_complete")
    assert "".join(frame["chunk"] for frame in frames if frame["type"] == "ai_response_chunk") == turn.text
    assert frames[-1]["message"]["content"] == turn.text
    for visit in (slow, fast):
        await visit.close()


async def test_a_token_that_runs_out_ends_the_visit(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    # The gateway allows for clocks that are ten seconds apart.
    user.token = system.stack.secrets.user_token(user.id, days=-8 / 86_400)
    visit = await (await user.visit(chat_id)).present()
    frames, code, _ = await visit.socket.closing()
    assert [(frame["type"], frame["error_code"]) for frame in frames] == [("ai_error", "unauthenticated")]
    assert code == 1008


async def test_too_many_questions_that_wait_are_refused_with_429(system: System) -> None:
    user = someone(system)
    chat_id = await user.make_chat()
    statuses = [
        (await user.ask("POST", f"/chats/{chat_id}/messages", {"content": str(number)})).status for number in range(30)
    ]
    assert set(statuses) == {200, 429}
    assert statuses == sorted(statuses)
