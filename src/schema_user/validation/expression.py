"""Expressions that make a document of another: JMESPath, run where it can be ended.

JMESPath was chosen because it was made for strangers' expressions over JSON: it has no loops, no recursion, no regular
expressions, no input or output, and its package is pure Python without dependencies, kept by those who keep the clients
of AWS. ``merge(@, {fullName: join(' ', [givenName, familyName])})`` changes a part and keeps the rest, which CEL cannot
write without naming every member; JSONata can, but it has recursion, ``$eval`` and backtracking patterns. What JMESPath
lacks is arithmetic and the case of letters. Nothing here is bounded: ``[@,@]|[@,@]|…`` doubles at each step.
"""

from __future__ import annotations

from typing import Any, Final

import jmespath
from jmespath.exceptions import (
    ArityError,
    JMESPathError,
    JMESPathTypeError,
    UnknownFunctionError,
    VariadictArityError,
)

_TAKING: Final = frozenset({"map", "max_by", "min_by", "sort_by"})
"""Functions that take an expression, written with &."""


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
        return parsed.search(document)
    except ExpressionError:
        raise
    except (UnknownFunctionError, ArityError, VariadictArityError) as error:
        raise ExpressionError(str(error), always=True) from None
    except JMESPathTypeError as error:
        expected = " or ".join(error.expected_types)
        text = f"{error.function_name}() was given {error.actual_type}, and takes {expected}"
        raise ExpressionError(text, always=False) from None
    except RecursionError:
        raise ExpressionError("nests too deep", always=True) from None
    except JMESPathError as error:
        raise ExpressionError(" ".join(str(error).split()), always=True) from None
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError):
        # The library compares and sorts as Python does, and some mixtures can't be.
        raise ExpressionError("cannot be applied to the data", always=False) from None


def _require_values(tree: dict[str, Any]) -> None:
    """Raise for an expression used as a value: as a text it would show where it lies in memory, and it is no JSON."""
    todo = [(tree, False)]
    while todo:
        node, taken = todo.pop()
        if node["type"] == "expref" and not taken:
            raise ExpressionError(f"may use & only in what is given to {', '.join(sorted(_TAKING))}", always=True)
        takes = node["type"] == "function_expression" and node["value"] in _TAKING
        todo += [(child, takes) for child in node["children"] if isinstance(child, dict)]
