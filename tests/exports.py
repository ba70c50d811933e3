"""Exports of other services, written by the forms that their documentation shows."""

from __future__ import annotations

from typing import Any, Final

_HASH: Final = "$2a$04$UzGnbfzOb5sC1XPFnAKlheSCsWYwqfSGSGSiTQkmNLv3rZBd8hA12"

ZITADEL_EXPORT: Final[dict[str, Any]] = {
    "orgs": [
        {
            "orgId": "104133391254874632",
            "org": {"name": "ACME"},
            "humanUsers": [
                {
                    "userId": "104133391271651848",
                    "user": {
                        "userName": "road.runner",
                        "profile": {
                            "firstName": "Road",
                            "lastName": "Runner",
                            "displayName": "Road Runner",
                            "preferredLanguage": "de",
                            "gender": "GENDER_MALE",
                        },
                        "email": {"email": "road@acme.example", "isEmailVerified": True},
                        "phone": {"phone": "+41791234567"},
                        "hashedPassword": {"value": _HASH, "algorithm": "bcrypt"},
                        "passwordChangeRequired": True,
                        "otpCode": "testotp",
                    },
                },
                {
                    "userId": "120080115081209416",
                    "user": {
                        "userName": "testuser",
                        "profile": {"firstName": "Test", "lastName": "User", "preferredLanguage": "und"},
                        "email": {"email": "test@acme.example"},
                        "password": "Secret-1234",
                    },
                },
            ],
            "machineUsers": [{"userId": "7", "user": {"userName": "machine", "name": "Machine"}}],
        }
    ]
}
"""The answer of ``POST /admin/v1/export``."""

ZITADEL_LIST: Final[dict[str, Any]] = {
    "details": {"totalResult": "4", "timestamp": "2024-04-09T06:11:32.000Z"},
    "sortingColumn": "USER_FIELD_NAME_UNSPECIFIED",
    "result": [
        {
            "userId": "163840776835432706",
            "details": {
                "sequence": "2",
                "changeDate": "2023-01-03T13:39:46.859Z",
                "resourceOwner": "163840776835432705",
            },
            "state": "USER_STATE_ACTIVE",
            "username": "minnie-mouse",
            "loginNames": ["minnie-mouse"],
            "preferredLoginName": "minnie-mouse",
            "human": {
                "profile": {"givenName": "Minnie", "familyName": "Mouse", "gender": "GENDER_FEMALE"},
                "email": {"email": "minnie@mouse.example", "isVerified": True},
                "phone": {},
                "passwordChanged": "2023-01-03T13:39:46.859Z",
            },
        },
        {
            "userId": "163840776835432707",
            "details": {"sequence": "1", "resourceOwner": "163840776835432705"},
            "state": "USER_STATE_LOCKED",
            "username": "pluto",
            "human": {
                "profile": {"givenName": "Pluto", "familyName": "Dog"},
                "email": {"email": "pluto@mouse.example"},
            },
        },
        {
            "userId": "163840776835432708",
            "details": {"sequence": "1", "resourceOwner": "163840776835432705"},
            "state": "USER_STATE_ACTIVE",
            "username": "robot",
            "machine": {"name": "Robot", "hasSecret": True},
        },
        {
            "userId": "163840776835432709",
            "state": "USER_STATE_INITIAL",
            "username": "never",
            "human": {"profile": {"givenName": "Never", "familyName": "Began"}},
        },
    ],
}
"""The answer of ``POST /v2/users``."""

IDENTITY_SCHEMA: Final[dict[str, Any]] = {
    "$id": "https://schemas.example/identity.schema.json",
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Person",
    "type": "object",
    "definitions": {"label": {"type": "string", "maxLength": 20}},
    "properties": {
        "traits": {
            "type": "object",
            "properties": {
                "email": {
                    "type": "string",
                    "format": "email",
                    "minLength": 3,
                    "ory.sh/kratos": {
                        "credentials": {"password": {"identifier": True}, "totp": {"account_name": True}},
                        "verification": {"via": "email"},
                        "recovery": {"via": "email"},
                    },
                },
                "phone": {"type": "string", "format": "tel", "ory.sh/kratos": {"verification": {"via": "sms"}}},
                "nick": {
                    "type": "string",
                    "enum": ["roadie", {"ory.sh/kratos": {}}],
                    "ory.sh/kratos": {"credentials": {"password": {"identifier": True}}},
                },
                "name": {
                    "type": "object",
                    "properties": {
                        "first": {"type": "string"},
                        "last": {"$ref": "#/properties/traits/properties/name"},
                    },
                },
                "labels": {"type": "array", "items": {"$ref": "#/definitions/label"}},
                "ory.sh/kratos": {"type": "string"},
            },
            "required": ["email"],
            "additionalProperties": False,
        }
    },
}
"""An identity schema; the member that is called like the extension is a property and no extension."""

IDENTITIES: Final[list[dict[str, Any]]] = [
    {
        "id": "9f425a8d-7efc-4768-8f23-7647a74fdf13",
        "credentials": {
            "password": {
                "type": "password",
                "identifiers": ["office@ory.example", "roadie"],
                "config": {"hashed_password": _HASH},
                "version": 0,
                "created_at": "2023-03-31T14:04:49.667718Z",
                "updated_at": "2023-03-31T14:04:49.667718Z",
            },
            "oidc": {"type": "oidc", "identifiers": ["google:j8kf7a3"], "version": 0},
        },
        "schema_id": "default",
        "schema_url": "http://127.0.0.1:4433/schemas/ZGVmYXVsdA",
        "state": "active",
        "state_changed_at": "2023-03-31T14:04:49.666623636Z",
        "traits": {"email": "Office@ory.example", "phone": "+41791234567", "nick": "roadie", "name": {"first": "Road"}},
        "verifiable_addresses": [
            {
                "id": "02321296-6069-483f-b17a-9889fdae722f",
                "value": "office@ory.example",
                "verified": True,
                "via": "email",
                "status": "completed",
                "verified_at": "2023-03-31T14:10:49.667503Z",
            }
        ],
        "recovery_addresses": [{"id": "1", "value": "office@ory.example", "via": "email"}],
        "metadata_public": {"tier": "gold"},
        "metadata_admin": None,
        "created_at": "2023-03-31T14:04:49.667264Z",
        "updated_at": "2023-03-31T14:04:49.667264Z",
        "organization_id": None,
    },
    {
        "id": "5be8ea62-1c64-4a28-ac0c-7dd7d9cf7d05",
        "credentials": {"password": {"type": "password", "identifiers": ["first@ory.example"], "version": 0}},
        "schema_id": "employee",
        "state": "inactive",
        "traits": {"emails": ["first@ory.example", "second@ory.example"]},
        "verifiable_addresses": [
            {"value": "first@ory.example", "verified": False, "via": "email", "status": "pending"},
            {"value": "second@ory.example", "verified": True, "via": "email", "status": "completed"},
        ],
    },
]
"""The answer of ``GET /admin/identities?include_credential=password``."""
