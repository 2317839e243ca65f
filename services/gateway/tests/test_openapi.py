"""The OpenAPI document, as a running gateway gives it. `client.http` holds all other tests' answers against it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gateway
import pytest
import pytest_asyncio

from .client import http
from .conftest import System
from .documents import Documents, documents_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOURCES = Path(gateway.__file__).parent
OPEN = {"/", "/openapi.json", "/asyncapi.json", "/health", "/livez", "/readyz"}
API_KEY, USER_TOKEN = {"ApiKey": []}, {"UserToken": []}


@pytest_asyncio.fixture(loop_scope="session")
async def documents(system: System) -> Documents:
    made = documents_of(system.urls[0])
    assert made is not None
    return made


def operations(documents: Documents) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in documents.openapi["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def examples(content: Mapping[str, Any]) -> list[Any]:
    if "example" in content:
        return [content["example"]]
    return [one["value"] for one in content["examples"].values()]


async def test_every_route_in_our_sources_is_in_the_document(documents: Documents) -> None:
    decorators: Counter[str] = Counter()
    for source in SOURCES.rglob("*.py"):
        decorators.update(re.findall(r"@router\.(get|post|put|patch|delete)\(", source.read_text()))
    assert Counter(method for method, _, _ in operations(documents)) == decorators


async def test_every_operation_has_a_readable_name_and_words_of_its_own(documents: Documents) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(documents)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", one) for one in ids), ids
    assert all(operation["summary"] and operation["description"] for _, _, operation in operations(documents))
    names = documents.openapi["components"]["schemas"]
    assert all(re.fullmatch(r"[A-Za-z]+", name) for name in names), list(names)


async def test_every_body_and_answer_has_examples_of_its_own_form(documents: Documents) -> None:
    for method, path, operation in operations(documents):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for holder in [*bodies, *operation["responses"].values()]:
            for content in holder["content"].values():
                assert content["schema"], (method, path)
                for example in examples(content):
                    documents.validator(content["schema"]).validate(example)


async def test_every_operation_of_a_dialect_says_who_may_call_it_and_how_it_fails(documents: Documents) -> None:
    for method, path, operation in operations(documents):
        told = operation["responses"]
        if path in OPEN:
            assert "security" not in operation
            continue
        assert {"401", "500", "503", "504"} <= set(told), (method, path)
        assert set(told["401"]["headers"]) == {"WWW-Authenticate"}
        assert "Retry-After" in told["503"]["headers"]
        if "requestBody" in operation:
            assert {"400", "413"} <= set(told), (method, path)
            assert path.startswith("/v1/") or "422" in told, (method, path)
        if "429" in told:
            assert set(told["429"]["headers"]) == {"Retry-After", "RateLimit"}
            assert set(told["200"]["headers"]) == {"RateLimit", "RateLimit-Policy"}


@pytest.mark.parametrize(
    ("path", "security", "failure"),
    [
        ("/faye/chat/stop", [API_KEY], {"detail"}),
        ("/chat/stop", [API_KEY], {"detail"}),
        ("/chat/sessions/{session_id}/stop", [USER_TOKEN], {"error"}),
        ("/ai/chat/{client_id}/stop", [USER_TOKEN], {"type", "message", "timestamp"}),
        ("/api/v1/chat/chats/{chat_id}/messages", [USER_TOKEN], {"detail"}),
        ("/v1/chat/completions", [API_KEY, USER_TOKEN], {"error"}),
    ],
)
async def test_each_dialect_has_its_own_credentials_and_its_own_form_of_failures(
    documents: Documents, path: str, security: list[dict[str, list[str]]], failure: set[str]
) -> None:
    operation = documents.openapi["paths"][path]["post"]
    assert operation["security"] == security
    assert set(examples(operation["responses"]["401"]["content"]["application/json"])[0]) == failure


async def test_the_welcome_leads_to_both_documents_and_there_is_no_page_of_somebody_elses_scripts(
    system: System,
) -> None:
    welcome = (await http("GET", f"{system.urls[0]}/")).body
    for name in ("openapi", "asyncapi"):
        assert (await http("GET", system.urls[0] + welcome[name])).body[name]
    assert (await http("GET", f"{system.urls[0]}/docs")).status == 404


async def test_an_answer_that_is_not_in_the_document_is_noticed(documents: Documents) -> None:
    stop = ("POST", "/faye/chat/stop")
    documents.check_response(*stop, 200, "application/json", {"message": "Answer stopped"})
    for status, kind in ((409, "application/json"), (200, "text/html")):
        with pytest.raises(AssertionError, match="not in the document"):
            documents.check_response(*stop, status, kind, {"message": "Answer stopped"})
    for body in ({}, {"message": 5}, []):
        with pytest.raises(AssertionError, match="not as the document says"):
            documents.check_response(*stop, 200, "application/json", body)
