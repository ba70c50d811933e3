"""Exports of other services, in the forms that their documentation shows, become lines of an import."""

from __future__ import annotations

from typing import Any

import pytest

from schema_user.moving.kratos import Places, from_kratos, from_kratos_schema, places_of
from schema_user.moving.line import NotAnExport
from schema_user.moving.zitadel import from_zitadel, left_behind
from tests.exports import IDENTITIES, IDENTITY_SCHEMA, ZITADEL_EXPORT, ZITADEL_LIST


class TestZitadel:
    """What ZITADEL's admin API exports, and its user service lists."""

    def test_an_export(self) -> None:
        """Profile, verified addresses, user name and hash of each person come along, and the organization."""
        first, second = from_zitadel(ZITADEL_EXPORT, "human-id")
        assert first.line == {
            "userId": "104133391271651848",
            "organization": {"orgId": "104133391254874632"},
            "schemaId": "human-id",
            "data": {
                "profile": {
                    "givenName": "Road",
                    "familyName": "Runner",
                    "displayName": "Road Runner",
                    "preferredLanguage": "de",
                    "gender": "GENDER_MALE",
                }
            },
            "contact": {
                "email": {"address": "road@acme.example", "isVerified": True},
                "phone": {"number": "+41791234567"},
            },
            "username": "road.runner",
            "hashedPassword": {
                "hash": "$2a$04$UzGnbfzOb5sC1XPFnAKlheSCsWYwqfSGSGSiTQkmNLv3rZBd8hA12",
                "changeRequired": True,
            },
        }
        assert first.left == ("a secret for one-time passwords",)
        assert "preferredLanguage" not in second.line["data"]["profile"]
        assert second.line["password"] == {"password": "Secret-1234"}
        assert left_behind(ZITADEL_EXPORT) == ["1 machine users: make tokens for machines"]

    @pytest.mark.parametrize("name", ["dataOrgs", "data_orgs"])
    def test_the_file_of_an_import(self, name: str) -> None:
        """ZITADEL's own import takes the same, one level deeper."""
        wrapped = {"timeout": "10m", name: ZITADEL_EXPORT}
        assert list(from_zitadel(wrapped, "1")) == list(from_zitadel(ZITADEL_EXPORT, "1"))

    def test_a_list(self) -> None:
        """A list has states and no hashes; machines, and people who never began, are left out."""
        active, locked = from_zitadel(ZITADEL_LIST, "1")
        assert active.line.get("state") is None
        assert locked.line["state"] == "USER_STATE_LOCKED"
        assert active.line["contact"] == {"email": {"address": "minnie@mouse.example", "isVerified": True}}
        assert active.line["organization"] == {"orgId": "163840776835432705"}
        assert active.left == ("the password: a list of users has no hashes",)

    @pytest.mark.parametrize("document", [None, [], {}, {"orgs": {}}, {"orgs": [1]}, {"result": [[]]}])
    def test_anything_else(self, document: Any) -> None:
        """It is refused with words about where it differs."""
        with pytest.raises(NotAnExport):
            list(from_zitadel(document if document is not None else 1, "1"))


class TestKratos:
    """What Kratos' admin API lists, and its identity schemas."""

    def test_a_schema(self) -> None:
        """The schema of the traits becomes the whole; the extension is gone, references and metadata are kept."""
        made = from_kratos_schema(IDENTITY_SCHEMA)
        assert made == {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "Person",
            "definitions": {"label": {"type": "string", "maxLength": 20}},
            "type": "object",
            "properties": {
                "email": {"type": "string", "format": "email", "minLength": 3},
                "phone": {"type": "string", "format": "tel"},
                "nick": {"type": "string", "enum": ["roadie", {"ory.sh/kratos": {}}]},
                "name": {
                    "type": "object",
                    "properties": {"first": {"type": "string"}, "last": {"$ref": "#/properties/name"}},
                },
                "labels": {"type": "array", "items": {"$ref": "#/definitions/label"}},
                "ory.sh/kratos": {"type": "string"},
                "metadata_public": {"urn:zitadel:schema:permission": {"owner": "rw", "self": "r"}},
                "metadata_admin": {"urn:zitadel:schema:permission": {"owner": "rw"}},
            },
            "required": ["email"],
            "additionalProperties": False,
        }

    def test_identities(self) -> None:
        """Traits are the data; addresses are verified as Kratos knows them, and names to sign in with are usernames."""
        places = places_of(IDENTITY_SCHEMA)
        assert places == Places((("email",),), (("phone",),), (("nick",),))
        first, second = from_kratos(IDENTITIES, {"default": "schema-1", "*": "schema-2"}, {"default": places}, "org")
        assert first.line == {
            "userId": "9f425a8d-7efc-4768-8f23-7647a74fdf13",
            "organization": {"orgId": "org"},
            "schemaId": "schema-1",
            "data": {
                "email": "Office@ory.example",
                "phone": "+41791234567",
                "nick": "roadie",
                "name": {"first": "Road"},
                "metadata_public": {"tier": "gold"},
            },
            "contact": {
                "email": {"address": "Office@ory.example", "isVerified": True},
                "phone": {"number": "+41791234567"},
            },
            "username": "roadie",
            "hashedPassword": {"hash": "$2a$04$UzGnbfzOb5sC1XPFnAKlheSCsWYwqfSGSGSiTQkmNLv3rZBd8hA12"},
        }
        assert first.left == ("credentials of the kind oidc",)
        assert second.line["schemaId"] == "schema-2"
        assert second.line["state"] == "USER_STATE_INACTIVE"
        assert second.line["contact"] == {"email": {"address": "second@ory.example", "isVerified": True}}
        assert second.left == (
            "the password: the export has no hash of it",
            "that more than one address is known: the others stay in the data alone",
        )

    @pytest.mark.parametrize("document", [1, [1], {"id": "1"}, [{"id": "1", "traits": []}], IDENTITIES])
    def test_anything_else(self, document: Any) -> None:
        """It is refused, and so is an identity whose schema is not mapped."""
        with pytest.raises(NotAnExport):
            list(from_kratos(document, {"other": "1"}, {}))

    def test_no_identity_schema(self) -> None:
        """A schema without traits is refused, and one that is nested without end."""
        deep: dict[str, Any] = {}
        for _ in range(100):
            deep = {"properties": {"a": deep}}
        for document in ({}, {"properties": {"traits": 1}}, {"properties": {"traits": deep}}):
            with pytest.raises(NotAnExport):
                from_kratos_schema(document)
