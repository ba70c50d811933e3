"""What the pages say is compared with the code, so that they can be believed."""

from __future__ import annotations

import builtins
import itertools
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.api import door
from schema_user.api.openapi import operation_of
from schema_user.api.reasons import error_rows
from schema_user.api.router import ROUTES
from schema_user.authentication import KNOWN_TTL
from schema_user.commands.bootstrap import SHIPPED
from schema_user.delivery.worker import Rhythm
from schema_user.domain.code import ALPHABET
from schema_user.domain.permission import INSTANCE_ROLES, ORGANIZATION_ROLES, PERMISSIONS, Role
from schema_user.process import DRAIN_SECONDS
from schema_user.settings import PREFIX, SECRETS, Settings, read_settings
from schema_user.store.claims import ORPHAN_AGE
from schema_user.store.embedded import RESTART_WINDOW, RESTARTS
from schema_user.store.schemas import HEAD_TTL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.rooms import Rooms

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/schema_user"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = (
    "README.md",
    "docs/architecture.md",
    "docs/clients.md",
    "docs/evolving.md",
    "docs/moving.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/scaling.md",
    "docs/security.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.(?:py|md|toml|json|yml|txt)|[\w.-]+(?:/[\w.-]+)*/")
FUNCTION = re.compile(r"(?:(\w+)\.)?(\w+)\(\)")
MADE_BY_A_RUN = frozenset({"var/", "admin-token"})


def text(page: str) -> str:
    """A page."""
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"(?ms)^```.*?^```$", "", text(page))


def table(page: str, *header: str) -> list[list[str]]:
    """The rows of the one table with these words at its head."""
    found = []
    for block in re.findall(r"(?m)(?:^\|.*\|\n)+", text(page)):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
        if [cell.strip() for cell in head] == list(header):
            found.append([[cell.strip(" |") for cell in row] for row in rows])
    (only,) = found
    return only


def chunks(page: str) -> list[str]:
    """The paragraphs, items and rows of a page."""
    return re.split(r"\n\s*\n|\n(?=\||- |\d+\. )", prose(page))


def located(name: str) -> Path | None:
    """The file or folder that a page means: below the package, or below the root."""
    return next((base / name for base in (SOURCE, ROOT) if (base / name).exists()), None)


def functions(file: Path) -> set[str]:
    """The functions in a file, those of classes with the name of the class before them."""
    found: set[str] = set()
    within = ""
    source = file.read_text(encoding="utf-8")
    for indent, kind, name in re.findall(r"(?m)^((?: {4})?)(class|(?:async )?def) (\w+)", source):
        if kind == "class":
            within = "" if indent else f"{name}."
        else:
            found.add(within + name if indent else name)
    return found


def named_functions(page: str) -> Iterator[tuple[str, str]]:
    """Each function that a page names, with the file that the same paragraph names last before it."""
    for chunk in chunks(page):
        file = ""
        for code in CODE.findall(chunk):
            if FILE.fullmatch(code):
                file = code
            elif FUNCTION.fullmatch(code):
                yield file, code.removesuffix("()")


def headings(page: str) -> set[str]:
    """The anchors of a page's headings."""
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in re.findall(r"(?m)^#+ (.+)$", page)}


class TestNames:
    @pytest.mark.parametrize("page", PAGES)
    def test_files_that_a_page_names_exist(self, page: str) -> None:
        """A file or folder in backticks is there, below the package or below the root."""
        named = {code for code in CODE.findall(prose(page)) if FILE.fullmatch(code) and "://" not in code}
        assert {name for name in named - MADE_BY_A_RUN if located(name) is None} == set()

    @pytest.mark.parametrize("page", PAGES)
    def test_links_lead_somewhere(self, page: str) -> None:
        """A link inside the project leads to a file that is there, and to a heading that it has."""
        for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
            if "://" not in target:
                file, _, heading = target.partition("#")
                path = (ROOT / page).parent / file if file else ROOT / page
                assert path.exists(), target
                assert not heading or heading in headings(path.read_text(encoding="utf-8")), target

    def test_functions_that_the_architecture_names_are_in_the_files_it_names(self) -> None:
        """A function in backticks is defined in the file that stands before it in the same paragraph."""
        named = list(named_functions("docs/architecture.md"))
        assert len(named) > 60
        missing = []
        for file, function in named:
            path = located(file) if file.endswith(".py") else None
            if path is None or function not in functions(path):
                missing.append(f"{file}: {function}()")
        assert missing == []

    def test_classes_that_the_architecture_names_exist(self) -> None:
        """A class in backticks is defined in the package, or is one of Python's own."""
        named = {code for code in CODE.findall(prose("docs/architecture.md")) if re.fullmatch(r"[A-Z][a-z]\w+", code)}
        known = {
            name
            for file in SOURCE.rglob("*.py")
            for name in re.findall(r"(?m)^class (\w+)", file.read_text(encoding="utf-8"))
        }
        assert named - known - set(dir(builtins)) == set()

    @pytest.mark.parametrize("page", PAGES)
    def test_make_targets_that_a_page_names_exist(self, page: str) -> None:
        """`make something` is something that make can do."""
        targets = set(re.findall(r"(?m)^([a-z-]+):", text("Makefile")))
        assert set(re.findall(r"`make ([a-z-]+)", prose(page))) <= targets

    @pytest.mark.parametrize("page", PAGES)
    def test_settings_that_a_page_names_exist(self, page: str) -> None:
        """A variable in a page is one that is read, or the file form of a secret."""
        known = setting_names() | {f"{PREFIX}{name}_FILE" for name in SECRETS} | {PREFIX}
        assert set(re.findall(r"SCHEMA_USER_\w*", text(page))) <= known

    def test_pages_say_nothing_of_the_machine_they_were_written_on(self) -> None:
        """No page holds a path of somebody's machine."""
        for page in PAGES:
            assert not re.search(r"(?:^|[\s`(])/(?:home|root|work|tmp|Users)/", text(page)), page


