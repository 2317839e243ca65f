"""`GET /v1/models`: the models that can be asked for."""

from typing import Any, Literal

from chat.errors import ErrorCode, SwitchboardError
from fastapi import APIRouter
from pydantic import BaseModel

from gateway.dialect import Services
from gateway.dialects.openai_compat.failures import UNKNOWN_MODEL
from gateway.openapi import responses
from gateway.ports import Model

_MODEL = {"id": "claude", "object": "model", "created": 0, "owned_by": "anthropic"}


class ModelEntry(BaseModel):
    """A model that can be asked for. Since when there is one nobody knows: `created` is 0."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All models that can be asked for."""

    object: Literal["list"]
    data: list[ModelEntry]


def add_models(router: APIRouter, services: Services) -> None:
    """Adds the routes."""

    @router.get("/models", response_model=ModelList, responses=responses({"object": "list", "data": [_MODEL]}))
    async def list_models() -> dict[str, Any]:
        """The models that can be asked for."""
        return {"object": "list", "data": [_model(model) for model in await services.models.list_models()]}

    known = responses(_MODEL, {404: UNKNOWN_MODEL})

    @router.get("/models/{model_id:path}", response_model=ModelEntry, responses=known)
    async def get_model(model_id: str) -> dict[str, Any]:
        """One of them."""
        for model in await services.models.list_models():
            if model.id == model_id:
                return _model(model)
        raise SwitchboardError(ErrorCode.NOT_FOUND, f"The model {model_id!r} does not exist.", field="model")


def _model(model: Model) -> dict[str, Any]:
    # `created` is required by OpenAI's clients, and nobody knows it.
    return {"id": model.id, "object": "model", "created": 0, "owned_by": model.provider}
