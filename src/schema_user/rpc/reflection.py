"""``grpc.reflection``: what services there are and how they are declared, for clients on a command line.

The answers are made of the declarations that came with the generated messages. Both versions of the service say the
same; clients of today ask the one, those of yesterday the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from protobuf import Oneof

from schema_user.rpc.generated.grpc.reflection.v1 import reflection_pb as v1
from schema_user.rpc.generated.grpc.reflection.v1alpha import reflection_pb as v1alpha
from schema_user.rpc.method import Access, Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from protobuf import DescFile, DescMessage

_NOT_FOUND: Final = 5
_UNIMPLEMENTED: Final = 12


def reflection(services: Iterable[Service]) -> tuple[Service, Service]:
    """Describe services, and itself."""
    described = tuple(services)
    files: dict[str, DescFile] = {}
    for file in (*(service.file for service in described), v1.desc(), v1alpha.desc()):
        _collect(file, files)
    symbols = {symbol: file for file in files.values() for symbol in _symbols(file)}
    names = sorted({*(service.name for service in described), *(_name(each) for each in (v1, v1alpha))})
    first, second = (
        Service(
            module.desc(),
            _name(module),
            (),
            Access.VIEWER,
            streams={"ServerReflectionInfo": _answers(module, files, symbols, names)},
        )
        for module in (v1, v1alpha)
    )
    return first, second


def _name(module: Any) -> str:
    return str(module.desc().services[0].type_name)


def _collect(file: DescFile, files: dict[str, DescFile]) -> None:
    files[file.name] = file
    for each in file.dependencies:
        if each.name not in files:
            _collect(each, files)


def _symbols(file: DescFile) -> Iterable[str]:
    """Give the full names of everything that a file declares."""

    def of_message(message: DescMessage) -> Iterable[str]:
        yield message.type_name
        yield from (f"{message.type_name}.{each.name}" for each in message.fields)
        yield from (each.type_name for each in message.nested_enums)
        for each in message.nested_messages:
            yield from of_message(each)

    for message in file.messages:
        yield from of_message(message)
    yield from (each.type_name for each in file.enums)
    for service in file.services:
        yield service.type_name
        yield from (f"{service.type_name}.{each.name}" for each in service.methods)


def _answers(
    module: Any, files: Mapping[str, DescFile], symbols: Mapping[str, DescFile], names: list[str]
) -> Callable[..., AsyncIterator[Any]]:
    """Make the function that answers requests of one version of the service."""

    def refused(code: int, words: str) -> Oneof[str, Any]:
        return Oneof("error_response", module.ErrorResponse(error_code=code, error_message=words))

    def declared(file: DescFile | None) -> Oneof[str, Any]:
        if file is None:
            return refused(_NOT_FOUND, "nothing of this name is declared here")
        proto = file.proto.to_binary()
        return Oneof("file_descriptor_response", module.FileDescriptorResponse(file_descriptor_proto=[proto]))

    def answer(asked: Oneof[str, Any] | None) -> Oneof[str, Any]:
        match asked:
            case Oneof("list_services", _):
                listed = [module.ServiceResponse(name=name) for name in names]
                return Oneof("list_services_response", module.ListServiceResponse(service=listed))
            case Oneof("file_by_filename", name):
                return declared(files.get(name))
            case Oneof("file_containing_symbol", name):
                return declared(symbols.get(name))
            case _:
                return refused(_UNIMPLEMENTED, "extensions are not used here")

    async def stream(requests: AsyncIterator[Any], _ctx: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield module.ServerReflectionResponse(
                valid_host=request.host, original_request=request, message_response=answer(request.message_request)
            )

    return stream
