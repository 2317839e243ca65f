"""Vectors for texts, from a provider's OpenAI-compatible embeddings endpoint.

Document: https://platform.openai.com/docs/api-reference/embeddings. One frame a direction:

    POST /v1/embeddings   {"model": "text-embedding-3-small", "input": ["..."], "encoding_format": "float"}
    {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.01, ...]}], ...}

`dimensions` is not sent, since many imitators refuse it: what the model gives must have the configured length.
"""

from collections.abc import Sequence

import httpx2
import openai
from pydantic import BaseModel, FiniteFloat, ValidationError

from llm_worker.knowledge import KnowledgeError
from llm_worker.openai_wire import open_sdk
from llm_worker.settings import ProviderSettings

Vector = list[float]


class _Embedding(BaseModel):
    index: int
    embedding: list[FiniteFloat]


class _Embeddings(BaseModel):
    """The SDK, which has such a type too, checks nothing of what it reads into it."""

    data: list[_Embedding]


class Embedder:
    """One model of one provider."""

    def __init__(
        self, provider: ProviderSettings, model: str, dimensions: int, http_client: httpx2.AsyncClient
    ) -> None:
        self._client = open_sdk(provider, http_client)
        self._model = model
        self._dimensions = dimensions

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text, none of which may be empty. It knows no time-out: who asks, cancels.

        Raises: KnowledgeError.
        """
        try:
            response = await self._client.embeddings.with_raw_response.create(
                model=self._model, input=list(texts), encoding_format="float"
            )
        except openai.APIStatusError as exc:
            raise KnowledgeError(f"the embeddings' provider answered {exc.status_code}") from exc
        except openai.OpenAIError as exc:
            raise KnowledgeError("the embeddings' provider can't be reached") from exc
        try:
            found = _Embeddings.model_validate_json(response.content).data
        except ValidationError as exc:
            raise KnowledgeError("the embeddings' provider answered with what are no embeddings") from exc
        vectors = [one.embedding for one in sorted(found, key=lambda one: one.index)]
        if len(vectors) != len(texts):
            raise KnowledgeError("the embeddings' provider left texts out")
        for vector in vectors:
            if len(vector) != self._dimensions:
                raise KnowledgeError(
                    f"{self._model} gives vectors of {len(vector)} numbers; "
                    f"knowledge.embedding_dimensions says {self._dimensions}"
                )
        return vectors
