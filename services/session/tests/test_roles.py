"""Who may do what in a chat: the acting user's role decides, in the same step as the effect."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2

from .client import Refused, SessionClient
from .conftest import Running

ADMIN, MEMBER, READER = (
    chat_pb2.PARTICIPANT_ROLE_ADMIN,
    chat_pb2.PARTICIPANT_ROLE_MEMBER,
    chat_pb2.PARTICIPANT_ROLE_READ_ONLY,
)
PEOPLE = {"admin": ADMIN, "deputy": ADMIN, "member": MEMBER, "guest": MEMBER, "reader": READER}
EVERYBODY = {"", "owner", "admin", "member", "reader", "stranger"}
"""The empty one: nobody acts, the calling service answers for it."""
ALL = EVERYBODY - {"stranger"}
SPEAK = ALL - {"reader"}
GOVERN = SPEAK - {"member"}
OWN = GOVERN - {"admin"}
SERVICE = {""}


def say(user: str, chat_id: str, *, sender: str = "", **fields: Any) -> session_pb2.BeginTurnRequest:
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="x", sender_id=sender or user or "owner")
    return session_pb2.BeginTurnRequest(chat_id=chat_id, message=message, **fields)


def nobody_says(chat_id: str) -> session_pb2.BeginTurnRequest:
    request = say("", chat_id)
    request.message.sender_id = ""
    return request


def system(user: str, chat_id: str) -> session_pb2.BeginTurnRequest:
    request = say(user, chat_id, without_answer=True)
    request.message.role = chat_pb2.ROLE_SYSTEM
    return request


def read_one(chat_id: str, message_id: str) -> session_pb2.GetMessageRequest:
    return session_pb2.GetMessageRequest(chat_id=chat_id, message_id=message_id)


def edit(chat_id: str, message_id: str) -> session_pb2.EditMessageRequest:
    return session_pb2.EditMessageRequest(chat_id=chat_id, message_id=message_id, content="edited")


def put(chat_id: str, user_id: str, role: "chat_pb2.ParticipantRole.ValueType") -> session_pb2.PutParticipantRequest:
    participant = chat_pb2.Participant(user_id=user_id, role=role)
    return session_pb2.PutParticipantRequest(chat_id=chat_id, participant=participant)


def remove(chat_id: str, user_id: str) -> session_pb2.RemoveParticipantRequest:
    return session_pb2.RemoveParticipantRequest(chat_id=chat_id, user_id=user_id)


def notify(chat_id: str, **event: Any) -> session_pb2.NotifyRequest:
    return session_pb2.NotifyRequest(chat_id=chat_id, event=event_pb2.Event(**event))


@dataclass(frozen=True)
class Call:
    """What is asked, by whom of those it is granted. `request` is given the acting user and the chat."""

    title: str
    method: str
    request: Callable[[str, str], Any]
    granted: set[str]


CALLS = [
    Call("read the chat", "GetChat", lambda _, c: session_pb2.GetChatRequest(chat_id=c), ALL),
    Call("read messages", "ListMessages", lambda _, c: session_pb2.ListMessagesRequest(chat_id=c), ALL),
    Call("read one message", "GetMessage", lambda _, c: read_one(c, "of-member"), ALL),
    Call("read people", "ListParticipants", lambda _, c: session_pb2.ListParticipantsRequest(chat_id=c), ALL),
    Call("read the log", "ReadLog", lambda _, c: session_pb2.ReadLogRequest(chat_id=c), ALL),
    Call("be there", "Notify", lambda u, c: notify(c, presence=event_pb2.Presence(user_id=u or "u")), ALL),
    Call("show another as there", "Notify", lambda _, c: notify(c, presence=event_pb2.Presence(user_id="u")), SERVICE),
    Call("type", "Notify", lambda u, c: notify(c, typing=event_pb2.Typing(user_id=u or "u")), SPEAK),
    Call("show another as typing", "Notify", lambda _, c: notify(c, typing=event_pb2.Typing(user_id="u")), SERVICE),
    Call("ask", "BeginTurn", say, SPEAK),
    Call("post", "BeginTurn", lambda u, c: say(u, c, without_answer=True), SPEAK),
    Call("ask in passing", "BeginTurn", lambda u, c: say(u, c, ephemeral=True), SPEAK),
    Call("post as another", "BeginTurn", lambda u, c: say(u, c, sender="other"), SERVICE),
    Call("post as nobody", "BeginTurn", lambda _, c: nobody_says(c), SERVICE),
    Call("instruct", "BeginTurn", system, GOVERN),
    Call(
        "ask again", "BeginTurn", lambda _, c: session_pb2.BeginTurnRequest(chat_id=c, answer_again="of-owner"), SPEAK
    ),
    Call("stop", "CancelTurn", lambda _, c: session_pb2.CancelTurnRequest(chat_id=c), SPEAK),
    Call("edit one's own", "EditMessage", lambda u, c: edit(c, f"of-{u or 'owner'}"), SPEAK),
    Call("edit another's", "EditMessage", lambda _, c: edit(c, "of-guest"), SERVICE),
    Call("edit an answer", "EditMessage", lambda _, c: edit(c, ANSWERS[c]), GOVERN),
    Call("update", "UpdateChat", lambda _, c: session_pb2.UpdateChatRequest(chat=chat_pb2.Chat(id=c)), GOVERN),
    Call("add a member", "PutParticipant", lambda _, c: put(c, "new", MEMBER), GOVERN),
    Call("add an admin", "PutParticipant", lambda _, c: put(c, "new", ADMIN), OWN),
    Call("demote a member", "PutParticipant", lambda _, c: put(c, "guest", READER), GOVERN),
    Call("promote a member", "PutParticipant", lambda _, c: put(c, "guest", ADMIN), OWN),
    Call("demote an admin", "PutParticipant", lambda _, c: put(c, "deputy", MEMBER), OWN),
    Call("promote oneself", "PutParticipant", lambda u, c: put(c, u or "guest", ADMIN), SERVICE),
    Call("demote the owner", "PutParticipant", lambda _, c: put(c, "owner", MEMBER), set()),
    Call("remove a member", "RemoveParticipant", lambda _, c: remove(c, "guest"), GOVERN),
    Call("remove an admin", "RemoveParticipant", lambda _, c: remove(c, "deputy"), OWN),
    Call("remove nobody", "RemoveParticipant", lambda _, c: remove(c, "absent"), GOVERN),
    Call("remove the owner", "RemoveParticipant", lambda _, c: remove(c, "owner"), set()),
    # Who has left has left: a repeat, or a stranger's, finds it done.
    Call("leave", "RemoveParticipant", lambda u, c: remove(c, u or "guest"), EVERYBODY - {"owner"}),
    Call("delete", "DeleteChat", lambda _, c: session_pb2.DeleteChatRequest(chat_id=c), OWN),
]


ANSWERS: dict[str, str] = {}
"""Of the chats that `peopled` made: the id of the answer."""


async def peopled(client: SessionClient) -> str:
    """A chat with people of every role, a message of each that may speak, and an answer."""
    chat_id = await client.new_chat()
    for user, role in PEOPLE.items():
        await client.call("PutParticipant", put(chat_id, user, role), "owner")
    for user in ("owner", "admin", "member", "guest", "reader", "stranger"):
        request = say(user, chat_id, without_answer=user != "guest")
        request.message.id = f"of-{user}"
        await client.call("BeginTurn", request)
    turn = await client.claim(chat_id)
    assert turn is not None
    ANSWERS[chat_id] = turn.answer_id
    await client.answered(turn, "an answer")
    return chat_id


async def everything(client: SessionClient, chat_id: str) -> list[Any]:
    return [
        await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id)),
        await client.call("ListParticipants", session_pb2.ListParticipantsRequest(chat_id=chat_id)),
        await client.read(chat_id),
    ]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.title)
def test_a_call_is_granted_by_role_and_a_refused_one_changes_nothing(running: Running, call: Call) -> None:
    async def attempt(user: str) -> None:
        chat_id = await peopled(running.clients[0])
        before = await everything(running.clients[0], chat_id)
        request = call.request(user, chat_id)
        if user in call.granted:
            await running.clients[1].call(call.method, request, user)
            return
        with pytest.raises(Refused) as refused:
            await running.clients[1].call(call.method, request, user)
        assert refused.value.reason == "PERMISSION_DENIED", user
        assert await everything(running.clients[0], chat_id) == before, user

    async def scenario() -> None:
        await asyncio.gather(*map(attempt, EVERYBODY))

    running.wait(scenario())


def test_a_stranger_is_not_told_which_messages_there_are(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await peopled(client)
        for message_id in ("of-member", "none"):
            with pytest.raises(Refused, match="PERMISSION_DENIED"):
                await client.call("GetMessage", read_one(chat_id, message_id), "stranger")

    running.wait(scenario())


def test_an_instruction_is_not_edited_by_who_may_give_none_any_more(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await peopled(client)
        posted = (await client.call("BeginTurn", system("admin", chat_id), "admin")).message
        await client.call("EditMessage", edit(chat_id, posted.id), "admin")
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            await client.call("EditMessage", edit(chat_id, posted.id), "owner")
        await client.call("PutParticipant", put(chat_id, "admin", MEMBER), "owner")
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            await client.call("EditMessage", edit(chat_id, posted.id), "admin")

    running.wait(scenario())


def test_the_calls_of_workers_look_at_no_acting_user(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        begun = await client.begin(chat_id)
        state = session_pb2.GetTurnRequest(chat_id=chat_id, turn_id=begun.turn_id)
        assert (await client.call("GetTurn", state, "stranger")).state == session_pb2.TURN_STATE_DUE
        claim = session_pb2.ClaimTurnRequest(chat_id=chat_id, worker_id="w")
        assert (await client.call("ClaimTurn", claim, "stranger")).turn.lease.turn_id == begun.turn_id

    running.wait(scenario())


def test_nobody_makes_another_owner(running: Running) -> None:
    async def scenario() -> None:
        chat_id = await running.clients[0].new_chat()
        for user in ("", "owner"):
            with pytest.raises(Refused, match="INVALID_ARGUMENT"):
                request = put(chat_id, "guest", chat_pb2.PARTICIPANT_ROLE_OWNER)
                await running.clients[0].call("PutParticipant", request, user)

    running.wait(scenario())


def test_chats_are_made_and_listed_for_who_asks_alone(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat = chat_pb2.Chat(id="chat-of-thea", dialect="test", owner_id="théa")
        create = session_pb2.CreateChatRequest(chat=chat)
        listing = session_pb2.ListChatsRequest(user_id="théa", dialect="test")
        for method, request in (("CreateChat", create), ("ListChats", listing)):
            with pytest.raises(Refused, match="PERMISSION_DENIED"):
                await client.call(method, request, "thea")
            await client.call(method, request, "théa")
        assert [chat.id for chat in (await client.call("ListChats", listing, "théa")).chats] == ["chat-of-thea"]
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id="chat-of-thea"), "théa")

    running.wait(scenario())


def test_a_sessions_chat_is_its_owners_and_its_name_lets_anybody_in(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        name = {"dialect": "test", "name": "a name"}
        opening = session_pb2.OpenSessionRequest(**name, chat=chat_pb2.Chat(owner_id="its owner"))  # type: ignore[arg-type]
        session = (await client.call("OpenSession", opening, "anybody")).session
        found = await client.call("GetSession", session_pb2.GetSessionRequest(**name), "somebody")
        assert found.session == session
        await client.call("BeginTurn", say("its owner", session.chat_id), "its owner")
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            await client.call("BeginTurn", say("anybody", session.chat_id), "anybody")
        await client.call("CloseSession", session_pb2.CloseSessionRequest(**name), "anybody")

    running.wait(scenario())


def test_a_stranger_is_not_told_what_is_in_a_chat(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        for method, request in (
            ("EditMessage", edit(chat_id, "no-such-message")),
            ("BeginTurn", session_pb2.BeginTurnRequest(chat_id=chat_id, answer_again="no-such-message")),
        ):
            for user, reason in (("stranger", "PERMISSION_DENIED"), ("owner", "NOT_FOUND")):
                with pytest.raises(Refused, match=reason):
                    await client.call(method, request, user)

    running.wait(scenario())


@pytest.mark.parametrize("how", ["removed", "demoted"])
def test_who_is_removed_or_demoted_posts_nothing_from_then_on(running: Running, how: str) -> None:
    async def scenario() -> None:
        chat_id = await running.clients[0].new_chat()
        await running.clients[0].call("PutParticipant", put(chat_id, "member", MEMBER))
        start = (await running.clients[0].read(chat_id)).position

        async def post(number: int) -> bool:
            try:
                request = say("member", chat_id, without_answer=True)
                await running.clients[number % 2].call("BeginTurn", request, "member")
            except Refused as refused:
                assert refused.reason == "PERMISSION_DENIED"
                return False
            return True

        assert all([await post(number) for number in range(5)])
        posts = [asyncio.ensure_future(post(number)) for number in range(40)]
        if how == "removed":
            await running.clients[0].call("RemoveParticipant", remove(chat_id, "member"), "owner")
        else:
            await running.clients[0].call("PutParticipant", put(chat_id, "member", READER), "owner")
        stored = len(await running.clients[1].history(chat_id))
        accepted = 5 + sum(await asyncio.gather(*posts))
        assert not any([await post(number) for number in range(5)])
        assert len(await running.clients[0].history(chat_id)) == stored == accepted
        kinds = [event.WhichOneof("kind") for event in (await running.clients[0].read(chat_id, start)).events]
        assert kinds[-1] == ("participant_removed" if how == "removed" else "participant_added"), "the log's last word"

    running.wait(scenario())


def test_admins_who_remove_one_another_at_once_both_stay(running: Running) -> None:
    async def scenario() -> None:
        chat_id = await running.clients[0].new_chat()
        for user in ("a", "b"):
            await running.clients[0].call("PutParticipant", put(chat_id, user, ADMIN), "owner")
        outcomes = await asyncio.gather(
            running.clients[0].call("RemoveParticipant", remove(chat_id, "b"), "a"),
            running.clients[1].call("RemoveParticipant", remove(chat_id, "a"), "b"),
            return_exceptions=True,
        )
        assert [isinstance(outcome, Refused) for outcome in outcomes] == [True, True]

    running.wait(scenario())


def test_nobody_stops_an_answer_in_anothers_name(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await peopled(client)
        start = (await client.read(chat_id)).position
        await client.begin(chat_id)
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            request = session_pb2.CancelTurnRequest(chat_id=chat_id, cancelled_by="owner")
            await client.call("CancelTurn", request, "member")
        for number, (by, user) in enumerate((("member", "member"), ("", "member"), ("owner", ""), ("", ""))):
            if number:
                await client.begin(chat_id)
            await client.call("CancelTurn", session_pb2.CancelTurnRequest(chat_id=chat_id, cancelled_by=by), user)
        stopped = [event.response_cancelled for event in (await client.read(chat_id, start)).events][1::2]
        assert [one.cancelled_by for one in stopped] == ["member", "member", "owner", ""]

    running.wait(scenario())
