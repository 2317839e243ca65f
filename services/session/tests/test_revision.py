"""Who changes a chat's settings can say which ones they have read: of two who read the same, one changes them."""

import asyncio

import grpc
import pytest
from chat.codec import chat_from_proto, chat_to_proto
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import Refused, SessionClient
from .conftest import Running


async def read(client: SessionClient, chat_id: str) -> chat_pb2.Chat:
    chat: chat_pb2.Chat = (await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))).chat
    return chat


async def update(client: SessionClient, chat_id: str, title: str, expected: int) -> chat_pb2.Chat:
    request = session_pb2.UpdateChatRequest(
        chat=chat_pb2.Chat(id=chat_id, title=title, revision=77), expected_revision=expected
    )
    chat: chat_pb2.Chat = (await client.call("UpdateChat", request)).chat
    return chat


def test_each_change_of_the_settings_raises_it_and_the_log_says_so(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        start = (await client.read(chat_id)).position
        assert (await read(client, chat_id)).revision == 1
        assert (await update(client, chat_id, "one", 0)).revision == 2
        assert (await update(client, chat_id, "two", 2)).revision == 3
        guest = chat_pb2.Participant(user_id="guest", role=chat_pb2.PARTICIPANT_ROLE_MEMBER)
        await client.call("PutParticipant", session_pb2.PutParticipantRequest(chat_id=chat_id, participant=guest))
        said = await client.begin(chat_id, "hello", without_answer=True)
        edit = session_pb2.EditMessageRequest(chat_id=chat_id, message_id=said.message.id, content="edited")
        await client.call("EditMessage", edit)
        now = await read(running.clients[1], chat_id)
        assert now.revision == 3, "these are no settings"
        assert chat_from_proto(now).revision == chat_to_proto(chat_from_proto(now)).revision == 3
        updates = [event.chat_updated.chat for event in (await client.read(chat_id, start)).events][:2]
        assert [(chat.title, chat.revision) for chat in updates] == [("one", 2), ("two", 3)]

    running.wait(scenario())


def test_who_expects_another_is_refused_and_changes_nothing(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await update(client, chat_id, "one", 1)
        before = await client.read(chat_id), await read(client, chat_id)
        for expected in (1, 3, 2**63):
            with pytest.raises(Refused) as refused:
                await update(client, chat_id, "two", expected)
            assert (refused.value.reason, refused.value.status) == ("CONFLICT", grpc.StatusCode.ABORTED)
        assert (await client.read(chat_id), await read(client, chat_id)) == before
        with pytest.raises(Refused, match="NOT_FOUND"):
            await update(client, "no-such-chat", "two", 1)

    running.wait(scenario())


def test_of_many_who_read_the_same_one_changes_it(running: Running) -> None:
    async def scenario() -> None:
        chat_id = await running.clients[0].new_chat()
        calls = [update(running.clients[number % 2], chat_id, f"{number}", 1) for number in range(20)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        changed = [outcome for outcome in outcomes if isinstance(outcome, chat_pb2.Chat)]
        refused = [outcome.reason for outcome in outcomes if isinstance(outcome, Refused)]
        assert (len(changed), refused) == (1, ["CONFLICT"] * 19)
        now = await read(running.clients[0], chat_id)
        assert (now.title, now.revision) == (changed[0].title, 2)

    running.wait(scenario())
