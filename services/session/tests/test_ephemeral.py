"""Turns that leave no history: seen by who reads along, resumable while the log is kept, and in no page of messages."""

from chat.codec import message_from_proto
from chat.fold import View, fold
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import Worker, log_events
from .conftest import Running


def test_it_goes_the_same_way_and_leaves_no_history(running: Running) -> None:
    async def scenario() -> None:
        client, other = running.clients
        chat_id = await client.new_chat()
        kept = await client.begin(chat_id, "kept")
        turn = await client.claim(chat_id)
        assert turn is not None
        first = Worker(client, turn)
        await first.say("kept, too")
        await first.complete()
        before = await client.read(chat_id)
        stream = other.stream("Subscribe")
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        await stream.receive()

        begun = await client.begin(chat_id, "between us", ephemeral=True, idempotency_key="once")
        turn = await other.claim(chat_id)
        assert turn is not None
        assert turn.ephemeral
        assert [message.content for message in turn.context] == ["kept", "kept, too", "between us"]
        worker = Worker(client, turn)
        await worker.say("an answer ")
        amidst = await client.read(chat_id)
        joined = [message_from_proto(message) for message in amidst.snapshot.messages]
        assert [(message.sequence, message.content) for message in joined] == [
            (1, "kept"),
            (2, "kept, too"),
            (0, "an answer "),
        ]
        half = amidst.position
        await worker.say("that passes")
        assert (await client.read(chat_id, half)).text_before == "an answer "
        await worker.complete()

        seen: list[object] = []
        while len(seen) < 5:
            for batch in (await stream.receive()).events:
                seen.extend(log_events(batch.events))
        await stream.close()
        view = View.of_snapshot([message_from_proto(message) for message in before.snapshot.messages])
        for event in seen:
            view = fold(view, event)  # type: ignore[arg-type]
        assert (view.messages, view.passing) == (await client.history(chat_id), None)
        assert [message.content for message in view.messages] == ["kept", "kept, too"]
        # Who was away in the middle of it still gets its end, and what a renderer needs before that.
        resumed = await other.read(chat_id, half)
        assert (resumed.text_before, len(resumed.events)) == ("an answer ", 2)
        assert not (await client.read(chat_id)).snapshot.messages[2:]

        again = await other.begin(chat_id, "between us", ephemeral=True, idempotency_key="once")
        assert (again.repeated, again.message.id, again.answer_id) == (True, begun.message.id, begun.answer_id)
        assert again.state == session_pb2.TURN_STATE_COMPLETED
        assert (kept.message.sequence, again.message.sequence) == (1, 0)
        await client.begin(chat_id, "and on")
        turn = await client.claim(chat_id)
        assert turn is not None
        assert [message.content for message in turn.context] == ["kept", "kept, too", "and on"]

    running.wait(scenario())


def test_nothing_of_it_stays_behind_one_that_was_stopped_while_it_waited(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await client.begin(chat_id, "first")
        waits = await client.begin(chat_id, "waits", ephemeral=True)
        assert waits.state == session_pb2.TURN_STATE_QUEUED
        cancel = session_pb2.CancelTurnRequest(chat_id=chat_id, turn_id=waits.turn_id)
        assert (await client.call("CancelTurn", cancel)).turn_ids == [waits.turn_id]
        turn = await client.claim(chat_id)
        assert turn is not None
        await Worker(client, turn).complete()
        assert await client.claim(chat_id) is None
        history = await client.history(chat_id)
        assert [(message.sequence, message.role.value) for message in history] == [
            (1, chat_pb2.ROLE_USER),
            (2, chat_pb2.ROLE_ASSISTANT),
        ]

    running.wait(scenario())
