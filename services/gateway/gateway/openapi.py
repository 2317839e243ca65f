"""The OpenAPI document: what FastAPI knows of the routes, and what every failure looks like, dialect by dialect.

A route says what is its own: an example of what it answers (`responses`), and which failures it adds to those that all
have, each as a status and a sentence. The form, the headers and the example of a failure come from the dialect's own
`Dialect.errors`, called here as it is called for a request, so that the document can't say otherwise. Built once, when
somebody first asks. Subsystem: docs/subsystems/gateway.md.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import orjson
from chat.errors import ErrorCode, SwitchboardError
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import ConfigDict
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from gateway.dialect import Dialect

_REF = "#/components/schemas/"
_JSON = "application/json"
_SAMPLE_WAIT_S = 12.0
_NULL = "\0null"
"""Stands for a null in an example: FastAPI drops those from all of the document."""
_CODES = {
    400: ErrorCode.INVALID_ARGUMENT,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.ALREADY_EXISTS,
    413: ErrorCode.TOO_LARGE,
    429: ErrorCode.RATE_LIMITED,
    500: ErrorCode.INTERNAL,
    503: ErrorCode.UNAVAILABLE,
    504: ErrorCode.DEADLINE_EXCEEDED,
}
_GUARDED = {
    401: "The credential is missing or not good.",
    500: "Something went wrong on our side.",
    503: "A service behind us can't be reached. Please try again.",
    504: "A service behind us took too long.",
}
_WITH_BODY = {400: "The body can't be read: it is no text in UTF-8, say.", 413: "The body is too large."}
_WITH_PATH = {404: "Nothing is there."}
_INVALID = "A field of the body, the path or the query is not as it must be."
_HEADERS = {
    "WWW-Authenticate": ("Which kind of credential is wanted.", "Bearer"),
    "Retry-After": ("In how many seconds to try again.", "12"),
    "RateLimit": (
        "How a limit stands: what is left (`r`), and in how many seconds there is more (`t`).",
        '"user";r=0;t=12',
    ),
    "RateLimit-Policy": ("What a limit is: how many (`q`) in how many seconds (`w`).", '"user";q=20;w=60'),
}
_ABOUT = """Several public chat APIs over one chat backend. Each path answers failures in the form of its own API.

Any request may also get 404 or 405 in that form, for a path or a method that is none, and before its path is read, 408,
414, 431 or 503 in plain text, from a server that can't or won't read on. The WebSockets are in /asyncapi.json."""


def responses(
    answer: Any = None, refusals: Mapping[int, str] | None = None, *, limited: bool = False
) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: what it may answer, as an example, and its own failures, by status, each in one sentence.

    `limited`: it passes `note_limit` what it is told, and is refused with 429 over the limit.
    """
    made: dict[int | str, dict[str, Any]] = {}
    if answer is not None:
        made[200] = {"content": {_JSON: {"example": _kept(answer)}}}
    if limited:
        made.setdefault(200, {})["headers"] = {name: _header_ref(name) for name in ("RateLimit", "RateLimit-Policy")}
        made[429] = {"description": "The limit of messages or of answers at a time is reached."}
    return made | {status: {"description": sentence} for status, sentence in (refusals or {}).items()}


def example(content: Any) -> ConfigDict:
    """The configuration of a model that shows this wherever it is a body or an answer."""
    return ConfigDict(json_schema_extra={"examples": [_kept(content)]})


def _kept(content: Any) -> Any:
    """The same with its nulls in a form that FastAPI does not drop."""
    match content:
        case dict():
            return {key: _kept(value) for key, value in content.items()}
        case list():
            return [_kept(value) for value in content]
        case None:
            return _NULL
        case _:
            return content


def operation_id(route: APIRoute) -> str:
    """`faye_start_session`: the API's name and the function's."""
    return re.sub(r"\W+", "_", f"{route.tags[0] if route.tags else 'gateway'}_{route.name}".lower())


