"""What a new password must have, in any script."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from schema_user.domain.password import MAX_LENGTH, Policy, forms, prepared

NOTHING = Policy(min_length=1, has_lowercase=False, has_uppercase=False, has_number=False, has_symbol=False)
FLAGS = ["has_lowercase", "has_uppercase", "has_number", "has_symbol"]


def reasons(policy: Policy, password: str) -> list[str]:
    """Name the rules that a password breaks."""
    return [reason for reason, _ in policy.problems(password)]


class TestPolicy:
    @pytest.mark.parametrize(
        ("password", "broken"),
        [
            pytest.param("Passw0rd!", [], id="good"),
            pytest.param("Pass w0rd", [], id="a blank is a symbol"),
            pytest.param("Passw0rd\N{GRINNING FACE}", [], id="an emoji is a symbol"),
            pytest.param("Passw\N{ARABIC-INDIC DIGIT THREE}rd!", [], id="a digit of any script"),
            pytest.param(
                "\N{GREEK CAPITAL LETTER SIGMA}\N{GREEK SMALL LETTER ALPHA}1!xxxx", [], id="letters of any script"
            ),
            pytest.param("Sho0rt!", ["minLength"], id="short"),
            pytest.param("PASSW0RD!", ["hasLowercase"], id="no lower case"),
            pytest.param("passw0rd!", ["hasUppercase"], id="no upper case"),
            pytest.param("Password!", ["hasNumber"], id="no number"),
            pytest.param("Passw0rdd", ["hasSymbol"], id="no symbol"),
            pytest.param(
                "Passw0rd\N{LATIN SMALL LETTER SHARP S}", ["hasSymbol"], id="a letter beyond ASCII is no symbol"
            ),
            pytest.param(
                "\N{HIRAGANA LETTER A}" * 8, ["hasLowercase", "hasUppercase", "hasNumber", "hasSymbol"], id="no case"
            ),
            pytest.param("", ["minLength", "hasLowercase", "hasUppercase", "hasNumber", "hasSymbol"], id="empty"),
            pytest.param("Passw0rd!\0", ["characters"], id="NUL"),
            pytest.param("Passw0rd!\n", ["characters"], id="line feed"),
            pytest.param("Passw0rd!\ud800", ["characters"], id="half a surrogate pair"),
        ],
    )
    def test_default(self, password: str, broken: list[str]) -> None:
        """Eight code points, a letter of either case, a number and a symbol; all that is broken is named."""
        assert reasons(Policy(), password) == broken

    def test_length_is_in_code_points(self) -> None:
        """Neither bytes nor keystrokes count: two that are composed to one are one."""
        assert reasons(NOTHING, "\N{GRINNING FACE}" * MAX_LENGTH) == []
        assert reasons(NOTHING, "e\N{COMBINING ACUTE ACCENT}" * MAX_LENGTH) == []
        assert reasons(dataclasses.replace(NOTHING, min_length=8), "e\N{COMBINING ACUTE ACCENT}" * 7) == ["minLength"]

    def test_longest(self) -> None:
        """Beyond 200 code points nothing else is said, whatever the policy."""
        assert reasons(NOTHING, "x" * MAX_LENGTH) == []
        assert reasons(Policy(), "x" * (MAX_LENGTH + 1)) == ["maxLength"]

    @pytest.mark.parametrize("flag", FLAGS)
    def test_each_rule_can_be_left_out(self, flag: str) -> None:
        """A policy asks for what it says and no more."""
        assert len(Policy().problems("")) - len(dataclasses.replace(Policy(), **{flag: False}).problems("")) == 1

    def test_texts_hold_nothing_of_the_password(self) -> None:
        """What is said is the same for every password that breaks the same rules."""
        assert Policy().problems("secret") == Policy().problems("hidden")

    def test_is_at_least(self) -> None:
        """A policy is at least another one exactly if no rule of it asks for less."""
        policies = [
            Policy(length, *flags)
            for length in (7, 8, 9)
            for flags in itertools.product([False, True], repeat=len(FLAGS))
        ]
        for one, other in itertools.product(policies, repeat=2):
            pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
            assert one.is_at_least(other) == all(mine >= theirs for mine, theirs in pairs)


class TestForms:
    def test_prepared(self) -> None:
        """Composed and decomposed letters, and blanks of any width, are hashed alike."""
        composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE} 1", "cafe\N{COMBINING ACUTE ACCENT}\N{EM SPACE}1"
        assert prepared(decomposed) == prepared(composed) == composed

    def test_what_looks_different_stays_different(self) -> None:
        """Case, width and compatibility forms are kept."""
        assert (
            len(
                {
                    prepared(text)
                    for text in ("a", "A", "\N{FULLWIDTH LATIN SMALL LETTER A}", "\N{FEMININE ORDINAL INDICATOR}")
                }
            )
            == 4
        )

    def test_forms(self) -> None:
        """One comparison is enough, unless what was typed is not what is hashed."""
        assert forms("secret") == ("secret",)
        assert forms("\N{LATIN SMALL LETTER E WITH ACUTE}") == ("\N{LATIN SMALL LETTER E WITH ACUTE}",)
        assert forms("e\N{COMBINING ACUTE ACCENT}") == (
            "\N{LATIN SMALL LETTER E WITH ACUTE}",
            "e\N{COMBINING ACUTE ACCENT}",
        )
