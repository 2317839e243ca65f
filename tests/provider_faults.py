"""Live readers of one answer while its provider fails: over `/v1/chat/completions`, and over a chat's WebSocket.

Of the WebSocket dialects it is Arketic's: its chunks are the model's text as it comes, a second `ai_response_start`
shows a restart, and its last frame names the model. Both readers hold each answer to what is so with every fault: the
pieces are the whole, an error ends an answer instead of an end, and what is stored is what was read.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import websockets
from launcher.stack import Stack
from runtime.rpc_channel import open_channel, service_metadata
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc

WORDS = 60
TEXT = " ".join(f"{word}{n}" for n, word in enumerate(("hens", "dream", "of", "corn", "when") * (WORDS // 5), 1)) + "."
"""No word comes twice, so that one that is lost or doubled shows."""
FINE = {"text": TEXT, "goes_on": 9, "interval_ms": 1}
"""A provider that is well: the whole text, or the rest of it behind a word and a half said once more."""
MODELS = {"anthropic": "claude-sonnet-4-5", "grok": "grok-4", "openai": "gpt-4o"}
USER = "ada"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader made of one answer. `text`: in the end, restarts taken into account."""

    text: str
    model: str = ""
    """As its last frame named it."""
    finish_reason: int = chat_pb2.FINISH_REASON_UNSPECIFIED
    error: str = ""
    """Our code for it; empty: it ended well."""
    usage: tuple[int, int] = (0, 0)
    """Tokens read and written."""
    restarts: int = 0
    pieces: tuple[str, ...] = field(default=(), compare=False)
    """The text as it came, without what a restart took back."""


def first_words(count: int) -> str:
    """What a reader has after so many deltas."""
    return "".join(f"{word} " for word in TEXT.split(" ")[:count])


def asked(sim: Simulator) -> list[str]:
    """Whom the worker has asked, in order."""
    return [request.provider for request in sim.requests()]


def set_well(sim: Simulator) -> None:
    """Forgets everything, and all providers are well."""
    sim.reset()
    for provider in MODELS:
        sim.set_plans(provider, then=FINE)


_ERRORS = {
    "content_policy_violation": (400, "PROVIDER_REFUSED"),
    "context_length_exceeded": (400, "CONTEXT_TOO_LONG"),
    "provider_unavailable": (503, "PROVIDER_UNAVAILABLE"),
}
"""OpenAI's codes: the status where nothing was streamed yet, and our name."""
_ARKETIC_ERRORS = {"langchain_service_unavailable": "PROVIDER_UNAVAILABLE"}
"""Its codes are our names in small letters but for this."""
_FINISH_REASONS = {
    "stop": chat_pb2.FINISH_REASON_STOP,
    "length": chat_pb2.FINISH_REASON_LENGTH,
    "content_filter": chat_pb2.FINISH_REASON_CONTENT_FILTER,
}


class Readers:
    """Clients of one stack."""

    def __init__(self, stack: Stack, client: httpx2.AsyncClient) -> None:
        self._stack = stack
        self._client = client
        self.simulator = Simulator(stack.simulator_url, stack.simulator.pid if stack.simulator else 0)
        self._user = {"authorization": f"Bearer {stack.secrets.user_token(USER)}"}

    async def over_completions(self, model: str) -> Reading:
        """Asks `/v1/chat/completions` for a stream with its usage, and reads the events as they are written."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "What of the hens?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"authorization": f"Bearer {self._stack.secrets.api_key}"}
        async with self._client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            if response.status_code != 200:
                status, error = _ERRORS[json.loads(await response.aread())["error"]["code"]]
                assert response.status_code == status
                assert ("retry-after" in response.headers) is (status == 503)
                return Reading("", error=error)
            assert response.headers["content-type"].startswith("text/event-stream")
            events = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
        return _read_events(events)

    async def over_arketic(self, model: str) -> Reading:
        """Makes a chat with this model, says something in it, and reads the answer on the chat's WebSocket."""
        made = await self._client.post(
            "/api/v1/chat/chats", json={"title": "Hens", "ai_model": model}, headers=self._user
        )
        assert made.status_code == 200, made.text
        chat_id = made.json()["id"]
        url = (
            f"{self._stack.gateway_urls[0].replace('http', 'ws', 1)}/api/v1/chat/chats/{chat_id}/ws?full_content=false"
        )
        async with websockets.connect(url, additional_headers=self._user, compression=None) as socket:
            assert json.loads(await socket.recv())["type"] == "welcome"
            said = await self._client.post(
                f"/api/v1/chat/chats/{chat_id}/messages", json={"content": "What of the hens?"}, headers=self._user
            )
            assert said.status_code == 200, said.text
            frames = [json.loads(await socket.recv())]
            while not _is_last(frames[-1]):
                frames.append(json.loads(await socket.recv()))
        stored = await self._stored(chat_id)
        reading = _read_frames(frames, stored.answer if stored else None)
        history = await self._client.get(f"/api/v1/chat/chats/{chat_id}", headers=self._user)
        shown = [one for one in history.json()["messages"] if one["message_type"] == "AI"]
        if stored is None:
            assert (shown, reading.text) == ([], ""), "an answer that never began is an error and no message"
            return reading
        assert stored.content == reading.text
        assert [(one["content"], one["status"]) for one in shown] == [
            (reading.text, "FAILED" if reading.error else "DELIVERED")
        ]
        # Each attempt is on record, and none that was not made.
        assert [attempt.provider for attempt in stored.answer.attempts] == asked(self.simulator)
        assert [attempt.HasField("failure") for attempt in stored.answer.attempts][-1] is bool(reading.error)
        return reading

    async def _stored(self, chat_id: str) -> chat_pb2.Message | None:
        """The one answer of a chat in which one thing was said."""
        async with open_channel(self._stack.session_target) as channel:
            stub = session_pb2_grpc.SessionServiceStub(channel)
            metadata = service_metadata(self._stack.secrets.internal_token)
            request = session_pb2.ListMessagesRequest(chat_id=chat_id)
            response = await stub.ListMessages(request, metadata=metadata, timeout=10)
        _, *answers = response.messages
        assert len(answers) <= 1
        return answers[0] if answers else None


