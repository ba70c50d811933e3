"""Issuers: what their file may say, whom their tokens stand for, and what is no token and no key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema_user.domain.caller import Grant
from schema_user.domain.issuer import ALGORITHMS, ClaimNames, Issuer, read_issuers, safe_url, subject_of
from schema_user.domain.permission import Role
from schema_user.issuers.keys import read_key
from schema_user.issuers.signed import Signed, read_signed
from schema_user.settings import SettingsError, read_settings
from tests.api.issuer_server import AUDIENCE, new_rsa, sign

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://id.example"
GOOD: dict[str, Any] = {
    "issuer": URL,
    "audience": AUDIENCE,
    "algorithms": ["RS256"],
    "organizationId": "default",
    "claims": {"userId": "sub", "roles": "roles"},
}
ONE = new_rsa("one")


def an_issuer(**changes: Any) -> Issuer:
    """Give an issuer that is right, with changes."""
    (issuer,), problems = read_issuers(json.dumps([GOOD | changes]).encode())
    assert not problems
    return issuer


class TestFile:
    def test_what_is_left_out_has_a_default(self) -> None:
        """The user id is the subject, no roles are read, and no role of the instance counts."""
        entry = {name: value for name, value in GOOD.items() if name != "claims"}
        (issuer,), problems = read_issuers(json.dumps([entry]).encode())
        assert not problems
        assert issuer == Issuer(URL, AUDIENCE, ("RS256",), "default", ClaimNames("sub", None), instance_roles=False)

    @pytest.mark.parametrize(
        ("changes", "mistake"),
        [
            ({"algorithms": []}, "algorithms must name one"),
            ({"algorithms": ["HS256"]}, "algorithms must be of"),
            ({"algorithms": ["RS256", "none"]}, "algorithms must be of"),
            ({"algorithms": "RS256"}, "algorithms is wrong"),
            ({"issuer": "http://id.example"}, "issuer must be an https:// URL"),
            ({"issuer": "https://id.example?a=b"}, "issuer must be an https:// URL"),
            ({"issuer": "https://user@id.example"}, "issuer must be an https:// URL"),
            ({"issuer": "https://"}, "issuer must be an https:// URL"),
            ({"issuer": "https://[::1"}, "issuer must be an https:// URL"),
            ({"issuer": "file:///etc/passwd"}, "issuer must be an https:// URL"),
            ({"audience": ""}, "audience is wrong"),
            ({"audience": ["a"]}, "audience is wrong"),
            ({"claims": {"user": "sub"}}, "claims is wrong"),
            ({"instanceRoles": "yes"}, "instanceRoles is wrong"),
            ({"instance_roles": True}, "instance_roles is not known"),
        ],
        ids=repr,
    )
    def test_a_mistake_is_named(self, changes: dict[str, Any], mistake: str) -> None:
        """Each mistake is said with its place."""
        _, problems = read_issuers(json.dumps([GOOD | {"issuer": "https://first.example"}, GOOD | changes]).encode())
        assert len(problems) == 1
        assert problems[0].startswith("[1]." + mistake)

    def test_all_mistakes_are_said_at_once(self, tmp_path: Path) -> None:
        """What is missing, unknown and wrong is said for every issuer, beside what is wrong with other settings."""
        path = tmp_path / "issuers.json"
        path.write_text(json.dumps([{"issuer": 1, "extra": 2}, GOOD, GOOD, GOOD | {"algorithms": ["HS512"]}]))
        environment = {"SCHEMA_USER_OIDC_ISSUERS": str(path), "SCHEMA_USER_PORT": "x"}
        with pytest.raises(SettingsError) as caught:
            read_settings(environment)
        said = str(caught.value)
        for place in (
            "[0].extra is not known",
            "[0].issuer is wrong",
            *(f"[0].{name} is missing" for name in ("audience", "algorithms", "organizationId")),
            "[2].issuer is there twice",
            "[3].algorithms must be of",
            "SCHEMA_USER_PORT",
        ):
            assert place in said

    @pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", b'[{"issuer": }]'], ids=repr)
    def test_a_file_that_is_no_list(self, text: bytes) -> None:
        """Whatever else the file holds, one sentence says so."""
        assert read_issuers(text) == ((), ["must be a JSON list of objects"])

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        """A file that cannot be read is said, without what it would hold."""
        with pytest.raises(SettingsError, match="SCHEMA_USER_OIDC_ISSUERS cannot be read: FileNotFoundError"):
            read_settings({"SCHEMA_USER_OIDC_ISSUERS": str(tmp_path / "none.json")})

    def test_only_signatures_by_private_keys_can_be_set(self) -> None:
        """No algorithm of the allowlist is one whose secret the service would have to know."""
        assert not [name for name in ALGORITHMS if name.startswith(("HS", "none"))]

    @pytest.mark.parametrize(
        ("url", "safe"),
        [
            ("https://id.example/keys?tenant=1", True),
            ("http://127.0.0.1:8080/keys", True),
            ("http://[::1]/keys", True),
            ("http://localhost/keys", True),
            ("http://localhost.example/keys", False),
            ("http://127.0.0.1.example/keys", False),
            ("https://id.example/#keys", False),
            ("https://a:b@id.example/", False),
            ("https://id.example:x/", False),
            ("https://id.example/\r\nHost: x", False),
            ("//id.example/keys", False),
            ("HTTPS:/keys", False),
        ],
    )
    def test_where_keys_may_be(self, url: str, safe: bool) -> None:
        """Only TLS, or this machine itself."""
        assert safe_url(url) is safe


class TestSubject:
    def test_names_are_those_of_issuer_and_subject(self) -> None:
        """The caller's name is the same for one subject of one issuer, another for every other, and no id of ours."""
        names = {
            subject.token_id
            for url in (URL, URL + "/a")
            for sub in ("1", "2", "/a1")
            for _ in range(2)
            if (subject := subject_of(an_issuer(issuer=url), {"sub": sub})) is not None
        }
        assert len(names) == 6
        assert all(name.startswith("oidc:") for name in names)

    @pytest.mark.parametrize(
        "claims",
        [{}, {"sub": ""}, {"sub": 1}, {"sub": "s" * 256}, {"sub": "a\nb"}, {"sub": "\ud800"}, {"sub": None}],
        ids=repr,
    )
    def test_a_subject_is_needed(self, claims: dict[str, Any]) -> None:
        """A token without a subject that is a name stands for nobody."""
        assert subject_of(an_issuer(), claims) is None

    @pytest.mark.parametrize("user_id", ["", 1, ["u"], "u" * 201, "\udfff", {"$ne": ""}, True], ids=repr)
    def test_a_user_id_that_is_none(self, user_id: Any) -> None:
        """A mapped claim that holds no name is no user's, and not passed over."""
        assert subject_of(an_issuer(claims={"userId": "uid"}), {"sub": "s", "uid": user_id}) is None

    @pytest.mark.parametrize("roles", [None, 1, True, [], {}, "", [["ORG_OWNER"]], [None], "org_owner"], ids=repr)
    def test_roles_that_are_none(self, roles: Any) -> None:
        """What holds no role that is known gives none."""
        subject = subject_of(an_issuer(), {"sub": "s", "roles": roles})
        assert subject is not None
        assert subject.grants == ()

    def test_instance_roles_need_the_mark(self) -> None:
        """The instance's roles count with the mark alone; one that can be held in an organization is held there."""
        claims = {"sub": "s", "roles": ["INSTANCE_OWNER", "SCHEMA_AUTHOR", "ORG_OWNER", "ORG_OWNER"]}
        within = {Grant(Role.SCHEMA_AUTHOR, "default"), Grant(Role.ORG_OWNER, "default")}
        plain, marked = (subject_of(an_issuer(instanceRoles=mark), claims) for mark in (False, True))
        assert plain is not None
        assert marked is not None
        assert set(plain.grants) == within
        assert set(marked.grants) == within | {Grant(Role.INSTANCE_OWNER)}

    def test_without_a_claim_for_roles_none_is_read(self) -> None:
        """An issuer for which no claim is set names no role."""
        subject = subject_of(an_issuer(claims={}), {"sub": "s", "roles": ["ORG_OWNER"], "null": ["ORG_OWNER"]})
        assert subject is not None
        assert subject.grants == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=6,
)
NAMED = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("iss", "sub", "aud", "exp", "nbf", "iat", "roles"), JSON | st.just(URL))
)


