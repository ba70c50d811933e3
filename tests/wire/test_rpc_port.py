"""What belongs to gRPC beside the operations: health, reflection, several processes, and the end of the server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from protobuf.wkt import FileDescriptorProto

from schema_user.rpc.generated.grpc.health.v1.health_pb import HealthCheckRequest, HealthCheckResponse
from schema_user.rpc.generated.grpc.reflection.v1 import reflection_pb as v1
from schema_user.rpc.generated.grpc.reflection.v1alpha import reflection_pb as v1alpha
from schema_user.rpc.services import SERVICES
from tests.conftest import ANY_TLS, Server, free_port
from tests.faults.load import eventually
from tests.wire.rpc_calls import V2, framed, grpc_refusal, web_parts, web_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Tenant

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = HealthCheckResponse.ServingStatus.SERVING


def channel_to(server: Server) -> grpc.Channel:
    """Connect to the gRPC port of a server, and to no other server that is there later."""
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=(("grpc.use_local_subchannel_pool", 1),))


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    """Connect to the gRPC port."""
    with channel_to(server) as made:
        yield made


def healthy(channel: grpc.Channel, service: str = "", seconds: float = 20) -> Any:
    """Ask for the health of a service."""
    ask = channel.unary_unary(HEALTH, HealthCheckRequest.to_binary, HealthCheckResponse.from_binary)
    return ask(HealthCheckRequest(service=service), timeout=seconds, wait_for_ready=True).status


def test_health_needs_no_token(channel: grpc.Channel) -> None:
    """Anybody learns whether the service is ready, as a whole and by name; an unknown name is not found."""
    assert healthy(channel) == healthy(channel, V2) == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        healthy(channel, "nobody")
    assert (grpc_refusal(caught.value).code, grpc_refusal(caught.value).reason) == (5, "RPC_UNKNOWN")
    with pytest.raises(grpc.RpcError) as caught:
        next(iter(channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=20)))
    assert grpc_refusal(caught.value).code in {12, 16}


@pytest.mark.parametrize("module", [v1, v1alpha], ids=["v1", "v1alpha"])
def test_reflection(channel: grpc.Channel, module: Any) -> None:
    """On this machine, reflection tells every service, and the declaration of each with all that it needs."""
    ask = channel.stream_stream(
        f"/{module.desc().services[0].type_name}/ServerReflectionInfo",
        module.ServerReflectionRequest.to_binary,
        module.ServerReflectionResponse.from_binary,
    )

    def asked(*questions: tuple[str, str]) -> list[Any]:
        requests = (module.ServerReflectionRequest.from_json(f'{{"{kind}":"{name}"}}') for kind, name in questions)
        return [each.message_response.value for each in ask(requests, timeout=20)]

    listed, unknown, extension = asked(
        ("listServices", "*"), ("fileContainingSymbol", "no.Such"), ("allExtensionNumbersOfType", "x")
    )
    names = [each.name for each in listed.service]
    assert names == sorted(service.name for service in SERVICES)
    assert (unknown.error_code, extension.error_code) == (5, 12)
    for symbol in (*names, f"{V2}.SetEmail", "zitadel.user.v2.SetHumanEmail.email", "zitadel.user.v2.UserState"):
        (found,) = asked(("fileContainingSymbol", symbol))
        file = FileDescriptorProto.from_binary(found.file_descriptor_proto[0])
        for dependency in file.dependency:
            (needed,) = asked(("fileByFilename", dependency))
            assert FileDescriptorProto.from_binary(needed.file_descriptor_proto[0]).name == dependency


def test_reflection_is_for_those_who_see_the_instance(server: Server, tenant: Tenant) -> None:
    """Through a proxy reflection needs INSTANCE_VIEWER."""
    path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    question = framed(v1.ServerReflectionRequest.from_json('{"listServices":"*"}').to_binary())
    headers = {"content-type": "application/grpc-web+proto", "x-forwarded-for": "192.0.2.1"}

    def asked(token: str | None) -> tuple[list[bytes], int]:
        authorization = {} if token is None else {"authorization": f"Bearer {token}"}
        response = httpx.post(server.url + path, content=question, headers=headers | authorization, verify=ANY_TLS)
        messages, trailers = web_parts(response)
        return messages, web_refusal(trailers or dict(response.headers), {}).code

    assert asked(None) == ([], 16)
    assert asked(tenant.owner.token) == ([], 7)
    messages, code = asked(server.token)
    assert (len(messages), code) == (1, 0)


def test_calls_are_counted(server: Server, channel: grpc.Channel) -> None:
    """The metrics count an RPC under its name, by the status that it would have had by REST."""
    with pytest.raises(grpc.RpcError):
        channel.unary_unary(f"/{V2}/UnlockUser")(b"", timeout=20)
    metrics = httpx.get(server.url + "/metrics", verify=ANY_TLS).text
    assert f'operation="{V2}/UnlockUser",status="401"' in metrics


@pytest.mark.soak
def test_begun_calls_finish_on_several_processes(tmp_path: Path) -> None:
    """Two processes share the port; when the server stops, calls that have begun are answered, and it ends well."""
    running = Server(tmp_path, grpc_port=free_port(), environment={"SCHEMA_USER_PROCESSES": "2"})
    running.start()
    metadata = (("authorization", f"Bearer {running.token}"),)
    answered, refused = [], []
    stopping = threading.Event()

    def calls() -> None:
        with channel_to(running) as channel:
            method = channel.unary_unary(f"/{V2}/ListUsers")
            while not stopping.is_set():
                try:
                    answered.append(method(b"", metadata=metadata, timeout=20))
                except grpc.RpcError as error:
                    refused.append(error.code())
                    return

    threads = [threading.Thread(target=calls) for _ in range(6)]
    try:
        with channel_to(running) as channel:
            assert healthy(channel) == SERVING
        for thread in threads:
            thread.start()
        eventually(lambda: len(answered) > len(threads))
    finally:
        status = running.stop()
        stopping.set()
    for thread in threads:
        thread.join(30)
    assert status == 0
    # CANCELLED: grpcio had read the call and not yet handed it over when it was stopped, so nothing of it was done.
    assert set(refused) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert "unexpected" not in running.log()
