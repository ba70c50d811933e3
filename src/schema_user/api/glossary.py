"""What each field of the wire means, and an example of it: the words of the reference, in one place.

A key is the name of a field, or ``Struct.field`` where one struct means something else by it than the others do.
"""

from __future__ import annotations

from typing import Any, Final

from schema_user.domain.identifier import CLIENT_ID_RULE
from schema_user.domain.permission import Role
from schema_user.domain.schema import Authenticator
from schema_user.domain.user import UserState

USER_ID: Final = "283746501928374651"
SCHEMA_ID: Final = "283746501928374650"
TOKEN_ID: Final = "283746501928374652"  # noqa: S105 -- an id, no secret
ORGANIZATION_ID: Final = "default"
REQUEST_ID: Final = "283746501928374999"
_CREATED: Final = "2025-01-03T13:39:46.859Z"
_CHANGED: Final = "2025-01-04T08:12:05.120Z"

ID_PATTERN: Final = "^[A-Za-z0-9~:@+|-][A-Za-z0-9._~:@+|-]{0,199}$"
KEY_PATTERN: Final = r"^(?!\$)(?!__proto__$)[^.\u0000]+$"
DATA: Final = {"name": "Minnie Mouse", "loyalty": {"tier": "gold", "points": 1200}}
MERGE_PATCH: Final = {"loyalty": {"points": 1250}, "nickname": None}
JSON_PATCH: Final = [
    {"op": "test", "path": "/loyalty/points", "value": 1200},
    {"op": "replace", "path": "/loyalty/points", "value": 1250},
]
JSON_SCHEMA: Final = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 200}},
}

FIELDS: Final[dict[str, tuple[str, Any]]] = {
    "address": ("An email address without display name; the domain is kept in lower case.", "minnie@example.org"),
    "andQuery": ("All of these queries hold.", None),
    "asc": ("true: ascending; else descending.", True),
    "changeDate": ("When it was last changed: RFC 3339, UTC.", _CHANGED),
    "compatibility": ("What a new revision may do to stored users.", "allow"),
    "contact": ("Where the user can be reached.", None),
    "creationDate": ("When it was made: RFC 3339, UTC.", _CREATED),
    "data": ("The user's document, as its schema describes it.", DATA),
    "defaultPhoneRegion": ("The region of phone numbers that do not begin with +.", "CH"),
    "description": (
        "What is wrong, for people; never with the value that was found.",
        "must have at least 1 character",
    ),
    "details": ("Which version this is, and who owns it.", None),
    "SearchDetails.timestamp": ("When the search was made: RFC 3339, UTC.", _CHANGED),
    "SearchDetails.totalResult": ("How many results there are in all, whatever the page: a 64-bit integer.", "1"),
    "email": ("The email address.", None),
    "EmailQuery.address": ("What the email address is compared with.", "@example.com"),
    "emailCode": ("The code for the email address; only if `returnCode` asked for it.", "H4KQ9T"),
    "emailCodeTtl": ("How long a code for an email address is good; at most as long as the instance's.", "1800s"),
    "emailQuery": ("By email address.", None),
    "expirationDate": ("When the token ends: RFC 3339; absent: never.", "2026-01-03T00:00:00.000Z"),
    "field": ("The JSON Pointer of the place, without its leading slash; empty: the whole.", "data/name"),
    "id": ("The id.", SCHEMA_ID),
    "idQuery": ("By id.", None),
    "isVerified": ("Whether the address was verified.", False),
    "EmailBody.isVerified": ("true: the address counts as verified; needs user.write even of the user itself.", True),
    "PhoneBody.isVerified": ("true: the number counts as verified; needs user.write even of the user itself.", True),
    "limit": ("How many results at most.", 10),
    "method": ("How the text is compared.", "TEXT_QUERY_METHOD_EQUALS"),
    "name": ("A name for people.", "Mouse & Co"),
    "TokenView.name": ("A name for people.", "importer"),
    "NameQuery.name": ("What the name is compared with.", "mouse"),
    "nameQuery": ("By name.", None),
    "nextPageToken": ("Give it as `pageToken` for the next page; absent: this was the last.", None),
    "notQuery": ("This query does not hold.", None),
    "number": ("A phone number, kept as E.164; without a default region it must begin with +.", "+41791234567"),
    "PhoneQuery.number": ("What the phone number, as E.164, is compared with.", "+4179"),
    "offset": ("How many results are passed over.", 0),
    "orQuery": ("One of these queries holds.", None),
    "orgId": ("The id of the organization.", ORGANIZATION_ID),
    "organization": ("The organization; absent: the caller's.", None),
    "organizationId": ("The id of the organization.", ORGANIZATION_ID),
    "CreateOrganizationBody.organizationId": (
        f"The id; absent: the service makes one. It {CLIENT_ID_RULE}.",
        "mouse-co",
    ),
    "GrantBody.organizationId": ("The organization in which the role is held; absent: the instance.", ORGANIZATION_ID),
    "SavedOrganizationView.organizationId": ("The id of the organization.", "mouse-co"),
    "OrganizationView.organizationId": ("The id of the organization.", "mouse-co"),
    "organizationIdQuery": ("By organization.", None),
    "pageToken": ("The `nextPageToken` of the page before.", None),
    "phone": ("The phone number.", None),
    "phoneCode": ("The code for the phone number; only if `returnCode` asked for it.", "H4KQ9T"),
    "phoneCodeTtl": ("How long a code for a phone number is good; at most as long as the instance's.", "300s"),
    "phoneQuery": ("By phone number.", None),
    "possibleAuthenticators": (
        "How users of the schema may prove who they are.",
        ["AUTHENTICATOR_TYPE_USERNAME", "AUTHENTICATOR_TYPE_PASSWORD"],
    ),
    "queries": ("The queries.", None),
    "query": ("Which part of the results, and in which direction.", None),
    "UserNotBody.query": ("The query.", None),
    "SchemaNotBody.query": ("The query.", None),
    "reason": (
        "The rule that is broken, for programs: a keyword of JSON Schema or one of the service's own.",
        "minLength",
    ),
    "resourceOwner": ("The organization that owns it, or the instance.", ORGANIZATION_ID),
    "result": ("The results.", None),
    "returnCode": ("The code comes back in the answer instead of being sent; needs user.write.", {}),
    "revision": ("The revision of the schema, counted from 1.", 3),
    "role": ("The role.", "ORG_USER_MANAGER"),
    "roles": ("The roles that the token holds.", None),
    "schema": ("The JSON Schema.", JSON_SCHEMA),
    "CheckBody.schema": ("What shall be a JSON Schema; whatever it is, it is judged.", JSON_SCHEMA),
    "UserView.schema": ("The user's schema.", None),
    "GotSchemaView.schema": ("The user schema.", None),
    "schemaId": ("The id of the user schema.", SCHEMA_ID),
    "schemaIdQuery": ("By user schema.", None),
    "schemaTypeQuery": ("By the type of the user schema.", None),
    "sendCode": ("The service sends the code; this is also what happens if nothing else is said.", {}),
    "sequence": (
        "The version: 1 at first, one more with each change. A 64-bit integer; in quotes it is the ETag.",
        "21",
    ),
    "settings": ("What the organization chooses for itself.", None),
    "sortingColumn": ("By what the results are sorted.", "FIELD_NAME_ID"),
    "state": ("The state.", "USER_STATE_ACTIVE"),
    "SchemaView.state": ("The state.", "STATE_ACTIVE"),
    "OrganizationView.state": ("The state.", "ORGANIZATION_STATE_ACTIVE"),
    "stateQuery": ("By state.", None),
    "token": ("The bearer token: keep it, it is not shown again.", "<the token, shown this once>"),
    "GotTokenView.token": ("The token, without its secret.", None),
    "tokenId": ("The id of the token.", TOKEN_ID),
    "type": ("The name of the schema: once per owner.", "customer-lite"),
    "TypeQuery.type": ("What the type is compared with.", "cust"),
    "typeQuery": ("By type.", None),
    "urlTemplate": (
        "Where the link leads; absent: the message shows the code and no link.",
        "https://app.example.com/?code={{.Code}}",
    ),
    "urlTemplateHosts": ("The hosts to which a `urlTemplate` may lead.", ["app.example.com"]),
    "user": ("The user.", None),
    "userId": ("The id of the user.", USER_ID),
    "CreateUserBody.userId": (f"The id; absent: the service makes one. It {CLIENT_ID_RULE}.", USER_ID),
    "CreateTokenBody.userId": ("The user for whom the token acts; absent: for nobody but its roles.", USER_ID),
    "userIdQuery": ("By user.", None),
    "username": ("The username: once per organization, case makes no difference.", "minnie"),
    "UpdateUserBody.username": ("The username; empty removes it. Needs user.write even of the user itself.", "minnie"),
    "UsernameQuery.username": ("What the username is compared with.", "minnie"),
    "usernameQuery": ("By username.", None),
    "valid": ("Whether nothing is wrong.", True),
    "CheckedView.valid": ("Whether nothing is wrong.", False),
    "verificationCode": ("The code; only if `returnCode` asked for it.", "H4KQ9T"),
    "VerifyBody.verificationCode": ("The code that was received; case makes no difference.", "H4KQ9T"),
    "violations": ("Everything that is wrong, at most 100 of it.", []),
    "CheckedView.violations": ("Everything that is wrong, at most 100 of it.", None),
    "warnings": ("What is taken, but does nothing.", []),
}

