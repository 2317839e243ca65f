"""The laws of the log, for any order of sends, claims, appends, repeats, stops and restarts, over two replicas.

1. folding a snapshot and the later events gives what folding all events gives, at every cut, and that is the history;
2. offsets are contiguous, and an append is applied once however often it is sent;
3. a keyed send that was acknowledged is in the history exactly once;
4. a turn that began ends completed, failed or cancelled;
5. its context is the conversation up to the message that it answers, with each one's last answer that has a text;
6. who may not do something changes nothing by trying.
"""

import asyncio
import random
from typing import Any

import pytest
from chat.codec import message_from_proto
from chat.events import ResponseCompleted, ResponseDelta, ResponseFailed, ResponseRestarted
from chat.fold import View, fold
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2

from .client import Refused, SessionClient, Worker, log_events
from .conftest import Running

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
GOES_ON = (ResponseDelta, ResponseRestarted, ResponseCompleted, ResponseFailed)
OWNER, ADMIN, MEMBER, READER = chat_pb2.ParticipantRole.values()[1:]
STRANGER = 9
PEOPLE = ["owner", "ann", "bob"]
WHO = st.sampled_from(["owner", "owner", "owner", "ann", "bob"])
ENDED = {session_pb2.TURN_STATE_COMPLETED, session_pb2.TURN_STATE_FAILED, session_pb2.TURN_STATE_CANCELLED}


