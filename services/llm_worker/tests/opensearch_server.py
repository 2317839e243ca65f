"""The part of OpenSearch's REST API that the worker uses, strictly: what it does not know, it refuses.

Answers and refusals have the form of OpenSearch 2.19.1's, against which the same tests ran. Scores count words, and
cosines; nothing is seen before a refresh. See https://docs.opensearch.org/latest/api-reference/.
"""

import asyncio
import base64
import json
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

MAX_CLAUSES = 1024
_WORD = re.compile(r"[\u3040-\u9fff]|[^\W\u3040-\u9fff]+")
"""Of Chinese and Japanese each character is one, as to the standard analyzer."""

Row = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, kind: str) -> None:
        super().__init__(kind)
        self.status = status
        self.kind = kind


class OpenSearchServer:
    """`url` is its address; `searches` counts, `given_up` those whose asker went away; while `open` is not set, no
    search is answered. After `bulks_left` more it stores nothing."""

    def __init__(self, authorization: str) -> None:
        self.url = ""
        self.searches = 0
        self.given_up = 0
        self.bulks_left = 1000
        self.open = asyncio.Event()
        self.open.set()
        self._authorization = authorization
        self._templates: dict[str, Row] = {}
        self._indices: dict[str, Row] = {}
        self._stored: dict[str, dict[str, Row]] = {}
        self._seen: dict[str, dict[str, Row]] = {}

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_put("/_index_template/{name}", self._put_template)
        app.router.add_head("/{index}", self._exists)
        app.router.add_put("/{index}", self._create)
        app.router.add_post("/{index}/_bulk", self._bulk)
        app.router.add_post("/{index}/_refresh", self._refresh)
        app.router.add_post("/{index}/_delete_by_query", self._delete_by_query)
        app.router.add_post("/{index}/_search", self._search)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        if request.headers.get("authorization", "") != self._authorization:
            return web.Response(status=401, text="Unauthorized")
        try:
            response: web.StreamResponse = await handler(request)
        except Refusal as refusal:
            error = {"root_cause": [{"type": refusal.kind, "reason": refusal.kind}], "type": refusal.kind}
            return web.json_response({"error": error, "status": refusal.status}, status=refusal.status)
        return response

    async def _put_template(self, request: web.Request) -> web.Response:
        body = await request.json()
        _keys(body, {"index_patterns", "priority", "template"})
        _keys(body["template"], {"settings", "mappings"})
        _keys(body["template"]["settings"], {"index"})
        for field in body["template"]["mappings"]["properties"].values():
            _keys(field, {"type", "dimension", "method"})
        self._templates[request.match_info["name"]] = body
        return web.json_response({"acknowledged": True})

    async def _exists(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["index"] in self._indices else 404)

    async def _create(self, request: web.Request) -> web.Response:
        index = request.match_info["index"]
        if index in self._indices:
            raise Refusal(400, "resource_already_exists_exception")
        [template] = [one["template"] for one in self._templates.values() if index in one["index_patterns"]]
        if "vector" in template["mappings"]["properties"] and template["settings"] != {"index": {"knn": True}}:
            raise Refusal(400, "mapper_parsing_exception")
        self._indices[index] = template["mappings"]["properties"]
        self._stored[index], self._seen[index] = {}, {}
        return web.json_response({"acknowledged": True, "shards_acknowledged": True, "index": index})

    async def _bulk(self, request: web.Request) -> web.Response:
        properties = self._properties(request)
        self.bulks_left -= 1
        if self.bulks_left < 0:
            raise Refusal(429, "opensearch_rejected_execution_exception")
        *lines, end = (await request.text()).split("\n")
        if end or len(lines) % 2:
            raise Refusal(400, "illegal_argument_exception")
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            identity, row = json.loads(action)["index"]["_id"], json.loads(source)
            item: Row = {"_id": identity, "status": 201}
            if not row.keys() <= properties.keys():
                item |= {"status": 400, "error": {"type": "strict_dynamic_mapping_exception", "reason": "strict"}}
            elif "vector" in properties and len(row["vector"]) != properties["vector"]["dimension"]:
                item |= {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "dimension mismatch"}}
            else:
                self._stored[request.match_info["index"]][identity] = row
            items.append({"index": item})
        errors = any("error" in item["index"] for item in items)
        return web.json_response({"took": 1, "errors": errors, "items": items})

    async def _refresh(self, request: web.Request) -> web.Response:
        self._properties(request)
        index = request.match_info["index"]
        self._seen[index] = dict(self._stored[index])
        return web.json_response({"_shards": {"total": 1, "successful": 1, "failed": 0}})

    async def _delete_by_query(self, request: web.Request) -> web.Response:
        self._properties(request)
        index, body = request.match_info["index"], await request.json()
        _keys(body, {"query"})
        gone = [one for one, row in self._seen[index].items() if _matches(body["query"], row)]
        for identity in gone:
            seen = self._seen[index].pop(identity)
            if self._stored[index].get(identity) == seen:
                del self._stored[index][identity]
        return web.json_response({"took": 1, "deleted": len(gone), "failures": []})

    async def _search(self, request: web.Request) -> web.Response:
        self.searches += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        properties = self._properties(request)
        body = await request.json()
        _keys(body, {"size", "_source", "query", "sort", "search_after"})
        rows = self._seen[request.match_info["index"]]
        hits = [
            {"_index": "i", "_id": identity, "_score": score, "_source": {k: row[k] for k in body["_source"]}}
            | ({"sort": [row["document"]]} if "sort" in body else {})
            for identity, row in rows.items()
            if (score := _score(body["query"], row, properties)) > 0
        ]
        if "sort" in body:
            hits.sort(key=lambda hit: str(hit["sort"]))
            hits = [hit for hit in hits if "search_after" not in body or hit["sort"] > body["search_after"]]
        else:
            hits.sort(key=lambda hit: -hit["_score"])
        total = {"value": len(hits), "relation": "eq"}
        found = {"total": total, "max_score": None, "hits": hits[: body["size"]]}
        return web.json_response({"took": 1, "timed_out": False, "hits": found})

    def _properties(self, request: web.Request) -> Row:
        try:
            properties: Row = self._indices[request.match_info["index"]]
        except KeyError:
            raise Refusal(404, "index_not_found_exception") from None
        return properties


