"""The embeddings endpoint, through the SDK and as bytes."""

import json
import math
from typing import Any

import openai
import pytest
from simulator.process import Simulator

from .conftest import KEY


@pytest.fixture
async def client(sim: Simulator) -> Any:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=sim.openai_url("openai"), max_retries=0) as made:
        yield made


def near(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_the_same_text_has_the_same_vector_and_shared_words_bring_texts_near(client: Any) -> None:
    texts = ["Almonds lower cholesterol", "almonds lower cholesterol!", "oats lower cholesterol", "the moon"]
    answer = await client.embeddings.create(model="text-embedding-3-small", input=texts)
    assert [one.index for one in answer.data] == [0, 1, 2, 3]
    one, same, like, other = (row.embedding for row in answer.data)
    assert len(one) == 1536
    assert math.hypot(*one) == pytest.approx(1, abs=1e-5)
    assert near(one, same) == pytest.approx(1, abs=1e-5)
    assert near(one, same) > near(one, like) > near(one, other)


async def test_dimensions_and_plain_floats_are_given_as_asked(client: Any) -> None:
    answer = await client.embeddings.create(model="m", input="a text", dimensions=8, encoding_format="float")
    assert len(answer.data[0].embedding) == 8
    assert answer.usage.total_tokens == 2


@pytest.mark.parametrize(
    "change",
    [{"input": []}, {"input": [""]}, {"input": [[1, 2]]}, {"model": None}, {"dimensions": 0}, {"dimensions": 4096}],
)
def test_a_wrong_request_is_refused(wire: Any, change: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", "input": "x", **change}).encode()
    wire.send("POST", "/openai/v1/embeddings", body, authorization=f"Bearer {KEY}")
    status, _, error = wire.answer()
    assert (status, error["error"]["type"]) == (400, "invalid_request_error")


def test_a_request_is_kept_in_the_record_and_a_bad_key_refused(wire: Any, connect: Any, sim: Simulator) -> None:
    body = json.dumps({"model": "m", "input": ["x", "y"]}).encode()
    wire.send("POST", "/grok/v1/embeddings", body, authorization=f"Bearer {KEY}")
    assert wire.answer()[0] == 200
    [kept] = sim.requests("grok")
    assert (kept.path, kept.parameters, kept.outcome) == ("/grok/v1/embeddings", {"inputs": 2}, "completed")
    with connect() as other:
        other.send("POST", "/grok/v1/embeddings", body, authorization="Bearer an-invalid-key")
        assert other.answer()[0] == 401
