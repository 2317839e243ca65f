"""Another answer to a message: a turn of its own, and nothing appended but the answer."""

from typing import Any

import pytest
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2

from .client import Refused, SessionClient, Worker
from .conftest import Running


async def texts(client: SessionClient, chat_id: str) -> list[str]:
    return [message.content for message in await client.history(chat_id)]


def test_it_is_a_turn_of_its_own_and_appends_no_message(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "one")
        await client.answer(chat_id, "1")
        await client.begin(chat_id, "two")
        await client.answer(chat_id, "2")
        end = (await client.read(chat_id)).position
        again = await client.again(chat_id, first.message.id)
        assert again.message == first.message
        assert again.position == end
        assert (again.state, again.repeated) == (session_pb2.TURN_STATE_DUE, False)
        assert len({first.turn_id, first.answer_id, again.turn_id, again.answer_id}) == 4
        assert await client.answer(chat_id, "another 1") == ["one"], "its context ends at the message that it answers"
        assert [event.WhichOneof("kind") for event in (await client.read(chat_id, end)).events] == [
            "response_started",
            "response_delta",
            "response_completed",
        ]
        history = await client.history(chat_id)
        assert [message.content for message in history] == ["one", "1", "two", "2", "another 1"]
        assert [message.reply_to_id for message in history][1::3] == [first.message.id] * 2
        assert (history[-1].id, history[-1].turn_id) == (again.answer_id, again.turn_id)
        await client.begin(chat_id, "three")
        assert await client.answer(chat_id, "3") == ["one", "another 1", "two", "2", "three"]

    running.wait(scenario())


def test_of_several_answers_the_last_that_ended_with_text_is_context(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "one")
        await client.answer(chat_id, "1")

        async def context() -> list[str]:
            # Asked in passing, so that the history stays what it is.
            await client.begin(chat_id, "?", ephemeral=True)
            return await client.answer(chat_id, "!")

        # Stopped before a worker had it, completed without a text, and failed before it began.
        await client.again(chat_id, first.message.id)
        await client.call("CancelTurn", session_pb2.CancelTurnRequest(chat_id=chat_id))
        await client.again(chat_id, first.message.id)
        await client.answer(chat_id)
        await client.again(chat_id, first.message.id)
        turn = await client.claim(chat_id)
        assert turn is not None
        await Worker(client, turn).fail()
        assert await context() == ["one", "1", "?"]
        # Stopped in the middle.
        await client.again(chat_id, first.message.id)
        turn = await client.claim(chat_id)
        assert turn is not None
        await Worker(client, turn).say("1 1/2")
        await client.call("CancelTurn", session_pb2.CancelTurnRequest(chat_id=chat_id))
        assert await context() == ["one", "1 1/2", "?"]

    running.wait(scenario())


def test_what_was_edited_is_answered_and_shown_as_it_is_now(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "one")
        await client.answer(chat_id, "1")
        edit = session_pb2.EditMessageRequest(chat_id=chat_id, message_id=first.message.id, content="uno")
        edited = (await client.call("EditMessage", edit)).message
        assert (await client.again(chat_id, first.message.id)).message == edited
        assert await client.answer(chat_id, "another 1") == ["uno"]
        history = await client.history(chat_id)
        await client.call(
            "EditMessage", session_pb2.EditMessageRequest(chat_id=chat_id, message_id=history[-1].id, content="eins")
        )
        await client.begin(chat_id, "two")
        assert await client.answer(chat_id, "2") == ["uno", "eins", "two"]

    running.wait(scenario())


@pytest.mark.parametrize(
    "fields",
    [
        {"message": chat_pb2.Message(role=chat_pb2.ROLE_USER, content="x")},
        {"message": chat_pb2.Message()},
        {"without_answer": True},
        {"ephemeral": True},
    ],
)
def test_it_stands_alone(running: Running, fields: dict[str, Any]) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        begun = await client.begin(chat_id)
        with pytest.raises(Refused, match="INVALID_ARGUMENT"):
            await client.again(chat_id, begun.message.id, **fields)

    running.wait(scenario())


def test_only_a_persons_message_of_this_chats_history_is_answered_again(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id, other = await client.new_chat(), await client.new_chat()
        elsewhere = await client.begin(other, "elsewhere")
        first = await client.begin(chat_id, "one")
        passing = await client.begin(chat_id, "between us", ephemeral=True)
        system = chat_pb2.Message(id="system", role=chat_pb2.ROLE_SYSTEM, content="be brief", sender_id="owner")
        request = session_pb2.BeginTurnRequest(chat_id=chat_id, message=system, without_answer=True)
        await client.call("BeginTurn", request)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("under way")
        before = await client.read(chat_id)
        for message_id in ("unknown", elsewhere.message.id, passing.message.id, "system", first.answer_id):
            with pytest.raises(Refused, match="NOT_FOUND"):
                await client.again(chat_id, message_id)
        await worker.complete()
        with pytest.raises(Refused, match="NOT_FOUND"):
            await client.again(chat_id, first.answer_id)
        with pytest.raises(Refused, match="NOT_FOUND"):
            await client.again("no-such-chat", first.message.id)
        after = await client.read(chat_id)
        assert after.position.offset == before.position.offset + 1
        archived = (await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))).chat
        archived.archived_at.GetCurrentTime()
        await client.call("UpdateChat", session_pb2.UpdateChatRequest(chat=archived))
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            await client.again(chat_id, first.message.id)

    running.wait(scenario())