class ChatMachine(RuleBasedStateMachine):
    """One chat, two replicas, and any number of people, workers and readers at it."""

    running: Running

    cuts = Bundle("cuts")

    def __init__(self) -> None:
        super().__init__()
        self.turns: dict[str, str] = {}
        self.questions: dict[str, str] = {}
        self.keys: dict[tuple[str, str], tuple[str, str]] = {}
        self.stored: list[str] = []
        self.passing: dict[str, int] = {}
        self.answered: dict[str, str] = {}
        self.roles = {"owner": OWNER}
        self.workers: list[Worker] = []

    def wait(self, work: Any) -> Any:
        return self.running.wait(work)

    def client(self, data: st.DataObject) -> SessionClient:
        return self.running.clients[data.draw(st.integers(0, 1), label="replica")]

    @initialize()
    def make_chat(self) -> None:
        self.chat_id = self.wait(self.running.clients[0].new_chat())
        self.first = chat_pb2.Position(epoch=self.wait(self.running.clients[0].read(self.chat_id)).position.epoch)

    def role(self, user: str) -> int:
        return self.roles.get(user, STRANGER)

    def asked(self, client: SessionClient, method: str, request: Any, user: str, *, allowed: bool) -> Any:
        """What a call returned; None: it was refused, as it had to be."""
        if allowed:
            return self.wait(client.call(method, request, user))
        before = self.wait(client.read(self.chat_id))
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            self.wait(client.call(method, request, user))
        assert self.wait(client.read(self.chat_id)) == before
        return None

    @rule(data=st.data(), by=WHO, user=st.sampled_from(PEOPLE), role=st.sampled_from([ADMIN, MEMBER, READER, None]))
    def place(self, data: st.DataObject, by: str, user: str, role: Any) -> None:
        weaker = self.role(by) < min(self.role(user), STRANGER if role is None else role)
        allowed = user != "owner" and ((self.role(by) <= ADMIN and weaker) or (by == user and role is None))
        if role is None:
            removal = session_pb2.RemoveParticipantRequest(chat_id=self.chat_id, user_id=user)
            self.asked(self.client(data), "RemoveParticipant", removal, by, allowed=allowed)
        else:
            participant = chat_pb2.Participant(user_id=user, role=role)
            putting = session_pb2.PutParticipantRequest(chat_id=self.chat_id, participant=participant)
            self.asked(self.client(data), "PutParticipant", putting, by, allowed=allowed)
        if allowed and role is None:
            self.roles.pop(user, None)
        elif allowed:
            self.roles[user] = role

    @rule(data=st.data(), text=TEXT, key=st.sampled_from(["", "a", "b", "c"]), what=st.sampled_from("ssssea"), user=WHO)
    def send(self, data: st.DataObject, text: str, key: str, what: str, user: str) -> None:
        waiting = sum(state == "open" for state in self.turns.values())
        if (waiting > 8 and (user, key) not in self.keys) or (what == "a" and not self.stored):
            return
        request = session_pb2.BeginTurnRequest(chat_id=self.chat_id, idempotency_key=key, ephemeral=what == "e")
        if what == "a":
            request.answer_again = data.draw(st.sampled_from(self.stored), label="message")
        else:
            request.message.CopyFrom(chat_pb2.Message(role=chat_pb2.ROLE_USER, content=text, sender_id=user))
        begun = self.asked(self.client(data), "BeginTurn", request, user, allowed=self.role(user) <= MEMBER)
        if begun is None:
            return
        if (user, key) in self.keys:
            assert begun.repeated
            assert (begun.message.id, begun.turn_id) == self.keys[user, key]
            return
        assert not begun.repeated
        assert (begun.message.sequence == 0) == (what == "e")
        if what == "e":
            self.passing[begun.message.id] = len(self.stored)
        elif what == "a":
            assert begun.message.id == request.answer_again
        else:
            self.stored.append(begun.message.id)
        if key:
            self.keys[user, key] = begun.message.id, begun.turn_id
        self.turns[begun.turn_id] = "open"
        self.questions[begun.turn_id] = begun.message.id

    def context(self, turn_id: str) -> list[str]:
        """The ids of the messages that a turn's context must have now."""
        own = self.questions[turn_id]
        before = self.passing[own] if own in self.passing else self.stored.index(own)
        said: list[str] = []
        for message_id in self.stored[:before]:
            said.extend(filter(None, (message_id, self.answered.get(message_id))))
        return [*said, own]

    def note_answer(self, turn_id: str) -> None:
        """A turn has ended."""
        for message in self.wait(self.running.clients[0].history(self.chat_id)):
            if message.turn_id == turn_id and message.answer is not None and message.content:
                self.answered[self.questions[turn_id]] = message.id

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        turn = self.wait(self.client(data).claim(self.chat_id))
        if turn is not None:
            oldest = next(turn_id for turn_id, state in self.turns.items() if state == "open")
            assert turn.lease.turn_id == oldest, "turns run in the order in which they began"
            assert [message.id for message in turn.context] == self.context(turn.lease.turn_id)
            assert turn.ephemeral == (turn.context[-1].id in self.passing)
            self.workers.append(Worker(self.client(data), turn))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), texts=st.lists(TEXT, min_size=1, max_size=4), what=st.sampled_from("ssssssrcfd"))
    def work(self, data: st.DataObject, texts: list[str], what: str) -> None:
        worker = data.draw(st.sampled_from(self.workers), label="worker")
        worker.client = self.client(data)
        turn_id = worker.turn.lease.turn_id
        if what == "d":
            # Lost on its way back: the same append again, unchanged, over the other replica.
            if worker.last is not None:
                before = self.wait(worker.client.read(self.chat_id)).position
                for again in self.wait(worker.client.publish(worker.last, worker.last)):
                    if self.turns[turn_id] != "stopped":
                        assert again.error == worker.last_result.error
                    assert not again.HasField("text_length")
                assert self.wait(worker.client.read(self.chat_id)).position == before
            return
        if what == "r" and not worker.started:
            return
        if what in "cf" and not worker.started:
            self.wait(worker.say("x"))
        call = {"s": lambda: worker.say(*texts), "r": worker.restart, "c": worker.complete, "f": worker.fail}[what]
        result = self.wait(call())
        if self.turns[turn_id] != "open":
            assert result.error == chat_pb2.ERROR_CODE_LEASE_LOST, "a turn that has ended takes nothing more"
        else:
            assert not result.error
            if what in "cf":
                self.turns[turn_id] = "ended"
                self.note_answer(turn_id)

    @rule(data=st.data(), everything=st.booleans(), user=WHO)
    def stop(self, data: st.DataObject, everything: bool, user: str) -> None:
        request = session_pb2.CancelTurnRequest(chat_id=self.chat_id, all=everything)
        stopped = self.asked(self.client(data), "CancelTurn", request, user, allowed=self.role(user) <= MEMBER)
        if stopped is None:
            return
        for turn_id in stopped.turn_ids:
            assert self.turns[turn_id] == "open"
            self.turns[turn_id] = "stopped"
            self.note_answer(turn_id)
        if everything:
            assert all(state != "open" for state in self.turns.values())

    @rule(data=st.data(), text=TEXT)
    def edit(self, data: st.DataObject, text: str) -> None:
        if not self.stored:
            return
        message_id = data.draw(st.sampled_from(self.stored), label="message")
        request = session_pb2.EditMessageRequest(chat_id=self.chat_id, message_id=message_id, content=text)
        assert self.wait(self.client(data).call("EditMessage", request)).message.content == text

    @rule(target=cuts, data=st.data())
    def cut(self, data: st.DataObject) -> Any:
        return self.wait(self.client(data).read(self.chat_id))

    @rule(data=st.data(), cut=cuts)
    def a_snapshot_and_the_later_events_are_the_history(self, data: st.DataObject, cut: Any) -> None:
        client = self.client(data)
        view = shown(cut)
        reading = self.wait(client.read(self.chat_id, cut.position))
        if reading.HasField("snapshot"):
            # The text that this reader has was taken back by a restart: it starts again from what is there now.
            view = shown(reading)
        for event in log_events(reading.events):
            view = fold(view, event)
        assert view == shown(self.wait(client.read(self.chat_id)))
        assert view.messages == self.wait(client.history(self.chat_id))

    @rule(data=st.data())
    def a_reader_at_any_position_is_given_what_a_renderer_needs(self, data: st.DataObject) -> None:
        client = self.client(data)
        events = self.wait(client.events_after(self.chat_id, self.first))
        offset = data.draw(st.integers(0, len(events)), label="offset")
        reading = self.wait(client.read(self.chat_id, chat_pb2.Position(epoch=self.first.epoch, offset=offset)))
        if not reading.HasField("snapshot"):
            assert log_events(reading.events) == events[offset:]
            view = View()
            for event in events[:offset]:
                view = fold(view, event)
            rest = [event for event in events[offset:] if isinstance(event, GOES_ON)]
            known = view.messages if view.passing is None else (view.passing,)
            under_way = [m.content for m in known if m.answer is not None and m.answer.state.name == "RUNNING"]
            if not rest or not isinstance(rest[0], ResponseRestarted):
                assert reading.text_before == "".join(under_way)

    def teardown(self) -> None:
        if not hasattr(self, "chat_id"):
            return
        client = self.running.clients[0]
        events = self.wait(client.events_after(self.chat_id, self.first))
        view = View()
        for event in events:
            view = fold(view, event)
        history = self.wait(client.history(self.chat_id))
        assert view.messages == history
        assert [message.sequence for message in history] == list(range(1, len(history) + 1))
        assert self.wait(client.read(self.chat_id)).position.offset == len(events)
        people = [message for message in history if message.answer is None]
        assert sorted(message.id for message in people) == sorted(self.stored), "each once, and none that was to pass"
        self.wait(client.call("CancelTurn", session_pb2.CancelTurnRequest(chat_id=self.chat_id, all=True)))
        for turn_id in self.turns:
            request = session_pb2.GetTurnRequest(chat_id=self.chat_id, turn_id=turn_id)
            assert self.wait(client.call("GetTurn", request)).state in ENDED
        self.wait(client.call("DeleteChat", session_pb2.DeleteChatRequest(chat_id=self.chat_id)))


