"""Access tokens of OpenID Connect issuers, through the real door, and every known attack on them."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from tests.api.issuer_server import ROLES, Issuer, IssuerServer, as_owner, b64, new_rsa, serving, sign, status
from tests.conftest import SCHEMA, Api, Server, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from joserfc.jwk import RSAKey

USERS = "/v3alpha/users"


@pytest.fixture(scope="module")
def issuers() -> Iterator[IssuerServer]:
    """Run the issuers; what the server meets at its start is as it is set here."""
    with IssuerServer() as server:
        main = server.issuer("main")
        main.keys += [
            ECKey.generate_key("P-256", {"kid": "ec"}),
            OKPKey.generate_key("Ed25519", {"kid": "ed"}),
        ]
        server.issuer("twin")
        server.issuer("chief")
        server.issuer("sleepy")
        server.issuer("rotating")
        server.issuer("late", status=503)
        server.issuer("slow", delay=60)
        server.issuer("liar", discovery={"issuer": main.url, "jwks_uri": main.url + "/keys"})
        server.issuer("moved", status=302, location=main.url + "/.well-known/openid-configuration")
        server.issuer("huge", padding=600 * 1024)
        server.issuer("elsewhere", discovery={"jwks_uri": "file:///etc/passwd"})
        server.issuer("odd")
        yield server


@pytest.fixture(scope="module")
def door(issuers: IssuerServer, short_dir: Path) -> Iterator[Server]:
    """Run a server that knows the issuers."""
    issuers.issuers["odd"].extra = [*_odd_keys()]
    chief = {"claims": {"userId": "uid", "roles": ROLES}, "instanceRoles": True}
    with serving(
        issuers,
        short_dir / "oidc",
        twin={"organizationId": "zeta"},
        sleepy={"organizationId": "sleepy"},
        chief=chief,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def admin(door: Server) -> Iterator[Api]:
    """Call with the first token."""
    with door.client() as client:
        yield client


@pytest.fixture(scope="module")
def schema_id(admin: Api) -> str:
    """Give a schema of the instance."""
    return str(admin.ok("POST", "/v3alpha/user_schemas", {"type": "issued", "schema": SCHEMA})["id"])


@pytest.fixture
def main(issuers: IssuerServer, door: Server) -> Issuer:
    """Give the issuer whose documents are as they should be."""
    return issuers.issuers["main"]


@pytest.fixture
def user(admin: Api, schema_id: str) -> str:
    """Make a user of the issuers' organization."""
    return made_user(admin, schema_id, "acme")


def made_user(admin: Api, schema_id: str, organization_id: str) -> str:
    """Make a user in an organization, and give its id."""
    body = {"schemaId": schema_id, "data": {"name": "Minnie"}}
    return str(admin.ok("POST", USERS, body, headers={"x-zitadel-orgid": organization_id})["userId"])


