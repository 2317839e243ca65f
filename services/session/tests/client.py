"""A plain client of the session service, as an internal team would write one."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import grpc.aio
from chat.codec import event_from_proto, message_from_proto
from chat.events import LogEvent
from chat.messages import Message
from runtime.rpc_channel import open_channel, service_metadata
from runtime.rpc_errors import reason_of
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc


class Refused(Exception):
    """A call ended with an error; `reason` is the contract's code."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.reason, self.message, self.retry_after_s = reason_of(error)
        self.status = error.code()
        super().__init__(f"{self.reason}: {self.message}")


@dataclass
class Stream:
    """A bidirectional stream: `send` requests, `receive` responses in order."""

    requests: "asyncio.Queue[Any]"
    responses: "asyncio.Queue[Any]"
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def send(self, request: Any) -> None:
        await self.requests.put(request)

    async def receive(self) -> Any:
        async with asyncio.timeout(10):
            response = await self.responses.get()
        if isinstance(response, grpc.aio.AioRpcError):
            raise Refused(response)
        return response

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class SessionClient:
    """One replica's client. Every method must be called in the loop that opened it."""

    @classmethod
    async def open(cls, address: str, token: str) -> "SessionClient":
        client = cls()
        client.channel = open_channel(address)
        client.stub = session_pb2_grpc.SessionServiceStub(client.channel)
        client.metadata = service_metadata(token)
        await client.call("CheckStore", session_pb2.CheckStoreRequest())
        return client

    channel: grpc.aio.Channel
    stub: Any
    metadata: Any

    async def close(self) -> None:
        await self.channel.close()

    async def call(self, method: str, request: Any, user: str = "") -> Any:
        metadata = (*self.metadata, ("x-switchboard-user", quote(user))) if user else self.metadata
        try:
            return await getattr(self.stub, method)(request, metadata=metadata, timeout=10, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise Refused(error) from None

    def stream(self, method: str) -> Stream:
        stream = Stream(asyncio.Queue(), asyncio.Queue())

        async def requests() -> AsyncIterator[Any]:
            while True:
                yield await stream.requests.get()

        async def responses() -> None:
            try:
                async for response in getattr(self.stub, method)(requests(), metadata=self.metadata):
                    await stream.responses.put(response)
            except grpc.aio.AioRpcError as error:
                await stream.responses.put(error)

        stream.tasks.append(asyncio.ensure_future(responses()))
        return stream

    async def new_chat(self) -> str:
        chat_id = str(uuid.uuid4())
        chat = chat_pb2.Chat(id=chat_id, dialect="test", owner_id="owner")
        await self.call("CreateChat", session_pb2.CreateChatRequest(chat=chat))
        return chat_id

    async def begin(self, chat_id: str, text: str = "hello", **fields: Any) -> session_pb2.BeginTurnResponse:
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content=text, sender_id="owner")
        return await self.call("BeginTurn", session_pb2.BeginTurnRequest(chat_id=chat_id, message=message, **fields))

    async def again(
        self, chat_id: str, message_id: str, user: str = "", **fields: Any
    ) -> session_pb2.BeginTurnResponse:
        request = session_pb2.BeginTurnRequest(chat_id=chat_id, answer_again=message_id, **fields)
        return await self.call("BeginTurn", request, user)

    async def answer(self, chat_id: str, *texts: str) -> list[str]:
        """Answers the turn that is due; returns the texts of its context."""
        turn = await self.claim(chat_id)
        assert turn is not None
        await self.answered(turn, *texts)
        return [message.content for message in turn.context]

    async def answered(self, turn: session_pb2.ClaimedTurn, *texts: str) -> None:
        """Completes a claimed turn."""
        worker = Worker(self, turn)
        if texts:
            assert not (await worker.say(*texts)).error
        assert not (await worker.complete()).error

    async def claim(self, chat_id: str) -> session_pb2.ClaimedTurn | None:
        try:
            request = session_pb2.ClaimTurnRequest(chat_id=chat_id, worker_id="test")
            return (await self.call("ClaimTurn", request)).turn
        except Refused as refused:
            if refused.reason == "NOT_FOUND":
                return None
            raise

    async def publish(self, *appends: session_pb2.Append) -> list[session_pb2.AppendResult]:
        """Sends appends over a stream of their own, and returns their results in order."""
        stream = self.stream("Publish")
        await stream.send(session_pb2.PublishRequest(appends=appends))
        results: list[session_pb2.AppendResult] = []
        while len(results) < len(appends):
            results.extend((await stream.receive()).results)
        await stream.close()
        return results

    async def read(
        self, chat_id: str, after: chat_pb2.Position | None = None, messages: int = 1000
    ) -> session_pb2.ReadLogResponse:
        request = session_pb2.ReadLogRequest(chat_id=chat_id, after=after, snapshot_messages=messages)
        return await self.call("ReadLog", request)

    async def events_after(self, chat_id: str, after: chat_pb2.Position) -> list[LogEvent]:
        reading = await self.read(chat_id, after)
        assert not reading.HasField("snapshot"), "the events after this position are gone"
        return log_events(reading.events)

    async def history(self, chat_id: str) -> tuple[Message, ...]:
        request = session_pb2.ListMessagesRequest(chat_id=chat_id, limit=1000)
        return tuple(map(message_from_proto, (await self.call("ListMessages", request)).messages))


