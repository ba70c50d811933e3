from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("build", "dev", "run", "server")
PIN = re.compile(r"(?m)^([a-z0-9-]+)==(\S+)((?: ;[^\\\n]*)?)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$")


def names(requirements: list[str]) -> set[str]:
    """The names of requirements, without extras, bounds and markers."""
    return {re.split(r"[\[<>=;! ]", requirement, maxsplit=1)[0] for requirement in requirements}


def pins(lock: str) -> dict[str, str]:
    """What a lock pins: the version of each name."""
    return {name: version for name, version, _, _ in PIN.findall(text(f"requirements/{lock}.txt"))}


def text(path: str) -> str:
    """A file of the project."""
    return (ROOT / path).read_text(encoding="utf-8")


RUNTIME = names(PROJECT["project"]["dependencies"])
EXTRAS = {extra: names(needs) for extra, needs in PROJECT["project"]["optional-dependencies"].items()}
GROUPS = {group: names(needs) for group, needs in PROJECT["dependency-groups"].items()}


class TestLocks:
    @pytest.mark.parametrize("lock", LOCKS)
    def test_every_line_is_a_pin_with_hashes(self, lock: str) -> None:
        """Whatever is not a comment belongs to one exact version and its SHA-256 hashes."""
        rest = re.sub(r"(?m)^ *#.*\n?", "", PIN.sub("", text(f"requirements/{lock}.txt")))
        assert rest.strip() == ""
        assert pins(lock)

    @pytest.mark.parametrize("lock", LOCKS)
    def test_no_lock_names_a_host_or_a_place(self, lock: str) -> None:
        """A lock holds for any registry and any machine: no address, no absolute path, no option but the hashes."""
        content = text(f"requirements/{lock}.txt")
        assert "://" not in content
        assert not re.search(r"(?m)(?:^|\s)/\w", content)
        assert set(re.findall(r"(?m)^\s*(--?[a-z-]+)", content)) <= {"--hash"}

    @pytest.mark.parametrize(
        ("lock", "expected"),
        [
            ("build", GROUPS["build"]),
            ("server", RUNTIME | EXTRAS["motor"] | EXTRAS["python-validator"]),
            ("run", RUNTIME.union(*EXTRAS.values()) | GROUPS["build"]),
            ("dev", RUNTIME.union(*EXTRAS.values()) | GROUPS["build"] | GROUPS["dev"]),
        ],
        ids=["build", "server", "run", "dev"],
    )
    def test_a_lock_covers_what_pyproject_names(self, lock: str, expected: set[str]) -> None:
        """A dependency added without `make lock` is noticed here."""
        assert expected - set(pins(lock)) == set()

    @pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock != "dev"])
    def test_what_runs_is_what_was_tested(self, lock: str) -> None:
        """Every lock pins the versions that the tests ran with."""
        tested = pins("dev")
        assert {name: version for name, version in pins(lock).items() if tested.get(name) != version} == {}

    def test_the_image_carries_no_database_server(self) -> None:
        """The local database and the build tools stay out of the container image."""
        assert not (EXTRAS["local"] | GROUPS["build"]) & set(pins("server"))


class TestDistribution:
    def test_the_console_script_is_installed(self) -> None:
        """`schema-user` runs the command line's main."""
        (script,) = metadata.entry_points(group="console_scripts", name="schema-user")
        assert script.value == PROJECT["project"]["scripts"]["schema-user"] == "schema_user.cli:main"

    def test_the_changelog_knows_the_version(self) -> None:
        """The version of the project has a section in the changelog."""
        assert f"## [{PROJECT['project']['version']}]" in text("CHANGELOG.md")

    def test_the_wheel_carries_the_schemas_and_the_type_marker(self) -> None:
        """The shipped schemas have a place in the wheel, and the package says that it is typed."""
        included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
        assert included == {"schemas": "schema_user/_schemas"}
        assert list((ROOT / "schemas").iterdir())
        assert (ROOT / "src/schema_user/py.typed").exists()

    def test_the_readme_names_every_direct_dependency(self) -> None:
        """Each dependency that an installation may bring has its row in the README's table, and the wheel shows it."""
        assert PROJECT["project"]["readme"] == "README.md"
        cells = {
            word.lower()
            for row in re.findall(r"(?m)^\|([^|]*)\|", text("README.md"))
            for word in re.findall(r"[\w.-]+", row)
        }
        assert RUNTIME.union(*EXTRAS.values()) <= cells


class TestContainers:
    def test_the_compose_file_is_a_whole_deployment(self) -> None:
        """Replica set, mail catcher, server and worker are there, and the database has no port on the host."""
        services = yaml.safe_load(text("docker-compose.yml"))["services"]
        assert set(services) == {"mongo", "mailpit", "server", "worker"}
        assert "--replSet" in services["mongo"]["command"]
        assert "ports" not in services["mongo"]
        assert services["server"]["command"] == ["serve"]
        assert services["worker"]["command"] == ["worker"]

    def test_compose_carries_no_secret_of_its_own(self) -> None:
        """Both secrets must be given from outside: compose refuses to start without them."""
        server = yaml.safe_load(text("docker-compose.yml"))["services"]["server"]["environment"]
        for secret in ("SCHEMA_USER_SECRET_KEY", "SCHEMA_USER_BOOTSTRAP_TOKEN"):
            assert re.fullmatch(rf"\$\{{{secret}:\?[^}}]+\}}", server[secret])

    def test_the_image_is_installed_by_hash_and_runs_unprivileged(self) -> None:
        """The image takes only locked packages and gives root to nobody."""
        dockerfile = text("Dockerfile")
        installs = [line for line in dockerfile.splitlines() if "pip install" in line and "--requirement" in line]
        assert installs
        assert all("--require-hashes" in line for line in installs)
        assert "/health/ready" in dockerfile
        assert re.findall(r"(?m)^USER (.+)$", dockerfile) == ["10001:10001"]


class TestMake:
    def test_make_alone_lists_every_target(self) -> None:
        """Whoever types `make` reads what there is, and nothing else happens."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        listed = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        targets = set(re.findall(r"(?m)^([a-z-]+):", text("Makefile")))
        assert set(re.findall(r"(?m)^  make (\S+)", listed)) == targets
        assert {"run", "test", "lint", "bench", "soak", "demo", "lock", "clean", "help"} <= targets

    def test_ci_runs_the_same_tests(self) -> None:
        """CI has no rules of its own: its script can be executed and ends in `make test`."""
        assert os.access(ROOT / ".ci/run", os.X_OK)
        assert text(".ci/run").rstrip().endswith("exec make test </dev/null")