def test_a_key_makes_it_once_for_each_who_asks(running: Running) -> None:
    async def scenario() -> None:
        client, other = running.clients
        chat_id = await client.new_chat()
        guest = chat_pb2.Participant(user_id="guest", role=chat_pb2.PARTICIPANT_ROLE_MEMBER)
        await client.call("PutParticipant", session_pb2.PutParticipantRequest(chat_id=chat_id, participant=guest))
        first = await client.begin(chat_id, "one", idempotency_key="k")
        await client.answer(chat_id, "1")
        once = await client.again(chat_id, first.message.id, "owner", idempotency_key="k2")
        twice = await other.again(chat_id, first.message.id, "owner", idempotency_key="k2")
        assert (once.repeated, twice.repeated) == (False, True)
        assert (twice.turn_id, twice.answer_id, twice.position, twice.message) == (
            once.turn_id,
            once.answer_id,
            once.position,
            once.message,
        )
        guests = await other.again(chat_id, first.message.id, "guest", idempotency_key="k2")
        assert not guests.repeated, "a key is each sender's own"
        sent = await client.again(chat_id, first.message.id, "owner", idempotency_key="k")
        assert (sent.repeated, sent.turn_id) == (True, first.turn_id), "what the key stood for first"
        await client.answer(chat_id, "2")
        await client.answer(chat_id, "3")
        assert await client.claim(chat_id) is None
        assert await texts(client, chat_id) == ["one", "1", "2", "3"]

    running.wait(scenario())


def test_it_waits_in_the_queue_and_a_full_one_refuses_it(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "one")
        waits = [await client.begin(chat_id, "two"), await client.again(chat_id, first.message.id)]
        assert [begun.state for begun in waits] == [session_pb2.TURN_STATE_QUEUED] * 2
        for _ in range(6):
            await client.again(chat_id, first.message.id)
        with pytest.raises(Refused, match="QUEUE_FULL"):
            await client.again(chat_id, first.message.id)
        assert await client.answer(chat_id, "1") == ["one"]
        assert await client.answer(chat_id, "2") == ["one", "1", "two"]
        assert await client.answer(chat_id, "another 1") == ["one"]
        cancel = session_pb2.CancelTurnRequest(chat_id=chat_id, all=True)
        assert len((await client.call("CancelTurn", cancel)).turn_ids) == 6
        assert await texts(client, chat_id) == ["one", "two", "1", "2", "another 1"]

    running.wait(scenario())


def test_a_message_far_back_is_answered_again_with_what_was_said_before_it(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "one")
        await client.answer(chat_id, "1")
        second = await client.begin(chat_id, "two")
        await client.answer(chat_id, "2")
        for number in range(300):
            await client.begin(chat_id, f"aside {number}", without_answer=True)
        await client.again(chat_id, first.message.id)
        assert await client.answer(chat_id, "another 1") == ["one"]
        await client.again(chat_id, second.message.id)
        assert await client.answer(chat_id, "another 2") == ["one", "another 1", "two"]
        await client.begin(chat_id, "three")
        context = await client.answer(chat_id, "3")
        assert context == [*(f"aside {number}" for number in range(101, 300)), "three"], "not answers out of nowhere"

    running.wait(scenario())


def test_a_turn_takes_the_answers_that_were_made_while_it_waited(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "one")
        await client.begin(chat_id, "two")
        await client.begin(chat_id, "between us", ephemeral=True)
        await client.answer(chat_id, "1")
        await client.answer(chat_id, "2")
        assert await client.answer(chat_id, "3") == ["one", "1", "two", "2", "between us"]
        await client.again(chat_id, first.message.id)
        await client.begin(chat_id, "three")
        await client.answer(chat_id, "another 1")
        assert await client.answer(chat_id, "4") == ["one", "another 1", "two", "2", "three"]

    running.wait(scenario())


def test_a_dead_workers_second_answer_is_gone_on_with(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        first = await client.begin(chat_id, "one")
        await client.answer(chat_id, "1")
        again = await client.again(chat_id, first.message.id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("half")
        reading = await client.read(chat_id)
        under_way = reading.snapshot.messages[-1]
        assert (under_way.id, under_way.content, under_way.sequence) == (again.answer_id, "half", 3)
        assert under_way.reply_to_id == first.message.id
        await worker.append(event_pb2.Event(response_restarted=event_pb2.ResponseRestarted(message_id=again.answer_id)))
        worker.length = 0
        await worker.say("whole")
        await worker.complete()
        assert await texts(client, chat_id) == ["one", "1", "whole"]

    running.wait(scenario())