def eventually(check: Callable[[], bool], seconds: float) -> None:
    """Wait until a check holds."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestWhoItIs:
    @pytest.mark.parametrize(
        ("algorithm", "key"), [("RS256", 0), ("PS256", 0), ("ES256", 1), ("EdDSA", 2)], ids=["rs", "ps", "es", "ed"]
    )
    def test_a_token_acts_as_its_user(self, door: Server, main: Issuer, user: str, algorithm: str, key: int) -> None:
        """A token without roles reads and updates its own user, and finds nothing else."""
        signer = main.keys[key]
        with door.client(main.token({"alg": algorithm, "kid": signer.kid}, signer, sub=user)) as self_:
            assert self_.ok("GET", f"{USERS}/{user}")["user"]["userId"] == user
            assert self_.ok("PUT", f"{USERS}/{user}", {"data": {"name": algorithm}})
            assert self_.get(f"{USERS}/nobody").status_code == 404
            assert self_.post(USERS, json={"schemaId": "1", "data": {}}).status_code in {400, 403}

    @pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
    def test_the_type_is_that_of_an_access_token(self, door: Server, main: Issuer, user: str, kind: str) -> None:
        """Each spelling of the two types is taken."""
        assert status(door, main.token({"typ": kind}, sub=user), f"{USERS}/{user}") == 200

    @pytest.mark.parametrize(
        "roles",
        [["ORG_USER_VIEWER", "nothing", 7], "nothing ORG_USER_VIEWER", {"ORG_USER_VIEWER": {"1": "a.example"}}],
        ids=["list", "words", "object"],
    )
    def test_roles_come_from_the_claim(self, door: Server, main: Issuer, user: str, roles: Any) -> None:
        """Roles of the three forms count in the issuer's organization; a name that is none is nothing."""
        with door.client(main.token(sub="no user here", roles=roles)) as viewer:
            assert viewer.get(f"{USERS}/{user}").status_code == 200
            assert viewer.put(f"{USERS}/{user}", json={"data": {"name": "x"}}).status_code == 403

    def test_an_issuer_names_roles_of_its_organization_only(
        self, door: Server, main: Issuer, admin: Api, schema_id: str
    ) -> None:
        """An owner by an issuer finds nobody of another organization, and none of the instance's roles count."""
        stranger = made_user(admin, schema_id, "zeta")
        token = main.token(roles=["ORG_OWNER", "INSTANCE_OWNER", "INSTANCE_VIEWER"])
        with door.client(token) as owner:
            assert owner.get(f"{USERS}/{stranger}").status_code == 404
            assert owner.get(f"{USERS}/{stranger}", headers={"x-zitadel-orgid": "zeta"}).status_code == 404
            assert owner.post("/v3alpha/organizations", json={"name": "Mine"}).status_code == 403
            grant = {"name": "more", "roles": [{"role": "INSTANCE_OWNER"}]}
            assert owner.post("/v3alpha/tokens", json=grant).status_code == 403
        assert status(door, main.token(roles=["INSTANCE_OWNER"])) == 401

    def test_an_issuer_names_users_of_its_organization_only(
        self, door: Server, issuers: IssuerServer, main: Issuer, admin: Api, schema_id: str
    ) -> None:
        """The id of another organization's user is nobody's; that organization's own issuer vouches for it."""
        stranger = made_user(admin, schema_id, "zeta")
        assert status(door, main.token(sub=stranger), f"{USERS}/{stranger}") == 401
        token = main.token(sub=stranger, roles=["ORG_USER_VIEWER"])
        assert status(door, token, f"{USERS}/{stranger}") == 404
        assert status(door, issuers.issuers["twin"].token(sub=stranger), f"{USERS}/{stranger}") == 200

    def test_a_marked_issuer_names_instance_roles(self, door: Server, issuers: IssuerServer, user: str) -> None:
        """With ``instanceRoles`` the instance's roles count, and the user's id stands in the claim that was chosen."""
        chief = issuers.issuers["chief"]
        with door.client(chief.token(uid=user, roles=["INSTANCE_VIEWER"])) as viewer:
            assert viewer.ok("POST", "/v3alpha/organizations/search", {})["result"]
            assert viewer.put(f"{USERS}/{user}", json={"data": {"name": "me"}}).status_code == 200
        assert status(door, chief.token(roles=["INSTANCE_VIEWER"]), f"{USERS}/{user}") == 200
        assert status(door, chief.token(uid=7, roles=["INSTANCE_VIEWER"])) == 401

    def test_nobody_without_a_user_or_a_role(self, door: Server, main: Issuer) -> None:
        """A token for a user that is not there and without a role that is known is refused."""
        assert status(door, main.token(sub="nobody", roles="ADMIN root")) == 401

    def test_a_user_who_is_not_active_is_refused(self, door: Server, main: Issuer, user: str, admin: Api) -> None:
        """Within five seconds of a deactivation the user's tokens are refused, also those with roles."""
        token = main.token(sub=user, roles=["ORG_USER_VIEWER"])
        assert status(door, token, f"{USERS}/{user}") == 200
        admin.ok("POST", f"{USERS}/{user}/deactivate", {})
        eventually(lambda: status(door, token) == 401, 5)

    def test_an_inactive_organization_has_no_callers(
        self, door: Server, issuers: IssuerServer, admin: Api, schema_id: str
    ) -> None:
        """Within five seconds of an organization's deactivation its issuer's tokens are refused."""
        user = made_user(admin, schema_id, "sleepy")
        token = issuers.issuers["sleepy"].token(sub=user, roles=["ORG_OWNER"])
        assert status(door, token, f"{USERS}/{user}") == 200
        admin.ok("POST", "/v3alpha/organizations/sleepy/deactivate", {})
        eventually(lambda: status(door, token) == 401, 5)

    def test_histories_and_repetitions_know_the_subject(
        self, door: Server, main: Issuer, user: str, admin: Api
    ) -> None:
        """Two tokens of one subject are one caller: for ``Idempotency-Key``, and by the name in the history."""
        body, key = {"data": {"name": "Daisy"}}, {"Idempotency-Key": "k-1"}
        sequences = set()
        for token in (main.token(sub=user), main.token(sub=user, jti="another")):
            with door.client(token) as self_:
                sequences.add(self_.ok("PUT", f"{USERS}/{user}", body, headers=key)["details"]["sequence"])
        assert len(sequences) == 1
        entries = admin.ok("GET", f"{USERS}/{user}/history")["result"]
        (name,) = {each["tokenId"] for each in entries if each.get("userId") == user or each["tokenId"][:5] == "oidc:"}
        assert name.startswith("oidc:")
        assert user not in name

    def test_doctor_names_an_organization_that_is_not_there(self, door: Server, tmp_path: Path) -> None:
        """A mistake in ``organizationId`` refuses every token of the issuer, so it is told."""
        entry = {"issuer": "https://id.example", "audience": "a", "algorithms": ["RS256"], "organizationId": "acmee"}
        path = tmp_path / "issuers.json"
        path.write_text(json.dumps([entry]), encoding="utf-8")
        told = subprocess.run(
            [sys.executable, "-m", "schema_user.cli", "doctor", "--no-histories"],
            env=door.env() | {"SCHEMA_USER_OIDC_ISSUERS": str(path), "COLUMNS": "300"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        assert "acmee is no active organization: tokens of https://id.example are refused." in told


class TestTime:
    def test_an_expired_token_is_refused_on_the_second(self, door: Server, main: Issuer, user: str) -> None:
        """It is taken until its expiry and the skew of a minute, and not for as long as it is remembered."""
        ends = time.time() + 2
        token = main.token(sub=user, exp=ends - 60)
        assert status(door, token, f"{USERS}/{user}") == 200
        while time.time() < ends:
            time.sleep(0.01)
        assert status(door, token) == 401

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": None},
            {"exp": "soon"},
            {"exp": True},
            {"exp": 1e400},
            {"exp": 10**400},
            {"iat": -(10**400)},
            {"exp": [9999999999]},
            {"exp": -1},
            {"nbf": 9999999999},
            {"iat": 9999999999},
            {"nbf": "1"},
            {"nbf": True},
            {"iat": {}},
        ],
        ids=lambda claims: repr(claims)[:30],
    )
    def test_times_that_are_not_now(self, door: Server, main: Issuer, user: str, claims: dict[str, Any]) -> None:
        """A token is refused without an expiry, expired, before its time, and with a time that is none."""
        assert status(door, main.token(sub=user, **claims)) == 401

    def test_clocks_may_differ_by_a_minute(self, door: Server, main: Issuer, user: str) -> None:
        """An issuer whose clock is half a minute ahead, or behind, is understood."""
        ahead = int(time.time()) + 30
        assert status(door, main.token(sub=user, iat=ahead, nbf=ahead), f"{USERS}/{user}") == 200
        assert status(door, main.token(sub=user, exp=int(time.time()) - 30), f"{USERS}/{user}") == 200


