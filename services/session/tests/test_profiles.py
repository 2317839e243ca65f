"""Users' profiles: what is put is got, by its user alone."""

import json
import uuid
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from switchboard.session.v1 import user_pb2

from .client import Refused
from .conftest import Running
from .records import Records


def profile(user: str, dialect: str = "foodhak", **attributes: Any) -> user_pb2.Profile:
    return user_pb2.Profile(
        user_id=user, dialect=dialect, attributes=json_format.ParseDict(attributes, struct_pb2.Struct())
    )


def test_it_is_read_back_replaced_and_deleted_a_dialect(running: Running) -> None:
    async def scenario() -> None:
        first, second = Records(running, 0), Records(running, 1)
        user = f"Jürgen {uuid.uuid4()}"
        get = user_pb2.GetProfileRequest(user_id=user, dialect="foodhak")
        with pytest.raises(Refused) as refused:
            await first.call("GetProfile", get)
        assert refused.value.reason == "NOT_FOUND"
        await first.call("PutProfile", user_pb2.PutProfileRequest(profile=profile(user, "faye", goal="sleep")))
        put = profile(user, diet="vegan", allergies=["peanuts"])
        stored = (await first.call("PutProfile", user_pb2.PutProfileRequest(profile=put))).profile
        assert stored.attributes == put.attributes
        assert stored.HasField("updated_at")
        assert (await second.call("GetProfile", get)).profile == stored
        await second.call("PutProfile", user_pb2.PutProfileRequest(profile=profile(user, diet="none")))
        assert dict((await first.call("GetProfile", get)).profile.attributes) == {"diet": "none"}
        delete = user_pb2.DeleteProfileRequest(user_id=user, dialect="foodhak")
        await first.call("DeleteProfile", delete)
        await first.call("DeleteProfile", delete)
        with pytest.raises(Refused):
            await second.call("GetProfile", get)
        get.dialect = "faye"
        assert dict((await second.call("GetProfile", get)).profile.attributes) == {"goal": "sleep"}

    running.wait(scenario())


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (profile(""), "user_id"),
        (profile("u" * 201), "user_id"),
        (profile("u", "no dialect"), "dialect"),
        (profile("u", text="x" * 16 * 1024), "attributes"),
        (profile("u", deep=json.loads("[" * 16 + "]" * 16)), "attributes"),
    ],
)
def test_what_breaks_its_range_is_refused_by_name(running: Running, request_: user_pb2.Profile, field: str) -> None:
    with pytest.raises(Refused, match=f"profile.{field}") as refused:
        running.wait(Records(running).call("PutProfile", user_pb2.PutProfileRequest(profile=request_)))
    assert refused.value.reason == "INVALID_ARGUMENT"


def test_who_acts_for_a_user_reaches_that_user_s_alone(running: Running) -> None:
    async def scenario() -> None:
        records = Records(running)
        owner = f"Zoë {uuid.uuid4()}"
        await records.call("PutProfile", user_pb2.PutProfileRequest(profile=profile(owner, diet="raw")), user=owner)
        get = user_pb2.GetProfileRequest(user_id=owner, dialect="foodhak")
        assert dict((await records.call("GetProfile", get, user=owner)).profile.attributes) == {"diet": "raw"}
        requests = {
            "PutProfile": user_pb2.PutProfileRequest(profile=profile(owner)),
            "GetProfile": get,
            "DeleteProfile": user_pb2.DeleteProfileRequest(user_id=owner, dialect="foodhak"),
            "PutProviderKey": user_pb2.PutProviderKeyRequest(user_id=owner, provider="openai", key="sk-12345678"),
            "ListProviderKeys": user_pb2.ListProviderKeysRequest(user_id=owner),
            "DeleteProviderKey": user_pb2.DeleteProviderKeyRequest(user_id=owner, provider="openai"),
        }
        for method, request in requests.items():
            with pytest.raises(Refused) as refused:
                await records.call(method, request, user="somebody else")
            assert refused.value.reason == "PERMISSION_DENIED", method
        assert dict((await records.call("GetProfile", get)).profile.attributes) == {"diet": "raw"}

    running.wait(scenario())
