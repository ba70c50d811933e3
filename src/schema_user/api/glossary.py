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
MESSAGE_ID: Final = f"{USER_ID}:6f1c0a9d2e8b4735a1c6d0e4"
WEBHOOK_ID: Final = "283746501928374653"
ORGANIZATION_ID: Final = "default"
REQUEST_ID: Final = "283746501928374999"
_CREATED: Final = "2025-01-03T13:39:46.859Z"
_CHANGED: Final = "2025-01-04T08:12:05.120Z"

ID_PATTERN: Final = "^[A-Za-z0-9~:@+|-][A-Za-z0-9._~:@+|-]{0,199}$"
MESSAGE_ID_PATTERN: Final = "^[A-Za-z0-9~:@+|-][A-Za-z0-9._~:@+|-]{0,199}:[0-9a-f]{24}$"
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
    "at": ("When it was made: RFC 3339, UTC.", _CHANGED),
    "changeDate": ("When it was last changed: RFC 3339, UTC.", _CHANGED),
    "channel": ("How the message goes out.", "email"),
    "ChannelQuery.channel": ("How the message goes out.", "email"),
    "channelQuery": ("By channel.", None),
    "before": ("Made before this time: RFC 3339.", _CHANGED),
    "codeAttempts": ("How many wrong codes use up those of an address; at most as many as the instance's.", 3),
    "codeLength": ("How many characters a code has; at least as many as the instance's.", 8),
    "codesPerAddress": ("How many messages with a code one address gets in a day; at most the instance's.", 10),
    "codesPerOrganization": ("How many messages with a code are sent in a day; at most the instance's.", 500),
    "codesPerPhonePrefix": (
        "How many messages with a code go in a day to numbers alike but for four digits; at most the instance's.",
        20,
    ),
    "rateLimits": ("How many requests are taken from the organization's tokens; at most the instance's.", None),
    "perToken": ("From each token that belongs to the organization; compared by requests a second.", "300/1m"),
    "perOrganization": ("From all its tokens together; compared by requests a second.", "3000/1m"),
    "changes": ("What changed; empty if no reader sees it, and once the user is deleted.", None),
    "compatibility": ("What a new revision may do to stored users.", "allow"),
    "contact": ("Where the user can be reached.", None),
    "createdQuery": ("By when it was made.", None),
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
    "doneDate": ("When the message was sent or dropped: RFC 3339, UTC.", None),
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
    "kind": (
        "What it is for: `verify` brings a code, `address_changed` tells the old address, `webhook` tells a webhook.",
        "verify",
    ),
    "CreateTokenBody.kind": ("A bearer token, or the key of a machine caller.", "bearer"),
    "TokenView.kind": ("A bearer token, or the key of a machine caller.", "bearer"),
    "key": ("The private half of the key in PEM: keep it, it is not shown again.", None),
    "keyId": ("The id of the key, which is that of the token; what it signs names it as `kid`.", TOKEN_ID),
    "kindQuery": ("By kind.", None),
    "lastUsedAt": ("When the token was last used, to the minute: RFC 3339, UTC; absent: it was not.", _CHANGED),
    "lastError": ("Why the last try failed, without any address.", "SMTPRecipientRefused 550 5.1.1"),
    "limit": ("How many results at most.", 10),
    "message": ("The message, without its code, its link and its text.", None),
    "messageId": ("The id of the message.", MESSAGE_ID),
    "method": ("How the text is compared.", "TEXT_QUERY_METHOD_EQUALS"),
    "name": ("A name for people.", "Mouse & Co"),
    "SenderBody.name": ("What messages call the service, and who mail is from.", "Mouse & Co"),
    "SenderView.name": ("What messages call the service, and who mail is from.", "Mouse & Co"),
    "SenderBody.address": ("Where mail is from, in a domain that the instance allows.", "accounts@mouse.example"),
    "SenderView.address": ("Where mail is from.", "accounts@mouse.example"),
    "sender": ("In whose name messages are sent.", None),
    "languages": ("The organization's languages; the first is for users whose own has no translation.", ["de", "fr"]),
    "texts": ("Texts of messages that differ from the service's own; together at most 64 KiB.", None),
    "en": ("In English.", None),
    "de": ("In German.", None),
    "fr": ("In French.", None),
    "es": ("In Spanish.", None),
    "verify": ("The code that verifies an address.", None),
    "passwordReset": ("The code for a new password.", None),
    "addressChanged": ("To the old address: another took its place.", None),
    "addressRemoved": ("To the old address: it was removed.", None),
    "subject": ("The subject of the mail.", "Ihr Code für {{.Service}}"),
    "heading": ("The heading of the mail.", "Willkommen bei {{.Service}}"),
    "intro": ("The first sentences of the mail.", "Sie haben sich bei {{.Service}} angemeldet."),
    "button": ("What stands on the button that leads to the link.", "Adresse bestätigen"),
    "footer": ("The last sentences of the mail.", "Fragen? Rufen Sie uns an."),
    "CodeTextsBody.sms": ("The whole text message.", "{{.Code}} ist Ihr Code für {{.Service}}."),
    "NoticeTextsBody.sms": ("The whole text message.", "Ihre Nummer bei {{.Service}} wurde geändert."),
    "sms": ("The whole text message.", "{{.Code}} ist Ihr Code für {{.Service}}."),
    "TokenView.name": ("A name for people.", "importer"),
    "NameQuery.name": ("What the name is compared with.", "mouse"),
    "nameQuery": ("By name.", None),
    "nextPageToken": ("Give it as `pageToken` for the next page; absent: this was the last.", None),
    "nextTryDate": ("When a message that waits is tried next: RFC 3339, UTC.", None),
    "notQuery": ("This query does not hold.", None),
    "number": ("A phone number, kept as E.164; without a default region it must begin with +.", "+41791234567"),
    "PhoneQuery.number": ("What the phone number, as E.164, is compared with.", "+4179"),
    "new": ("The value afterwards; absent: there was none, or it is hidden from the caller.", "Minnie Mouse"),
    "offset": ("How many results are passed over.", 0),
    "old": ("The value before; absent: there was none, or it is hidden from the caller.", "Minnie"),
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
    "phoneCountries": ("The regions to whose numbers codes are sent, of those of the instance; absent: all.", ["CH"]),
    "phoneQuery": ("By phone number.", None),
    "pointer": ("Where it changed: a JSON Pointer into the user; empty: the whole of it.", "/data/name"),
    "possibleAuthenticators": (
        "How users of the schema may prove who they are.",
        ["AUTHENTICATOR_TYPE_USERNAME", "AUTHENTICATOR_TYPE_PASSWORD"],
    ),
    "queries": ("The queries.", None),
    "query": ("Which part of the results, and in which direction.", None),
    "UserNotBody.query": ("The query.", None),
    "SchemaNotBody.query": ("The query.", None),
    "MessageNotBody.query": ("The query.", None),
    "reason": (
        "The rule that is broken, for programs: a keyword of JSON Schema or one of the service's own.",
        "minLength",
    ),
    "recipient": (
        "Whom the message goes to, masked, or a webhook's host; absent: not known any more.",
        "m••••@example.org",
    ),
    "resendAfter": ("How long after a code another may be asked for; at least as long as the instance's.", "60s"),
    "resendsPerDay": ("How often in 24 hours another code may be asked for; at most as often as the instance's.", 5),
    "requestId": ("The request that made it: its `X-Request-Id`.", REQUEST_ID),
    "resourceOwner": ("The organization that owns it, or the instance.", ORGANIZATION_ID),
    "HistoryView.result": ("The entries; absent with `at`.", None),
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
    "since": ("Made at this time or later: RFC 3339.", _CREATED),
    "sortingColumn": ("By what the results are sorted.", "FIELD_NAME_ID"),
    "state": ("The state.", "USER_STATE_ACTIVE"),
    "SchemaView.state": ("The state.", "STATE_ACTIVE"),
    "OrganizationView.state": ("The state.", "ORGANIZATION_STATE_ACTIVE"),
    "MessageView.state": ("The state.", "MESSAGE_STATE_PARKED"),
    "MessageStateQuery.state": ("The state.", "MESSAGE_STATE_PARKED"),
    "stateQuery": ("By state.", None),
    "token": ("The bearer token: keep it, it is not shown again.", "<the token, shown this once>"),
    "GotTokenView.token": ("The token, without its secret.", None),
    "tokenId": ("The id of the token.", TOKEN_ID),
    "EntryView.tokenId": ("The token that made the change.", TOKEN_ID),
    "tries": ("How often it was tried since it was made or last retried.", 8),
    "type": ("The name of the schema: once per owner.", "customer-lite"),
    "CreatedTokenView.type": ("What the file of a key is, in the words of its clients.", "serviceaccount"),
    "TypeQuery.type": ("What the type is compared with.", "cust"),
    "typeQuery": ("By type.", None),
    "urlTemplate": (
        "Where the link leads; absent: the message shows the code and no link.",
        "https://app.example.com/?code={{.Code}}",
    ),
    "urlTemplateHosts": ("The hosts to which a `urlTemplate` may lead.", ["app.example.com"]),
    "active": ("Whether it is told what happens; true also after its receiver answered 410.", True),
    "eventTypes": ("What it is told of.", ["user.created", "user.email.verified"]),
    "rotateSecret": ("Make a new secret; the old one signs beside it for 24 hours.", True),
    "secret": ("The key of the signatures: keep it, it is not shown again.", "whsec_<shown this once>"),
    "url": ("Where events are posted: https, without user information.", "https://app.example.com/hooks/users"),
    "UrlQuery.url": ("What the URL is compared with.", "https://app.example.com/"),
    "urlQuery": ("By URL.", None),
    "webhook": ("The webhook, without its secret.", None),
    "webhookId": ("The id of the webhook.", WEBHOOK_ID),
    "MessageView.webhookId": ("The webhook that is told; absent: the message goes to a person.", None),
    "webhookIdQuery": ("By webhook.", None),
    "CreateWebhookBody.organizationId": (
        "The organization; absent: the instance, which hears of all, for whom it may, else the caller's.",
        ORGANIZATION_ID,
    ),
    "WebhookView.organizationId": ("The organization that it hears of; absent: all of them.", ORGANIZATION_ID),
    "WebhookView.state": ("The state.", "WEBHOOK_STATE_ACTIVE"),
    "MessageView.userId": ("The user; absent: a webhook is told of a user schema.", USER_ID),
    "MessageView.organizationId": ("The organization; absent: the webhook is the instance's.", ORGANIZATION_ID),
    "user": ("The user.", None),
    "HistoryView.user": ("The user as it was; only with `at`.", None),
    "userId": ("The id of the user.", USER_ID),
    "EntryView.userId": ("The user whose token it was; absent: the token acts for none.", USER_ID),
    "CreateUserBody.userId": (f"The id; absent: the service makes one. It {CLIENT_ID_RULE}.", USER_ID),
    "CreateTokenBody.userId": ("The user for whom the token acts; absent: for nobody but its roles.", USER_ID),
    "CreatedTokenView.userId": ("As whom the key signs: the token's user, else the token itself.", TOKEN_ID),
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
    "human": ("What is known of the person.", None),
    "profile": ("What the person is called.", None),
    "givenName": ("The name or names given to the person.", "Minnie"),
    "familyName": ("The name that the person shares with their family.", "Mouse"),
    "nickName": ("A shorter name that the person likes to be called.", "Mini"),
    "displayName": ("The name as it is shown to others.", "Minnie Mouse"),
    "ReplaceProfileBody.displayName": ("The name as it is shown to others; absent: as it was.", "Minnie Mouse"),
    "preferredLanguage": ("A language tag (BCP 47).", "en"),
    "gender": ("As the person says it.", "GENDER_FEMALE"),
    "firstName": ("The name or names given to the person.", "Minnie"),
    "lastName": ("The name that the person shares with their family.", "Mouse"),
    "isEmailVerified": ("true: the address counts as verified; else a new one is sent a code.", True),
    "loginNames": ("By what the person can be named: the username.", ["minnie"]),
    "preferredLoginName": ("The username.", "minnie"),
    "password": ("Refused: the service keeps no passwords.", None),
    "hashedPassword": ("Refused: the service keeps no passwords.", None),
    "CreateHumanBody.username": ("The username; absent: the email address is it.", "minnie-mouse"),
    "CreateHumanBody.userId": (f"The id; absent: the service makes one. It {CLIENT_ID_RULE}.", USER_ID),
    **{
        f"{struct}.email": ("An email address without display name; the domain is kept in lower case.", "m@example.org")
        for struct in ("HumanEmailBody", "SetEmailBody", "HumanEmailView", "ReplaceEmailBody")
    },
    **{
        f"{struct}.phone": ("A phone number, kept as E.164.", "+41791234567")
        for struct in ("SetPhoneBody", "HumanPhoneView")
    },
    "HumanPhoneBody.phone": ("A phone number, kept as E.164; empty: the phone is removed.", "+41791234567"),
    **{
        f"{struct}.isVerified": (
            "true: the address counts as verified; false: it does not, and nothing is sent. Needs user.write.",
            True,
        )
        for struct in ("HumanEmailBody", "HumanPhoneBody")
    },
    **{
        f"{struct}.isVerified": ("true: the address counts as verified; needs user.write.", True)
        for struct in ("SetEmailBody", "SetPhoneBody")
    },
    "userName": ("What the username is compared with.", "minnie"),
    "userNameQuery": ("By username.", None),
    "loginName": ("What the login name, which is the username, is compared with.", "minnie"),
    "loginNameQuery": ("By login name.", None),
    "emailAddress": ("What the email address is compared with.", "@example.com"),
    "PhoneNumberQuery.number": ("What the phone number, as E.164, is compared with.", "+4179"),
    "userIds": ("The ids.", [USER_ID]),
    "inUserIdsQuery": ("By several ids.", None),
    "userEmails": ("The email addresses.", ["minnie@example.org"]),
    "inUserEmailsQuery": ("By several email addresses.", None),
    "UserTypeQuery.type": ("The kind.", "TYPE_HUMAN"),
    "HumanNotBody.query": ("The query.", None),
    "ListHumansBody.sortingColumn": ("By what the results are sorted.", "USER_FIELD_NAME_USER_NAME"),
    "ListedHumansView.sortingColumn": ("By what the results are sorted.", "USER_FIELD_NAME_USER_NAME"),
    "warnings": ("What is taken, but does nothing.", []),
}

_TIME: Final = {"format": "date-time"}
_INTEGER: Final = {"pattern": "^[0-9]{1,19}$"}

LIMITS: Final[dict[str, dict[str, Any]]] = {
    "at": _TIME,
    "changeDate": _TIME,
    "creationDate": _TIME,
    "nextTryDate": _TIME,
    "doneDate": _TIME,
    "timestamp": _TIME,
    "TokenView.expirationDate": _TIME,
    "lastUsedAt": _TIME,
    "sequence": _INTEGER,
    "totalResult": _INTEGER,
    "CreateUserBody.userId": {"pattern": ID_PATTERN},
    "CreateOrganizationBody.organizationId": {"pattern": ID_PATTERN},
    "CreateHumanBody.userId": {"pattern": ID_PATTERN},
    "HumanUserView.state": {"enum": [UserState.ACTIVE.value, UserState.INACTIVE.value, UserState.LOCKED.value]},
    "SetEmailBody.isVerified": {"enum": [True, None]},
    "SetPhoneBody.isVerified": {"enum": [True, None]},
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
