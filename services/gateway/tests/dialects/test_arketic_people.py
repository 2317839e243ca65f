"""Several people in Arketic's chats, over the running system: who may do what, and what each device sees."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from gateway.dialects.arketic.participants import MAX_PARTICIPANTS
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from ..client import Socket
from ..conftest import System
from .arketic_user import TIME, User

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class People:
    """A chat with somebody of each role, and somebody who is not in it."""

    chat_id: str
    owner: User
    admin: User
    member: User
    reader: User
    stranger: User

    @classmethod
    async def meet(cls, system: System, **fields: Any) -> People:
        names = ("owner", "admin", "member", "reader", "stranger")
        owner, admin, member, reader, stranger = (User(system.stack, f"{name}/{uuid.uuid4()}") for name in names)
        chat_id = await owner.make_chat(**{"chat_type": "GROUP", "ai_model": None, **fields})
        people = cls(chat_id, owner, admin, member, reader, stranger)
        for user, role in ((admin, "ADMIN"), (member, "MEMBER"), (reader, "READ_ONLY")):
            await people.add(owner, user, role)
        return people

    async def add(self, by: User, who: User, role: str) -> int:
        body = {"user_id": who.id, "role": role}
        return (await by.ask("POST", f"/chats/{self.chat_id}/participants", body)).status

    async def statuses(self, method: str, path: str, body: Any = None) -> list[int]:
        """Of owner, admin, member, reader and stranger, each trying the same."""
        users = (self.owner, self.admin, self.member, self.reader, self.stranger)
        return [(await user.ask(method, f"/chats/{self.chat_id}{path}", body)).status for user in users]


async def test_participants_are_listed_as_printed(system: System) -> None:
    owner, bob = (User(system.stack, f"{name}/{uuid.uuid4()}") for name in ("owner", "bob"))
    chat_id = await owner.make_chat(chat_type="GROUP", ai_model=None)
    for _ in range(3):
        await owner.say(chat_id, "Hello")
    await owner.history(chat_id)
    added = await owner.good("POST", f"/chats/{chat_id}/participants", {"user_id": bob.id, "username": "Bob"})
    listed = await owner.good("GET", f"/chats/{chat_id}/participants")
    assert list(listed) == ["chat_id", "participants", "total_participants"]
    assert (listed["chat_id"], listed["total_participants"]) == (chat_id, 2)
    first, second = listed["participants"]
    assert TIME.fullmatch(first["joined_at"])
    assert TIME.fullmatch(first["last_read_at"])
    assert first == {
        "user_id": owner.id,
        "role": "OWNER",
        "joined_at": first["joined_at"],
        "can_send_messages": True,
        "can_upload_files": True,
        "message_count": 3,
        "last_read_at": first["last_read_at"],
    }
    assert second == added | {"message_count": 0, "last_read_at": None}
    assert (second["user_id"], second["role"], second["can_send_messages"]) == (bob.id, "MEMBER", True)
    await bob.say(chat_id, "Hi")
    await (await bob.visit(chat_id)).close()
    [_, second] = (await bob.good("GET", f"/chats/{chat_id}/participants"))["participants"]
    assert second["message_count"] == 1
    assert TIME.fullmatch(second["last_read_at"])
    assert (await bob.good("GET", f"/chats/{chat_id}"))["participant_count"] == 2
    assert [chat["id"] for chat in await bob.good("GET", "/chats")] == [chat_id]


async def test_each_role_may_what_it_may_and_nothing_else(system: System) -> None:
    people = await People.meet(system)
    said = await people.member.say(people.chat_id, "Mine")
    message = f"/messages/{said['id']}"
    # owner, admin, member, reader, stranger
    assert await people.statuses("GET", "") == [200, 200, 200, 200, 403]
    assert await people.statuses("GET", "/participants") == [200, 200, 200, 200, 403]
    assert await people.statuses("POST", "/messages", {"content": "Hi"}) == [200, 200, 200, 403, 403]
    assert await people.statuses("POST", "/typing") == [200, 200, 200, 403, 403]
    system_message = {"content": "Be kind.", "message_type": "SYSTEM"}
    assert await people.statuses("POST", "/messages", system_message) == [200, 200, 403, 403, 403]
    assert await people.statuses("POST", "/messages", {"content": "Hi", "message_type": "AI"}) == [403] * 5
    assert await people.statuses("PATCH", message, {"content": "Edited"}) == [403, 403, 200, 403, 403]
    assert await people.statuses("PATCH", "", {"title": "New"}) == [200, 200, 403, 403, 403]
    assert await people.statuses("PATCH", "", {"archived": False}) == [200, 200, 403, 403, 403]
    newcomer = {"user_id": str(uuid.uuid4())}
    assert await people.statuses("POST", "/participants", newcomer) == [200, 200, 403, 403, 403]
    assert await people.statuses("POST", "/participants", {**newcomer, "role": "ADMIN"}) == [200, 403, 403, 403, 403]
    # An admin can't demote another.
    changing = f"/participants/{newcomer['user_id']}"
    assert await people.statuses("PATCH", changing, {"role": "MEMBER"}) == [200, 200, 403, 403, 403]
    assert await people.statuses("PATCH", f"/participants/{people.owner.id}", {"role": "MEMBER"}) == [403] * 5
    assert (await people.owner.ask("PATCH", f"/chats/{people.chat_id}{changing}", {"role": "OWNER"})).status == 422
    assert (await people.admin.ask("DELETE", f"/chats/{people.chat_id}")).status == 403
    assert (await people.member.ask("DELETE", f"/chats/{people.chat_id}")).status == 403
    for user, path in ((people.admin, people.owner.id), (people.member, people.reader.id)):
        assert (await user.ask("DELETE", f"/chats/{people.chat_id}/participants/{path}")).status == 403
    # Everybody leaves, even who only reads.
    left = await people.reader.good("DELETE", f"/chats/{people.chat_id}/participants/{people.reader.id}")
    assert (left["status"], left["user_id"]) == ("removed", people.reader.id)
    assert (await people.reader.ask("GET", f"/chats/{people.chat_id}")).status == 403
    unknown = f"/chats/{people.chat_id}/participants/{uuid.uuid4()}"
    assert (await people.owner.ask("DELETE", unknown)).status == 404
    assert (await people.owner.ask("PATCH", unknown, {"role": "MEMBER"})).status == 404


async def test_who_reads_alone_gets_no_answers_made_or_stopped(system: System) -> None:
    people = await People.meet(system, ai_model="gpt-4")
    said = await people.member.say(people.chat_id, "Question")
    turn = await system.worker.claim(people.chat_id)
    message = f"/messages/{said['id']}"
    assert (await people.reader.ask("POST", f"/chats/{people.chat_id}{message}/cancel")).status == 403
    assert (await people.reader.ask("POST", f"/chats/{people.chat_id}{message}/regenerate")).status == 403
    assert (await people.reader.ask("POST", f"/chats/{people.chat_id}/ai-message", {"message": "Hi"})).status == 403
    reader = await people.reader.visit(people.chat_id)
    await reader.socket.send('{"type": "cancel"}')
    assert (await reader.receive_until("ai_error"))[-1]["error_code"] == "permission_denied"
    await turn.say("On it goes")
    await turn.complete()
    assert (await reader.receive_until("ai_response_complete"))[-1]["message"]["content"] == "On it goes"
    await reader.close()


async def test_in_a_channel_who_is_added_reads_unless_a_role_is_named(system: System) -> None:
    owner, bob, eve = (User(system.stack, f"{name}/{uuid.uuid4()}") for name in ("owner", "bob", "eve"))
    chat_id = await owner.make_chat(chat_type="CHANNEL", ai_model=None)
    path = f"/chats/{chat_id}/participants"
    assert (await owner.good("POST", path, {"user_id": bob.id}))["role"] == "READ_ONLY"
    assert (await owner.good("POST", path, {"user_id": eve.id, "role": "MEMBER"}))["role"] == "MEMBER"
    assert (await bob.ask("POST", f"/chats/{chat_id}/messages", {"content": "Hi"})).status == 403
    await eve.say(chat_id, "Hi")


async def test_who_is_added_again_keeps_what_is_not_said_anew(system: System) -> None:
    owner, bob = (User(system.stack, f"{name}/{uuid.uuid4()}") for name in ("owner", "bob"))
    chat_id = await owner.make_chat(chat_type="CHANNEL", ai_model=None)
    path = f"/chats/{chat_id}/participants"

    async def added(**body: str) -> tuple[str, str]:
        """The role that is answered, and the name that is kept."""
        role = (await owner.good("POST", path, {"user_id": bob.id, **body}))["role"]
        request = session_pb2.ListParticipantsRequest(chat_id=chat_id)
        people = (await system.worker.call(system.worker.session.ListParticipants, request)).participants
        return role, next(one.username for one in people if one.user_id == bob.id)

    assert await added() == ("READ_ONLY", "")
    assert await added(role="ADMIN", username="Bob") == ("ADMIN", "Bob")
    assert await added() == ("ADMIN", "Bob")
    assert await added(username="Bobby") == ("ADMIN", "Bobby")
    assert await added(role="MEMBER") == ("MEMBER", "Bobby")
    # Nobody makes the owner less than that.
    assert (await owner.ask("POST", path, {"user_id": owner.id})).status == 403


async def test_a_chat_takes_so_many_participants_and_no_more_and_lists_them_all(system: System) -> None:
    owner = User(system.stack, f"owner/{uuid.uuid4()}")
    chat_id = await owner.make_chat(chat_type="GROUP", ai_model=None)
    names = [f"{number:04}" for number in range(MAX_PARTICIPANTS - 1)]

    async def put(name: str) -> None:
        participant = chat_pb2.Participant(user_id=name, role=chat_pb2.PARTICIPANT_ROLE_MEMBER)
        request = session_pb2.PutParticipantRequest(chat_id=chat_id, participant=participant)
        await system.worker.call(system.worker.session.PutParticipant, request)

    for start in range(0, len(names), 50):
        await asyncio.gather(*map(put, names[start : start + 50]))
    path = f"/chats/{chat_id}/participants"
    refused = await owner.ask("POST", path, {"user_id": "one more"})
    assert (refused.status, refused.body) == (400, {"detail": "A chat has at most 1,000 participants"})
    assert (await owner.good("POST", path, {"user_id": names[0], "role": "ADMIN"}))["role"] == "ADMIN"
    await User(system.stack, names[1]).history(chat_id)
    listed = await owner.good("GET", path)
    assert listed["total_participants"] == MAX_PARTICIPANTS
    assert {one["user_id"] for one in listed["participants"]} == {owner.id, *names}
    assert [one["user_id"] for one in listed["participants"] if one["last_read_at"]] == [names[1]]
    assert (await owner.ask("DELETE", f"{path}/{names[2]}")).status == 200
    assert (await owner.ask("POST", path, {"user_id": "one more"})).status == 200


@pytest.mark.parametrize(
    "body", [{}, {"user_id": ""}, {"user_id": "x" * 201}, {"user_id": "bob", "role": "OWNER"}, {"user_id": "a\nb"}]
)
async def test_who_can_not_be_added_is_422(system: System, body: dict[str, Any]) -> None:
    owner = User(system.stack, f"owner/{uuid.uuid4()}")
    chat_id = await owner.make_chat(chat_type="GROUP")
    assert (await owner.ask("POST", f"/chats/{chat_id}/participants", body)).status == 422


async def test_every_device_of_everybody_sees_the_same_in_the_same_order(system: System) -> None:
    people = await People.meet(system, ai_model="gpt-4", is_private=True)
    users = (people.owner, people.owner, people.admin, people.member, people.reader)
    devices = [
        await (await user.visit(people.chat_id, replica=index % 2)).present() for index, user in enumerate(users)
    ]
    await people.member.say(people.chat_id, "First")
    await people.owner.good("POST", f"/chats/{people.chat_id}/messages", {"content": "Second"}, replica=1)
    for word in ("one", "two"):
        turn = await system.worker.claim(people.chat_id)
        await turn.say(word)
        await turn.complete()
    seen = []
    for device in devices:
        frames = await device.receive_until("ai_response_complete")
        frames += await device.receive_until("ai_response_complete")
        seen.append(frames)
        await device.close()
    assert all(frames == seen[0] for frames in seen)
    messages = [frame["message"] for frame in seen[0] if frame["type"] == "new_message"]
    assert [(message["content"], message["sender_id"]) for message in messages] == [
        ("First", people.member.id),
        ("Second", people.owner.id),
    ]
    answers = [frame["message"]["content"] for frame in seen[0] if frame["type"] == "ai_response_complete"]
    assert answers == ["one", "two"]


async def test_who_is_removed_is_told_and_hears_no_more(system: System) -> None:
    people = await People.meet(system)
    removed = [await (await people.member.visit(people.chat_id, replica=replica)).present() for replica in (0, 1)]
    stays = await (await people.reader.visit(people.chat_id, events="all")).present()
    await people.admin.good("DELETE", f"/chats/{people.chat_id}/participants/{people.member.id}")
    await people.owner.say(people.chat_id, "Between us")
    for visit in removed:
        frames, code, _ = await visit.socket.closing()
        assert [(frame["type"], frame["error_code"]) for frame in frames] == [("ai_error", "permission_denied")]
        assert code == 1008
    assert [(await stays.receive())["type"] for _ in range(2)] == ["participant_removed", "new_message"]
    frames, code, _ = await (await Socket.open(people.member.address(people.chat_id))).closing()
    assert ([frame["error"] for frame in frames], code) == (["Access denied to this chat"], 1008)
    assert await people.add(people.owner, people.member, "MEMBER") == 200
    # Who was brought back sees what was said meanwhile, and is not taken for removed again.
    back = await (await people.member.visit(people.chat_id)).present()
    await people.owner.say(people.chat_id, "Welcome back")
    assert (await back.receive())["message"]["content"] == "Welcome back"
    for visit in (stays, back):
        await visit.close()


async def test_who_was_brought_back_resumes_where_they_were(system: System) -> None:
    people = await People.meet(system)
    visit = await (await people.member.visit(people.chat_id, positions="true")).present()
    await people.owner.say(people.chat_id, "Before")
    position = (await visit.receive())["position"]
    await visit.close()
    await people.owner.good("DELETE", f"/chats/{people.chat_id}/participants/{people.member.id}")
    assert await people.add(people.owner, people.member, "MEMBER") == 200
    await people.owner.say(people.chat_id, "After")
    again = await people.member.visit(people.chat_id, after=position)
    assert (await again.receive())["message"]["content"] == "After"
    await again.present()
    await again.close()
