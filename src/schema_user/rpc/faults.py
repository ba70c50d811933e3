"""Refusals on the RPC wires: the numbers are those of ``api/status.py``, the details messages of ``google.rpc``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from protobuf.wkt import Duration

from schema_user.api.operation import too_large
from schema_user.api.status import CODES, DOMAIN, INTERNAL
from schema_user.errors import Fault, Malformed, Unsupported
from schema_user.rpc.generated.google.rpc.error_details_pb import BadRequest, ErrorInfo, RequestInfo, RetryInfo

if TYPE_CHECKING:
    from protobuf import Message

_CODES: Final = tuple(Code)
"""In the order of their numbers; the first is 1."""


def refusal(fault: Fault, request_id: str) -> ConnectError:
    """Give a fault as an error of the RPC wires; its message names the first place that is wrong."""
    details: list[Message] = [ErrorInfo(reason=fault.reason, domain=DOMAIN, metadata=dict(fault.metadata))]
    if fault.violations:
        violations = [
            BadRequest.FieldViolation(field=each.field, description=each.description, reason=each.reason)
            for each in fault.violations
        ]
        details.append(BadRequest(field_violations=violations))
    if fault.retry_after is not None:
        details.append(RetryInfo(retry_delay=Duration(seconds=fault.retry_after)))
    details.append(RequestInfo(request_id=request_id))
    return ConnectError(_CODES[CODES[type(fault)][0] - 1], _message(fault), details)


def _message(fault: Fault) -> str:
    first = fault.violations[0] if fault.violations else None
    if first is None or not first.field or first.field in fault.message:
        return fault.message
    return f"{fault.message}: {first.field} {first.description}"


def unexpected(request_id: str) -> ConnectError:
    """Give what a client learns of an unexpected error: that there was one, and how to ask about it."""
    details: list[Message] = [ErrorInfo(reason="INTERNAL", domain=DOMAIN), RequestInfo(request_id=request_id)]
    return ConnectError(_CODES[INTERNAL - 1], "internal error", details)


def fault_of(error: ConnectError, limit: int) -> Fault | None:
    """Give what the library found wrong with a request as a fault; None: the error is none of the client's doing."""
    match error.code:
        case Code.RESOURCE_EXHAUSTED:
            return too_large(limit)
        case Code.INVALID_ARGUMENT | Code.INTERNAL:
            return Malformed("REQUEST_INVALID", "the request is not of the form that its wire has")
        case Code.UNIMPLEMENTED:
            return Unsupported("RPC_UNSUPPORTED", "one message is taken, as it is or compressed by gzip")
        case _:
            return None
