"""The gateway's documents for machines, as a running gateway gives them, for holding what it does against them."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator

_TIMEOUT_S = 20
_fetched: list[Documents] = []
_fetching = threading.Lock()


@dataclass(frozen=True)
class Channel:
    """One WebSocket: what its clients may send, and what they may get. Text that is no JSON is a string here."""

    name: str
    address: str
    hears: Validator
    tells: Validator

    def check_told(self, frame: Any) -> None:
        """Fails when a frame is none of those that the document has for this WebSocket."""
        _check(self.tells, frame, self.name)


class Documents:
    """Both documents of one gateway."""

    def __init__(self, openapi: Mapping[str, Any], asyncapi: Mapping[str, Any]) -> None:
        self.openapi = openapi
        self.asyncapi = asyncapi
        self.channels = [self._channel(name) for name in asyncapi["channels"]]
        self._validators: dict[tuple[str, str, str], Validator] = {}

    def validator(self, schema: Mapping[str, Any]) -> Validator:
        """Of a schema of the OpenAPI document, which may refer to its components."""
        return Draft202012Validator({**schema, "components": self.openapi["components"]})

    def operation_at(self, method: str, path: str) -> tuple[str, Mapping[str, Any]] | None:
        """Its path as the document writes it, and what it says; None: it has none such."""
        template = _match(list(self.openapi["paths"]), path)
        operation = self.openapi["paths"].get(template, {}).get(method.lower())
        return None if template is None or operation is None else (template, operation)

    def channel_at(self, path: str) -> Channel | None:
        """The channel of a URL's path; None: the document has none such."""
        address = _match([channel.address for channel in self.channels], path)
        return next((channel for channel in self.channels if channel.address == address), None)

    def check_response(self, method: str, path: str, status: int, content_type: str, body: Any) -> None:
        """Fails when an answer is none of those that the document has for this request."""
        found = self.operation_at(method, path)
        if found is None:
            return
        template, operation = found
        said = operation["responses"].get(str(status))
        assert said is not None, f"{method} {template}: {status} is not in the document: {body}"
        media_type = content_type.partition(";")[0]
        assert media_type in said["content"], f"{method} {template}: {status} {content_type!r} is not in the document"
        if media_type == "application/json":
            key = (method, template, str(status))
            if key not in self._validators:
                self._validators[key] = self.validator(said["content"][media_type]["schema"])
            _check(self._validators[key], body, f"{method} {template}: {status}")

    def _channel(self, name: str) -> Channel:
        asyncapi = self.asyncapi
        forms: dict[str, list[dict[str, str]]] = {"receive": [], "send": []}
        for operation in asyncapi["operations"].values():
            if operation["channel"]["$ref"] == f"#/channels/{name}":
                keys = [message["$ref"].rpartition("/")[2] for message in operation["messages"]]
                channel = asyncapi["channels"][name]
                messages = [channel["messages"][key]["$ref"].rpartition("/")[2] for key in keys]
                forms[operation["action"]] = [asyncapi["components"]["messages"][one]["payload"] for one in messages]
        hears, tells = (
            Draft7Validator({"anyOf": forms[action], "components": asyncapi["components"]})
            for action in ("receive", "send")
        )
        return Channel(name, asyncapi["channels"][name]["address"], hears, tells)


def documents_of(url: str) -> Documents | None:
    """Those of the gateway at this URL's origin, or of the one that was asked first: all have the same. None: nobody
    there gives any."""
    with _fetching:
        if not _fetched:
            parts = urlsplit(url)
            try:
                made = [_get(f"{parts.scheme}://{parts.netloc}/{name}.json") for name in ("openapi", "asyncapi")]
            except (OSError, json.JSONDecodeError):
                return None
            _fetched.append(Documents(*made))
        return _fetched[0]


def _check(validator: Validator, instance: Any, where: str) -> None:
    # The library's own words hold all of the document.
    error = best_match(validator.iter_errors(instance))
    assert error is None, f"{where}: not as the document says: {error.message} at {error.json_path} of {instance}"


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310
        return json.load(response)


def _match(templates: Sequence[str], path: str) -> str | None:
    """The template that a path is meant by: the one with the fewest variables."""
    for template in sorted(templates, key=lambda one: one.count("{")):
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
            return template
    return None
