"""Schemathesis against the whole system: whatever is sent by the OpenAPI document, good or bad, is answered by it."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from launcher.stack import Stack
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .client import http

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # Others use `random`, too, while it runs in a thread of its own; hypothesis takes them for the strategy.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 3
"""Of each kind for each operation: its course is the same each time, and it takes seconds, not minutes."""
TIMEOUT_S = 20


@dataclass(frozen=True)
class Ground:
    """A gateway with something in it: what paths' variables may name, and credentials by the document's names."""

    document: dict[str, Any]
    url: str
    credentials: Mapping[str, str]
    names: Mapping[str, str]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ground(whole: Stack) -> Ground:
    url, key = whole.gateway_urls[0], whole.secrets.api_key
    user_id = f"user-{uuid.uuid4()}"
    token = whole.secrets.user_token(user_id)
    chats = f"{url}/api/v1/chat/chats"
    chat = (await http("POST", chats, {"title": "Chat"}, key=token)).body
    message = (await http("POST", f"{chats}/{chat['id']}/messages", {"content": "Hello"}, key=token)).body
    await http("PUT", f"{url}/chat/users/{user_id}/profile", {"age": 34}, key=key)
    document = (await http("GET", f"{url}/openapi.json")).body
    models = (await http("GET", f"{url}/v1/models", key=key)).body["data"]
    names = {
        "chat_id": chat["id"],
        "message_id": message["id"],
        "participant_id": user_id,
        "user_id": user_id,
        "provider": "openai",
        "model_id": models[0]["id"],
    }
    return Ground(document, url, {"ApiKey": key, "UserToken": token}, names)


class Attack:
    """Requests of one kind to every operation. `failures`: what schemathesis says of bad answers."""

    def __init__(self, ground: Ground, kind: GenerationMode, *, good_credential: bool, known_names: bool) -> None:
        self.ground = ground
        self.kind = kind
        self.good_credential = good_credential
        self.known_names = known_names
        self.sent = 0
        self.failures: list[str] = []

    def run(self) -> None:
        # Without these it spends most of what is to be wrong on credentials.
        document = copy.deepcopy(self.ground.document)
        for item in document["paths"].values():
            for operation in item.values():
                operation.pop("security", None)
        operations = [one.ok() for one in schemathesis.openapi.from_dict(document).get_all_operations()]
        # What is deleted, or has its answers turned off, is of no use to the others.
        operations.sort(key=lambda one: {"patch": 1, "delete": 2}.get(one.method, 0))
        with requests.Session() as session:
            for operation in operations:
                self._attack(operation, session)

    def _attack(self, operation: Any, session: requests.Session) -> None:
        ground, headers = self.ground, {}
        security = ground.document["paths"][operation.path][operation.method].get("security", [])
        if self.good_credential and security:
            headers["Authorization"] = f"Bearer {ground.credentials[next(iter(security[0]))]}"
        variables = {name: value for name, value in ground.names.items() if f"{{{name}}}" in operation.path}
        strategy = operation.as_strategy(self.kind, path_parameters=variables if self.known_names else None)

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def check(case: schemathesis.Case) -> None:
            self.sent += 1
            case.call_and_validate(
                base_url=ground.url, session=session, headers=headers, checks=CHECKS, timeout=TIMEOUT_S
            )

        try:
            check()
        except FailureGroup as group:
            self.failures += [f"{operation.label}: {failure}" for failure in group.exceptions]
        except Unsatisfiable:
            # Nothing in it can be wrong.
            assert self.kind is GenerationMode.NEGATIVE, operation.label


async def attack(ground: Ground, kind: GenerationMode, *, good_credential: bool, known_names: bool) -> Attack:
    made = Attack(ground, kind, good_credential=good_credential, known_names=known_names)
    await asyncio.to_thread(made.run)
    return made


@pytest.mark.parametrize(
    ("kind", "known_names"),
    [(GenerationMode.POSITIVE, True), (GenerationMode.POSITIVE, False), (GenerationMode.NEGATIVE, True)],
)
async def test_every_request_with_a_good_credential_is_answered_by_the_document(
    ground: Ground, kind: GenerationMode, known_names: bool
) -> None:
    made = await attack(ground, kind, good_credential=True, known_names=known_names)
    assert made.failures == []
    assert made.sent >= len(ground.document["paths"])


async def test_every_request_without_a_credential_is_answered_by_the_document(ground: Ground) -> None:
    made = await attack(ground, GenerationMode.POSITIVE, good_credential=False, known_names=True)
    assert made.failures == []
    assert made.sent >= len(ground.document["paths"])
