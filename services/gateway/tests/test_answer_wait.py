"""Waiting for an answer: it is whole however it comes, and nobody waits for what will never be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from chat.errors import ErrorCode, SwitchboardError
from chat.events import ChatDeleted, LogEvent, MessageCreated, ParticipantRemoved, ResponseCancelled
from chat.messages import AnswerState, Message
from gateway.answer_wait import AnswerWait
from gateway.ports import Begun, TurnState

from .fakes import CHAT
from .test_hub import Scene, scene, settled


class Waiting:
    """Somebody who waits for the answer to the first question of a scene."""

    def __init__(self, here: Scene, task: asyncio.Task[Message]) -> None:
        self.here = here
        self.task = task

    async def happen(self, *events: LogEvent) -> None:
        await self.here.happen(*events)

    async def answer(self) -> Message:
        async with asyncio.timeout(5):
            return await self.task


@asynccontextmanager
async def waiting(*, follow: bool = True) -> AsyncIterator[Waiting]:
    async with scene() as here:
        here.log.append(ParticipantRemoved("nobody"))
        asked = here.story.ask()
        assert isinstance(asked, MessageCreated)
        here.log.append(asked)
        # A Story's answer has the id that comes after its question's.
        begun = Begun(asked.message, "turn", "m2", here.log.position, TurnState.DUE, repeated=False)
        task = asyncio.create_task(AnswerWait(here.hub).wait(CHAT, begun))
        await settled()
        if follow:
            await here.follow()
        try:
            yield Waiting(here, task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_answer_is_given_once_it_is_whole() -> None:
    async with waiting() as one:
        story = one.here.story
        await one.happen(story.start(), story.say("Yes, "))
        assert not one.task.done()
        await one.happen(story.say("it is"), story.complete())
        answer = await one.answer()
        assert (answer.id, answer.content) == ("m2", "Yes, it is")
        assert answer.answer is not None
        assert answer.answer.state is AnswerState.COMPLETED
        await settled()
        assert one.here.hub.chats == 0


async def test_an_answer_that_was_whole_before_anybody_looked_is_given() -> None:
    async with waiting(follow=False) as one:
        story = one.here.story
        for event in (story.start(), story.say("Wrong"), story.restart(), story.say("Right"), story.complete()):
            one.here.log.append(event)
        await one.here.follow()
        assert (await one.answer()).content == "Right"


async def test_an_answer_whose_events_are_gone_is_found_in_the_history() -> None:
    async with waiting(follow=False) as one:
        story = one.here.story
        for event in (story.start(), story.say("Yes"), story.complete()):
            one.here.log.append(event)
        one.here.log.fail_over()
        await one.here.follow()
        assert (await one.answer()).content == "Yes"


async def test_an_answer_that_has_not_begun_when_events_are_lost_is_waited_for() -> None:
    async with waiting(follow=False) as one:
        story = one.here.story
        one.here.log.fail_over()
        await one.here.follow()
        await one.happen(story.start(), story.say("Yes"), story.complete())
        assert (await one.answer()).content == "Yes"


async def test_a_failed_or_stopped_answer_is_given_as_far_as_it_came() -> None:
    for end, state in (("fail", AnswerState.FAILED), ("cancel", AnswerState.CANCELLED)):
        async with waiting() as one:
            story = one.here.story
            await one.happen(story.start(), story.say("Half"), getattr(story, end)())
            answer = await one.answer()
            assert answer.content == "Half"
            assert answer.answer is not None
            assert answer.answer.state is state


async def test_an_answer_that_was_stopped_before_it_began_is_empty() -> None:
    async with waiting() as one:
        await one.happen(ResponseCancelled("another", 0), ResponseCancelled("m2", 0))
        assert (await one.answer()).content == ""


async def test_nobody_waits_for_a_chat_that_is_gone_or_an_answer_that_was_lost() -> None:
    async with waiting() as one:
        await one.happen(ChatDeleted("deleted"))
        with pytest.raises(SwitchboardError) as gone:
            await one.answer()
        assert gone.value.code is ErrorCode.NOT_FOUND
    async with waiting(follow=False) as one:
        one.here.log.events.clear()
        one.here.log.fail_over()
        await one.here.follow()
        with pytest.raises(SwitchboardError) as lost:
            await one.answer()
        assert lost.value.code is ErrorCode.INTERNAL
