"""Passwords: what a new one must have, and in which form it is hashed and compared.

Lengths are in code points. Lower and upper case, numbers and symbols are those of Unicode, not of ASCII only: ``ß`` is
lower case, ``٣`` is a number, ``€`` and a blank are symbols. Letters of scripts that have no case are none of them.
"""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass, replace
from typing import Final, NamedTuple

MAX_LENGTH: Final = 200
"""The longest password: 800 bytes of UTF-8, so that no client can make hashing expensive by the length alone."""

_LOWERCASE: Final = frozenset({"Ll"})
_UPPERCASE: Final = frozenset({"Lu", "Lt"})
_NUMBER: Final = frozenset({"Nd", "Nl", "No"})
_SYMBOL: Final = frozenset({"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs"})
_FORBIDDEN: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Controls and line breaks, as RFC 8265 has it, and halves of surrogate pairs. What a later Unicode adds is allowed."""


class Problem(NamedTuple):
    """What a password lacks: the rule, named as in the policy (``minLength``, ``hasSymbol``), and words for people."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What new passwords must have: ``min_length`` code points, 1 to 200, and one of each kind that is asked for.

    Passwords that were hashed elsewhere are not known, so it does not hold for them.
    """

    min_length: int = 8
    has_lowercase: bool = True
    has_uppercase: bool = True
    has_number: bool = True
    has_symbol: bool = True

    def problems(self, password: str) -> list[Problem]:
        """Say all that is wrong with a password, in the form in which it would be hashed; nothing, if it will do.

        ``maxLength`` and ``characters`` are rules of every policy. The texts never tell anything of the password.
        """
        password = prepared(password)
        if len(password) > MAX_LENGTH:
            return [Problem("maxLength", f"must have {MAX_LENGTH} characters at most")]
        found = {unicodedata.category(character) for character in password}
        rules = (
            (not found & _FORBIDDEN, "characters", "must not have control characters or line breaks"),
            (len(password) >= self.min_length, "minLength", f"must have {self.min_length} characters at least"),
            (not self.has_lowercase or found & _LOWERCASE, "hasLowercase", "must have a lower-case letter"),
            (not self.has_uppercase or found & _UPPERCASE, "hasUppercase", "must have an upper-case letter"),
            (not self.has_number or found & _NUMBER, "hasNumber", "must have a number"),
            (not self.has_symbol or found & _SYMBOL, "hasSymbol", "must have a symbol"),
        )
        return [Problem(reason, text) for kept, reason, text in rules if not kept]

    def stricter(self, other: Policy) -> Policy:
        """Give the policy that takes what this one and the other one take."""
        return Policy(
            max(self.min_length, other.min_length),
            self.has_lowercase or other.has_lowercase,
            self.has_uppercase or other.has_uppercase,
            self.has_number or other.has_number,
            self.has_symbol or other.has_symbol,
        )

    def is_at_least(self, other: Policy) -> bool:
        """Whether every password that this policy takes is taken by the other one too."""
        return (
            self.min_length >= other.min_length
            and self.has_lowercase >= other.has_lowercase
            and self.has_uppercase >= other.has_uppercase
            and self.has_number >= other.has_number
            and self.has_symbol >= other.has_symbol
        )


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """What an organization asks of new passwords; None: as the instance has it."""

    min_length: int | None = None
    has_lowercase: bool | None = None
    has_uppercase: bool | None = None
    has_number: bool | None = None
    has_symbol: bool | None = None

    def over(self, policy: Policy) -> Policy:
        """Give a policy with what is chosen here in its place."""
        return replace(policy, **{name: chosen for name, chosen in asdict(self).items() if chosen is not None})


def prepared(password: str) -> str:
    """Give the form that is hashed: every blank the same, then NFC, as the OpaqueString profile of RFC 8265 says.

    One keyboard sends ``é`` as one code point, another as two; both are the same password to a person. Compatibility
    forms and case stay what they are, so no two passwords that look different become one.
    """
    if password.isascii():
        return password
    blanks = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", blanks)


def forms(password: str) -> tuple[str, ...]:
    """Give the forms to compare with a hash: the prepared one, and what was typed if that differs.

    Hashes from elsewhere were made of what was typed there, mostly. The password alone says how many forms it has.
    """
    return tuple(dict.fromkeys((prepared(password), password)))
