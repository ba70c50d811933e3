"""The official client, as it is in the registry, gets its access tokens from this service and calls with them."""

from __future__ import annotations

import importlib
import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.load import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Server, Tenant

TOKENS, USERS = "/v3alpha/tokens", "/v3alpha/users"


@pytest.fixture(scope="module")
def official() -> Any:
    """Give the client's entry; what it uses of Authlib warns that it will be gone in Authlib 2."""
    with warnings.catch_warnings():
        importlib.import_module("authlib.deprecate")  # which wants its warnings to be heard
        warnings.simplefilter("ignore")
        return importlib.import_module("zitadel_client").Zitadel


def made(tenant: Tenant, **body: Any) -> dict[str, Any]:
    """Make a token, or a key, that reads the users of the tenant."""
    roles = [{"role": "ORG_USER_VIEWER", "organizationId": tenant.organization_id}]
    answer: dict[str, Any] = tenant.owner.ok("POST", TOKENS, {"name": "official", "roles": roles, **body})
    return answer


def key_file(tenant: Tenant, folder: Path, **body: Any) -> tuple[dict[str, Any], Path]:
    """Make a key and save the answer as it came."""
    answer, path = made(tenant, kind="key", **body), folder / "key.json"
    path.write_text(json.dumps(answer), encoding="utf-8")
    return answer, path


def call(client: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Call a path of ours with the client's own connection, host and credentials."""
    api = client.users.api_client
    headers = {} if body is None else {"Content-Type": "application/json"}
    response = api.call_api(*api.param_serialize(method, path, header_params=headers, body=body))
    return response.status, json.loads(response.read())


class TestClientCredentials:
    def test_it_calls(self, official: Any, server: Server, tenant: Tenant) -> None:
        """With a token's id and the token it reads what the token may read, until the token is revoked."""
        answer, user_id = made(tenant), tenant.user()
        client = official.with_client_credentials(server.url, answer["tokenId"], answer["token"])
        status, got = call(client, "GET", f"{USERS}/{user_id}")
        assert (status, got["user"]["userId"]) == (200, user_id)
        assert call(client, "PUT", f"{USERS}/{user_id}", {"data": {"name": "x"}})[0] == 403
        issued = client.configuration.authenticator.get_auth_headers()["Authorization"]
        assert issued.startswith("Bearer sua_")
        tenant.owner.ok("DELETE", f"{TOKENS}/{answer['tokenId']}")
        eventually(lambda: call(client, "GET", f"{USERS}/{user_id}")[0] == 401, "refusal")

    def test_a_wrong_secret_is_told(self, official: Any, server: Server, tenant: Tenant) -> None:
        """The client says what the service said."""
        client = official.with_client_credentials(server.url, made(tenant)["tokenId"], "wrong")
        with pytest.raises(Exception, match="invalid_client"):
            call(client, "POST", USERS + "/search", {})


class TestPrivateKey:
    def test_it_calls(self, official: Any, server: Server, tenant: Tenant, tmp_path: Path) -> None:
        """With the answer saved as the key file it reads what the key may read, until the key is revoked."""
        answer, path = key_file(tenant, tmp_path)
        user_id = tenant.user()
        client = official.with_private_key(server.url, str(path))
        status, got = call(client, "GET", f"{USERS}/{user_id}")
        assert (status, got["user"]["userId"]) == (200, user_id)
        tenant.owner.ok("DELETE", f"{TOKENS}/{answer['tokenId']}")
        eventually(lambda: call(client, "GET", f"{USERS}/{user_id}")[0] == 401, "refusal")

    def test_it_calls_as_a_user(self, official: Any, server: Server, tenant: Tenant, tmp_path: Path) -> None:
        """The key of a user acts as that user itself, and the search of others is closed to it."""
        user_id = tenant.user()
        body = {"name": "self", "kind": "key", "userId": user_id}
        path = tmp_path / "self.json"
        path.write_text(json.dumps(tenant.owner.ok("POST", TOKENS, body)), encoding="utf-8")
        client = official.with_private_key(server.url, str(path))
        assert call(client, "PUT", f"{USERS}/{user_id}", {"data": {"name": "Self"}})[0] == 200
        assert call(client, "POST", USERS + "/search", {})[0] == 403
