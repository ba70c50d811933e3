"""Patches against a model that is written for nothing but to be plain."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schema_user.domain.document import same
from schema_user.domain.patch import Limits, Patch, applied, read_json_patch, read_merge_patch
from schema_user.errors import Malformed, Unmet

KEYS = st.sampled_from(["a", "b", "0", "1", "-", "c/d", "e~f"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, 0.5, "", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)
POINTERS = st.lists(KEYS, max_size=3).map(
    lambda tokens: "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)
)
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": POINTERS},
        optional={"from": POINTERS, "value": VALUES},
    ),
    max_size=6,
)
WIDE = Limits(size=1_000_000, depth=63)


class NoneSuchError(Exception):
    """The model finds nothing where an operation leads."""


def tokens_of(path: str) -> list[str]:
    """Read a pointer."""
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def step_into(value: Any, token: str) -> Any:
    """Go one token down."""
    if isinstance(value, dict) and token in value:
        return value[token]
    if isinstance(value, list) and token in {str(index) for index in range(len(value))}:
        return value[int(token)]
    raise NoneSuchError


def find(root: Any, path: str) -> Any:
    """Give what is at a place."""
    for token in tokens_of(path):
        root = step_into(root, token)
    return root


def removed(root: Any, path: str) -> Any:
    """Give a document without what is at a place."""
    find(root, path)
    if path == "":
        raise NoneSuchError
    made = copy.deepcopy(root)
    *above, last = tokens_of(path)
    parent = made
    for token in above:
        parent = step_into(parent, token)
    del parent[int(last) if isinstance(parent, list) else last]
    return made


def added(root: Any, path: str, value: Any) -> Any:
    """Give a document with a value at a place."""
    if path == "":
        if not isinstance(value, dict):
            raise NoneSuchError
        return copy.deepcopy(value)
    made = copy.deepcopy(root)
    *above, last = tokens_of(path)
    parent = made
    for token in above:
        parent = step_into(parent, token)
    if isinstance(parent, dict):
        parent[last] = copy.deepcopy(value)
    elif isinstance(parent, list) and last in {"-", *map(str, range(len(parent) + 1))}:
        parent.insert(len(parent) if last == "-" else int(last), copy.deepcopy(value))
    else:
        raise NoneSuchError
    return made


def modelled(root: Any, operation: dict[str, Any]) -> Any:
    """Do one operation, as RFC 6902 tells it."""
    path, value = operation["path"], operation.get("value")
    match operation["op"]:
        case "add":
            return added(root, path, value)
        case "remove":
            return removed(root, path)
        case "replace":
            find(root, path)
            return added(root if path == "" else removed(root, path), path, value)
        case "copy":
            return added(root, path, find(root, operation["from"]))
        case "move":
            source = operation["from"]
            moved = find(root, source)
            if path == source:
                return root
            if path.startswith(source + "/"):
                raise NoneSuchError
            return added(removed(root, source), path, moved)
        case _:
            if not same(find(root, path), value):
                raise NoneSuchError
            return root


def outcome(patch: Patch, document: dict[str, Any], limits: Limits) -> dict[str, Any] | None:
    """Apply a patch; None if it is refused. The document stays as it is, whatever happens."""
    before = copy.deepcopy(document)
    try:
        return applied(patch, document, limits)
    except (Malformed, Unmet):
        return None
    finally:
        assert repr(document) == repr(before)


@given(DOCUMENTS, OPERATIONS)
def test_json_patches_do_what_the_model_does(document: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    """They give the same document, or are refused where the model finds nothing; never anything else."""
    needs = {"add": {"value"}, "replace": {"value"}, "test": {"value"}, "move": {"from"}, "copy": {"from"}}
    complete = all(needs.get(each["op"], set()) <= each.keys() for each in operations)
    try:
        patch = read_json_patch(operations)
    except Malformed:
        assert not complete
        return
    assert complete
    expected: Any = document
    try:
        for each in operations:
            expected = modelled(expected, each)
    except NoneSuchError:
        expected = None
    found = outcome(patch, document, WIDE)
    assert repr(found) == repr(expected) or (found is not None and same(found, expected))


@given(DOCUMENTS, OPERATIONS, st.integers(10, 120), st.integers(1, 5))
def test_no_stage_is_over_a_limit(
    document: dict[str, Any], operations: list[dict[str, Any]], size: int, depth: int
) -> None:
    """After each operation the data is within the limits, or was over them already and did not grow."""
    try:
        stages = read_json_patch(operations).stages(document, Limits(size, depth))
        before, deepest = len(msgspec.json.encode(document)), levels(document)
        for stage in stages:
            now = len(msgspec.json.encode(stage))
            assert now <= max(before, size)
            assert levels(stage) <= max(deepest, depth)
            before, deepest = now, max(deepest, depth)
    except (Malformed, Unmet):
        pass


def levels(value: Any) -> int:
    """Count the levels of a value."""
    if isinstance(value, dict | list):
        return 1 + max(map(levels, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(DOCUMENTS, DOCUMENTS)
def test_a_merge_patch_that_tells_two_documents_apart_makes_one_of_the_other(
    document: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Where no null is wanted, the difference, written as a merge patch, leads from one to the other."""

    def difference(one: Any, other: Any) -> Any:
        if not isinstance(one, dict) or not isinstance(other, dict):
            return other
        gone: dict[str, Any] = dict.fromkeys(one.keys() - other.keys())
        return gone | {key: difference(one.get(key), value) for key, value in other.items()}

    def without_nulls(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
        return value

    target = without_nulls(wanted)
    found = outcome(read_merge_patch(difference(document, target)), document, WIDE)
    assert found is not None
    assert same(found, target)


@given(st.recursive(VALUES | OPERATIONS, lambda inner: st.lists(inner, max_size=3), max_leaves=5), DOCUMENTS)
def test_any_json_is_a_patch_or_refused(body: Any, document: dict[str, Any]) -> None:
    """Whatever is sent as a patch of either kind, the answer is a document or a refusal, and no other error."""
    for read in (read_json_patch, read_merge_patch):
        try:
            patch = read(body)
        except Malformed:
            continue
        outcome(patch, document, WIDE)