class TestForm:
    @given(st.text(max_size=60) | st.from_regex(r"ey[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
    def test_no_text_is_an_error(self, text: str) -> None:
        """Whatever comes as a token, it is one or none."""
        read_signed(text)

    @given(NAMED)
    def test_no_claims_are_an_error(self, claims: dict[str, Any]) -> None:
        """Whatever an issuer signs, it is for us or it isn't, and stands for somebody or nobody."""
        issuer = an_issuer()
        signed = Signed("", "RS256", "one", claims)
        if signed.is_for(issuer, 1e9):
            assert signed.expires_at > 1e9
        subject_of(issuer, claims)

    @given(JSON)
    def test_no_key_is_an_error(self, value: Any) -> None:
        """Whatever an issuer publishes among its keys, it is a key or none."""
        read_key(value)
        public = ONE.as_dict(private=False)
        for name in public:
            read_key(public | {name: value})

    @given(JSON, st.sampled_from(["alg", "typ", "kid", "x"]))
    def test_no_header_is_an_error(self, value: Any, name: str) -> None:
        """Whatever a header holds, the token is one or none, and its signature is right or wrong."""
        header = {"alg": "RS256", "typ": "JWT", "kid": "one"} | {name: value}
        signed = read_signed(sign(header, {"sub": "s"}, ONE, "RS256"))
        assert signed is None or signed.has_signature_by(ONE) or signed.algorithm != "RS256"


class TestPublished:
    def test_a_private_key_is_not_read(self) -> None:
        """A key that is published with its private half is anybody's."""
        assert read_key(ONE.as_dict(private=True)) is None
        assert read_key(ONE.as_dict(private=False)) is not None

    def test_what_stands_beside_a_key_is_not_read(self) -> None:
        """Certificates and their addresses are passed over, whatever they hold."""
        assert read_key(ONE.as_dict(private=False) | {"x5u": 7, "x5c": "nothing", "x5t#S256": []}) is not None
