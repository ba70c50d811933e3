from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema_user.domain.contact import normalise_email, normalise_phone
from schema_user.validation import formats
from schema_user.validation.dialect import Dialect
from schema_user.validation.formats import UndecidedError, checkers, is_email, is_phone, is_plain_email
from schema_user.validation.rust import compile_schema

_LETTERS = st.text("aZ09_.+-@é", min_size=1, max_size=12)


class TestEmail:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("minnie@example.com", True),
            ("minnie+news@mail.example.co.uk", True),
            ("minnie@localhost", True),
            ("m.o'hara@example.com", True),
            ("minnie@münchen.example", True),
            ("用户@例子.example", True),
            ("a" * 64 + "@example.com", True),
            ("a" * 65 + "@example.com", True),
            ("a@" + "b" * 63 + ".com", True),
            ("a@" + "b" * 64 + ".com", False),
            ("a" * 64 + "@" + ".".join(["b" * 60] * 4) + ".com", False),
            ("Minnie <minnie@example.com>", False),
            ('"minnie mouse"@example.com', False),
            ("minnie@[192.0.2.1]", False),
            ("minnie.example.com", False),
            ("minnie@", False),
            ("@example.com", False),
            ("minnie@example..com", False),
            (".minnie@example.com", False),
            ("minnie@-example.com", False),
            ("minnie@example.com\n", False),
            ("minnie@example.com\r\nBcc: a@b.ch", False),
            ("minnie@exam ple.com", False),
            ("a@b\x00.ch", False),
            ("a" * 1_000_000, False),
            ("\ud800@example.com", False),
            ("", False),
        ],
        ids=lambda value: f"{ascii(value)[:30]} {len(str(value))}",
    )
    def test_is_what_a_contact_takes(self, value: str, *, expected: bool) -> None:
        """An address in data is one that the user's contact could have."""
        assert formats.OWN["email"](value) is expected
        if len(value) < 1000 and value.isprintable():
            assert (normalise_email(value) is not None) is expected

    @given(st.builds("{}@{}.{}".format, _LETTERS, _LETTERS, _LETTERS) | st.emails() | st.text(max_size=20))
    def test_quick_answers_are_those_of_the_library(self, value: str) -> None:
        """What is told at once agrees with the closer look, or leaves it to that."""
        try:
            quick = is_plain_email(value)
        except UndecidedError:
            return
        assert quick is (normalise_email(value) is not None)
        assert quick is is_email(value)

    @pytest.mark.parametrize("around", [{}, {"not": {"not": {}}}], ids=["plain", "beside"])
    @pytest.mark.parametrize("negated", [False, True])
    def test_undecided_is_never_valid(self, around: dict[str, Any], *, negated: bool) -> None:
        """Where an address needs a closer look, the quick validator says no, also within a not."""
        schema = {"not": {"format": "email"}} if negated else {"format": "email"}
        document = {"items": {**around, **schema}}
        quick, whole = (compile_schema(document, "2020-12", quick=each) for each in (True, False))
        assert not quick.is_valid(["用户@例子.example"])
        assert whole.is_valid(["用户@例子.example"]) is not negated
        assert quick.is_valid(["a@example.com"]) is not negated


class TestPhone:
    @given(st.text("+0123456789 ().-", max_size=20) | st.from_regex(r"\+(41|1|49|44)[0-9 ]{5,12}", fullmatch=True))
    def test_is_what_a_contact_takes(self, value: str) -> None:
        """A number in data is one that the user's contact could have, without a default region, written with one +."""
        taken = normalise_phone(value, None) is not None
        if is_phone(value):
            assert taken
        elif taken:
            assert not value.startswith("+") or value.count("+") > 1 or len(value) < 3


class TestFailures:
    def test_no_error_escapes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A library that fails on a text makes it no address, in the middle of a validation."""

        def fail(*_: Any) -> None:
            raise RuntimeError

        monkeypatch.setattr(formats, "normalise_email", fail)
        monkeypatch.setattr(formats, "normalise_phone", fail)
        schema = {"properties": {"a": {"format": "email"}, "b": {"format": "phone"}}}
        found = compile_schema(schema, "2020-12").violations({"a": "é@b.ch", "b": "+41791234567"})
        assert [(each.field, each.description) for each in found] == [
            ("data/a", "must be an email address"),
            ("data/b", "must be a phone number such as +41791234567"),
        ]

    @pytest.mark.parametrize("dialect", list(Dialect))
    @given(st.text(st.characters(), max_size=20))
    def test_any_text_is_judged(self, dialect: Dialect, value: str) -> None:
        """Whatever the text, lone surrogates among it, each format answers yes or no."""
        for check in checkers(dialect).values():
            assert check(value) in {True, False}
