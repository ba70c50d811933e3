"""Requests under an ``Idempotency-Key``: what came before under the key, and what is left of its answer."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from schema_user.commands.contact_rules import contact_rules
from schema_user.domain import code as codes
from schema_user.domain.contact import Channel
from schema_user.domain.credential import RESET, Credential, reset_bindings, reset_digests
from schema_user.domain.user import binding
from schema_user.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from schema_user.commands.contact_rules import ContactRules
    from schema_user.domain.organization import Organization
    from schema_user.domain.repetition import Answered, Known, Once
    from schema_user.domain.schema import UserSchema
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring

log = logging.getLogger(__name__)

_R = TypeVar("_R", "UserSchema", "Organization")


async def before_writing(
    wiring: Wiring,
    once: Once,
    kept: Callable[[], Awaitable[Known | None]],
    *,
    first: bool,
    key: bytes = b"",
) -> Answered | None:
    """Find the answer that the request got before, if it did; else the caller may write.

    To be asked between reading the document and each try to write it. ``kept`` looks for the answer inside that
    document; a twin that writes later is met by the guard of the write. So no lease is needed, and no clock.

    Raises:
        Conflict: ``IDEMPOTENCY_KEY_REUSED``, if another request has the key.
        Unavailable: if the database does not answer.
    """
    known = await (wiring.requests.begin(once, wiring.now(), key=key) if first else wiring.requests.find(once, key))
    if known is None or known.answered is None:
        _require_same(once, known)
        known = await kept()
    _require_same(once, known)
    return known.answered if known else None


def _require_same(once: Once, known: Known | None) -> None:
    if known is not None and known.digest != once.digest:
        raise Conflict("IDEMPOTENCY_KEY_REUSED", "another request was sent under this Idempotency-Key")


async def begin_making(wiring: Wiring, once: Once, made_id: str) -> tuple[str, bool]:
    """Note a request that makes a resource: give the id of that, and whether the request is new.

    Raises:
        Conflict, Unavailable: as above.
    """
    known = await wiring.requests.begin(once, wiring.now(), made_id)
    if known is None:
        return made_id, True
    _require_same(once, known)
    return known.resource_id or made_id, False


async def keep(wiring: Wiring, answered: Answered | None) -> None:
    """Store an answer in its record; if that fails, a repetition finds it in the document, or finds it out again."""
    if answered is not None:
        try:
            await wiring.requests.settle(answered, wiring.now())
        except Unavailable as error:
            log.warning("an answer is not in its record yet: %s", error)


def numbered(before: _R, after: _R, now: datetime, *, keyed: bool) -> _R | None:
    """Number a change of a schema or an organization; None: nothing to write.

    Under a key there always is: the answer is tied to what it speaks of, as a twin may read what somebody else writes
    next.
    """
    if after != before:
        at = max(now, before.changed_at)
        return replace(after, sequence=before.sequence + 1, version=before.version + 1, changed_at=at)
    return replace(before, version=before.version + 1) if keyed else None


async def live(wiring: Wiring, user: User, answered: Answered) -> dict[str, str]:
    """Give the codes of an answer that are still good for something."""
    if not answered.codes:
        return {}
    rules = await contact_rules(wiring, user.organization_id)
    return {name: plain for name, plain in answered.codes.items() if _is_live(wiring, user, name, plain, rules)}


def _is_live(wiring: Wiring, user: User, name: str, plain: str, rules: ContactRules) -> bool:
    keys = wiring.keyring.code_keys
    if name == RESET:
        reset = (user.credential or Credential()).reset
        known, failed = reset.codes, reset.failed
        digests = reset_digests(keys, reset_bindings(user.organization_id, user.user_id, user.contact), plain)
    else:
        channel = Channel(name)
        address = user.contact.on(channel)
        if address is None:
            return False
        known, failed = address.codes, address.failed
        digests = [codes.digest(key, binding(user, channel, address), plain) for key in keys]
    code = codes.find(known, digests)
    return code is not None and code.expires_at > wiring.now() and failed < rules.code_attempts
