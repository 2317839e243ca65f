"""A worker is told who asked for an answer: on whose behalf, and with whose keys, it is made."""

from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import SessionClient
from .conftest import Running
from .test_dispatch import claimed, join


async def asked_by(client: SessionClient, chat_id: str) -> str:
    turn = await client.claim(chat_id)
    assert turn is not None
    await client.answered(turn, "an answer")
    return turn.asked_by


async def shared_chat(client: SessionClient) -> str:
    chat_id = await client.new_chat()
    guest = chat_pb2.Participant(user_id="guést", role=chat_pb2.PARTICIPANT_ROLE_MEMBER)
    await client.call("PutParticipant", session_pb2.PutParticipantRequest(chat_id=chat_id, participant=guest))
    return chat_id


def test_it_is_the_acting_user_else_the_sender(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await shared_chat(client)
        first = await client.begin(chat_id, "by nobody's name")
        assert await asked_by(client, chat_id) == "owner"
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="x", sender_id="guést")
        for ephemeral in (False, True):
            request = session_pb2.BeginTurnRequest(chat_id=chat_id, message=message, ephemeral=ephemeral)
            await client.call("BeginTurn", request, "guést")
            assert await asked_by(client, chat_id) == "guést"
        await client.again(chat_id, first.message.id, "guést")
        assert await asked_by(client, chat_id) == "guést", "who asked again, not who had asked"
        await client.again(chat_id, first.message.id)
        assert await asked_by(client, chat_id) == "owner"
        nameless = chat_pb2.Message(role=chat_pb2.ROLE_USER, content="x")
        await client.call("BeginTurn", session_pb2.BeginTurnRequest(chat_id=chat_id, message=nameless))
        assert await asked_by(client, chat_id) == ""

    running.wait(scenario())


def test_every_way_to_a_claim_tells_it(alone: Running) -> None:
    async def scenario() -> None:
        client = alone.clients[0]
        chat_id = await shared_chat(client)
        first = await client.begin(chat_id, "one")
        await client.again(chat_id, first.message.id, "guést")
        assert await asked_by(client, chat_id) == "owner"
        assert await asked_by(client, chat_id) == "guést"
        stream = await join(client, 1)
        await client.again(chat_id, first.message.id, "guést")
        turn = await claimed(stream)
        assert turn.asked_by == "guést", "in the step that began it"
        await stream.close()

    alone.wait(scenario())
