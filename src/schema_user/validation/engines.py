"""The engines by their names; each is imported where it is asked for, since its libraries may not be installed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from schema_user.validation.engine import Engine

_EXTRAS: Final = dict.fromkeys(("fastjsonschema", "jsonschema", "referencing"), "python-validator")
"""The optional extra that installs a library."""
ENGINES: Final = ("rust", "python")


def engine_named(name: str) -> Engine:
    """Give an engine by its name, one of ``ENGINES``.

    Raises:
        ValueError: if there is no such engine.
        ModuleNotFoundError: if a library of its own is not installed; the text says how to install it.
    """
    if name not in ENGINES:
        raise ValueError(f"there is no validator {name!r}: choose one of {', '.join(ENGINES)}")
    try:
        module = import_module(f"schema_user.validation.{name}")
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        text = f"the validator {name!r} needs {error.name}: pip install 'schema-user[{_EXTRAS[error.name]}]'"
        raise ModuleNotFoundError(text, name=error.name) from error
    return cast("Engine", getattr(module, name.upper()))