def route_rows() -> set[tuple[str, str, str]]:
    """Every method and path that is served, with the permission as it is documented."""
    found = set()
    for route in ROUTES:
        operation = operation_of(route)
        for method, raw in itertools.product(sorted(route.http_methods), sorted(route.paths)):
            if operation is not None:
                permission = operation.permission
            elif raw in door._PUBLIC:
                permission = "none"
            elif raw in door._LOOPBACK_ONLY:
                permission = "this machine"
            elif raw == "/ui/messages/preview":
                permission = "message.read; on the local database also this machine"
            else:
                assert raw in door._LOOPBACK_OR_TOKEN
                permission = "this machine, or org.read of the instance"
            path = re.sub(r"\{(\w+):\w+\}", lambda match: "{" + camel(match[1]) + "}", raw)
            found.add((str(method), path, permission))
    return found


def camel(name: str) -> str:
    """The name of a parameter as the wire writes it."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def setting_names() -> set[str]:
    """The variables that are settings."""
    return {PREFIX + ("SECRET_KEY" if each.name == "secret_keys" else each.name.upper()) for each in fields(Settings)}


class TestTables:
    def test_the_operations_are_the_routes(self) -> None:
        """Each method, path and permission of the table is served, and nothing else is."""
        told = []
        for _, methods, paths, permission in table("README.md", "operation", "method", "path", "permission"):
            told += [(*pair, permission) for pair in itertools.product(CODE.findall(methods), CODE.findall(paths))]
        assert len(told) == len(set(told))
        assert set(told) == route_rows()

    def test_the_roles_hold_what_the_table_says(self) -> None:
        """Every role has a row; those with listed permissions hold exactly these, at the places that are named."""
        told = {CODE.findall(role)[0]: held for role, held in table("README.md", "role", "holds")}
        assert set(told) == {role.value for role in Role}
        for role, held in told.items():
            listed = {code for code in CODE.findall(held) if not code.startswith(".")}
            if listed:
                assert listed == {permission.value for permission in PERMISSIONS[Role(role)]}
            assert ("one organization" in held) == (Role(role) in ORGANIZATION_ROLES)
            assert ("everywhere" in held or "of the instance" in held) == (Role(role) in INSTANCE_ROLES)

    def test_the_settings_are_those_that_are_read(self) -> None:
        """Each field of the settings has a row, and settings.py reads exactly these names."""
        told = [CODE.findall(name)[0] for name, _, _ in table("README.md", "name", "default", "meaning")]
        assert len(told) == len(set(told))
        assert set(told) == setting_names()
        read = re.findall(r'\btake\(\s*"([A-Z_]+)"', (SOURCE / "settings.py").read_text(encoding="utf-8"))
        assert {PREFIX + name for name in read} == set(told)

    def test_the_defaults_are_the_real_ones(self) -> None:
        """A default given as a value changes nothing; one that is unset has no value."""
        unset = read_settings({})
        for cell, default, _ in table("README.md", "name", "default", "meaning"):
            name = CODE.findall(cell)[0]
            field = name.removeprefix(PREFIX).lower().replace("secret_key", "secret_keys")
            if default == "unset":
                assert getattr(unset, field) in {None, ()}, name
            else:
                assert read_settings({name: CODE.findall(default)[0]}) == unset, name

    def test_the_secrets_are_marked(self) -> None:
        """What can be given as a file has the mark."""
        rows = table("README.md", "name", "default", "meaning")
        assert {CODE.findall(name)[0] for name, _, _ in rows if "†" in name} == {PREFIX + name for name in SECRETS}

    def test_the_errors_are_all_there_are(self) -> None:
        """Every pair of HTTP status and code stands in the table, by its name."""
        told = [
            (int(http), int(code), name) for http, code, name, _ in table("README.md", "HTTP", "code", "name", "when")
        ]
        assert told == [(row.http, row.code, row.name) for row in error_rows()]

    def test_the_dependencies_are_those_of_the_project(self) -> None:
        """Each package that an installation can bring has a row, and no other."""
        extras = PROJECT["project"]["optional-dependencies"].values()
        needs = itertools.chain(PROJECT["project"]["dependencies"], *extras)
        told = [code for cell, *_ in table("README.md", "package", "licence", "why") for code in CODE.findall(cell)]
        assert sorted(told) == sorted(map(package, needs))

    def test_the_tools_are_those_of_the_project(self) -> None:
        """Each package that only development needs has its place, and no other."""
        needs = itertools.chain(*PROJECT["dependency-groups"].values())
        told = [code for cell, _ in table("README.md", "tool", "why") for code in CODE.findall(cell)]
        assert sorted(told) == sorted(map(package, needs))

    def test_the_schemas_that_ship_are_named(self) -> None:
        """The README names the schemas that are there from the first start."""
        sentence = re.search(r"schemas ship[^:]*:([^(]*)", text("README.md"))
        assert sentence is not None
        assert (
            set(CODE.findall(sentence[1])) == set(SHIPPED) == {each.stem for each in (ROOT / "schemas").glob("*.json")}
        )


def package(requirement: str) -> str:
    """The name of a requirement."""
    return re.split(r"[\[<>=;! ]", requirement, maxsplit=1)[0]


class TestArchitecture:
    def test_every_room_has_a_row_and_a_place_in_the_drawing(self) -> None:
        """The rooms are the modules of the package, and those of the layers that imports must keep."""
        rows = {
            CODE.findall(cell)[0] for cell, _, _ in table("docs/architecture.md", "room", "belongs here", "does not")
        }
        modules = {each.stem for each in SOURCE.iterdir() if not each.name.startswith(("__", "py.typed"))}
        assert rows == {each for each in modules if not each.startswith("_")}
        (contract,) = [each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "layers"]
        layers = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
        drawing = re.search(r"(?ms)^```\n(.*?)^```$", text("docs/architecture.md"))
        assert drawing is not None
        drawn = [
            set(re.findall(r"\w+", re.split(r" {4,}(?=\S+ \S|\S+[,:;] )", line.strip())[0]))
            for line in drawing[1].splitlines()
        ]
        assert [each & rows for each in drawn] == layers

    def test_collections_are_those_of_the_stores(self) -> None:
        """Every collection that a store opens has a row, and no other."""
        told = {
            CODE.findall(cell)[0]
            for cell, _, _ in table("docs/architecture.md", "collection", "a document is", "`_id`")
        }
        opened = {
            name
            for file in (SOURCE / "store").glob("*.py")
            for name in re.findall(r'\.collection\("(\w+)"\)', file.read_text(encoding="utf-8"))
        }
        assert told == opened

    def test_the_figures_are_those_of_the_code(self) -> None:
        """Spans and counts that the page gives are the constants they speak of."""
        page = " ".join(text("docs/architecture.md").split())
        rhythm = Rhythm()
        assert HEAD_TTL == 0.5
        for words in (
            f"at most every {KNOWN_TTL:g} s",
            "half a second without asking",
            f"free after {ORPHAN_AGE.total_seconds() / 60:g} minutes",
            f"one worker for {rhythm.lease:g} s",
            f"until the next try: {rhythm.tries} in about a day",
            f"at most {RESTARTS} times in {RESTART_WINDOW / 60:g} minutes",
            f"for {DRAIN_SECONDS} s at most",
            f"from {len(ALPHABET)} characters",
        ):
            assert words in page

    async def test_indexes_are_those_of_the_database(self, rooms: Rooms) -> None:
        """The indexes of a prepared database are those of the table."""
        told = [
            (CODE.findall(collection)[0], *CODE.findall(index)[0].split(", "))
            for collection, index in table("docs/architecture.md", "collection", "index")
        ]
        database = rooms.database._raw
        found = [
            (name, *(key for key, _ in index["key"]))
            for name in await database.list_collection_names()
            for index in (await database[name].index_information()).values()
        ]
        assert sorted(told) == sorted(each for each in found if each[1:] != ("_id",))