Read = Callable[[Readers, str], Awaitable[Reading]]


def _read_events(events: list[str]) -> Reading:
    done = events[-1] == "[DONE]"
    chunks: list[dict[str, Any]] = [json.loads(event) for event in (events[:-1] if done else events)]
    error = "" if done else _ERRORS[chunks.pop()["error"]["code"]][1]
    assert len({chunk["id"] for chunk in chunks}) == 1
    usages = [chunk.pop("usage") for chunk in chunks]
    counted = usages[-1] if done else None
    assert usages == [None] * (len(usages) - done) + ([counted] if done else [])
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert len(choices) == len(chunks) - done
    reasons = [choice["finish_reason"] for choice in choices]
    assert reasons[: len(reasons) - done] == [None] * (len(reasons) - done), "only the last chunk ends the answer"
    if counted is not None:
        assert counted["total_tokens"] == counted["prompt_tokens"] + counted["completion_tokens"]
    pieces = tuple(choice["delta"].get("content", "") for choice in choices)
    return Reading(
        text="".join(pieces),
        model=chunks[-1]["model"],
        finish_reason=_FINISH_REASONS[reasons[-1]] if done else chat_pb2.FINISH_REASON_UNSPECIFIED,
        error=error,
        usage=(counted["prompt_tokens"], counted["completion_tokens"]) if counted else (0, 0),
        pieces=pieces,
    )


def _is_last(frame: dict[str, Any]) -> bool:
    """Behind an answer that failed comes its error."""
    if frame["type"] == "ai_response_complete":
        return bool(frame["message"]["status"] != "FAILED")
    return bool(frame["type"] == "ai_error")


def _read_frames(frames: list[dict[str, Any]], answer: chat_pb2.Answer | None) -> Reading:
    """`answer`: as it is stored; None: it never began."""
    pieces: list[str] = []
    model, error, starts = "", "", 0
    for frame in frames:
        match frame["type"]:
            case "ai_response_start":
                starts += 1
                pieces.clear()
            case "ai_response_chunk":
                assert starts
                pieces.append(frame["chunk"])
            case "ai_response_complete":
                told = frame["message"]
                assert (told["content"], told["is_streaming"]) == ("".join(pieces), False)
                model = told["ai_model_used"]
                assert answer is not None
                assert told["tokens_used"] == answer.usage.input_tokens + answer.usage.output_tokens
                assert model == answer.model
            case "ai_error":
                error = _ARKETIC_ERRORS.get(frame["error_code"]) or frame["error_code"].upper()
            case kind:
                assert kind == "new_message"
    if answer is None:
        assert (starts, bool(error)) == (0, True)
        return Reading("", error=error)
    assert answer.state == (chat_pb2.ANSWER_STATE_FAILED if error else chat_pb2.ANSWER_STATE_COMPLETED)
    usage = (answer.usage.input_tokens, answer.usage.output_tokens)
    return Reading("".join(pieces), model, answer.finish_reason, error, usage, starts - 1, tuple(pieces))
