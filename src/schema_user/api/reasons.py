"""The reference of errors: every code, and every stable reason, with when it is given.

A reason is a promise: programs compare it, so it never changes its meaning and is never used for something else. A
test reads the source and fails for a reason that is missing here, or here and nowhere else.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from schema_user import errors
from schema_user.api.status import CODES, INTERNAL

_BY_FAULT: Final[dict[type[errors.Fault], dict[str, str]]] = {
    errors.Malformed: {
        "BODY_TIMEOUT": "The body did not arrive in time; the connection is closed.",
        "BODY_TRUNCATED": "The connection ended before the body did.",
        "CODE_INVALID": "The verification code is wrong; `attemptsLeft` in the metadata says how many tries remain.",
        "EXPRESSION_INVALID": "The expression of a migration is none, or fits no document.",
        "FIELD_INVALID": "The body is not JSON, or a field of it is unknown, missing, of another type or over a limit.",
        "HEADER_INVALID": "A header, such as `If-Match`, is not of the form that it must have.",
        "MIGRATION_RESULT": "What a migration makes of the data cannot be stored: too large or deep, or a wrong key.",
        "PAGE_TOKEN_INVALID": "The page token was changed, or belongs to another caller, organization or search.",
        "PASSWORD_INVALID": "The password is wrong; `attemptsLeft` in the metadata says how many tries remain.",
        "PASSWORD_POLICY": "The new password does not obey the policy; every rule that it breaks is listed.",
        "PATCH_INVALID": "The patch is not one, an operation leads to nothing, or the data would go over a limit.",
        "QUERY_INVALID": "A query parameter is unknown, given twice or not of the form that it must have.",
        "RENAME_TAKEN": "There is something in a user's data already to whose name a migration would rename.",
        "REQUEST_INVALID": "The request is malformed below the level of fields: its path, query or transfer.",
        "SCHEMA_INVALID": "The document is not a JSON Schema that the service can take.",
        "FIELD_NOT_INDEXED": "A query over data names a path that no user schema in the caller's reach has indexed.",
        "WEBHOOK_URL_INVALID": "A webhook's URL is no https URL, or leads to an address that is not public.",
        "URL_TEMPLATE_INVALID": "A `urlTemplate` is no https URL, has a wrong placeholder or leads to a wrong host.",
    },
    errors.Unmet: {
        "ALREADY_VERIFIED": "Another code was asked for, but the address is verified.",
        "CODE_EXPIRED": "The code was right once, but its time is over; ask for another one.",
        "CODE_NOT_PENDING": "No code waits to be entered, for this address or for a new password.",
        "CONTACT_MISSING": "The user has no address on this channel.",
        "CONTACT_NOT_VERIFIED": "The user's address on this channel is not verified: no password code goes there.",
        "DATA_INVALID": "The data does not match its schema's current revision; every violation is listed.",
        "DATA_NOT_REPRESENTABLE": "An RPC message cannot carry a document exactly: a long integer, or nested too deep.",
        "DRY_RUN_REQUIRED": "`compatibility` is `refuse`, and the new schema is not provably safe: dry-run it first.",
        "DRY_RUN_UNFIT": "The dry run is not done, of another text or revision, too old, or users fail in it.",
        "EXPRESSION_UNFIT": "The expression of a migration does not fit a user's data.",
        "HUMAN_SCHEMA_MISSING": "The built-in user schema `human` was deleted, and the operation needs it.",
        "INDEX_LIMIT": "Too many values of the data would be indexed (1,000 of a user) or unique (50).",
        "INDEX_NOT_READY": "A user schema has marked the path lately; users from before it are still being indexed.",
        "SEARCH_TOO_BROAD": "The search takes more than 2 s; ask for equal values, a prefix, a suffix or a range.",
        "MIGRATION_UNASKED": "`migration` goes with a new schema that is saved under `compatibility` `migrate`.",
        "MESSAGE_DONE": "The message was sent or dropped already; it is neither sent again nor dropped.",
        "JOB_NOT_ENDED": "The job has not ended, and only one that has is tried again.",
        "HISTORY_EXPIRED": "The user cannot be given as it was then: an entry that it takes is not kept any more.",
        "ORGANIZATION_INACTIVE": "The organization is not active: it can be read, but nothing in it can be written.",
        "ORGANIZATION_IN_USE": "The organization cannot be deleted while it has users or user schemas.",
        "ORGANIZATION_STATE": "The organization is in the state already into which it should be moved.",
        "PATCH_TEST_FAILED": "A `test` of a JSON Patch found something else than it expected; nothing was changed.",
        "PHONE_COUNTRY_NOT_ALLOWED": "No codes are sent to numbers of the country; `returnCode` and `isVerified` work.",
        "REVISION_NOT_CURRENT": "Users are moved to the current revision only, and another one is.",
        "SCHEMA_INACTIVE": "The user schema by which data would be validated is not active.",
        "SCHEMA_IN_USE": "The user schema cannot be deleted while users have it; `users` in the metadata counts them.",
        "SCHEMA_STATE": "The user schema is in the state already into which it should be moved.",
        "SCHEMA_UNKNOWN": "The user schema that a body names is not known in the user's organization.",
        "SCHEMA_UNSUPPORTED": "The validator that is set does not take the user schema, which another one took before.",
        "TOKEN_KNOWN": "A token with this secret is stored already.",
        "USER_NOT_HUMAN": "The user has another schema than the built-in `human`: `schemaType` in the metadata.",
        "USER_UNCHANGED": "The user is already as it was asked for, and the operation refuses that.",
        "USER_NOT_ACTIVE": "The user is inactive or locked: no code is made, and no password compared.",
        "USERS_WOULD_FAIL": "Users that were written since the dry run began would fail the new schema.",
        "USER_STATE": "The user is not in the state from which it should be moved.",
        "USER_UNKNOWN": "The user for whom a token should act is not known.",
        "WEBHOOK_LIMIT": "The organization, or the instance, has as many webhooks as it may; `limit` says how many.",
        "VALIDATION_BUDGET": "Validating the data took more time or memory than is allowed; nothing was changed.",
    },
    errors.Unauthenticated: {
        "TOKEN_INVALID": "There is no bearer token, or one that is unknown, expired or revoked.",
    },
    errors.Denied: {
        "FIELD_PERMISSION": "The schema's field permissions keep the caller from changing, or showing itself, a place.",
        "PERMISSION_MISSING": "The caller lacks the permission that `permission` in the metadata names.",
    },
    errors.Missing: {
        "JOB_NOT_FOUND": "The job is not there, went seven days after its end, or covers more than the caller may see.",
        "MESSAGE_NOT_FOUND": "The message is not there, or the caller's roles do not reach its organization.",
        "ORGANIZATION_NOT_FOUND": "The organization is not there, or the caller's roles do not reach it.",
        "RPC_UNKNOWN": "There is no service of this name whose health could be told.",
        "PATH_UNKNOWN": "The service has nothing at this path.",
        "REVISION_NOT_FOUND": "The user schema has no such revision.",
        "SCHEMA_NOT_FOUND": "The user schema is not there, or the caller's roles do not reach it.",
        "TOKEN_NOT_FOUND": "The token is not there, or it reaches beyond the caller's own roles.",
        "USER_NOT_CREATED": "At the time that was asked for, the user was not there yet.",
        "USER_NOT_FOUND": "The user is not there, was deleted, or the caller's roles do not reach it.",
        "WEBHOOK_NOT_FOUND": "The webhook is not there, or the caller's roles do not reach its organization.",
    },
    errors.Conflict: {
        "IDEMPOTENCY_KEY_REUSED": "Another request was sent under this `Idempotency-Key` within the last 24 hours.",
        "ORGANIZATION_ID_TAKEN": "The organization id was used before; ids are not used again.",
        "SCHEMA_TYPE_TAKEN": "The owner of the user schema has another one of this type.",
        "EMAIL_TAKEN": "Another user of the organization has this address, in any case (`SCHEMA_USER_UNIQUE_EMAILS`).",
        "VALUE_TAKEN": "Another user of the schema and organization has a value that is unique; each place is listed.",
        "USERNAME_TAKEN": "Another user of the organization has this username; case makes no difference.",
        "USER_ID_TAKEN": "The user id was used before; ids are not used again.",
    },
    errors.Aborted: {
        "MESSAGE_LEASED": "A worker sends the message just now; look again when it is sent or failed.",
        "RACE_LOST": "Others changed the resource again and again at the same time; the same request may succeed now.",
        "REQUEST_UNDECIDED": "What became of an earlier request under this `Idempotency-Key` is not known yet.",
    },
    errors.StaleSequence: {
        "SEQUENCE_MISMATCH": "The resource moved on from the ETag in `If-Match`; read it again, then decide.",
    },
    errors.Exhausted: {
        "CODE_ATTEMPTS_EXHAUSTED": "Too many wrong codes: those that were issued are dead until another is asked for.",
        "CODE_MESSAGE_LIMIT": "Too many codes were sent in a day: `cap` in the metadata says by which limit.",
        "PASSWORD_ATTEMPTS_EXHAUSTED": "Too many wrong passwords in a row: none is compared for a while.",
        "JOBS_STARTED": "Too many jobs of the organization, or of the instance, were started within an hour.",
        "JOBS_UNFINISHED": "Too many jobs of the organization, or of the instance, have not ended.",
        "RATE_LIMITED": "Too many requests of the token, or of its organization: `policy` in the metadata says which.",
        "RESEND_LIMIT": "Another code was asked for too often in 24 hours, for this user and channel.",
        "RESEND_TOO_SOON": "The last code for the address was made only just now.",
    },
    errors.Unsupported: {
        "METHOD_UNSUPPORTED": "The path is known, but not with this method; `Allow` names those that are.",
        "RPC_UNSUPPORTED": "There is no such RPC here, or it is asked for on a wire that cannot carry its answer.",
    },
    errors.NotAcceptable: {
        "NOT_ACCEPTABLE": "The `Accept` header leaves no room for `application/json`.",
    },
    errors.TooLarge: {
        "BODY_TOO_LARGE": "The body has more bytes than `limit` in the metadata.",
        "LINE_TOO_LARGE": "A line of an import has more bytes than `limit` in the metadata.",
    },
    errors.WrongMediaType: {
        "ENCODING_UNSUPPORTED": "The body is compressed; send it as it is.",
        "MEDIA_TYPE_UNSUPPORTED": "The body is not declared as `application/json` (a patch: as `Accept-Patch` says).",
    },
    errors.Unavailable: {
        "DATABASE_UNAVAILABLE": "The database has no primary, or does not answer in time.",
        "ISSUER_UNAVAILABLE": "The token names an issuer whose keys could not be fetched yet, or not for too long.",
        "SERVER_STOPPING": "The server stops, and an import ends before its last line; go on with another server.",
        "QUEUE_FULL": "Too many requests wait, for the database, a validator or a hash, or of one peer without token.",
    },
}
_INTERNAL_REASONS: Final = {
    "INTERNAL": "Something unexpected happened; the request id leads to it in the service's log.",
}

REASONS: Final[dict[str, str]] = {
    reason: when for group in (*_BY_FAULT.values(), _INTERNAL_REASONS) for reason, when in sorted(group.items())
}
"""Every stable reason and when it is given, in the order of the codes."""

CODE_NAMES: Final = {
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}
"""The names that google.rpc.Code gives to the numbers."""


class ErrorRow(NamedTuple):
    """One kind of refusal: its code and HTTP status, what it says in general, and the reasons it comes with."""

    code: int
    http: int
    when: str
    reasons: dict[str, str]

    @property
    def name(self) -> str:
        """The name of the code."""
        return CODE_NAMES[self.code]


def error_rows() -> list[ErrorRow]:
    """List every kind of refusal, by HTTP status and then by code."""
    rows = [ErrorRow(*CODES[fault], fault.__doc__ or "", _BY_FAULT[fault]) for fault in CODES]
    rows.append(ErrorRow(INTERNAL, 500, "Something unexpected happened.", _INTERNAL_REASONS))
    return sorted(rows, key=lambda row: (row.http, row.code))
