"""Expressions that make a document of another: JMESPath, run where it can be ended.

JMESPath was chosen because it was made for strangers' expressions over JSON: it has no loops, no recursion, no regular
expressions, no input or output, and its package is pure Python without dependencies, kept by those who keep the clients
of AWS. ``merge(@, {fullName: join(' ', [givenName, familyName])})`` changes a part and keeps the rest, which CEL cannot
write without naming every member; JSONata can, but it has recursion, ``$eval`` and backtracking patterns. What JMESPath
lacks is arithmetic and the case of letters. Nothing here is bounded: ``[@,@]|[@,@]|…`` doubles at each step.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import jmespath
from jmespath.exceptions import (
    ArityError,
    EmptyExpressionError,
    JMESPathError,
    JMESPathTypeError,
    LexerError,
    ParseError,
    VariadictArityError,
)
from jmespath.functions import Functions

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAKING: Final = frozenset({"map", "max_by", "min_by", "sort_by"})
"""Functions that take an expression, written with &."""

_LONGEST_SHOWN: Final = 40
"""Characters of an expression that are repeated in an error."""


class ExpressionError(ValueError):
    """An expression is none (``always``), or cannot be applied to a document."""

    def __init__(self, text: str, *, always: bool) -> None:
        """Say why, without a value of the document."""
        super().__init__(text)
        self.always = always


def applied(expression: str, document: Any) -> Any:
    """Give what an expression makes of a document.

    Raises:
        ExpressionError: if it is no expression, or does not fit the document.
    """
    try:
        parsed = jmespath.compile(expression)
        _require_values(parsed.parsed)
        _require_functions(expression, parsed.parsed)
        return parsed.search(document)
    except ExpressionError:
        raise
    except EmptyExpressionError:
        raise ExpressionError("must not be empty", always=True) from None
    except ArityError as error:
        raise ExpressionError(_arity(expression, error), always=True) from None
    except ParseError as error:
        raise ExpressionError(_misplaced(expression, error), always=True) from None
    except JMESPathTypeError as error:
        expected = " or ".join(error.expected_types)
        text = f"gives {error.function_name}() a value of type {error.actual_type}, and it takes {expected}"
        raise ExpressionError(text, always=False) from None
    except RecursionError:
        raise ExpressionError("nests too deep", always=True) from None
    except JMESPathError:
        raise ExpressionError("is no JMESPath expression", always=True) from None
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError):
        # The library compares and sorts as Python does, and some mixtures can't be.
        raise ExpressionError("cannot be applied to the data", always=False) from None


def _misplaced(expression: str, error: ParseError) -> str:
    """Say where an expression stops being one; characters are counted from 1."""
    at = error.lex_position
    if at >= len(expression):
        return f"ends too early, after character {len(expression)}: something must follow"
    if isinstance(error, LexerError) and error.message.startswith("Unclosed"):
        return f"has a {expression[at]} at character {at + 1} that is not closed"
    shown = expression[at : at + max(1, min(len(str(error.token_value)), _LONGEST_SHOWN))]
    return f"has {shown} at character {at + 1}, where it cannot stand"


def _arity(expression: str, error: ArityError) -> str:
    least = "at least " if isinstance(error, VariadictArityError) else ""
    name, wanted, given = error.function_name, error.expected_arity, error.actual_arity
    arguments = "argument" if wanted == 1 else "arguments"
    return f"calls {name}(){_place(expression, name)} with {given} of {least}{wanted} {arguments}"


def _place(expression: str, function: str) -> str:
    """Say where a function is called first; nothing if that cannot be found out."""
    found = re.search(rf"\b{re.escape(function)}\s*\(", expression)
    return "" if found is None else f" at character {found.start() + 1}"


def _nodes(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Give each node of an expression, and whether it is given to a function that takes expressions."""
    todo = [(tree, False)]
    while todo:
        node, taken = todo.pop()
        yield node, taken
        takes = node["type"] == "function_expression" and node["value"] in _TAKING
        todo += [(child, takes) for child in node["children"] if isinstance(child, dict)]


def _require_functions(expression: str, tree: dict[str, Any]) -> None:
    """Raise for a function that there is not: the library finds out only where it comes to call it."""
    for node, _ in _nodes(tree):
        name = node.get("value")
        if node["type"] == "function_expression" and name not in Functions.FUNCTION_TABLE:
            text = f"calls {str(name)[:_LONGEST_SHOWN]}(){_place(expression, str(name))}, which there is not"
            raise ExpressionError(text, always=True)


def _require_values(tree: dict[str, Any]) -> None:
    """Raise for an expression used as a value: as a text it would show where it lies in memory, and it is no JSON."""
    if any(node["type"] == "expref" and not taken for node, taken in _nodes(tree)):
        raise ExpressionError(f"may use & only in what is given to {', '.join(sorted(_TAKING))}", always=True)