def shown(reading: session_pb2.ReadLogResponse) -> View:
    return View.of_snapshot([message_from_proto(message) for message in reading.snapshot.messages])


@pytest.mark.timeout(600)
def test_the_laws_hold_whatever_happens_in_a_chat(running: Running) -> None:
    machine = type("Machine", (ChatMachine,), {"running": running})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15 if running.cluster else 60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_concurrent_sends_with_one_key_are_one_message(running: Running) -> None:
    async def scenario() -> None:
        chat_id = await running.clients[0].new_chat()
        begun = await asyncio.gather(
            *(running.clients[n % 2].begin(chat_id, "once", idempotency_key="k") for n in range(20))
        )
        assert len({one.message.id for one in begun}) == 1
        assert sorted(one.repeated for one in begun) == [False] + [True] * 19
        assert [message.content for message in await running.clients[0].history(chat_id)] == ["once"]

    running.wait(scenario())


def test_a_follower_of_either_replica_sees_every_event_once_and_in_order(running: Running) -> None:
    async def scenario() -> None:
        chat_id = await running.clients[0].new_chat()
        streams = [client.stream("Subscribe") for client in running.clients]
        for stream in streams:
            await stream.send(session_pb2.SubscribeRequest(add=[chat_id]))
            assert (await stream.receive()).subscribed[0].chat_id == chat_id
        await running.clients[0].begin(chat_id)
        turn = await running.clients[1].claim(chat_id)
        assert turn is not None
        worker = Worker(running.clients[1], turn)
        chooser = random.Random(1)
        for _ in range(50):
            await worker.say(*(f"w{n} " for n in range(chooser.randint(1, 4))))
        await worker.complete()
        whole = log_events(
            (
                await running.clients[0].read(
                    chat_id, chat_pb2.Position(epoch=(await running.clients[0].read(chat_id)).position.epoch)
                )
            ).events
        )
        for stream in streams:
            seen: list[Any] = []
            while len(seen) < len(whole):
                for batch in (await stream.receive()).events:
                    assert batch.first.offset == len(seen) + 1
                    seen.extend(log_events(batch.events))
            assert seen == whole
            await stream.close()

    running.wait(scenario())