def openapi_document(routes: Sequence[BaseRoute], dialects: Sequence[Dialect]) -> bytes:
    """The document, as JSON."""
    document = get_openapi(
        title="Switchboard",
        version=version("switchboard-gateway"),
        summary="One chat backend, several public chat APIs.",
        description=_ABOUT,
        routes=routes,
        servers=[{"url": "/"}],
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    forms = {beginning: dialect for dialect in dialects for beginning in dialect.errors}
    references, error_schemas = _error_schemas(dialects)
    schemas.update(error_schemas)
    document["components"]["headers"] = {
        name: {"description": text, "schema": {"type": "string"}, "example": example}
        for name, (text, example) in _HEADERS.items()
    }
    for path, operation in _operations(document):
        beginning = max((one for one in forms if f"{path}/".startswith(f"{one}/")), key=len, default=None)
        if beginning is not None:
            _Failures(forms[beginning], beginning, references).add_to(operation, "{" in path)
        for content in [operation.get("requestBody", {}), *operation["responses"].values()]:
            _lift_example(content, schemas)
    return _readable(orjson.dumps(document), schemas)


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


def _error_schemas(dialects: Sequence[Dialect]) -> tuple[Mapping[object, Any], dict[str, Any]]:
    """A reference to each form of failure, and the schemas that they lead to."""
    models = dict.fromkeys(model for dialect in dialects for model in (dialect.failure, dialect.invalid))
    made, shared = models_json_schema([(model, "serialization") for model in models], ref_template=_REF + "{model}")
    return {model: schema for (model, _), schema in made.items()}, shared.get("$defs", {})


@dataclass(frozen=True, slots=True)
class _Failures:
    """How a dialect's failures look below one beginning of paths."""

    dialect: Dialect
    beginning: str
    references: Mapping[object, Any]

    def add_to(self, operation: dict[str, Any], has_variables: bool) -> None:
        """Completes what the route said of its failures, and adds those that it has like all others."""
        told = operation["responses"]
        # FastAPI's own form of it, which no dialect has.
        validated = told.pop("422", None) is not None
        wanted = dict(_GUARDED)
        if "requestBody" in operation:
            wanted |= _WITH_BODY
        if has_variables:
            wanted |= _WITH_PATH
        for status, sentence in wanted.items():
            told.setdefault(str(status), {"description": sentence})
        for status, response in told.items():
            if int(status) in _CODES:
                self._complete(int(status), response)
        if validated:
            self._add_invalid(operation)
        operation["responses"] = dict(sorted(told.items()))

    def _complete(self, status: int, response: dict[str, Any]) -> None:
        wait_s = _SAMPLE_WAIT_S if status in (429, 503) else None
        error = SwitchboardError(_CODES[status], response["description"], retry_after_s=wait_s)
        shown = self.dialect.errors[self.beginning](error)
        names = [name for name in _HEADERS if name in shown.headers] + (["RateLimit"] if status == 429 else [])
        if names:
            response["headers"] = {name: _header_ref(name) for name in names}
        form = self.references[self.dialect.failure]
        example = orjson.loads(bytes(shown.body))
        own = response.get("content", {}).get(_JSON)
        if own is None:
            response["content"] = {_JSON: {"schema": form, "example": example}}
        else:
            # The route has a form of its own for some failures of this status.
            own["schema"] = {"anyOf": [own["schema"], form]}
            own["examples"] = {"own": {"value": own.pop("example")}, "usual": {"value": example}}

    def _add_invalid(self, operation: dict[str, Any]) -> None:
        parameters = operation.get("parameters", [])
        where = ("body", "field") if "requestBody" in operation else (parameters[0]["in"], parameters[0]["name"])
        wrong = {"type": "missing", "loc": where, "msg": "Field required"}
        shown = self.dialect.errors[self.beginning](RequestValidationError([wrong]))
        content = {
            "schema": self.references[self.dialect.invalid],
            "example": orjson.loads(bytes(shown.body)),
        }
        operation["responses"].setdefault(
            str(shown.status_code), {"description": _INVALID, "content": {_JSON: content}}
        )


def _header_ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _lift_example(holder: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
    """Shows a form's own example where no other is: tools look for it there."""
    for content in holder.get("content", {}).values():
        if "example" not in content and "examples" not in content:
            schema = content["schema"]
            example = _example_of(schema.get("items", schema), schemas)
            if example is not None:
                content["example"] = [example] if "items" in schema else example


def _example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    form = schemas.get(schema.get("$ref", "").removeprefix(_REF), schema)
    return next(iter(form.get("examples", ())), None)


def _readable(document: bytes, schemas: Mapping[str, Any]) -> bytes:
    """The document with nulls in their place, and with short names for forms of one name in several modules, which
    pydantic tells apart by those: `FayeSessionRequest`."""
    text = document.decode().replace(orjson.dumps(_NULL).decode(), "null")
    for name in schemas:
        if name.startswith("gateway__"):
            parts = name.split("__")
            owner = parts[2] if parts[1] == "dialects" else parts[1]
            readable = "".join(part.title() for part in owner.split("_")) + parts[-1]
            text = text.replace(f'"{name}"', f'"{readable}"').replace(f'"{_REF}{name}"', f'"{_REF}{readable}"')
    return text.encode()
