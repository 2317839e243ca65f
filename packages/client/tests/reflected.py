"""What grpcurl does to learn a contract: lists services by reflection, and reads the file of a symbol and all that it
imports, file by file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


@dataclass(frozen=True)
class Method:
    """How a method is called."""

    request: type[Any]
    streams: bool


class Reflected:
    """A contract as a server tells it; no stub of ours is used."""

    def __init__(self, stub: Any, services: list[str]) -> None:
        self._stub = stub
        self._pool = descriptor_pool.DescriptorPool()
        self._known: set[str] = set()
        self.services = services

    @classmethod
    async def read(cls, channel: grpc.aio.Channel) -> Reflected:
        """Raises: AioRpcError (UNIMPLEMENTED), where reflection is switched off."""
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        response = await _ask(stub, list_services="*")
        return cls(stub, [service.name for service in response.list_services_response.service])

    async def describe(self, symbol: str) -> set[str]:
        """The full names in the symbol's file. Raises: LookupError."""
        response = await _ask(self._stub, file_containing_symbol=symbol)
        if response.HasField("error_response"):
            raise LookupError(response.error_response.error_message)
        (file, *_) = await self._add(response)
        found = [*file.service, *file.message_type, *file.enum_type]
        return {f"{file.package}.{one.name}" for one in found}

    async def method(self, service: str, name: str) -> Method:
        await self.describe(service)
        found = self._pool.FindServiceByName(service).methods_by_name[name]
        return Method(message_factory.GetMessageClass(found.input_type), found.server_streaming)

    async def _add(self, response: Any) -> list[FileDescriptorProto]:
        files = [FileDescriptorProto.FromString(one) for one in response.file_descriptor_response.file_descriptor_proto]
        for file in files:
            for name in file.dependency:
                if name not in self._known:
                    await self._add(await _ask(self._stub, file_by_filename=name))
            if file.name not in self._known:
                self._known.add(file.name)
                self._pool.Add(file)
        return files


async def _ask(stub: Any, **question: str) -> Any:
    async def questions() -> Any:
        yield reflection_pb2.ServerReflectionRequest(**question)

    (response,) = [one async for one in stub.ServerReflectionInfo(questions(), timeout=10)]
    return response
