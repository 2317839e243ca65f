"""Reflection: a worker tells its whole contract to who has no stubs and no token, unless it is switched off."""

import grpc
import grpc.aio
import pytest
from simulator.process import Simulator
from switchboard.llm.v1 import llm_pb2
from switchboard_client import SwitchboardClient

from .reflected import Reflected
from .worker import TOKEN, open_worker

SERVICE = "switchboard.llm.v1.LLMService"


async def test_the_contract_and_all_that_it_imports_is_told_without_a_token(sim: Simulator) -> None:
    async with open_worker(sim) as address, grpc.aio.insecure_channel(address) as channel:
        reflected = await Reflected.read(channel)
        assert {SERVICE, "grpc.health.v1.Health"} <= set(reflected.services)
        method = await reflected.method(SERVICE, "Generate")
        assert method.streams
        ours = {field.name: field.number for field in llm_pb2.GenerateRequest.DESCRIPTOR.fields}
        assert {field.name: field.number for field in method.request.DESCRIPTOR.fields} == ours
        assert "switchboard.chat.v1.Role" in await reflected.describe("switchboard.chat.v1.Role")
        with pytest.raises(LookupError):
            await reflected.describe("switchboard.llm.v1.Nonsense")


async def test_switched_off_nothing_is_told_and_calls_go_on(sim: Simulator) -> None:
    async with open_worker(sim, GRPC_REFLECTION="false") as address:
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Reflected.read(channel)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        async with SwitchboardClient(address, token=TOKEN) as client:
            assert await client.list_models()
