"""A part that dies with SIGKILL in the middle of an answer: the answer goes on, and is whole in the history."""

import asyncio
import uuid

import pytest
import websockets
from launcher.stack import Stack
from runtime.rpc_channel import open_channel, service_metadata
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc

from .faye import FayeChat, FayeReader, question

LONG = question(deltas=300, delta_chars=9, interval_ms=10)


async def begin(stack: Stack, message: str = LONG) -> tuple[FayeChat, FayeReader]:
    """A chat whose long answer has begun, and its reader on the first gateway."""
    chat = FayeChat(stack, f"kill-{uuid.uuid4()}")
    await chat.post("start_session")
    reader = FayeReader(chat)
    await reader.connect(0)
    await reader.send(message)
    for _ in range(20):
        await reader.read()
    return chat, reader


async def whole_answer(chat: FayeChat, gateway: int) -> str:
    """The answer as the history has it, once it has ended: a new reader's last frame says so."""
    reader = FayeReader(chat)
    await reader.connect(gateway)
    await reader.send(question(text="and now?"))
    while await reader.read_to_end() != "<p>and now?</p>":
        pass
    await reader.close()
    return (await chat.history(gateway))[1]["content"]


async def test_a_killed_gateways_answer_goes_on_and_its_client_resumes_elsewhere(mortal_pair: Stack) -> None:
    chat, reader = await begin(mortal_pair)
    await mortal_pair.gateways[0].kill()
    try:
        while True:
            await reader.read()
    except websockets.ConnectionClosed:
        pass
    await reader.connect(1)
    whole = await reader.read_to_end()
    assert reader.shown == whole
    assert reader.resets == 0
    assert (await chat.history(1))[1]["content"] == whole


async def test_a_killed_session_service_costs_no_word(mortal_pair: Stack) -> None:
    chats = [await begin(mortal_pair) for _ in range(4)]
    await mortal_pair.sessions[0].kill()
    for chat, reader in chats:
        whole = await reader.read_to_end(40)
        assert reader.shown == whole
        assert whole.count("<p>") >= 1
        assert (await chat.history(1))[1]["content"] == whole
        await reader.close()


async def test_a_session_service_that_comes_back_costs_no_word(mortal_pair: Stack) -> None:
    chats = [await begin(mortal_pair) for _ in range(4)]
    for session in mortal_pair.sessions:
        await session.kill()
    for session in mortal_pair.sessions:
        await session.start()
    for chat, reader in chats:
        whole = await reader.read_to_end(40)
        assert reader.shown == whole
        assert (await chat.history(1))[1]["content"] == whole
        await reader.close()


@pytest.mark.parametrize("repeated", [0, 25, 100_000])
async def test_a_killed_workers_turns_are_gone_on_with_by_another_within_15_seconds(
    mortal_pair: Stack, repeated: int
) -> None:
    text = " ".join(f"Word{n}" for n in range(300))
    going_on = question(text=text, goes_on=repeated, interval_ms=10, sticky=True)
    chats = [await begin(mortal_pair, going_on) for _ in range(4)]
    await mortal_pair.workers[0].kill()
    async with asyncio.timeout(20):
        wholes = await asyncio.gather(*(reader.read_to_end() for _, reader in chats))
    for (chat, reader), whole in zip(chats, wholes, strict=True):
        assert whole == f"<p>{text}</p>"
        assert reader.shown == whole, "a word came twice, or not at all"
        assert (await chat.history(1))[1]["content"] == whole
        await reader.close()


async def test_an_answer_that_can_not_be_gone_on_with_is_right_in_its_last_frame(mortal_pair: Stack) -> None:
    text = "Here is what I know of beans: " + " ".join(f"Word{n}" for n in range(300))
    for worker in mortal_pair.workers[1:]:
        await worker.kill()
    # Who goes on begins the answer anew, in other words.
    plans = {"text": text, "interval_ms": 10}, {"text": "Here is what I know of beans: little."}
    assert mortal_pair.simulator is not None
    await Simulator(mortal_pair.simulator_url, mortal_pair.simulator.pid).aset_plans("anthropic", *plans)
    chat, reader = await begin(mortal_pair, "What of beans?")
    await mortal_pair.workers[0].kill()
    await mortal_pair.workers[0].start()
    assert await reader.read_to_end() == "<p>Here is what I know of beans: little.</p>"
    assert (await chat.history(1))[1]["content"] == "<p>Here is what I know of beans: little.</p>"
    await reader.close()


async def test_a_turn_whose_gateway_died_before_starting_it_is_answered_all_the_same(mortal_pair: Stack) -> None:
    chat = FayeChat(mortal_pair, f"orphan-{uuid.uuid4()}")
    await chat.post("start_session")
    for worker in mortal_pair.workers:
        await worker.stop()
    # All that a gateway does before it can die: begin the turn. Nobody tells a worker.
    async with open_channel(mortal_pair.session_target) as channel:
        stub = session_pb2_grpc.SessionServiceStub(channel)
        metadata = service_metadata(mortal_pair.secrets.internal_token)
        named = session_pb2.GetSessionRequest(dialect="faye", name=chat.token)
        session = (await stub.GetSession(named, metadata=metadata, timeout=10)).session
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content=question(text="here I am"), sender_id=chat.token)
        request = session_pb2.BeginTurnRequest(chat_id=session.chat_id, message=message)
        begun = await stub.BeginTurn(request, metadata=metadata, timeout=10)
        assert begun.state == session_pb2.TURN_STATE_DUE
    reader = FayeReader(chat)
    await reader.connect(1)
    for worker in mortal_pair.workers:
        await worker.start()
    assert await reader.read_to_end() == "<p>here I am</p>"
    await reader.close()
