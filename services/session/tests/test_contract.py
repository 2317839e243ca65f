"""What the contract says of bad input, limits and names: a clear error, and nothing stored."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from session import keys
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2

from .client import Refused, Worker
from .conftest import Running

BEGIN = session_pb2.BeginTurnRequest
USER = chat_pb2.ROLE_USER


def nested(objects: int, in_lists: int = 0) -> Struct:
    """An object that holds objects, so many with itself, and lists in the innermost."""
    value = Value(null_value=NULL_VALUE)
    for _ in range(in_lists):
        value = Value(list_value=ListValue(values=[value]))
    for _ in range(objects - 1):
        value = Value(struct_value=Struct(fields={"a": value}))
    return Struct(fields={"a": value})


def message(**fields: Any) -> chat_pb2.Message:
    return chat_pb2.Message(**{"role": USER, "content": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"chat_id": ""}, "INVALID_ARGUMENT"),
        ({"chat_id": "a|b"}, "INVALID_ARGUMENT"),
        ({"chat_id": "x" * 129}, "INVALID_ARGUMENT"),
        ({"chat_id": "unknown"}, "NOT_FOUND"),
        ({"message": message(content="")}, "INVALID_ARGUMENT"),
        ({"message": message(role=chat_pb2.ROLE_ASSISTANT)}, "INVALID_ARGUMENT"),
        ({"message": message(content="x" * (1024 * 1024 + 1))}, "TOO_LARGE"),
        ({"message": message(sender_id="x" * 201)}, "INVALID_ARGUMENT"),
        ({"message": message(reply_to_id="a b")}, "INVALID_ARGUMENT"),
        ({"idempotency_key": "x" * 256}, "INVALID_ARGUMENT"),
        ({"deadline": {"seconds": 0}}, "INVALID_ARGUMENT"),
        ({"deadline": {"seconds": 3601}}, "INVALID_ARGUMENT"),
        ({"ephemeral": True, "without_answer": True}, "INVALID_ARGUMENT"),
        ({"answers": chat_pb2.AnswerSettings(temperature=float("nan"))}, "INVALID_ARGUMENT"),
        ({"answers": chat_pb2.AnswerSettings(max_output_tokens=128_001)}, "INVALID_ARGUMENT"),
        ({"answers": chat_pb2.AnswerSettings(persona="x" * 201)}, "INVALID_ARGUMENT"),
        ({"message": message(metadata=nested(17))}, "INVALID_ARGUMENT"),
        ({"message": message(metadata=nested(16, in_lists=1))}, "INVALID_ARGUMENT"),
    ],
)
def test_a_bad_turn_is_refused_and_nothing_is_stored(running: Running, fields: dict[str, Any], reason: str) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        request = BEGIN(**{"chat_id": chat_id, "message": message(), **fields})
        with pytest.raises(Refused) as refused:
            await client.call("BeginTurn", request)
        assert refused.value.reason == reason
        assert refused.value.message
        assert await client.history(chat_id) == ()
        assert (await client.read(chat_id)).position.offset == 0

    running.wait(scenario())


@pytest.mark.parametrize("tokens", [(), (("authorization", "Bearer wrong"),), (("authorization", ""),)])
@pytest.mark.parametrize("method", ["CheckStore", "Subscribe"])
def test_a_call_without_the_service_token_is_refused(running: Running, tokens: Any, method: str) -> None:
    async def scenario() -> None:
        call = getattr(running.clients[0].stub, method)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            if method == "CheckStore":
                await call(session_pb2.CheckStoreRequest(), metadata=tokens, timeout=5)
            else:
                async for _ in call(iter([]), metadata=tokens, timeout=5):
                    pass
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED

    running.wait(scenario())


def test_a_full_queue_refuses_the_message_and_stores_nothing(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        for _ in range(9):
            await client.begin(chat_id)
        with pytest.raises(Refused) as refused:
            await client.begin(chat_id)
        assert (refused.value.reason, refused.value.status) == ("QUEUE_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert len(await client.history(chat_id)) == 9

    running.wait(scenario())


def delta(turn: session_pb2.ClaimedTurn, offset: int, text: str) -> event_pb2.Event:
    return event_pb2.Event(
        response_delta=event_pb2.ResponseDelta(message_id=turn.answer_id, text_offset=offset, text=text)
    )


def test_an_append_with_anything_wrong_in_it_is_not_applied_at_all(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("abc")
        before = await client.read(chat_id)
        completed = event_pb2.Event(response_completed=event_pb2.ResponseCompleted(message_id=turn.answer_id))
        for events in (
            [],
            [event_pb2.Event()],
            [delta(turn, 3, "")],
            [completed, delta(turn, 3, "x")],
            [event_pb2.Event(typing=event_pb2.Typing(user_id="u"))],
            [event_pb2.Event(message_created=event_pb2.MessageCreated(message=message(id="m")))],
        ):
            append = session_pb2.Append(lease=turn.lease, sequence=99, events=events)
            assert (await client.publish(append))[0].error == chat_pb2.ERROR_CODE_INVALID_ARGUMENT
        gap = session_pb2.Append(lease=turn.lease, sequence=2, events=[delta(turn, 3, "d"), delta(turn, 5, "f")])
        result = (await client.publish(gap))[0]
        assert (result.error, result.HasField("text_length"), result.text_length) == (0, True, 3)
        assert await client.read(chat_id) == before
        worker.sequence = 2
        await worker.say("def")
        assert (await client.history(chat_id))[-1].content == "abcdef"

    running.wait(scenario())


def test_a_name_stands_for_one_chat_until_it_is_closed(running: Running) -> None:
    async def scenario() -> None:
        request = session_pb2.OpenSessionRequest(dialect="test", name="naïve name", chat=chat_pb2.Chat(owner_id="o"))
        first = await running.clients[0].call("OpenSession", request)
        second = await running.clients[1].call("OpenSession", request)
        assert (first.created, second.created) == (True, False)
        assert first.session == second.session
        name = session_pb2.GetSessionRequest(dialect="test", name="naïve name")
        assert (await running.clients[1].call("GetSession", name)).session == first.session
        chat_id = first.session.chat_id
        await running.clients[0].begin(chat_id)
        close = session_pb2.CloseSessionRequest(dialect="test", name="naïve name")
        await running.clients[0].call("CloseSession", close)
        for method, again in (("GetSession", name), ("CloseSession", close)):
            with pytest.raises(Refused, match="NOT_FOUND"):
                await running.clients[0].call(method, again)
        with pytest.raises(Refused, match="NOT_FOUND"):
            await running.clients[0].history(chat_id)
        third = await running.clients[0].call("OpenSession", request)
        assert third.session.chat_id != chat_id
        assert third.session.session_id != first.session.session_id

    running.wait(scenario())


def test_a_deleted_chats_readers_are_told_and_its_worker_is_refused(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        stream = running.clients[1].stream("Subscribe")
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        await stream.receive()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        await worker.say("x")
        for _ in range(2):
            await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chat_id, reason="ended"))
        kinds: list[str] = []
        while "chat_deleted" not in kinds:
            for batch in (await stream.receive()).events:
                kinds.extend(str(event.WhichOneof("kind")) for event in batch.events)
        assert (await worker.say("y")).error == chat_pb2.ERROR_CODE_LEASE_LOST
        await stream.close()

    running.wait(scenario())


def test_a_restart_of_an_answer_that_is_not_there_is_not_applied_and_its_beginning_is(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        # As if Redis had lost the append with the beginning.
        assert (await worker.restart()).unopened
        assert not (await worker.say("x")).unopened
        assert not (await worker.restart()).unopened
        await worker.say("y")
        await worker.complete()
        *_, answer = await client.history(chat_id)
        assert answer.content == "y"

    running.wait(scenario())


def test_subscribing_to_a_chat_that_is_not_there_says_so_and_the_stream_lives_on(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        stream = client.stream("Subscribe")
        await stream.send(session_pb2.SubscribeRequest(add=["unknown"]))
        lost = (await stream.receive()).lost
        assert [(one.chat_id, one.error) for one in lost] == [("unknown", chat_pb2.ERROR_CODE_NOT_FOUND)]
        chat_id = await client.new_chat()
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        assert (await stream.receive()).subscribed[0].chat_id == chat_id
        await stream.close()

    running.wait(scenario())


def test_people_and_chats_are_listed_and_the_list_mends_itself(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        first, second = await client.new_chat(), await client.new_chat()
        participant = chat_pb2.Participant(user_id="only here", username="G", role=chat_pb2.PARTICIPANT_ROLE_MEMBER)
        for chat_id in (first, second):
            put = session_pb2.PutParticipantRequest(chat_id=chat_id, participant=participant)
            await client.call("PutParticipant", put)
        people = await client.call("ListParticipants", session_pb2.ListParticipantsRequest(chat_id=first))
        assert [one.user_id for one in people.participants] == ["owner", "only here"]
        listing = session_pb2.ListChatsRequest(user_id="only here", dialect="test")
        await client.begin(first)
        assert [chat.id for chat in (await client.call("ListChats", listing)).chats] == [first, second]
        page = session_pb2.ListChatsRequest(user_id="only here", dialect="test", limit=1, offset=1)
        assert [chat.id for chat in (await client.call("ListChats", page)).chats] == [second]
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=first))
        assert [chat.id for chat in (await client.call("ListChats", listing)).chats] == [second]
        remove = session_pb2.RemoveParticipantRequest(chat_id=second, user_id="only here")
        await client.call("RemoveParticipant", remove)
        assert not (await client.call("ListChats", listing)).chats

    running.wait(scenario())


def test_an_archived_chat_is_not_listed_and_takes_no_messages(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        chat = (await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))).chat
        chat.title = "done"
        chat.archived_at.GetCurrentTime()
        assert (await client.call("UpdateChat", session_pb2.UpdateChatRequest(chat=chat))).chat.title == "done"
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            await client.begin(chat_id)
        listing = session_pb2.ListChatsRequest(user_id="owner", dialect="test", limit=1000)
        assert chat_id not in [one.id for one in (await client.call("ListChats", listing)).chats]
        chat.ClearField("archived_at")
        await client.call("UpdateChat", session_pb2.UpdateChatRequest(chat=chat))
        await client.begin(chat_id)

    running.wait(scenario())


def test_typing_is_seen_by_who_is_there_and_has_no_position(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        stream = running.clients[1].stream("Subscribe")
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        await stream.receive()
        typing = event_pb2.Event(typing=event_pb2.Typing(user_id="u", username="U"))
        await client.call("Notify", session_pb2.NotifyRequest(chat_id=chat_id, event=typing))
        batch = (await stream.receive()).events[0]
        assert (batch.HasField("first"), batch.events[0]) == (False, typing)
        assert (await client.read(chat_id)).position.offset == 0
        await stream.close()

    running.wait(scenario())


def test_a_follower_that_does_not_read_is_told_that_it_was_too_slow(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        call = client.stub.Subscribe(metadata=client.metadata)
        await call.write(session_pb2.SubscribeRequest(add=[chat_id]))
        assert (await call.read()).subscribed
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        worker = Worker(client, turn)
        for _ in range(60):
            assert not (await worker.say(*["some text " * 1000] * 99)).error
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            while await call.read() is not grpc.aio.EOF:
                pass
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chat_id))

    running.wait(scenario())


def test_a_deleted_chats_turns_are_gone_with_it(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        begun = await client.begin(chat_id)
        await client.call("CancelTurn", session_pb2.CancelTurnRequest(chat_id=chat_id))
        turn = session_pb2.GetTurnRequest(chat_id=chat_id, turn_id=begun.turn_id)
        assert (await client.call("GetTurn", turn)).state == session_pb2.TURN_STATE_CANCELLED
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=chat_id))
        with pytest.raises(Refused, match="NOT_FOUND"):
            await client.call("GetTurn", turn)

    running.wait(scenario())


def test_of_many_who_open_and_end_a_session_each_ends_the_one_that_it_found(running: Running) -> None:
    async def scenario() -> None:
        opening = session_pb2.OpenSessionRequest(dialect="test", name="contended", chat=chat_pb2.Chat(owner_id="o"))
        closing = session_pb2.CloseSessionRequest(dialect="test", name="contended")
        calls: list[Any] = []
        for number in range(200):
            client = running.clients[number % 2]
            calls.append(client.call("OpenSession", opening))
            calls.extend(client.call("CloseSession", closing) for _ in range(2))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        opened = [outcome for outcome in outcomes if isinstance(outcome, session_pb2.OpenSessionResponse)]
        refused = [outcome.reason for outcome in outcomes if isinstance(outcome, Refused)]
        assert (len(opened), set(refused)) == (200, {"NOT_FOUND"})
        sessions = {one.session.session_id: one.session.chat_id for one in opened}
        last = (await running.clients[0].call("OpenSession", opening)).session
        await running.clients[0].call("GetChat", session_pb2.GetChatRequest(chat_id=last.chat_id))
        for session_id, chat_id in sessions.items():
            if session_id != last.session_id:
                with pytest.raises(Refused, match="NOT_FOUND"):
                    await running.clients[0].call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))
        await running.clients[0].call("CloseSession", closing)

    running.wait(scenario())


def test_more_credit_than_a_worker_can_mean_ends_its_stream(running: Running) -> None:
    async def scenario() -> None:
        stream = running.clients[0].stream("ClaimTurns")
        await stream.send(session_pb2.ClaimTurnsRequest(worker_id="w", credit=10_001))
        with pytest.raises(Refused) as refused:
            while True:
                assert await stream.receive() == session_pb2.ClaimTurnsResponse()
        assert (refused.value.reason, refused.value.message) == ("INVALID_ARGUMENT", "credit is at most 10000")
        await stream.close()

    running.wait(scenario())


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("CreateChat", session_pb2.CreateChatRequest(owner_username="x" * 201)),
        ("PutParticipant", session_pb2.PutParticipantRequest(participant={"user_id": "u", "role": 9})),  # type: ignore[arg-type]
        ("PutParticipant", session_pb2.PutParticipantRequest(participant={"user_id": "u"})),
        ("DeleteChat", session_pb2.DeleteChatRequest(reason="x" * 201)),
        ("Notify", session_pb2.NotifyRequest(event={"typing": {"user_id": "x" * 201}})),
        ("Notify", session_pb2.NotifyRequest(event={"typing": {"user_id": "x", "username": "x" * 17_000}})),
    ],
)
def test_a_field_out_of_its_range_is_refused(running: Running, method: str, request_: Any) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        if method == "CreateChat":
            request_.chat.CopyFrom(chat_pb2.Chat(id="new", dialect="test", owner_id="o"))
        else:
            request_.chat_id = chat_id
        with pytest.raises(Refused, match="INVALID_ARGUMENT"):
            await client.call(method, request_)
        await client.call("GetChat", session_pb2.GetChatRequest(chat_id=chat_id))

    running.wait(scenario())


def test_a_chat_whose_id_begins_with_anothers_leaves_that_one_alone(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        # In one partition, where the two might meet in one key.
        names = (str(uuid.uuid4()) for _ in range(10_000))
        chat_id = next(name for name in names if keys.partition(name) == keys.partition(f"{name}:messages"))
        for one in (chat_id, f"{chat_id}:messages"):
            chat = chat_pb2.Chat(id=one, dialect="test", owner_id="owner")
            await client.call("CreateChat", session_pb2.CreateChatRequest(chat=chat))
            await client.begin(one, f"to {one}", without_answer=True)
        await client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=f"{chat_id}:messages"))
        page = await client.call("ListMessages", session_pb2.ListMessagesRequest(chat_id=chat_id))
        assert [message.content for message in page.messages] == [f"to {chat_id}"]

    running.wait(scenario())


def test_one_message_is_read_by_its_id_and_another_one_is_not_found(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        said = [(await client.begin(chat_id, f"{n}", without_answer=True)).message for n in range(3)]
        for message_ in said:
            request = session_pb2.GetMessageRequest(chat_id=chat_id, message_id=message_.id)
            assert (await client.call("GetMessage", request)).message == message_
        for chat, name in ((chat_id, "another"), (chat_id, said[0].turn_id or "none"), ("no-chat", said[0].id)):
            with pytest.raises(Refused, match="NOT_FOUND"):
                await client.call("GetMessage", session_pb2.GetMessageRequest(chat_id=chat, message_id=name))

    running.wait(scenario())


def test_what_is_nested_as_deep_as_it_may_be_reaches_who_follows_the_chat(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        stream = running.clients[1].stream("Subscribe")
        await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
        await stream.receive()
        for metadata in (nested(16), nested(1, in_lists=15)):
            await client.call("BeginTurn", BEGIN(chat_id=chat_id, message=message(metadata=metadata)))
            created = (await stream.receive()).events[0].events[0].message_created
            assert created.message.metadata == metadata
        await stream.close()
        assert len((await client.read(chat_id)).snapshot.messages) == 2

    running.wait(scenario())


def test_nothing_nested_deeper_gets_in_by_another_way(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        deep = nested(17)
        chat = chat_pb2.Chat(id=chat_id, dialect="test", owner_id="owner", attributes=deep)
        presence = event_pb2.Event(presence=event_pb2.Presence(user_id="u", attributes=deep))
        opening = session_pb2.OpenSessionRequest(dialect="test", name="deep", chat=chat)
        for method, request in (
            ("CreateChat", session_pb2.CreateChatRequest(chat=chat)),
            ("UpdateChat", session_pb2.UpdateChatRequest(chat=chat)),
            ("OpenSession", opening),
            ("Notify", session_pb2.NotifyRequest(chat_id=chat_id, event=presence)),
        ):
            with pytest.raises(Refused, match=r"INVALID_ARGUMENT: .* is at most 16 deep"):
                await client.call(method, request)

    running.wait(scenario())


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": 0},
        {"role": USER},
        {"id": ""},
        {"id": "another"},
        {"chat_id": "another"},
        {"chat_id": ""},
        {"turn_id": ""},
    ],
)
def test_an_answer_begins_as_the_one_that_its_turn_was_promised(running: Running, wrong: dict[str, Any]) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat_id = await client.new_chat()
        await client.begin(chat_id)
        turn = await client.claim(chat_id)
        assert turn is not None
        before = await client.read(chat_id)
        worker = Worker(client, turn)
        started = worker.start_event()
        for name, value in wrong.items():
            setattr(started.response_started.message, name, value)
        assert (await worker.append(started, delta(turn, 0, "hi"))).error == chat_pb2.ERROR_CODE_INVALID_ARGUMENT
        assert await client.read(chat_id) == before
        await worker.say("an answer")
        await worker.complete()
        await client.begin(chat_id, "and now")
        assert await client.answer(chat_id, "well") == ["hello", "an answer", "and now"]

    running.wait(scenario())


def test_an_open_session_is_anothers_as_it_is(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        opening = session_pb2.OpenSessionRequest(dialect="test", name="shared", chat=chat_pb2.Chat(owner_id="first"))
        first = await client.call("OpenSession", opening)
        opening.chat.owner_id = "second"
        second = await client.call("OpenSession", opening)
        assert (second.created, second.session) == (False, first.session)
        chat = session_pb2.GetChatRequest(chat_id=second.session.chat_id)
        assert (await client.call("GetChat", chat)).chat.owner_id == "first"

    running.wait(scenario())


def test_no_two_dialects_share_a_name(running: Running) -> None:
    async def scenario() -> None:
        client = running.clients[0]
        chat = chat_pb2.Chat(id="c", dialect="a:b", owner_id="owner")
        for method, request in (
            ("CreateChat", session_pb2.CreateChatRequest(chat=chat)),
            ("ListChats", session_pb2.ListChatsRequest(user_id="owner", dialect="a:b")),
            ("OpenSession", session_pb2.OpenSessionRequest(dialect="a:b", name="n", chat=chat)),
            ("GetSession", session_pb2.GetSessionRequest(dialect="a:b", name="n")),
            ("CloseSession", session_pb2.CloseSessionRequest(dialect="a:b", name="n")),
        ):
            with pytest.raises(Refused, match=r"INVALID_ARGUMENT: .*dialect must not have a colon"):
                await client.call(method, request)

    running.wait(scenario())
