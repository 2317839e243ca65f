"""The hub: every reader gets every event once and in order, whatever the stream and the log do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from chat.errors import ErrorCode
from chat.events import Event, LogEvent, ParticipantAdded, ParticipantRemoved, Presence, Typing
from chat.messages import Participant, ParticipantRole
from chat.position import Position
from gateway.feed import BUFFERED_EVENTS
from gateway.frame import Frame
from gateway.hub import Hub
from gateway.ports import ChatEvents
from hypothesis import given, settings
from hypothesis import strategies as st

from .fakes import CHAT, FakeLog, FakeReader, FakeSessions, FakeStream, batch, passing
from .plain import PlainRenderer, PlainSocket
from .story import Story

SOCKET = PlainSocket()


class Scene:
    """A hub that runs, the log it reads, and the stream it follows."""

    def __init__(self, hub: Hub, log: FakeLog, sessions: FakeSessions) -> None:
        self.hub = hub
        self.log = log
        self.sessions = sessions
        self.story = Story()
        self.stream = FakeStream()

    async def connect(self) -> None:
        """Takes the stream that the hub opened."""
        async with asyncio.timeout(5):
            self.stream = await self.sessions.streams.get()

    async def follow(self) -> None:
        """Waits until the hub asks for the chat, and confirms it."""
        async with asyncio.timeout(5):
            while CHAT not in (await self.stream.followed.get())[0]:
                pass
        self.stream.batches.put_nowait(batch(followed=self.log.position))
        await settled()

    async def happen(self, *events: LogEvent) -> None:
        """Appends, and tells the hub."""
        self.stream.batches.put_nowait(batch(*[self.log.append(event) for event in events]))
        await settled()

    async def join(
        self, *, after: Position | None = None, resumes: bool = False, shown_messages: int = 0, user_id: str = ""
    ) -> FakeReader:
        reader = FakeReader(resumes=resumes or after is not None)
        self.hub.attach(CHAT, reader, SOCKET, None, after, user_id=user_id, shown_messages=shown_messages)
        await settled()
        return reader

    def remove(self, user_id: str) -> LogEvent:
        """Somebody takes part no longer; the event that says so."""
        self.sessions.people.discard(user_id)
        return ParticipantRemoved(user_id)


async def settled() -> None:
    """Lets everything that can go on without time or I/O go on."""
    for _ in range(50):
        await asyncio.sleep(0)


@asynccontextmanager
async def scene(*, linger_s: float = 0.0) -> AsyncIterator[Scene]:
    log = FakeLog()
    sessions = FakeSessions(log)
    hub = Hub(sessions, linger_s=linger_s, jitter=lambda: -0.5)  # type: ignore[arg-type]
    running = asyncio.create_task(hub.run())
    made = Scene(hub, log, sessions)
    try:
        await made.connect()
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_reader_gets_what_happens_from_then_on() -> None:
    async with scene() as here:
        reader = await here.join()
        await here.follow()
        story = here.story
        await here.happen(story.ask(), story.start())
        await here.happen(story.say("Yes"))
        await here.happen(story.say(", it is"), story.complete())
        assert reader.contents == [("delta", "Yes"), ("delta", ", it is"), ("delta", "."), ("stop", "Yes, it is.")]


async def test_a_greeting_comes_first_and_nothing_said_after_it_is_missed() -> None:
    async with scene() as here:
        reader, greeting = FakeReader(), Frame({"type": "welcome"})
        here.log.append(here.story.ask())
        here.log.append(here.story.start())
        here.log.append(here.story.say("So far"))
        here.sessions.gate.clear()
        here.hub.attach(CHAT, reader, SOCKET, None, None, greeting=(greeting,))
        await here.follow()
        assert reader.frames == []
        here.sessions.gate.set()
        await settled()
        assert reader.contents == [("welcome", ""), ("delta", "So far")]


async def test_readers_are_told_of_who_was_removed_behind_what_came_before_and_not_of_who_is_back() -> None:
    bob = Participant("bob", "", ParticipantRole.MEMBER, 0)
    async with scene() as here:
        before = here.log.position
        reader = await here.join(user_id="bob")
        await here.follow()
        await here.happen(here.story.start(), here.story.say("Yes"), ParticipantRemoved("bob"))
        assert (reader.contents, reader.gone) == ([("delta", "Yes")], ["bob"])
        await here.happen(ParticipantAdded(bob))
        # Who reads the log from before the removal learns of the return as well.
        late = await here.join(after=before, user_id="bob")
        assert (late.contents, late.gone) == ([("delta", "Yes")], [])


async def test_who_is_removed_gets_nothing_of_what_came_after_in_the_same_batch() -> None:
    async with scene() as here:
        ann, bob = await here.join(user_id="ann"), await here.join(user_id="bob")
        await here.follow()
        story = here.story
        events = (story.start(), story.say("for all"), here.remove("bob"), story.say(", secret"))
        told = [here.log.append(event) for event in events]
        at_once = ChatEvents(CHAT, "e0", 1, [event for one in told for event in one.events])
        here.stream.batches.put_nowait(batch(at_once))
        await settled()
        assert (bob.contents, bob.gone) == ([("delta", "for all")], ["bob"])
        assert (ann.text, ann.gone) == ("for all, secret", [])


async def test_who_is_removed_while_the_log_is_read_gets_nothing_of_what_came_after() -> None:
    async with scene() as here:
        story = here.story
        for event in (story.ask(), story.start(), story.say("before")):
            here.log.append(event)
        here.sessions.gate.clear()
        bob = await here.join(user_id="bob")
        await here.follow()
        await here.happen(here.remove("bob"), story.say(" and after"))
        here.sessions.gate.set()
        await settled()
        assert (bob.contents, bob.gone) == ([("delta", "before")], ["bob"])


async def test_who_was_removed_since_they_were_let_in_is_told_and_gets_nothing() -> None:
    async with scene() as here:
        story = here.story
        for event in (story.ask(), story.start(), here.remove("bob"), story.say("secret")):
            here.log.append(event)
        new, knowing = FakeReader(), FakeReader(resumes=True)
        greeting = Frame({"type": "welcome"})
        here.hub.attach(CHAT, new, SOCKET, None, None, user_id="bob", greeting=(greeting,))
        here.hub.attach(CHAT, knowing, SOCKET, None, here.log.position, user_id="bob")
        waiting = asyncio.create_task(here.hub.caught_up(CHAT, new))
        await here.follow()
        await here.happen(story.say(" and more"))
        assert [(reader.contents, reader.gone) for reader in (new, knowing)] == [([], ["bob"])] * 2
        assert waiting.done()


@pytest.mark.parametrize("others", [(), ("ann",), ("ann", "")])
async def test_who_was_removed_while_the_log_was_lost_is_told_and_gets_no_snapshot(others: tuple[str, ...]) -> None:
    async with scene() as here:
        story = here.story
        bob, *rest = [await here.join(user_id=user_id) for user_id in ("bob", *others)]
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("before"))
        here.log.append(here.remove("bob"))
        here.log.append(story.say(", secret"))
        here.log.fail_over()
        await here.happen(story.say(", more"))
        await here.happen(story.say(", and more"))
        assert (bob.contents, bob.gone) == ([("delta", "before")], ["bob"])
        assert [(reader.contents[-1], reader.gone) for reader in rest] == [(("delta", ", and more"), [])] * len(rest)


async def test_a_removal_that_is_read_from_the_log_parts_what_its_user_gets_from_what_others_get() -> None:
    async with scene() as here:
        story = here.story
        ann, bob = await here.join(user_id="ann"), await here.join(user_id="bob")
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("before"))
        for event in (here.remove("bob"), story.say(", secret")):  # never told
            here.log.append(event)
        await here.happen(story.say(", more"))
        assert (bob.text, bob.gone) == ("before", ["bob"])
        assert (ann.text, ann.gone) == ("before, secret, more", [])


async def test_who_was_brought_back_while_nothing_was_told_reads_on() -> None:
    bob = Participant("bob", "", ParticipantRole.MEMBER, 0)
    async with scene() as here:
        story = here.story
        reader = await here.join(user_id="bob")
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("a"))
        for event in (ParticipantRemoved("bob"), ParticipantAdded(bob)):  # never told
            here.log.append(event)
        await here.happen(story.say("b"))
        assert (reader.text, reader.gone) == ("ab", [])


async def test_a_reader_that_comes_mid_answer_first_gets_the_text_so_far() -> None:
    async with scene() as here:
        story = here.story
        for event in (story.ask(), story.start(), story.say("So "), story.say("far")):
            here.log.append(event)
        reader = await here.join()
        await here.follow()
        await here.happen(story.say(", so good"))
        assert reader.contents == [("delta", "So far"), ("delta", ", so good")]


async def test_a_reader_that_comes_without_a_position_is_shown_as_many_messages_as_its_visit_says() -> None:
    async with scene() as here:
        story = here.story
        for answer in ("one", "two"):
            for event in (story.ask(), story.start(), story.say(answer), story.complete()):
                here.log.append(event)
        none, last = await here.join(), await here.join(shown_messages=1)
        knowing = await here.join(shown_messages=1, after=here.log.position)
        await here.follow()
        assert last.contents == [("delta", "two"), ("delta", "."), ("stop", "two.")]
        await here.happen(story.ask(), story.start(), story.say("three"))
        assert [reader.contents[-1] for reader in (none, last, knowing)] == [("delta", "three")] * 3
        assert len(none.contents) == len(knowing.contents) == 1


async def test_a_reader_with_a_position_gets_exactly_what_it_missed() -> None:
    async with scene() as here:
        story = here.story
        for event in (story.ask(), story.start(), story.say("one "), story.say("two "), story.say("three")):
            here.log.append(event)
        reader = await here.join(after=Position("e0", 3))
        await here.follow()
        await here.happen(story.complete())
        assert reader.contents == [("delta", "two three"), ("delta", "."), ("stop", "one two three.")]


async def test_a_reader_that_saw_part_of_an_events_frames_gets_the_rest() -> None:
    async with scene() as here:
        story = here.story
        for event in (story.ask(), story.start(), story.say("one"), story.complete()):
            here.log.append(event)
        reader = await here.join(after=Position("e0", 4, 1))
        await here.follow()
        assert reader.contents == [("stop", "one.")]


async def test_a_reader_that_resumes_where_the_log_ends_mid_answer_goes_on_with_the_right_text() -> None:
    for ending in ("say", "complete"):
        async with scene() as here:
            story = here.story
            for event in (story.ask(), story.start(), story.say("one ")):
                here.log.append(event)
            reader = await here.join(after=here.log.position)
            await here.follow()
            if ending == "say":
                await here.happen(story.ask("more"))
                await here.happen(story.say("two"))
                assert reader.contents == [("delta", "two")]
            await here.happen(story.complete())
            assert reader.contents[-1] == ("stop", story.text + ".")


async def test_a_reader_that_resumes_between_answers_reads_the_log_once() -> None:
    async with scene() as here:
        story = here.story
        here.log.append(story.ask())
        reader = await here.join(after=here.log.position)
        await here.follow()
        await here.happen(story.start(), story.say("one"), story.complete())
        assert reader.contents[-1] == ("stop", "one.")
        assert len(here.sessions.reads) == 1


async def test_a_reader_that_resumes_beside_one_that_is_live_needs_no_text_of_its_own() -> None:
    async with scene() as here:
        story = here.story
        first = await here.join()
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("one "))
        second = await here.join(after=here.log.position)
        reads = len(here.sessions.reads)
        await here.happen(story.complete())
        assert second.contents[-1] == first.contents[-1] == ("stop", "one .")
        assert len(here.sessions.reads) == reads


async def test_a_reader_far_behind_reads_the_log_page_by_page() -> None:
    async with scene() as here:
        story = here.story
        here.log.page = 3
        for event in (story.ask(), story.start(), *(story.say(f"{number} ") for number in range(20))):
            here.log.append(event)
        here.log.append(story.complete())
        reader = await here.join(after=Position("e0", 2))
        await here.follow()
        assert reader.text == story.text + "."
        assert reader.contents[-1] == ("stop", story.text + ".")


async def test_events_that_come_while_the_log_is_read_are_neither_lost_nor_doubled() -> None:
    async with scene() as here:
        story = here.story
        here.log.append(story.ask())
        here.log.append(story.start())
        here.sessions.gate.clear()
        reader = await here.join()
        await here.follow()
        await here.happen(story.say("a"))
        await here.happen(story.say("b"))
        here.sessions.gate.set()
        await settled()
        await here.happen(story.say("c"))
        assert reader.text == "abc"


async def test_who_waits_to_be_caught_up_waits_until_the_log_is_read() -> None:
    async with scene() as here:
        reader = await here.join()
        waiting = asyncio.create_task(here.hub.caught_up(CHAT, reader))
        await settled()
        assert not waiting.done()
        await here.follow()
        assert waiting.done()
        await here.hub.caught_up(CHAT, reader)
        await here.hub.caught_up("another", reader)


async def test_who_waits_to_be_caught_up_is_told_when_the_chat_is_gone() -> None:
    async with scene() as here:
        reader = await here.join()
        waiting = asyncio.create_task(here.hub.caught_up(CHAT, reader))
        await settled()
        here.stream.batches.put_nowait(batch(lost=True))
        await settled()
        assert waiting.done()
        assert reader.over


async def test_readers_in_step_share_one_frame() -> None:
    async with scene() as here:
        story = here.story
        first = await here.join()
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("a"))
        second = await here.join()
        await here.happen(story.say("b"))
        assert first.frames[-1] is second.frames[-1]
        assert first.text == second.text == "ab"


async def test_a_gap_is_filled_from_the_log() -> None:
    async with scene() as here:
        story = here.story
        reader = await here.join()
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("a"))
        here.log.append(story.say("b"))  # never told
        await here.happen(story.say("c"))
        assert reader.text == "abc"


async def test_an_event_told_twice_is_delivered_once() -> None:
    async with scene() as here:
        story = here.story
        reader = await here.join()
        await here.follow()
        await here.happen(story.ask(), story.start())
        told = here.log.append(story.say("a"))
        here.stream.batches.put_nowait(batch(told, told))
        await settled()
        assert reader.text == "a"


async def test_a_kind_of_event_that_is_not_known_counts_and_is_passed_over() -> None:
    async with scene() as here:
        story = here.story
        reader = await here.join()
        await here.follow()
        await here.happen(story.ask(), story.start())
        here.log.append(story.say("?"))
        here.stream.batches.put_nowait(batch(ChatEvents(CHAT, "e0", 3, [None])))
        await settled()
        await here.happen(story.say("a"))
        assert reader.text == "a"


async def test_when_the_stream_breaks_readers_stay_and_catch_up() -> None:
    async with scene() as here:
        story = here.story
        reader = await here.join()
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("a"))
        here.stream.batches.put_nowait(None)
        here.log.append(story.say("b"))
        await here.connect()
        await here.follow()
        await here.happen(story.say("c"))
        assert reader.text == "abc"
        assert not reader.over


async def test_when_nothing_was_missed_the_log_is_not_read_again() -> None:
    async with scene() as here:
        await here.join()
        await here.follow()
        await here.happen(here.story.ask())
        reads = len(here.sessions.reads)
        here.stream.batches.put_nowait(None)
        await here.connect()
        await here.follow()
        assert len(here.sessions.reads) == reads


async def test_a_log_that_can_not_be_read_is_read_again() -> None:
    async with scene() as here:
        story = here.story
        here.sessions.fail_reads = 3
        here.log.append(story.ask())
        here.log.append(story.start())
        reader = await here.join()
        await here.follow()
        await here.happen(story.say("a"))
        assert reader.text == "a"


async def test_what_arrived_at_once_leaves_as_one_frame() -> None:
    async with scene() as here:
        story = here.story
        reader = await here.join()
        await here.follow()
        told = [here.log.append(event) for event in (story.ask(), story.start(), story.say("a"), story.say("b"))]
        at_once = ChatEvents(CHAT, "e0", 1, [event for one in told for event in one.events])
        here.stream.batches.put_nowait(batch(at_once))
        await settled()
        assert reader.contents == [("delta", "ab")]
        assert reader.frames[0].position == Position("e0", 4)


async def test_a_chat_that_the_service_lost_is_followed_again() -> None:
    async with scene() as here:
        story = here.story
        reader = await here.join()
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("a"))
        here.log.append(story.say("b"))
        here.stream.batches.put_nowait(batch(lost=False))
        await here.follow()
        assert reader.text == "ab"


async def test_a_chat_that_is_not_there_ends_its_readers() -> None:
    async with scene() as here:
        reader = await here.join()
        here.stream.batches.put_nowait(batch(lost=True))
        await settled()
        assert reader.over
        assert here.hub.chats == 0


async def test_a_position_that_the_log_no_longer_knows_gets_one_reset_and_a_snapshot() -> None:
    async with scene() as here:
        story = here.story
        for event in (story.ask(), story.start(), story.say("old"), story.complete()):
            here.log.append(event)
        here.log.trim()
        reader = await here.join(after=Position("e0", 1))
        await here.follow()
        assert reader.contents == [("reset", ""), ("delta", "old"), ("delta", "."), ("stop", "old.")]
        assert [frame.position for frame in reader.frames] == [None, None, None, Position("e0", 4)]


async def test_a_new_epoch_resets_who_knows_positions_and_puts_right_who_does_not() -> None:
    async with scene() as here:
        story = here.story
        strict, knowing = await here.join(), await here.join(resumes=True)
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("a"))
        here.log.fail_over()
        await here.happen(story.say("b"))
        await here.happen(story.say("c"))
        assert knowing.contents[1:] == [("reset", ""), ("delta", "ab"), ("delta", "c")]
        assert strict.contents[1:] == [("resync", "a"), ("delta", "c")]
        assert strict.frames[-1] is knowing.frames[-1]


async def test_who_knows_no_positions_is_not_told_to_forget_what_it_has_not() -> None:
    async with scene() as here:
        story = here.story
        for event in (story.ask(), story.start(), story.say("old")):
            here.log.append(event)
        reader, position = FakeReader(), here.log.position
        here.log.fail_over()
        here.hub.attach(CHAT, reader, SOCKET, None, position)
        await here.follow()
        assert reader.contents == [("delta", "old")]


async def test_passing_events_are_seen_by_who_is_there_and_have_no_position() -> None:
    async with scene() as here:
        reader = await here.join()
        await here.follow()
        await here.happen(here.story.ask())
        here.stream.batches.put_nowait(batch(passing(Typing("bob", "Bob", 0)), passing(Presence("bob", True))))
        await settled()
        assert [frame.position for frame in reader.frames] == [None]
        assert reader.contents == [("typing", "")]


async def test_a_chat_nobody_reads_any_more_is_followed_no_longer() -> None:
    async with scene() as here:
        reader = await here.join()
        await here.follow()
        here.hub.detach(CHAT, reader)
        async with asyncio.timeout(5):
            assert (await here.stream.followed.get())[1] == [CHAT]
        assert here.hub.chats == 0


async def test_a_reader_that_comes_back_while_the_chat_lingers_needs_no_new_subscription() -> None:
    async with scene(linger_s=60) as here:
        story = here.story
        first = await here.join()
        await here.follow()
        await here.happen(story.ask(), story.start(), story.say("a"))
        here.hub.detach(CHAT, first)
        await here.happen(story.say("b"))
        second = await here.join()
        await here.happen(story.say("c"))
        assert second.text == "abc"
        assert first.text == "a"
        assert here.stream.followed.empty()


async def test_one_chats_broken_rendering_ends_its_readers_and_nobody_elses() -> None:
    async with scene() as here:
        reader = await here.join()
        other = FakeReader()
        here.hub.attach("other", other, SOCKET, None, None)
        await here.follow()

        class Broken(PlainRenderer):
            def render(self, event: Event) -> Sequence[Frame]:
                raise ZeroDivisionError

        here.hub._feeds[CHAT].groups[0].renderer = Broken()
        await here.happen(here.story.ask())
        assert reader.failure is not None
        assert reader.failure.code is ErrorCode.INTERNAL
        assert other.failure is None
        assert here.hub.chats == 1


async def test_more_live_events_than_are_kept_while_the_log_is_read_are_read_from_it() -> None:
    async with scene() as here:
        story = here.story
        here.log.append(story.ask())
        here.log.append(story.start())
        here.sessions.gate.clear()
        reader = await here.join()
        await here.follow()
        for _ in range(BUFFERED_EVENTS + 10):
            here.stream.batches.put_nowait(batch(here.log.append(story.say("x"))))
        while not here.stream.batches.empty():
            await settled()
        here.sessions.gate.set()
        await settled()
        assert reader.text == story.text


MOVES = st.lists(
    st.sampled_from(["say", "say", "say", "silent", "turn", "join", "resume", "break", "lose", "fail", "twice"]),
    min_size=5,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(MOVES)
def test_whatever_happens_on_the_way_every_reader_has_the_whole_text(moves: list[str]) -> None:
    asyncio.run(_play(moves))


async def _play(moves: list[str]) -> None:
    async with scene() as here:
        story, count = here.story, 0
        readers: list[tuple[FakeReader, str]] = []

        async def move(kind: str, silent: Callable[[LogEvent], ChatEvents] = here.log.append) -> None:
            nonlocal count
            match kind:
                case "say":
                    count += 1
                    await here.happen(story.say(f"{count} "))
                case "silent":
                    count += 1
                    silent(story.say(f"{count} "))
                case "twice":
                    count += 1
                    told = silent(story.say(f"{count} "))
                    here.stream.batches.put_nowait(batch(told, told))
                    await settled()
                case "turn":
                    await here.happen(story.complete(), story.ask(), story.start())
                case "join":
                    readers.append((await here.join(), _written(here.log, len(here.log.events), whole=False)))
                case "resume" if readers and readers[0][0].frames:
                    reader, before = readers[0]
                    here.hub.detach(CHAT, reader)
                    last = reader.frames[-1].position
                    assert last is not None
                    again = await here.join(after=last)
                    again.frames[:0] = reader.frames
                    readers[0] = (again, before)
                case "break":
                    here.stream.batches.put_nowait(None)
                    await here.connect()
                    await here.follow()
                case "lose":
                    here.stream.batches.put_nowait(batch(lost=False))
                    await here.follow()
                case "fail":
                    here.sessions.fail_reads = 2
                case _:
                    pass

        await here.happen(story.ask(), story.start())
        readers.append((await here.join(), ""))
        await here.follow()
        for kind in moves:
            await move(kind)
        await here.happen(story.say("end"))
        whole = _written(here.log, len(here.log.events), whole=True)
        for reader, before in readers:
            assert reader.text == whole.removeprefix(before)


def _written(log: FakeLog, offset: int, *, whole: bool) -> str:
    """All that a reader from the start would have; not `whole`: without the answer under way."""
    renderer = PlainRenderer()
    done, answer = "", ""
    for event in log.events[:offset]:
        for frame in renderer.render(event):
            if frame.content["type"] == "delta":
                answer += str(frame.content["text"])
            else:
                done, answer = done + answer, ""
    return done + answer if whole else done
