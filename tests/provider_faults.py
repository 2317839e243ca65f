"""Live readers of one answer while its provider fails: over `/v1/chat/completions`, and over a chat's WebSocket.

Of the WebSocket dialects it is Arketic's: its chunks are the model's text as it comes, a second `ai_response_start`
shows a restart, and its last frame names the model. Both readers hold each answer to what is so with every fault: the
pieces are the whole, an error ends an answer instead of an end, and what is stored is what was read.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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
    """"": it ended well."""
    usage: tuple[int, int] = (0, 0)
    """Tokens read and written."""
    restarts: int = 0
    retry_after: bool = False


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
                failed = json.loads(await response.aread())
                assert set(failed) == {"error"}
                return Reading(
                    "", error=f"{response.status_code} {failed['error']['code']}", retry_after=_tells(response)
                )
            assert response.headers["content-type"].startswith("text/event-stream")
            events = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
        return _read_events(events)

    async def over_arketic(self, model: str) -> Reading:
        """Makes a chat with this model, says something in it, and reads the answer on the chat's WebSocket."""
        made = await self._client.post("/api/v1/chat/chats", json={"title": "Hens", "ai_model": model}, headers=self._user)
        assert made.status_code == 200, made.text
        chat_id = made.json()["id"]
        url = f"{self._stack.gateway_urls[0].replace('http', 'ws', 1)}/api/v1/chat/chats/{chat_id}/ws?full_content=false"
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
        reading = _read_frames(frames, stored.answer)
        assert stored.content == reading.text
        history = await self._client.get(f"/api/v1/chat/chats/{chat_id}", headers=self._user)
        answers = [one for one in history.json()["messages"] if one["message_type"] == "AI"]
        assert [(one["content"], one["status"]) for one in answers] == [
            (reading.text, "FAILED" if reading.error else "DELIVERED")
        ]
        # Each attempt is on record, and none that was not made.
        assert [attempt.provider for attempt in stored.answer.attempts] == asked(self.simulator)
        assert [attempt.HasField("failure") for attempt in stored.answer.attempts][-1] is bool(reading.error)
        return reading

    async def _stored(self, chat_id: str) -> chat_pb2.Message:
        async with open_channel(self._stack.session_target) as channel:
            stub = session_pb2_grpc.SessionServiceStub(channel)
            metadata = service_metadata(self._stack.secrets.internal_token)
            request = session_pb2.ListMessagesRequest(chat_id=chat_id)
            response = await stub.ListMessages(request, metadata=metadata, timeout=10)
        said, answer = response.messages
        assert said.role == chat_pb2.ROLE_USER
        return answer


Read = Callable[[Readers, str], Awaitable[Reading]]


def _tells(response: httpx2.Response) -> bool:
    return "retry-after" in response.headers


def _read_events(events: list[str]) -> Reading:
    done = events[-1] == "[DONE]"
    chunks: list[dict[str, Any]] = [json.loads(event) for event in (events[:-1] if done else events)]
    error = "" if done else chunks.pop()["error"]["code"]
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
    return Reading(
        text="".join(choice["delta"].get("content", "") for choice in choices),
        model=chunks[-1]["model"],
        finish_reason=_FINISH_REASONS[reasons[-1]] if done else chat_pb2.FINISH_REASON_UNSPECIFIED,
        error=error,
        usage=(counted["prompt_tokens"], counted["completion_tokens"]) if counted else (0, 0),
    )


def _is_last(frame: dict[str, Any]) -> bool:
    """Behind an answer that failed comes its error."""
    if frame["type"] == "ai_response_complete":
        return frame["message"]["status"] != "FAILED"
    return bool(frame["type"] == "ai_error")


def _read_frames(frames: list[dict[str, Any]], answer: chat_pb2.Answer) -> Reading:
    text, model, error, starts = "", "", "", 0
    for frame in frames:
        match frame["type"]:
            case "ai_response_start":
                starts, text = starts + 1, ""
            case "ai_response_chunk":
                assert starts
                text += frame["chunk"]
            case "ai_response_complete":
                told = frame["message"]
                assert (told["content"], told["is_streaming"]) == (text, False)
                assert told["tokens_used"] == answer.usage.input_tokens + answer.usage.output_tokens
                model = told["ai_model_used"]
            case "ai_error":
                error = frame["error_code"]
            case kind:
                assert kind == "new_message"
    assert answer.state == (chat_pb2.ANSWER_STATE_FAILED if error else chat_pb2.ANSWER_STATE_COMPLETED)
    if not error:
        assert answer.model == model
    return Reading(
        text,
        model,
        answer.finish_reason,
        error,
        (answer.usage.input_tokens, answer.usage.output_tokens),
        max(0, starts - 1),
    )
