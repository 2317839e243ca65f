"""The AsyncAPI document of all WebSockets: each dialect's `Channel`, and what the core adds to all of them.

The core adds the `position` of a frame, the frame `reset`, the query's `positions`, `after` and `client_id`, and the
close codes. Built once, when somebody first asks. Document: https://www.asyncapi.com/docs/reference/specification/v3.0.0
Subsystem: docs/subsystems/gateway.md.
"""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from gateway import close_codes
from gateway.channel import Channel, Flag, told
from gateway.close_codes import Close
from gateway.dialect import Dialect

_CLOSES = [close for close in vars(close_codes).values() if isinstance(close, Close)]
_POSITION = {
    "type": "string",
    "description": "Where a reader that has seen this frame stands; only with `?positions=true`.",
    "examples": ["3f9c1e:42", "3f9c1e:42.1"],
}
_ABOUT = """Every WebSocket of the gateway. The HTTP routes are in /openapi.json.

A handshake is always accepted; who is refused gets an error frame and a close code. `x-close-codes` says of each code
whether and when to come back. Who keeps the `position` of the last frame it saw and reconnects with `?after=`, to any
replica, misses nothing and gets nothing twice."""


class Reset(BaseModel):
    """What was sent before can't be gone on with: forget it. What follows is how the chat stands now."""

    model_config = told({"type": "reset"})
    type: Literal["reset"]


class CoreQuery(BaseModel):
    """What any WebSocket's query may hold; nothing of it must be there."""

    model_config = ConfigDict(defer_build=True)
    positions: Annotated[Flag, Field(description="Puts a `position` on every frame that has one.")] = "false"
    after: Annotated[str, Field(description="The position of the last frame seen: goes on behind it.")]
    client_id: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._:-]{1,200}$",
            description="Makes sends repeatable: the connection's n-th message has the idempotency key "
            "`<client_id>:<n>`.",
        ),
    ]


def asyncapi_document(dialects: Sequence[Dialect]) -> bytes:
    """The document, as JSON."""
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Switchboard",
            "version": version("switchboard-gateway"),
            "description": _ABOUT,
        },
        "defaultContentType": "application/json",
        "servers": {name: _server(protocol) for name, protocol in (("plain", "ws"), ("tls", "wss"))},
        "channels": {},
        "operations": {},
        "components": {"messages": {}, "schemas": {}, "securitySchemes": {}},
    }
    for dialect in dialects:
        for socket in dialect.sockets:
            _add(document, dialect.name, socket.path, socket.channel)
    return orjson.dumps(document)


def _server(protocol: str) -> dict[str, Any]:
    variables = {"host": {"default": "localhost:8000", "description": "Where the gateway is."}}
    return {"host": "{host}", "protocol": protocol, "variables": variables}


def _add(document: dict[str, Any], tag: str, path: str, channel: Channel) -> None:
    tells: tuple[type[BaseModel], ...] = (*channel.tells, Reset)
    _add_messages(document["components"], channel, tells)
    bindings = {"method": "GET", "query": _query(channel), "bindingVersion": "0.1.0"}
    document["channels"][channel.name] = {
        "address": path,
        "title": channel.title,
        "summary": channel.summary,
        "messages": {
            _title(model): {"$ref": f"#/components/messages/{channel.name}.{_title(model)}"}
            for model in (*channel.hears, *tells)
        },
        **({"parameters": _parameters(path, channel)} if "{" in path else {}),
        "tags": [{"name": tag}],
        "bindings": {"ws": bindings},
        "x-close-codes": [
            {
                "code": close.code,
                "reason": close.reason,
                "reconnect": close.reconnect.value,
                "explainedByAFrame": close.explained,
            }
            for close in _CLOSES
            if close is not close_codes.SILENT or channel.idle_s is not None
        ],
        **({} if channel.idle_s is None else {"x-idle-seconds": channel.idle_s}),
    }
    for credential in channel.credentials:
        document["components"]["securitySchemes"][credential.value] = dict(credential.scheme)
    security = [{"$ref": f"#/components/securitySchemes/{one.value}"} for one in channel.credentials]
    for action, word, models in (("receive", "says", channel.hears), ("send", "hears", tells)):
        document["operations"][f"{channel.name}.client_{word}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel.name}"},
            "summary": f"What a client {word}.",
            "messages": [{"$ref": f"#/channels/{channel.name}/messages/{_title(model)}"} for model in models],
            **({"security": security} if security else {}),
        }


def _add_messages(components: dict[str, Any], channel: Channel, tells: Sequence[type[BaseModel]]) -> None:
    modes: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in channel.hears),
        *((model, "serialization") for model in tells),
    ]
    made, shared = models_json_schema(modes, ref_template=f"#/components/schemas/{channel.name}.{{model}}")
    for name, schema in shared.get("$defs", {}).items():
        components["schemas"][f"{channel.name}.{name}"] = schema
    for model, mode in modes:
        key = f"{channel.name}.{_title(model)}"
        # A form that has a name of its own stands among the shared ones, with a reference here.
        name = made[model, mode]["$ref"].rpartition("/")[2]
        schema = components["schemas"][name]
        summary, examples = schema.pop("description"), schema.pop("examples")
        if mode == "serialization":
            schema["properties"]["position"] = _POSITION
        components["messages"][key] = {
            "name": _title(model),
            "title": re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _title(model)),
            "summary": summary,
            "contentType": "text/plain" if schema["type"] == "string" else "application/json",
            "payload": {"$ref": f"#/components/schemas/{name}"},
            "examples": [{"payload": example} for example in examples],
        }


def _query(channel: Channel) -> dict[str, Any]:
    own, core = channel.query.model_json_schema(), CoreQuery.model_json_schema()
    return {"type": "object", "properties": {**own.get("properties", {}), **core["properties"]}}


def _parameters(path: str, channel: Channel) -> dict[str, Any]:
    return {name: {"description": channel.parameters[name]} for name in re.findall(r"{(\w+)}", path)}


def _title(model: type[BaseModel]) -> str:
    return model.__name__
