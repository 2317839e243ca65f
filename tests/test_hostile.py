"""Clients that mean harm get a clear end, and nobody else notices."""

import asyncio
import uuid

import httpx2
import pytest
from launcher.stack import Stack

from .faye import FayeChat, FayeReader, question


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Until the other side has ended, by a close or a reset."""
    received = b""
    async with asyncio.timeout(20):
        try:
            while octets := await reader.read(65536):
                received += octets
        except ConnectionResetError:
            pass
    return received


async def test_requests_without_end_on_one_connection_end_it(pair: Stack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.gateway_ports[0])
    # Fewer bytes than one head may have.
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
    answers = await read_to_end(reader)
    assert answers.count(b"HTTP/1.1 200") < 100
    writer.close()


async def test_a_request_whose_head_does_not_end_is_refused(pair: Stack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.gateway_ports[0])
    writer.write(b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 200_000)
    assert (await read_to_end(reader)).startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
    writer.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_half_a_surrogate_pair_is_a_bad_request_in_openais_form(pair: Stack, stream: bool) -> None:
    body = '{"model":"claude-sonnet-4-5","stream":%s,"messages":[{"role":"user","content":"\\ud800"}]}'
    headers = {"authorization": f"Bearer {pair.secrets.api_key}", "content-type": "application/json"}
    async with httpx2.AsyncClient(base_url=pair.gateway_urls[0], headers=headers) as client:
        response = await client.post("/v1/chat/completions", content=body % str(stream).lower())
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_a_chat_of_more_text_than_any_model_takes_is_still_answered(pair: Stack) -> None:
    chat = FayeChat(pair, f"long-{uuid.uuid4()}")
    await chat.post("start_session")
    reader = FayeReader(chat)
    await reader.connect(0)
    for _ in range(140):
        await reader.send(question(text="still here", headers_ms=1_500) + "z" * 60_000)
        while (await chat.post("stop", gateway=1))["message"] != "Answer stopped":
            pass
        await reader.read_to_end()
    # What was stopped unanswered is asked again with this, as one message.
    await reader.send("Well?")
    assert await reader.read_to_end() == "<p>still here</p>"
    await reader.close()
