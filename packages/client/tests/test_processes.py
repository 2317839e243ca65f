"""The client against a worker's process, with the session service that keeps users' keys behind it."""

import asyncio

import grpc.aio
from simulator.record import fingerprint
from switchboard.session.v1 import user_pb2, user_pb2_grpc
from switchboard_client import Retries, SwitchboardClient, user
from switchboard_client.channel import metadata_of

from .worker import Running, asking

OWN = "sk-own-canary-0123456789"
USER = "zoë / 1"
PATIENT = Retries(max_attempts=1_000, base_s=0.1, cap_s=0.1)


async def test_the_acting_users_own_key_is_used_when_that_is_asked_for(running: Running) -> None:
    async with grpc.aio.insecure_channel(running.stack.session_target) as channel:
        request = user_pb2.PutProviderKeyRequest(user_id=USER, provider="anthropic", key=OWN)
        put = user_pb2_grpc.UserServiceStub(channel).PutProviderKey
        await put(request, metadata=metadata_of(running.token, ""), timeout=10)
    async with SwitchboardClient(running.address, token=running.token) as client:
        for options in ({"own_keys": True, "user_id": USER}, {"user_id": USER}, {"own_keys": True}):
            assert await client.complete(asking({"text": "fine"}), model="claude", **options) == "fine"  # type: ignore[arg-type]
    used = [asked.key_fingerprint == fingerprint(OWN) for asked in await running.sim.arequests()]
    assert used == [True, False, False]


async def test_a_call_whose_worker_dies_before_it_answered_is_made_again(running: Running) -> None:
    await running.sim.aset_plans("anthropic", {"headers_ms": 60_000}, then={"text": "fine"})
    async with SwitchboardClient(running.address, token=running.token, retries=PATIENT) as client:
        task = asyncio.create_task(client.complete([user("Hi")]))
        await running.sim.await_request("anthropic", outcome="open")
        await running.stack.workers[0].kill()
        await running.stack.workers[0].start()
        assert await task == "fine"
    assert [asked.outcome for asked in await running.sim.arequests()] == ["client_closed", "completed"]
