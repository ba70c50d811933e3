"""What a database needs before it serves: indexes, an organization, the schemas that ship, a first token."""

from __future__ import annotations

import contextlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schema_user.commands.schemas import CreateSchema, create_schema
from schema_user.commands.tokens import OPERATOR, CreateToken, new_secret, store_token
from schema_user.domain.caller import DEFAULT_ORGANIZATION, Grant
from schema_user.domain.organization import Organization
from schema_user.domain.permission import Role
from schema_user.domain.schema import HUMAN_SCHEMA
from schema_user.domain.search import Text, TextMethod
from schema_user.errors import Conflict, Unmet
from schema_user.store.history import EXPIRES
from schema_user.validation.validators import Judged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.store.instance import InstanceStore
    from schema_user.wiring import Wiring

SHIPPED: Final = ("human", "customer", "employee", "device")
"""The types of the schemas that ship, each a file of that name in ``schemas/``."""


def shipped_schemas() -> Iterator[tuple[str, Any]]:
    """Give the type and the document of each schema that ships, from the package or from a checkout."""
    packaged = files("schema_user") / "_schemas"
    folder: Any = packaged if packaged.is_dir() else Path(__file__).parents[3] / "schemas"
    for name in SHIPPED:
        yield name, msgspec.json.decode((folder / f"{name}.json").read_bytes())


async def prepare(wiring: Wiring, instance: InstanceStore) -> str | None:
    """Make what is missing; safe to repeat, and for several servers at once. Gives the first token if it made one."""
    stores = (wiring.users, wiring.schemas, wiring.tokens, wiring.outbox, wiring.history, wiring.requests)
    for store in (*stores, wiring.quotas, wiring.webhooks, wiring.jobs, wiring.job_digests):
        await store.prepare()
    if wiring.settings.history_ttl is not None:
        await instance.first(EXPIRES)
    await _first_organization(wiring, instance)
    await _first_schemas(wiring, instance)
    return await _first_token(wiring, instance)


async def _first_organization(wiring: Wiring, instance: InstanceStore) -> None:
    if await instance.known("organization"):
        return
    now = wiring.now()
    # An organization that is there already is another server's first one: the id is fixed.
    await wiring.organizations.insert(Organization(DEFAULT_ORGANIZATION, "Default", now, now))
    await instance.first("organization")


async def _first_schemas(wiring: Wiring, instance: InstanceStore) -> None:
    """Load each shipped schema once in the life of the instance: one that is deleted or renamed stays so."""
    for name, document in shipped_schemas():
        mark = f"schema {name}"
        if await instance.known(mark):
            continue
        with contextlib.suppress(Conflict):
            await create_schema(wiring, OPERATOR, CreateSchema(name, document, None), judged=_judged(document))
        await instance.first(mark)
    await _note_human_schema(wiring, instance)


def _judged(document: Any) -> Judged:
    """Put a document of our own through the gate, here: starting a worker takes longer than all else at a first start.

    Raises:
        ValueError: if the gate does not take it.
    """
    from schema_user.validation import gate  # noqa: PLC0415 -- only the first start of all needs it

    found = gate.check(document)
    if found.violations:
        raise ValueError(found.violations)
    return Judged(found.violations, found.warnings, found.dialect)


async def _note_human_schema(wiring: Wiring, instance: InstanceStore) -> None:
    """Note which schema is the built-in one of people: it stays that under whatever name."""
    if await instance.fact(HUMAN_SCHEMA) is not None:
        return
    for schema_id in await wiring.schemas.ids_of(Text("type", "human", TextMethod.EQUALS)):
        schema = await wiring.schemas.find(schema_id)
        if schema is not None and schema.organization_id is None:
            await instance.once(HUMAN_SCHEMA, schema_id)


async def _first_token(wiring: Wiring, instance: InstanceStore) -> str | None:
    """Make the first token of all, unless there ever was one; give it if it was not chosen by the settings."""
    if await wiring.tokens.any() or not await instance.first("token"):
        return None
    chosen = wiring.settings.bootstrap_token
    command = CreateToken("bootstrap", (Grant(Role.INSTANCE_OWNER),))
    try:
        made = await store_token(wiring, command, chosen or new_secret(), None, OPERATOR.token_id)
    except Unmet:
        return None
    except BaseException:
        await instance.forget("token")
        raise
    return None if chosen else made.secret