def log_events(protos: Any) -> list[LogEvent]:
    events = [event_from_proto(proto) for proto in protos]
    return [event for event in events if event is not None]  # type: ignore[misc]


class Worker:
    """Answers one claimed turn, append by append, as a worker does."""

    def __init__(self, client: SessionClient, turn: session_pb2.ClaimedTurn) -> None:
        self.client = client
        self.turn = turn
        self.sequence = 0
        self.length = len(turn.text.encode())
        self.started = turn.started
        self.opened = 0
        self.last: session_pb2.Append | None = None
        self.last_result = session_pb2.AppendResult()

    async def append(self, *events: event_pb2.Event) -> session_pb2.AppendResult:
        self.sequence += 1
        if any(event.WhichOneof("kind") in ("response_started", "response_restarted") for event in events):
            self.opened = self.sequence
        self.last = session_pb2.Append(lease=self.turn.lease, sequence=self.sequence, opened=self.opened, events=events)
        self.last_result = (await self.client.publish(self.last))[0]
        return self.last_result

    def start_event(self) -> event_pb2.Event:
        message = chat_pb2.Message(
            id=self.turn.answer_id,
            chat_id=self.turn.lease.chat_id,
            role=chat_pb2.ROLE_ASSISTANT,
            turn_id=self.turn.lease.turn_id,
            reply_to_id=self.turn.context[-1].id,
            answer=chat_pb2.Answer(state=chat_pb2.ANSWER_STATE_RUNNING, provider="p", model="m"),
        )
        message.created_at.FromMilliseconds(1_700_000_000_000)
        return event_pb2.Event(response_started=event_pb2.ResponseStarted(message=message))

    async def say(self, *texts: str) -> session_pb2.AppendResult:
        events = [] if self.started else [self.start_event()]
        length = self.length
        for text in texts:
            delta = event_pb2.ResponseDelta(message_id=self.turn.answer_id, text_offset=length, text=text)
            events.append(event_pb2.Event(response_delta=delta))
            length += len(text.encode())
        result = await self.append(*events)
        if not result.error:
            self.started, self.length = True, length
        return result

    async def restart(self) -> session_pb2.AppendResult:
        restarted = event_pb2.ResponseRestarted(message_id=self.turn.answer_id)
        result = await self.append(event_pb2.Event(response_restarted=restarted))
        if not result.error:
            self.length = 0
        return result

    async def complete(self, usage: chat_pb2.Usage | None = None) -> session_pb2.AppendResult:
        answer = chat_pb2.Answer(
            state=chat_pb2.ANSWER_STATE_COMPLETED,
            finish_reason=chat_pb2.FINISH_REASON_STOP,
            provider="p",
            model="m-2026",
            usage=usage or chat_pb2.Usage(input_tokens=3, output_tokens=4),
        )
        completed = event_pb2.ResponseCompleted(message_id=self.turn.answer_id, text_length=self.length, answer=answer)
        events = [] if self.started else [self.start_event()]
        return await self.append(*events, event_pb2.Event(response_completed=completed))

    async def fail(self, usage: chat_pb2.Usage | None = None) -> session_pb2.AppendResult:
        failure = chat_pb2.Failure(code=chat_pb2.ERROR_CODE_PROVIDER_UNAVAILABLE, message="down", retryable=True)
        answer = chat_pb2.Answer(
            state=chat_pb2.ANSWER_STATE_FAILED, failure=failure, provider="p", model="m", usage=usage
        )
        failed = event_pb2.ResponseFailed(message_id=self.turn.answer_id, text_length=self.length, answer=answer)
        return await self.append(event_pb2.Event(response_failed=failed))
