"""What ``schema-user schema dry-run`` and ``schema-user schema migrate`` may do to users' data: the same options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schema_user.settings import SettingsError

if TYPE_CHECKING:
    import argparse

    from schema_user.domain.migration import Rename, Transformation


def add_to(action: argparse.ArgumentParser) -> None:
    """Add the options to those of an action."""
    action.add_argument("--rename", action="append", default=[], metavar="/A=/B", help="rename a property; repeatable")
    action.add_argument("--patch", type=Path, metavar="FILE", help="a JSON Patch of each user's data")
    action.add_argument("--expression", metavar="JMESPATH", help="what it makes of each user's data is the new data")
    action.add_argument("--defaults", action="store_true", help="fill in the defaults that the schema names")


def transformation_of(options: argparse.Namespace) -> Transformation:
    """Give what the options ask for."""
    from schema_user.domain.migration import Transformation

    return Transformation(
        renames=tuple(_renames(options.rename)),
        patch=_patch(options.patch),
        expression=options.expression,
        defaults=options.defaults,
    )


def _renames(given: list[str]) -> list[Rename]:
    import re

    from schema_user.domain.migration import Rename

    wrong = [each for each in given if not re.fullmatch("/[^=]+=/[^=]+", each)]
    if wrong:
        raise SettingsError([f"{each} is not of the form /source=/target" for each in wrong])
    return [Rename(*each.split("=")) for each in given]


def _patch(path: Path | None) -> Any:
    import json

    from schema_user.cli.schemas import json_file

    return None if path is None else json.loads(json_file(path))
