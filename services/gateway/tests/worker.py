"""A worker that says what a test tells it to: a plain client of the session service, for turns of a known course."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import grpc.aio
from chat.events import utf8_length
from runtime.rpc_channel import open_channel, service_metadata
from switchboard.chat.v1 import chat_pb2, event_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc


class Turn:
    """One claimed turn. Each method returns once the session service has acknowledged it."""

    def __init__(self, publishing: Any, claimed: session_pb2.ClaimedTurn) -> None:
        self._publishing = publishing
        self._claimed = claimed
        self._sequence = 0
        self._opened = 0
        self.text = ""

    async def start(self) -> Turn:
        message = chat_pb2.Message(
            id=self._claimed.answer_id,
            chat_id=self._claimed.lease.chat_id,
            role=chat_pb2.ROLE_ASSISTANT,
            turn_id=self._claimed.lease.turn_id,
            reply_to_id=self._claimed.context[-1].id,
            answer=chat_pb2.Answer(state=chat_pb2.ANSWER_STATE_RUNNING),
        )
        await self._append(event_pb2.Event(response_started=event_pb2.ResponseStarted(message=message)))
        return self

    async def say(self, *texts: str) -> None:
        """One delta a text, all in one append."""
        events = []
        for text in texts:
            delta = event_pb2.ResponseDelta(
                message_id=self._claimed.answer_id, text_offset=utf8_length(self.text), text=text
            )
            events.append(event_pb2.Event(response_delta=delta))
            self.text += text
        await self._append(*events)

    async def restart(self) -> None:
        self.text = ""
        restarted = event_pb2.ResponseRestarted(message_id=self._claimed.answer_id)
        await self._append(event_pb2.Event(response_restarted=restarted))

    async def complete(self) -> None:
        answer = chat_pb2.Answer(
            state=chat_pb2.ANSWER_STATE_COMPLETED, finish_reason=chat_pb2.FINISH_REASON_STOP, provider="p", model="m"
        )
        done = event_pb2.ResponseCompleted(
            message_id=self._claimed.answer_id, text_length=utf8_length(self.text), answer=answer
        )
        await self._append(event_pb2.Event(response_completed=done))

    async def fail(self, message: str) -> None:
        failure = chat_pb2.Failure(code=chat_pb2.ERROR_CODE_PROVIDER_UNAVAILABLE, message=message, retryable=True)
        answer = chat_pb2.Answer(state=chat_pb2.ANSWER_STATE_FAILED, failure=failure)
        broken = event_pb2.ResponseFailed(
            message_id=self._claimed.answer_id, text_length=utf8_length(self.text), answer=answer
        )
        await self._append(event_pb2.Event(response_failed=broken))

    async def _append(self, *events: event_pb2.Event) -> None:
        self._sequence += 1
        if events[0].WhichOneof("kind") in ("response_started", "response_restarted"):
            self._opened = self._sequence
        append = session_pb2.Append(
            lease=self._claimed.lease, sequence=self._sequence, opened=self._opened, events=events
        )
        await self._publishing.write(session_pb2.PublishRequest(appends=[append]))
        response = await self._publishing.read()
        assert [(one.sequence, one.error) for one in response.results] == [(self._sequence, 0)], response


class Worker:
    """Claims turns by chat; as an async context it closes its channel."""

    def __init__(self, target: str, token: str) -> None:
        self._channel: grpc.aio.Channel = open_channel(target)
        self._metadata = service_metadata(token)
        self.session = session_pb2_grpc.SessionServiceStub(self._channel)

    async def __aenter__(self) -> Worker:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def call(self, method: Any, request: Any) -> Any:
        return await method(request, metadata=self._metadata, timeout=10, wait_for_ready=True)

    async def chat_of(self, dialect: str, name: str) -> str:
        """The chat behind a session; waits for it."""
        request = session_pb2.GetSessionRequest(dialect=dialect, name=name)
        async with asyncio.timeout(10):
            while True:
                try:
                    return str((await self.call(self.session.GetSession, request)).session.chat_id)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.NOT_FOUND:
                        raise

    async def history(self, chat_id: str) -> list[str]:
        request = session_pb2.ListMessagesRequest(chat_id=chat_id)
        response = await self.call(self.session.ListMessages, request)
        return [message.content for message in response.messages]

    async def claim(self, chat_id: str) -> Turn:
        """The chat's due turn; waits for it."""
        while True:
            try:
                request = session_pb2.ClaimTurnRequest(chat_id=chat_id, worker_id="scripted")
                claimed = await self.call(self.session.ClaimTurn, request)
                break
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
        publishing = self.session.Publish(metadata=self._metadata)
        return await Turn(publishing, claimed.turn).start()
