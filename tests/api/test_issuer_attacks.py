"""Every known attack on access tokens that an issuer signs, through the real door."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from schema_user.issuers.signed import TOKEN_MOST
from tests.api.issuer_server import (
    AUDIENCE,
    Issuer,
    IssuerServer,
    as_owner,
    b64,
    new_rsa,
    random_segment,
    serving,
    sign,
    status,
    zero_signature,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tests.conftest import Server


@pytest.fixture(scope="module")
def issuers() -> Iterator[IssuerServer]:
    """Run two issuers whose first keys have the same id."""
    with IssuerServer() as server:
        keys = server.issuer("main").keys
        keys += [ECKey.generate_key("P-256", {"kid": "ec"}), OKPKey.generate_key("Ed25519", {"kid": "ed"})]
        server.issuer("twin")
        yield server


@pytest.fixture(scope="module")
def door(issuers: IssuerServer, short_dir: Path) -> Iterator[Server]:
    """Run a server that knows the issuers."""
    with serving(issuers, short_dir / "attacked", twin={"organizationId": "zeta"}) as running:
        yield running


@pytest.fixture
def main(issuers: IssuerServer, door: Server) -> Issuer:
    """Give an issuer whose tokens are all good for something, so that a refusal is for the token's own sake."""
    return as_owner(issuers.issuers["main"])


def _pem(issuer: Issuer) -> bytes:
    public: Any = issuer.key.public_key
    return bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _der(issuer: Issuer) -> bytes:
    public: Any = issuer.key.public_key
    return bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _hmac(issuer: Issuer, secret: bytes, key_id: str | None = "one") -> str:
    signed = f"{b64(issuer.header(alg='HS256', kid=key_id))}.{b64(issuer.claims())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _own(issuer: Issuer, **header: Any) -> str:
    """Sign with a key that nobody published, under a header that tells where it is."""
    key = new_rsa("mine")
    made = issuer.header(**header)
    public = key.as_dict(private=False)
    made = {name: public if value == "KEY" else value for name, value in made.items()}
    return sign(made, issuer.claims(), key, "RS256")


def _resigned(issuer: Issuer, header: bytes, payload: bytes) -> str:
    return sign(header, payload, issuer.key, "RS256")


def _tampered(token: str, segment: int) -> str:
    parts = token.split(".")
    middle = len(parts[segment]) // 2
    parts[segment] = (
        parts[segment][:middle] + ("A" if parts[segment][middle] != "A" else "B") + parts[segment][middle + 1 :]
    )
    return ".".join(parts)


def _payload_doubled(issuer: Issuer) -> bytes:
    text = json.dumps(issuer.claims())
    return (text[:-1] + ', "sub": "admin"}').encode()


def _padded(issuer: Issuer, least: int) -> str:
    """Make a token of so many characters, or up to two more."""
    size = (least - len(issuer.token(padding=""))) * 3 // 4 - 3
    while len(token := issuer.token(padding="x" * size)) < least:
        size += 1
    return token


def _encrypted(issuer: Issuer) -> str:
    header = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": "one", "typ": "JWT"}
    public = {name: each for name, each in issuer.key.as_dict(private=False).items() if name != "use"}
    return jwe.encrypt_compact(
        header, json.dumps(issuer.claims()), RSAKey.import_key(public), algorithms=["RSA-OAEP-256", "A256GCM"]
    )


def _unencoded(issuer: Issuer) -> str:
    header = issuer.header(b64=False, crit=["b64"])
    payload = json.dumps(issuer.claims())
    signed = f"{b64(header)}.{payload}".encode()
    return f"{b64(header)}.{payload}.{b64(JWSRegistry.algorithms['RS256'].sign(signed, issuer.key))}".replace(" ", "")


def _each(what: str, values: Iterable[Any], make: Callable[[Issuer, Any], str]) -> dict[str, Callable[[Issuer], str]]:
    """Give one attack for each value."""
    return {f"{what} {value!r}": lambda it, value=value: make(it, value) for value in values}  # type: ignore[misc]