class TestKeys:
    def test_a_rotation_is_noticed_by_one_fetch(self, door: Server, issuers: IssuerServer) -> None:
        """The first token of a new key makes the keys be fetched; a hundred of no key make nobody fetch again."""
        issuer = as_owner(issuers.issuers["rotating"])
        assert status(door, issuer.token(roles=["ORG_OWNER"])) == 404
        before = issuer.asked.count("/keys")
        issuer.keys.insert(0, new_rsa("two"))
        fresh = issuer.token(roles=["ORG_OWNER"])
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: status(door, fresh), range(16))) == {404}
        assert issuer.asked.count("/keys") == before + 1
        forged = [sign(issuer.header(kid=f"k{n}"), issuer.claims(), issuer.key, "RS256") for n in range(100)]
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda token: status(door, token), forged)) == {401}
        assert issuer.asked.count("/keys") == before + 1
        assert status(door, issuer.token({"kid": "one"}, issuer.keys[1], roles=["ORG_OWNER"])) == 404

    def test_keys_that_are_known_outlast_their_issuer(self, door: Server, issuers: IssuerServer) -> None:
        """While an issuer is down its tokens are taken, and those of keys that are not known are refused."""
        issuer = issuers.issuers["twin"]
        assert status(door, issuer.token(roles=["ORG_OWNER"])) == 404
        issuer.status = 500
        try:
            assert status(door, issuer.token(jti="down", roles=["ORG_OWNER"])) == 404
            forged = sign(issuer.header(kid="what"), as_owner(issuer).claims(), issuer.key, "RS256")
            assert status(door, forged) == 401
            assert status(door, issuer.token(jti="still", roles=["ORG_OWNER"])) == 404
        finally:
            issuer.status = 200

    def test_an_issuer_that_was_down_at_the_start(self, door: Server, issuers: IssuerServer) -> None:
        """Until it answers its tokens get 503 with Retry-After; then they are taken without a restart."""
        issuer = issuers.issuers["late"]
        with door.client(issuer.token(roles=["ORG_OWNER"])) as caller:
            response = caller.get(USERS + "/nobody")
            assert (response.status_code, reason(response)) == (503, "ISSUER_UNAVAILABLE")
            assert int(response.headers["retry-after"]) > 0
            issuer.status = 200
            eventually(lambda: caller.get(USERS + "/nobody").status_code == 404, 15)

    def test_a_slow_issuer_delays_nobody_else(self, door: Server, issuers: IssuerServer, main: Issuer) -> None:
        """While requests wait for an issuer that does not answer, others' tokens are taken at once."""
        slow = issuers.issuers["slow"]
        tokens = [slow.token(jti=str(n), roles=["ORG_OWNER"]) for n in range(8)]
        others = [main.token(jti=str(n), roles=["ORG_OWNER"]) for n in range(8)]
        with ThreadPoolExecutor(8) as pool, door.client() as client:
            waiting = [pool.submit(_status_alone, door, token) for token in tokens]
            for token in others:
                headers = {"Authorization": f"Bearer {token}"}
                response = client.get(USERS + "/nobody", headers=headers, timeout=3)
                assert response.status_code == 404
            assert {each.result() for each in waiting} == {503}

    @pytest.mark.parametrize("name", ["liar", "moved", "huge", "elsewhere"])
    def test_documents_that_are_not_believed(
        self, door: Server, issuers: IssuerServer, main: Issuer, name: str
    ) -> None:
        """Discovery of another issuer, redirects, what is too long and other schemes give no keys at all."""
        issuer = issuers.issuers[name]
        assert _status_alone(door, issuer.token(key=main.key, roles=["ORG_OWNER"])) == 503
        assert _status_alone(door, issuer.token(roles=["ORG_OWNER"])) == 503

    def test_keys_that_are_not_for_this_are_left_out(self, door: Server, issuers: IssuerServer) -> None:
        """Private, weak, symmetric, encrypting and broken keys are nothing; the good one among them is taken."""
        issuer = as_owner(issuers.issuers["odd"])
        assert status(door, issuer.token(roles=["ORG_OWNER"])) == 404
        for key in _odd_signers().values():
            assert status(door, sign(issuer.header(kid=key.kid), issuer.claims(), key, "RS256")) == 401


