"""The form of users in MongoDB: of which fields a document is made, how it is read back, and what differs of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema_user.domain.code import Code
from schema_user.domain.contact import Address, Channel, Contact, Resend
from schema_user.domain.credential import Credential, Reset
from schema_user.domain.search import fold
from schema_user.domain.user import Claimed, Creation, User, Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.indexing import Entry
    from schema_user.store.connection import Document


def _code_documents(codes: Sequence[Code]) -> list[Document]:
    return [{"digest": each.digest, "created_at": each.created_at, "expires_at": each.expires_at} for each in codes]


def _codes(documents: Sequence[Document]) -> tuple[Code, ...]:
    return tuple(Code(each["digest"], each["created_at"], each["expires_at"]) for each in documents)


def _address_document(address: Address) -> Document:
    document = {
        "value": address.value,
        "folded": fold(address.value),
        "verified": address.is_verified,
        "failed": address.failed,
        "codes": _code_documents(address.codes),
    }
    if address.coded_at is not None:
        document["coded_at"] = address.coded_at
    return document


def _address(document: Document | None) -> Address | None:
    if document is None:
        return None
    return Address(
        document["value"],
        is_verified=document["verified"],
        codes=_codes(document["codes"]),
        failed=document["failed"],
        coded_at=document.get("coded_at"),
    )


def _contact(document: Document) -> Contact:
    resends = document.get("resends", ())
    return Contact(
        _address(document.get("email")),
        _address(document.get("phone")),
        tuple(Resend(Channel(each["channel"]), each["at"]) for each in resends) if resends else (),
    )


def _credential_document(credential: Credential) -> Document:
    """Write a credential down; ``encoded`` is the hash as others would write it, and says itself how it was made."""
    reset = credential.reset
    document: Document = {"change_required": credential.change_required, "generation": credential.generation}
    optional = {
        "encoded": credential.encoded,
        "set_at": credential.set_at,
        "failed": credential.failed or None,
        "locked_until": credential.locked_until,
        "codes": _code_documents(reset.codes) or None,
        "codes_failed": reset.failed or None,
        "codes_asked": list(reset.asked) or None,
    }
    return document | {name: value for name, value in optional.items() if value is not None}


def _credential(document: Document | None) -> Credential | None:
    if document is None:
        return None
    return Credential(
        encoded=document.get("encoded"),
        change_required=document["change_required"],
        set_at=document.get("set_at"),
        generation=document["generation"],
        failed=document.get("failed", 0),
        locked_until=document.get("locked_until"),
        reset=Reset(
            _codes(document.get("codes", ())), document.get("codes_failed", 0), tuple(document.get("codes_asked", ()))
        ),
    )


def _claim_documents(claims: Sequence[Claimed]) -> list[Document]:
    return [{"kind": each.kind, "id": each.claim_id, "nonce": each.nonce} for each in claims]


def claims_of(documents: Sequence[Document] | None) -> tuple[Claimed, ...]:
    """Read back the claims that a user's document confirms."""
    return tuple(Claimed(each["kind"], each["id"], each["nonce"]) for each in documents) if documents else ()


def _entry_documents(entries: Sequence[Entry]) -> list[Document]:
    return [{"k": each.key, "v": each.value} for each in entries]


def _creation_document(creation: Creation) -> Document:
    document = {"id": creation.write_id, "token_id": creation.token_id, "request_id": creation.request_id}
    return document if creation.user_id is None else document | {"actor_id": creation.user_id}


def _creation(document: Document | None) -> Creation | None:
    if document is None:
        return None
    return Creation(document["id"], document["token_id"], document.get("actor_id"), document["request_id"])


def marks_document(marking: str, entries: Sequence[Entry], claims: Sequence[Claimed]) -> Document:
    """Give the update that puts entries and claims into a user's document."""
    put: Document = {"indexed": _entry_documents(entries)}
    gone = [] if marking else ["marking"]
    put |= {"marking": marking} if marking else {}
    if claims:
        put["claims"] = _claim_documents(claims)
    else:
        gone.append("claims")
    return {"$set": put} | ({"$unset": dict.fromkeys(gone, "")} if gone else {})


ERASED: Final = (
    *("email", "phone", "resends", "credential", "username", "username_folded", "username_claim", "claims"),
    *("marking", "indexed", "key", "creation"),
)
"""What a deletion takes away: all but the id, and facts of which and when; ``data`` stays as an empty one."""


def to_document(user: User) -> Document:
    """Write a user down as a document; fields without a value are absent.

    Each user of an import passes here: it is written out, as a table of the fields costs twice as much.
    """
    document: Document = {
        "_id": user.user_id,
        "organization_id": user.organization_id,
        "schema_id": user.schema_id,
        "revision": user.revision,
        "data": user.data,
        "created_at": user.created_at,
        "changed_at": user.changed_at,
        "sequence": user.sequence,
        "version": user.version,
        "active": user.active,
        "locked": user.locked,
        "deleted": user.deleted,
        "state": user.state.value,
    }
    _add_contact(document, user.contact)
    if user.credential is not None:
        document["credential"] = _credential_document(user.credential)
    if user.username is not None:
        document["username"] = user.username
        document["username_folded"] = fold(user.username)
    if user.username_claim is not None:
        document["username_claim"] = user.username_claim
    if user.claims:
        document["claims"] = _claim_documents(user.claims)
    if user.marking:
        document["marking"] = user.marking
    if user.indexed is not None:
        document["indexed"] = _entry_documents(user.indexed)
    if user.key:
        document["key"] = user.key
    if user.chain:
        document["chain"] = user.chain
    if user.creation is not None:
        document["creation"] = _creation_document(user.creation)
    return document


def _add_contact(document: Document, contact: Contact) -> None:
    if contact.email is not None:
        document["email"] = _address_document(contact.email)
    if contact.phone is not None:
        document["phone"] = _address_document(contact.phone)
    if contact.resends:
        document["resends"] = [{"channel": each.channel.value, "at": each.at} for each in contact.resends]


def from_document(document: Document) -> User:
    """Read a user back out of its document."""
    return User(
        user_id=document["_id"],
        organization_id=document["organization_id"],
        schema_id=document["schema_id"],
        revision=document["revision"],
        data=document["data"],
        created_at=document["created_at"],
        changed_at=document["changed_at"],
        sequence=document["sequence"],
        version=document["version"],
        active=document["active"],
        locked=document["locked"],
        deleted=document["deleted"],
        contact=_contact(document),
        credential=_credential(document.get("credential")),
        username=document.get("username"),
        username_claim=document.get("username_claim"),
        claims=claims_of(document.get("claims")),
        marking=document.get("marking", ""),
        key=document.get("key", b""),
        chain=document.get("chain", b""),
        creation=_creation(document.get("creation")),
        pending_since=document.get("pending_since"),
        pending=tuple(Waiting(each["id"], each["size"]) for each in document.get("pending", ())),
    )


def difference(before: User, after: User) -> Document:
    """Give the update that turns one document into the other, and touches nothing that stays the same."""
    old, new = to_document(before), to_document(after)
    if after.data is before.data:
        del old["data"], new["data"]
    put = {name: value for name, value in new.items() if name not in old or name == "data" or value != old[name]}
    gone = {name: "" for name in old if name not in new}
    return {"$set": put} | ({"$unset": gone} if gone else {})