ATTACKS: dict[str, Callable[[Issuer], str]] = {
    **_each(
        "alg",
        ("none", "None", "NONE", "nOnE", "", None, 0, ["none"]),
        lambda it, alg: f"{b64(it.header(alg=alg))}.{b64(it.claims())}.",
    ),
    **_each(
        "some signature, alg",
        ("none", "None", "NONE", "HS256", "RS1", "ES256K", "rs256", "RS256 ", {"a": 1}),
        lambda it, alg: f"{b64(it.header(alg=alg))}.{b64(it.claims())}.{random_segment()}",
    ),
    "HS256 by the public key as PEM": lambda it: _hmac(it, _pem(it)),
    "HS256 by the public key as DER": lambda it: _hmac(it, _der(it)),
    "HS256 by the public key as JWK": lambda it: _hmac(it, json.dumps(it.key.as_dict(private=False)).encode()),
    "HS256 by nothing": lambda it: _hmac(it, b""),
    "HS256 by a file that is empty": lambda it: _hmac(it, b"", "../../../../dev/null"),
    **_each(
        "kid",
        (
            "../../../../dev/null",
            "' UNION SELECT 'AAAA';--",
            '{"$ne": null}',
            "/etc/passwd",
            "one\x00",
            "",
            " one",
            "http://127.0.0.1/keys#one",
            "a" * 2000,
            None,
            1,
            ["one"],
            {"$ne": None},
            True,
        ),
        lambda it, kid: _own(it, kid=kid),
    ),
    "another key under a known kid": _own,
    "a key in the header": lambda it: _own(it, jwk="KEY"),
    "a key in the header, no kid": lambda it: _own(it, jwk="KEY", kid=None),
    "jku": lambda it: _own(it, jku="http://127.0.0.1:1/keys"),
    "jku of the issuer": lambda it: it.token({"jku": it.url + "/keys"}),
    "x5u": lambda it: _own(it, x5u="http://127.0.0.1:1/cert"),
    "x5c": lambda it: _own(it, x5c=["MIIB"]),
    "x5c beside the right signature": lambda it: it.token({"x5c": ["MIIB"]}),
    "crit": lambda it: it.token({"crit": ["exp"], "exp": 1}),
    "crit of what nobody knows": lambda it: it.token({"crit": ["x"], "x": 1}),
    "crit that is empty": lambda it: it.token({"crit": []}),
    "b64 true": lambda it: it.token({"b64": True}),
    "b64 false": _unencoded,
    "no typ": lambda it: it.token({"typ": None}),
    **_each(
        "typ",
        ("", "id+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt", 5, ["JWT"]),
        lambda it, kind: it.token({"typ": kind}),
    ),
    "wrong audience": lambda it: it.token(aud="another"),
    "no audience": lambda it: it.token(aud=None),
    "audience that begins right": lambda it: it.token(aud=AUDIENCE + "x"),
    "audience as an object": lambda it: it.token(aud={AUDIENCE: 1}),
    "audience nested": lambda it: it.token(aud=[[AUDIENCE]]),
    "unknown issuer": lambda it: it.token(iss="https://evil.example"),
    "issuer with a slash": lambda it: it.token(iss=it.url + "/"),
    "issuer in capitals": lambda it: it.token(iss=it.url.upper()),
    "issuer as a list": lambda it: it.token(iss=[it.url]),
    "no issuer": lambda it: it.token(iss=None),
    "no subject": lambda it: it.token(sub=None),
    "subject that is no text": lambda it: it.token(sub={"$ne": None}),
    "subject without end": lambda it: it.token(sub="s" * 300),
    "subject with a lone surrogate": lambda it: _resigned(
        it, json.dumps(it.header()).encode(), json.dumps(it.claims(sub="\ud800")).encode()
    ),
    "tampered header": lambda it: _tampered(it.token(), 0),
    "tampered payload": lambda it: _tampered(it.token(), 1),
    "tampered signature": lambda it: _tampered(it.token(), 2),
    "signature stripped": lambda it: it.token().rpartition(".")[0] + ".",
    "signature and its dot stripped": lambda it: it.token().rpartition(".")[0],
    "signature of another token": lambda it: (
        it.token(jti="a").rpartition(".")[0] + "." + it.token(jti="b").rpartition(".")[2]
    ),
    "signature padded": lambda it: it.token() + "==",
    "signature with a space in it": lambda it: it.token()[:-5] + " " + it.token()[-5:],
    "fourth segment": lambda it: it.token() + ".AAAA",
    "ECDSA signature of zeros": lambda it: zero_signature(it.token({"alg": "ES256", "kid": "ec"}, it.keys[1])),
    "ECDSA signature as DER": lambda it: (
        it.token({"alg": "ES256", "kid": "ec"}, it.keys[1]).rpartition(".")[0]
        + "."
        + b64(bytes.fromhex("3006020100020100"))
    ),
    "ECDSA by an RSA key": lambda it: f"{b64(it.header(alg='ES256'))}.{b64(it.claims())}.{b64(bytes(64))}",
    "RS256 by an EC key": lambda it: f"{b64(it.header(kid='ec'))}.{b64(it.claims())}.{random_segment(256)}",
    "EdDSA of zeros": lambda it: f"{b64(it.header(alg='EdDSA', kid='ed'))}.{b64(it.claims())}.{b64(bytes(64))}",
    "algorithm that is not set": lambda it: it.token({"alg": "RS512"}),
    "RS256 header, PS256 signature": lambda it: sign(it.header(), it.claims(), it.key, "PS256"),
    "header with a double": lambda it: _resigned(
        it, b'{"alg":"RS256","typ":"JWT","kid":"two","kid":"one"}', json.dumps(it.claims()).encode()
    ),
    "payload with a double": lambda it: _resigned(it, json.dumps(it.header()).encode(), _payload_doubled(it)),
    "payload that is a list": lambda it: _resigned(it, json.dumps(it.header()).encode(), b"[]"),
    "payload that is no JSON": lambda it: _resigned(it, json.dumps(it.header()).encode(), b"\xff\xfe"),
    "payload with NaN": lambda it: _resigned(
        it, json.dumps(it.header()).encode(), json.dumps(it.claims(exp=float("nan"))).encode()
    ),
    "payload with an infinite number": lambda it: _resigned(
        it, json.dumps(it.header()).encode(), json.dumps(it.claims(exp=7777)).replace("7777", "1e400").encode()
    ),
    "payload with a number without end": lambda it: _resigned(
        it, json.dumps(it.header()).encode(), b'{"exp":' + b"9" * 9000 + b"}"
    ),
    "header deeply nested": lambda it: sign(
        b'{"alg":"RS256","typ":"JWT","kid":"one","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
        json.dumps(it.claims()).encode(),
        it.key,
        "RS256",
    ),
    "payload deeply nested": lambda it: sign(it.header(), b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", it.key, "RS256"),
    "oversized": lambda it: it.token(padding="x" * 16000),
    "oversized by a few characters": lambda it: _padded(it, TOKEN_MOST + 1),
    "encrypted": _encrypted,
    "encrypted, with three segments": lambda it: (
        f"{b64({'alg': 'dir', 'enc': 'A256GCM', 'kid': 'one', 'typ': 'JWT'})}.{random_segment()}.{random_segment()}"
    ),
    "compressed": lambda it: it.token({"zip": "DEF"}),
    "only dots": lambda it: "..",
    "a header alone": lambda it: b64(it.header()) + "..",
    "JSON serialization": lambda it: json.dumps(
        dict(zip(("protected", "payload", "signature"), it.token().split("."), strict=True))
    ),
}


class TestAttacks:
    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
    def test_it_is_refused(self, door: Server, main: Issuer, attack: Callable[[Issuer], str]) -> None:
        """A token that was forged, changed or made for something else is 401, whatever it is."""
        assert status(door, attack(main)) == 401

    def test_the_good_one_is_taken(self, door: Server, main: Issuer) -> None:
        """What the attacks begin with is a token that is taken."""
        assert status(door, main.token()) == 404
        assert status(door, main.token(aud=["another", AUDIENCE])) == 404
        assert status(door, _padded(main, TOKEN_MOST - 3)) == 404

    def test_issuers_don_t_share_keys(self, door: Server, issuers: IssuerServer, main: Issuer) -> None:
        """Of two issuers with the same ``kid`` each one's key signs for itself only."""
        twin = as_owner(issuers.issuers["twin"])
        assert twin.key.kid == main.key.kid
        assert status(door, twin.token()) == 404
        assert status(door, sign(main.header(), main.claims(), twin.key, "RS256")) == 401
        assert status(door, sign(twin.header(), twin.claims(), main.key, "RS256")) == 401

    def test_a_secret_is_no_key(self, door: Server, main: Issuer) -> None:
        """A symmetric key of the attacker's choice proves nothing, whatever the header says."""
        secret = OctKey.import_key("a secret that is long enough for anybody")
        assert status(door, sign(main.header(alg="HS256"), main.claims(), secret, "HS256")) == 401
        assert status(door, sign(main.header(), main.claims(), secret, "HS256")) == 401

    def test_own_tokens_go_on(self, door: Server) -> None:
        """The service's own tokens are what they were."""
        with door.client() as admin:
            made = admin.ok("POST", "/v3alpha/tokens", {"name": "t", "roles": [{"role": "INSTANCE_VIEWER"}]})["token"]
        assert status(door, made) == 404
        assert status(door, made + "x") == 401

    def test_nothing_of_a_token_is_logged(self, door: Server, main: Issuer) -> None:
        """Whatever came with tokens, the log holds neither them nor their claims."""
        token = main.token(sub="very-private-subject")
        assert status(door, token) == 404
        assert "very-private-subject" not in door.log()
        assert token.rpartition(".")[2] not in door.log()
