"""What is said of an expression that is none: in our words, with the place."""

from __future__ import annotations

import pytest

from schema_user.validation.expression import ExpressionError, applied


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "must not be empty"),
        ("a[", "ends too early, after character 2: something must follow"),
        ("a.b.", "ends too early, after character 4: something must follow"),
        ("a b", "has b at character 3, where it cannot stand"),
        ("a = b", "has = at character 3, where it cannot stand"),
        ("{a: }", "has } at character 5, where it cannot stand"),
        ("join(' , a)", "has a ' at character 6 that is not closed"),
        ("a.nothing(@)", "calls nothing() at character 3, which there is not"),
        ("a || nothing(@)", "calls nothing() at character 6, which there is not"),
        ("[a, join(',')]", "calls join() at character 5 with 1 of 2 arguments"),
        ("merge()", "calls merge() at character 1 with 0 of at least 1 argument"),
        ("length(`1`)", "gives length() a value of type number, and it takes string or array or object"),
        ("to_string(&a)", "may use & only in what is given to map, max_by, min_by, sort_by"),
        ("(a)(b)", "calls a(), which there is not"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(expression: str, words: str) -> None:
    """Characters are counted from 1, and no line is drawn under anything."""
    with pytest.raises(ExpressionError) as refused:
        applied(expression, {"a": {"b": 1}})
    assert str(refused.value) == words