def _keys(value: Row, known: set[str]) -> None:
    if not value.keys() <= known:
        raise Refusal(400, "parsing_exception")


def _score(query: Row, row: Row, properties: Row) -> float:
    [(kind, asked)] = query.items()
    match kind:
        case "multi_match":
            _keys(asked, {"query", "fields", "type"})
            words = _WORD.findall(asked["query"].lower())
            if len(words) * len(asked["fields"]) > MAX_CLAUSES:
                raise Refusal(400, "query_shard_exception")
            score = 0.0
            for field in asked["fields"]:
                name, _, weight = field.partition("^")
                found = _WORD.findall(row[name].lower())
                score += sum(float(weight or 1) for word in words if word in found)
            return score
        case "knn":
            [(field, near)] = asked.items()
            _keys(near, {"vector", "k"})
            if field not in properties or len(near["vector"]) != properties[field]["dimension"]:
                raise Refusal(400, "query_shard_exception")
            pairs = list(zip(near["vector"], row[field], strict=True))
            lengths = math.hypot(*near["vector"]) * math.hypot(*row[field])
            return (1 + sum(a * b for a, b in pairs) / lengths) / 2
        case _:
            return 1.0 if _matches(query, row) else 0.0


def _matches(query: Row, row: Row) -> bool:
    [(kind, asked)] = query.items()
    match kind:
        case "term":
            return all(row[name] == value for name, value in asked.items())
        case "bool":
            _keys(asked, {"filter", "must_not"})
            wanted = all(_matches(one, row) for one in asked["filter"])
            return wanted and not any(_matches(one, row) for one in asked["must_not"])
        case _:
            raise Refusal(400, "parsing_exception")


@asynccontextmanager
async def open_opensearch(user: str = "", password: str = "") -> AsyncIterator[OpenSearchServer]:
    """One that serves for the length of the block."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    server = OpenSearchServer(f"Basic {login}" if user else "")
    runner = web.AppRunner(server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}"
        yield server
    finally:
        await runner.cleanup()
