"""The only place where a fault becomes a number: google.rpc.Status in JSON, and its HTTP status."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schema_user import errors

DOMAIN: Final = "schema-user"
_TYPE: Final = "type.googleapis.com/google.rpc."
INTERNAL: Final = 13

CODES: Final[dict[type[errors.Fault], tuple[int, int]]] = {
    errors.Malformed: (3, 400),
    errors.Unmet: (9, 400),
    errors.Unauthenticated: (16, 401),
    errors.Denied: (7, 403),
    errors.Missing: (5, 404),
    errors.Conflict: (6, 409),
    errors.Aborted: (10, 409),
    errors.StaleSequence: (10, 412),
    errors.Exhausted: (8, 429),
    errors.Unsupported: (12, 405),
    errors.NotAcceptable: (3, 406),
    errors.TooLarge: (3, 413),
    errors.WrongMediaType: (3, 415),
    errors.Unavailable: (14, 503),
}


def http_status(fault: errors.Fault) -> int:
    """Give the HTTP status of a fault."""
    return CODES[type(fault)][1]


def status_body(fault: errors.Fault, request_id: str) -> bytes:
    """Write a fault as google.rpc.Status."""
    info: dict[str, Any] = {
        "@type": _TYPE + "ErrorInfo",
        "reason": fault.reason,
        "domain": DOMAIN,
        "metadata": dict(fault.metadata),
    }
    details: list[dict[str, Any]] = [info]
    if fault.violations:
        details.append(
            {
                "@type": _TYPE + "BadRequest",
                "fieldViolations": [
                    {"field": each.field, "description": each.description, "reason": each.reason}
                    for each in fault.violations
                ],
            }
        )
    if fault.retry_after is not None:
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": f"{fault.retry_after}s"})
    details.append(_request_info(request_id))
    return msgspec.json.encode({"code": CODES[type(fault)][0], "message": fault.message, "details": details})


def internal_body(request_id: str) -> bytes:
    """Write what a client learns of an unexpected error: that there was one, and how to ask about it."""
    info = {"@type": _TYPE + "ErrorInfo", "reason": "INTERNAL", "domain": DOMAIN, "metadata": {}}
    return msgspec.json.encode(
        {"code": INTERNAL, "message": "internal error", "details": [info, _request_info(request_id)]}
    )


def status_headers(fault: errors.Fault) -> dict[str, str]:
    """Give the headers that go with a fault."""
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    if isinstance(fault, errors.Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="schema-user"'
    return headers


def _request_info(request_id: str) -> dict[str, str]:
    return {"@type": _TYPE + "RequestInfo", "requestId": request_id}