@pytest.mark.soak
def test_an_issuer_in_the_own_network_needs_leave(short_dir: Path) -> None:
    """Where private addresses are not allowed nothing is sent to one: there are no keys, so its tokens get 503."""
    with IssuerServer() as published:
        inside = published.issuer("inside")
        with serving(published, short_dir / "guarded", private="false") as door:
            assert _status_alone(door, inside.token(roles=["ORG_OWNER"])) == 503
            assert "AddressRefused" in door.log()
        assert inside.asked == []


@functools.cache
def _odd_signers() -> dict[str, RSAKey]:
    """Make keys that sign well, but that must not be believed as they are published."""
    return {name: new_rsa(name, 1024 if name == "weak" else 2048) for name in ("leaked", "weak", "enc", "ops", "ps")}


def _odd_keys() -> Iterator[Any]:
    """Publish them, among keys that nobody can read."""
    signers = _odd_signers()
    yield signers["leaked"].as_dict(private=True)
    yield signers["weak"].as_dict(private=False)
    yield signers["enc"].as_dict(private=False) | {"use": "enc"}
    yield {name: each for name, each in signers["ops"].as_dict().items() if name != "use"} | {"key_ops": ["encrypt"]}
    yield signers["ps"].as_dict(private=False) | {"alg": "PS256"}
    yield {"kty": "oct", "kid": "secret", "k": b64(b"x" * 32)}
    yield {"kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "pub": "AA"}
    yield {"kty": "EC", "kid": "k1", "crv": "secp256k1", "x": "AA", "y": "AA"}
    yield {"kty": "EC", "kid": "no point", "crv": "P-256", "x": b64(bytes(32)), "y": b64(bytes(32))}
    yield {"kty": "OKP", "kid": "agreement", "crv": "X25519", "x": b64(bytes(32))}
    yield {"kty": "RSA", "kid": "no modulus", "e": "AQAB"}
    yield {"kty": "RSA", "kid": ["x"], "n": 1, "e": 1}
    yield from (None, 7, "key", [], {}, {"kid": None})


def _status_alone(door: Server, token: str) -> int:
    with door.client(token) as client:
        return int(client.get(USERS + "/nobody").status_code)