_TIME: Final = {"format": "date-time"}
_INTEGER: Final = {"pattern": "^[0-9]{1,19}$"}

LIMITS: Final[dict[str, dict[str, Any]]] = {
    "changeDate": _TIME,
    "creationDate": _TIME,
    "timestamp": _TIME,
    "TokenView.expirationDate": _TIME,
    "sequence": _INTEGER,
    "totalResult": _INTEGER,
    "CreateUserBody.userId": {"pattern": ID_PATTERN},
    "CreateOrganizationBody.organizationId": {"pattern": ID_PATTERN},
    "EmailBody.isVerified": {"enum": [True, None]},
    "PhoneBody.isVerified": {"enum": [True, None]},
    "UserView.state": {"enum": [UserState.ACTIVE.value, UserState.INACTIVE.value, UserState.LOCKED.value]},
    "SchemaView.state": {"enum": ["STATE_ACTIVE", "STATE_INACTIVE"]},
    "SchemaView.compatibility": {"enum": ["allow", "refuse", "migrate"]},
    "SchemaView.possibleAuthenticators": {"items": {"type": "string", "enum": [each.value for each in Authenticator]}},
    "OrganizationView.state": {"enum": ["ORGANIZATION_STATE_ACTIVE", "ORGANIZATION_STATE_INACTIVE"]},
    "GrantView.role": {"enum": [each.value for each in Role]},
}
"""Limits that the type of a field does not say, but that hold."""


def field_of(table: dict[str, Any], struct: str, name: str) -> Any:
    """Look a field up: as the struct means it, else as all do; None if nothing is said of it."""
    return table.get(f"{struct}.{name}", table.get(name))
