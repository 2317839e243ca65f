"""The AsyncAPI document, as a running gateway gives it. `client.Socket` holds all other tests' frames against it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import pytest_asyncio
from gateway import close_codes
from gateway.registry import find_dialects
from jsonschema import Draft7Validator, ValidationError

from .conformance.driver import DRIVERS, WITHOUT_SOCKETS, Driver
from .conftest import System
from .documents import Channel, Documents, documents_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

OFFICIAL = Path(__file__).parent / "asyncapi_spec" / "3.0.0.json"


@pytest_asyncio.fixture(loop_scope="session")
async def documents(system: System) -> Documents:
    made = documents_of(system.urls[0])
    assert made is not None
    return made


@pytest.fixture(params=sorted(DRIVERS))
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


def channel_of(documents: Documents, driver: Driver) -> Channel:
    channel = documents.channel_at(driver.stranger().path.partition("?")[0])
    assert channel is not None
    return channel


async def test_the_document_is_valid_by_the_official_schema(documents: Documents) -> None:
    official = Draft7Validator(json.loads(OFFICIAL.read_text()))
    official.validate(documents.asyncapi)
    with pytest.raises(ValidationError):
        official.validate({**documents.asyncapi, "channels": {"faye": {"adress": "/ws/faye"}}})


async def test_every_dialect_with_a_websocket_is_in_it(documents: Documents) -> None:
    tags = {tag["name"] for channel in documents.asyncapi["channels"].values() for tag in channel["tags"]}
    assert tags == find_dialects().keys() - WITHOUT_SOCKETS


async def test_every_message_has_examples_of_its_own_form(documents: Documents) -> None:
    components = documents.asyncapi["components"]
    for name, message in components["messages"].items():
        assert message["examples"], name
        for example in message["examples"]:
            Draft7Validator({**message["payload"], "components": components}).validate(example["payload"])


async def test_every_channel_tells_of_positions_and_of_each_close_code_that_it_may_get(documents: Documents) -> None:
    for name, channel in documents.asyncapi["channels"].items():
        query = channel["bindings"]["ws"]["query"]["properties"]
        assert {"positions", "after", "client_id"} <= query.keys()
        codes = {close["code"] for close in channel["x-close-codes"]}
        assert codes >= {1000, 1001, 1008, 1009, 1011, 1013}
        assert (close_codes.SILENT.code in codes) == (name == "arketic")


async def test_what_clients_say_is_in_it_and_what_is_refused_is_not(documents: Documents, driver: Driver) -> None:
    channel = channel_of(documents, driver)
    said = driver.message("Hello")
    as_text = channel.hears.is_valid("Hello")
    channel.hears.validate(said if as_text else json.loads(said))
    for junk in driver.junk():
        if not as_text and isinstance(junk, str) and junk.startswith("{"):
            assert not channel.hears.is_valid(json.loads(junk)), junk


async def test_a_frame_that_is_not_in_it_is_noticed(documents: Documents, driver: Driver) -> None:
    channel = channel_of(documents, driver)
    channel.check_told({"type": "reset", "position": "e0:5"})
    for frame in ({"type": "reset", "more": 1}, {"type": "nonsense"}, {}, "text"):
        with pytest.raises(AssertionError, match="not as the document says"):
            channel.check_told(frame)
