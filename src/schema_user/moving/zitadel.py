"""From ZITADEL: people become users of the built-in schema ``human``.

Two formats are read: the answer of the admin API's ``POST /admin/v1/export`` (also inside the ``dataOrgs`` or
``data_orgs`` of a file that its import takes), which has hashes of passwords; and the answer of the user service's
``POST /v2/users``, which has states and no hashes. Sources: ``zitadel/v1.proto`` and ``zitadel/user/v2/user.proto`` in
ZITADEL's repository, and its guide "Migrate Users".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schema_user.moving.line import Json, Moved, NotAnExport, address, as_list, as_object, compact, contact, password

if TYPE_CHECKING:
    from collections.abc import Iterator

_LANGUAGE_UNDEFINED: Final = "und"
_GENDERS: Final = ("GENDER_FEMALE", "GENDER_MALE", "GENDER_DIVERSE")
_STATES: Final = {
    "USER_STATE_INACTIVE": "USER_STATE_INACTIVE",
    "USER_STATE_LOCKED": "USER_STATE_LOCKED",
    "USER_STATE_SUSPEND": "USER_STATE_INACTIVE",
}
_NEVER: Final = frozenset({"USER_STATE_DELETED", "USER_STATE_INITIAL"})
_LEFT_OF_ORGANIZATIONS: Final = {
    "machineUsers": "machine users: make tokens for machines",
    "userGrants": "grants of projects",
    "userMetadata": "metadata of users",
    "userLinks": "links to identity providers",
}


def from_zitadel(document: Any, schema_id: str) -> Iterator[Moved]:
    """Give the people of an export as lines; ``schema_id`` is the id of the schema ``human`` here.

    The organization of a user goes into its line: it must be there, with the same id, before the lines are imported.

    Raises:
        NotAnExport: if the document has none of the forms that are known.
    """
    whole = as_object(document, "the document")
    for name in ("dataOrgs", "data_orgs"):
        whole = as_object(whole[name], name) if name in whole else whole
    if "orgs" in whole:
        for index, each in enumerate(as_list(whole["orgs"], "orgs")):
            yield from _of_organization(as_object(each, f"orgs/{index}"), schema_id, f"orgs/{index}")
    elif "result" in whole:
        for index, each in enumerate(as_list(whole["result"], "result")):
            found = _listed(as_object(each, f"result/{index}"), schema_id)
            if found is not None:
                yield found
    else:
        message = "the document has neither orgs (an export) nor result (a list of users)"
        raise NotAnExport(message)


def left_behind(document: Any) -> list[str]:
    """Say what an export holds beside people that has no place here."""
    whole = as_object(document, "the document")
    for name in ("dataOrgs", "data_orgs"):
        whole = as_object(whole[name], name) if name in whole else whole
    organizations = [each for each in as_list(whole.get("orgs"), "orgs") if isinstance(each, dict)]
    counts = {
        name: sum(len(as_list(_get(each, name), name)) for each in organizations) for name in _LEFT_OF_ORGANIZATIONS
    }
    return [f"{count} {_LEFT_OF_ORGANIZATIONS[name]}" for name, count in counts.items() if count]


def _of_organization(organization: Json, schema_id: str, at: str) -> Iterator[Moved]:
    organization_id = _get(organization, "orgId")
    for index, each in enumerate(as_list(_get(organization, "humanUsers"), f"{at}/humanUsers")):
        place = f"{at}/humanUsers/{index}"
        human = as_object(each, place)
        yield _exported(human, as_object(human.get("user"), f"{place}/user"), organization_id, schema_id)


def _exported(human: Json, user: Json, organization_id: Any, schema_id: str) -> Moved:
    profile = as_object(user.get("profile"), "profile")
    email, phone = as_object(user.get("email"), "email"), as_object(user.get("phone"), "phone")
    encoded = as_object(_get(user, "hashedPassword"), "hashedPassword")
    change = _get(user, "passwordChangeRequired") is True
    left = [words for name, words in _LEFT_OF_PEOPLE.items() if _get(user, name)]
    plain = user.get("password")
    secret = password(encoded.get("value"), change_required=change)
    typed = {"password": plain} | ({"changeRequired": True} if change else {}) if plain and not secret else None
    line = {
        "userId": _get(human, "userId"),
        "organization": {"orgId": organization_id} if organization_id else None,
        "schemaId": schema_id,
        "data": _data(profile, _get(profile, "firstName"), _get(profile, "lastName")),
        "contact": contact(
            address("address", email.get("email"), verified=_get(email, "isEmailVerified") is True),
            address("number", phone.get("phone"), verified=_get(phone, "isPhoneVerified") is True),
        ),
        "username": _get(user, "userName"),
        "hashedPassword": secret,
        "password": typed,
    }
    return Moved(compact(line), tuple(left))


_LEFT_OF_PEOPLE: Final = {
    "otpCode": "a secret for one-time passwords",
    "idps": "links to identity providers",
    "recoveryCodes": "recovery codes",
}


def _listed(user: Json, schema_id: str) -> Moved | None:
    """Read one user of a list; None for a machine, and for one that nobody can be."""
    state = user.get("state")
    if "human" not in user or state in _NEVER:
        return None
    human = as_object(user["human"], "human")
    profile = as_object(human.get("profile"), "profile")
    email, phone = as_object(human.get("email"), "email"), as_object(human.get("phone"), "phone")
    owner = as_object(user.get("details"), "details").get("resourceOwner")
    line = {
        "userId": _get(user, "userId"),
        "organization": {"orgId": owner} if owner else None,
        "schemaId": schema_id,
        "data": _data(profile, _get(profile, "givenName"), _get(profile, "familyName")),
        "contact": contact(
            address("address", email.get("email"), verified=_get(email, "isVerified") is True),
            address("number", phone.get("phone"), verified=_get(phone, "isVerified") is True),
        ),
        "username": user.get("username"),
        "state": _STATES.get(str(state)),
    }
    left = ("the password: a list of users has no hashes",) if human.get("passwordChanged") else ()
    return Moved(compact(line), left)


def _data(profile: Json, given: Any, family: Any) -> Json:
    """Give the data that the schema ``human`` takes; what it would not take is left out, as if it were absent."""
    language, gender = _get(profile, "preferredLanguage"), profile.get("gender")
    found = {
        "givenName": given,
        "familyName": family,
        "nickName": _get(profile, "nickName") or None,
        "displayName": _get(profile, "displayName") or None,
        "preferredLanguage": language if language and language != _LANGUAGE_UNDEFINED else None,
        "gender": gender if gender in _GENDERS else None,
    }
    return {"profile": compact(found)}


def _get(value: Json, name: str) -> Any:
    """Give a member by its name in JSON, or as the protocol buffers spell it."""
    if name in value:
        return value[name]
    return value.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))
