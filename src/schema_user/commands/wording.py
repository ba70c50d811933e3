"""What an organization may choose of its messages: the sender, the languages and the texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema_user.domain.wording import MAX_TEXTS_BYTES, Occasion, Part, name_problem, size_of, text_problem
from schema_user.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from schema_user.domain.organization import OrganizationSettings
    from schema_user.domain.wording import OwnTexts, Sender

_WIRE: Final = {
    Occasion.VERIFY: "verify",
    Occasion.PASSWORD_RESET: "passwordReset",
    Occasion.ADDRESS_CHANGED: "addressChanged",
    Occasion.ADDRESS_REMOVED: "addressRemoved",
}


def wording_violations(settings: OrganizationSettings, allowed_domains: Container[str]) -> list[Violation]:
    """List what is wrong with an organization's sender and texts.

    ``allowed_domains`` are those in which the instance lets organizations have an address: one of another domain would
    speak in somebody else's name.
    """
    found = [] if settings.sender is None else list(_of_sender(settings.sender, allowed_domains))
    chosen = settings.languages or ()
    found += [
        Violation(f"settings/languages/{index}", "is named twice", "unique")
        for index, language in enumerate(chosen)
        if language in chosen[:index]
    ]
    return found if settings.texts is None else [*found, *_of_texts(settings.texts)]


def _of_sender(sender: Sender, allowed_domains: Container[str]) -> Iterator[Violation]:
    problem = None if sender.name is None else name_problem(sender.name)
    if problem is not None:
        yield Violation("settings/sender/name", problem, "text")
    if sender.address is not None and sender.address.rpartition("@")[2] not in allowed_domains:
        yield Violation("settings/sender/address", "must be in a domain that the instance allows for senders", "domain")


def _of_texts(texts: OwnTexts) -> Iterator[Violation]:
    for language, occasions in texts.items():
        for occasion, chosen in occasions.items():
            for part, text in chosen.items():
                problem = text_problem(Occasion(occasion), Part(part), text)
                if problem is not None:
                    field = f"settings/texts/{language}/{_WIRE[Occasion(occasion)]}/{part}"
                    yield Violation(field, problem, "text")
    if size_of(texts) > MAX_TEXTS_BYTES:
        yield Violation("settings/texts", f"must have at most {MAX_TEXTS_BYTES} bytes together", "maxLength")
