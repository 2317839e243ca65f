"""OpenAI's embeddings endpoint: `POST /<name>/v1/embeddings`, with vectors that depend on nothing but the text.

Document: https://platform.openai.com/docs/api-reference/embeddings. One frame a direction:

    {"model": "text-embedding-3-small", "input": ["two texts", "at once"], "dimensions": 8}
    {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, ...]}], "usage": ..., ...}

Each word stands for one number of the vector, so that texts with words in common lie near each other, as a model's do.
Deviations: tokens are not taken as `input`, any model is known, and plans do not count here: a key that is refused, or
no simulator, is how it fails.
"""

from __future__ import annotations

import base64
import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import orjson

from simulator.wire import ProviderError, Refused, read_object

DIMENSIONS = 1536
"""Of text-embedding-3-small."""
MAX_INPUTS = 2048
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A request that passed validation."""

    model: str
    texts: tuple[str, ...]
    dimensions: int
    as_base64: bool


def read_embedding(body: bytes) -> EmbeddingRequest:
    """Raises: Refused."""
    value = read_object(body)
    if value is None:
        raise _refuse("We could not parse the JSON body of your request.", None)
    unknown = value.keys() - {"model", "input", "dimensions", "encoding_format", "user"}
    if unknown:
        raise _refuse(f"Unrecognized request argument supplied: {min(unknown)}", None)
    model, given = value.get("model"), value.get("input")
    if not isinstance(model, str) or not model:
        raise _refuse("you must provide a model parameter", None)
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _refuse("Invalid type for 'input': expected a string or an array of strings.", "input")
    if not texts or len(texts) > MAX_INPUTS or "" in texts:
        raise _refuse("'$.input' is invalid.", "input")
    dimensions = value.get("dimensions", DIMENSIONS)
    if type(dimensions) is not int or not 0 < dimensions <= DIMENSIONS:
        raise _refuse("Invalid value for 'dimensions'.", "dimensions")
    form = value.get("encoding_format", "float")
    if form not in {"float", "base64"}:
        raise _refuse("Invalid value for 'encoding_format'.", "encoding_format")
    return EmbeddingRequest(model, tuple(texts), dimensions, form == "base64")


def answer_embedding(request: EmbeddingRequest) -> bytes:
    """The body of the answer."""
    rows: list[dict[str, Any]] = []
    for index, text in enumerate(request.texts):
        vector: Any = embed(text, request.dimensions)
        if request.as_base64:
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": vector})
    tokens = sum(len(_WORD.findall(text)) for text in request.texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": rows, "model": request.model, "usage": usage})


def embed(text: str, dimensions: int) -> list[float]:
    """A vector of length one."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        vector[zlib.crc32(word.encode()) % dimensions] += 1.0
    length = math.sqrt(sum(number * number for number in vector))
    return [number / length for number in vector]


def _refuse(message: str, param: str | None) -> Refused:
    return Refused(ProviderError(400, "invalid_request_error", message, None, param))
