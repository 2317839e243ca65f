"""A chat that is deleted leaves nothing that somebody said, and one that is made again under its id is another one."""

import uuid

import pytest
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import SessionClient
from .conftest import Running
from .records import all_values


async def make(client: SessionClient, chat_id: str) -> None:
    chat = chat_pb2.Chat(id=chat_id, dialect="test", owner_id="owner")
    await client.call("CreateChat", session_pb2.CreateChatRequest(chat=chat))


async def make_again(client: SessionClient, chat_id: str) -> None:
    await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chat_id))
    await make(client, chat_id)


def test_a_position_in_the_one_before_is_none_in_it(running: Running) -> None:
    async def scenario() -> None:
        client, chat_id = running.clients[0], str(uuid.uuid4())
        await make(client, chat_id)
        for number in range(3):
            await client.begin(chat_id, f"old {number}", without_answer=True)
        known = (await client.read(chat_id)).position
        await make_again(client, chat_id)
        for number in range(5):
            await client.begin(chat_id, f"new {number}", without_answer=True)
        reading = await running.clients[1].read(chat_id, known)
        assert reading.position.epoch != known.epoch
        assert [message.content for message in reading.snapshot.messages] == [f"new {number}" for number in range(5)]

    running.wait(scenario())


@pytest.mark.parametrize("ephemeral", [False, True])
def test_the_keys_of_the_one_before_are_not_known_in_it(running: Running, ephemeral: bool) -> None:
    async def scenario() -> None:
        client, chat_id = running.clients[0], str(uuid.uuid4())
        await make(client, chat_id)
        before = await client.begin(chat_id, "between us", ephemeral=ephemeral, idempotency_key="k")
        await client.answer(chat_id, "an answer")
        await make_again(client, chat_id)
        after = await client.begin(chat_id, "another thing", ephemeral=ephemeral, idempotency_key="k")
        assert (after.repeated, after.state) == (False, session_pb2.TURN_STATE_DUE)
        assert after.turn_id != before.turn_id
        assert (await client.begin(chat_id, "another thing", ephemeral=ephemeral, idempotency_key="k")).repeated

    running.wait(scenario())


def test_what_was_said_in_a_deleted_chat_and_how_it_was_to_be_answered_is_gone(running: Running) -> None:
    secret = f"secret-{uuid.uuid4()}"

    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        answers = chat_pb2.AnswerSettings(system_prompt=f"{secret} prompt")
        await client.begin(chat_id, f"{secret} question", answers=answers)
        await client.answer(chat_id, f"{secret} answer")
        await client.begin(chat_id, f"{secret} question", answers=answers, ephemeral=True)
        await client.begin(chat_id, f"{secret} question", answers=answers)
        assert secret.encode() in all_values(running)
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chat_id))
        assert secret.encode() not in all_values(running)

    running.wait(scenario())
