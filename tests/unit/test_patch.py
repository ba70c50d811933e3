from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from schema_user.api.glossary import DATA, JSON_PATCH, MERGE_PATCH
from schema_user.domain.document import same
from schema_user.domain.patch import MAX_OPERATIONS, Limits, applied, read_json_patch, read_merge_patch
from schema_user.errors import Fault, Malformed, Unmet

LIMITS = Limits(size=10_000, depth=10)

Json = dict[str, Any]


def patched(document: Json, operations: Any, limits: Limits = LIMITS) -> Json:
    """Apply a JSON patch, and see that what it was applied to, and the patch, stay as they are."""
    before = copy.deepcopy((document, operations))
    try:
        return applied(read_json_patch(operations), document, limits)
    finally:
        assert (document, operations) == before


def merged(document: Json, patch: Any, limits: Limits = LIMITS) -> Json:
    """Apply a merge patch, and see that what it was applied to, and the patch, stay as they are."""
    before = copy.deepcopy((document, patch))
    try:
        return applied(read_merge_patch(patch), document, limits)
    finally:
        assert (document, patch) == before


def refused(document: Json, operations: Any, limits: Limits = LIMITS) -> tuple[str, str]:
    """Apply a JSON patch that is refused with one violation, and give its field and reason."""
    with pytest.raises(Malformed) as caught:
        patched(document, operations, limits)
    assert caught.value.reason == "PATCH_INVALID"
    (violation,) = caught.value.violations
    return violation.field, violation.reason


class TestAppendixOfRfc6902:
    @pytest.mark.parametrize(
        ("document", "operations", "expected"),
        [
            pytest.param(
                {"foo": "bar"},
                [{"op": "add", "path": "/baz", "value": "qux"}],
                {"baz": "qux", "foo": "bar"},
                id="A.1 a member",
            ),
            pytest.param(
                {"foo": ["bar", "baz"]},
                [{"op": "add", "path": "/foo/1", "value": "qux"}],
                {"foo": ["bar", "qux", "baz"]},
                id="A.2 an item",
            ),
            pytest.param(
                {"baz": "qux", "foo": "bar"},
                [{"op": "remove", "path": "/baz"}],
                {"foo": "bar"},
                id="A.3 remove a member",
            ),
            pytest.param(
                {"foo": ["bar", "qux", "baz"]},
                [{"op": "remove", "path": "/foo/1"}],
                {"foo": ["bar", "baz"]},
                id="A.4 remove an item",
            ),
            pytest.param(
                {"baz": "qux", "foo": "bar"},
                [{"op": "replace", "path": "/baz", "value": "boo"}],
                {"baz": "boo", "foo": "bar"},
                id="A.5 replace",
            ),
            pytest.param(
                {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
                [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
                {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
                id="A.6 move",
            ),
            pytest.param(
                {"foo": ["all", "grass", "cows", "eat"]},
                [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
                {"foo": ["all", "cows", "eat", "grass"]},
                id="A.7 move an item",
            ),
            pytest.param(
                {"baz": "qux", "foo": ["a", 2, "c"]},
                [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
                {"baz": "qux", "foo": ["a", 2, "c"]},
                id="A.8 test",
            ),
            pytest.param(
                {"foo": "bar"},
                [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
                {"foo": "bar", "child": {"grandchild": {}}},
                id="A.10 a nested member",
            ),
            pytest.param(
                {"foo": "bar"},
                [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
                {"foo": "bar", "baz": "qux"},
                id="A.11 unknown members",
            ),
            pytest.param(
                {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}, id="A.14 escapes"
            ),
            pytest.param(
                {"foo": ["bar"]},
                [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
                {"foo": ["bar", ["abc", "def"]]},
                id="A.16 append",
            ),
        ],
    )
    def test_applied(self, document: Json, operations: Any, expected: Json) -> None:
        """What the standard shows comes out as it shows."""
        assert patched(document, operations) == expected

    @pytest.mark.parametrize(
        ("document", "operation"),
        [
            pytest.param({"baz": "qux"}, {"op": "test", "path": "/baz", "value": "bar"}, id="A.9"),
            pytest.param({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": "10"}, id="A.15"),
        ],
    )
    def test_of_values_that_differ(self, document: Json, operation: Json) -> None:
        """A test that fails is no malformed request: the stored data forbids the patch."""
        with pytest.raises(Unmet) as caught:
            patched(document, [operation])
        assert caught.value.reason == "PATCH_TEST_FAILED"
        assert [each.field for each in caught.value.violations] == ["0/value"]

    def test_nothing_to_add_to(self) -> None:
        """A.12: a member of an object that is not there can't be added."""
        assert refused({"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}]) == ("0/path", "pointer")

    def test_operation_twice(self) -> None:
        """A.13 is a matter of JSON itself: with one name given twice, the last would count, and be a bad remove."""
        assert refused({"foo": "bar"}, [{"op": "remove", "path": "/baz", "value": "qux"}]) == ("0/path", "pointer")


class TestOperations:
    @pytest.mark.parametrize(
        ("document", "operations", "expected"),
        [
            ({"a": 1}, [], {"a": 1}),
            ({"a": 1}, [{"op": "add", "path": "/a", "value": None}], {"a": None}),
            ({"a": [1]}, [{"op": "add", "path": "/a/0", "value": 0}], {"a": [0, 1]}),
            ({"a": [1]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2]}),
            ({"a": [1, 2]}, [{"op": "replace", "path": "/a/1", "value": 3}], {"a": [1, 3]}),
            ({"a": 1}, [{"op": "add", "path": "", "value": {"b": 2}}], {"b": 2}),
            ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
            ({"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": ""}], {"b": 1}),
            ({"a": {"b": 1}}, [{"op": "copy", "from": "", "path": "/a/c"}], {"a": {"b": 1, "c": {"a": {"b": 1}}}}),
            ({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
            ({"a": 1}, [{"op": "move", "from": "", "path": ""}], {"a": 1}),
            ({"a": 1, "ab": 2}, [{"op": "move", "from": "/a", "path": "/ab"}], {"ab": 1}),
            ({"a": [1, 2]}, [{"op": "move", "from": "/a/0", "path": "/a/-"}], {"a": [2, 1]}),
            ({"a": [[1], 2]}, [{"op": "copy", "from": "/a/0", "path": "/a/-"}], {"a": [[1], 2, [1]]}),
            ({"m~n": {"a/b": 1}}, [{"op": "remove", "path": "/m~0n/a~1b"}], {"m~n": {}}),
            ({"0": {"-": 1}}, [{"op": "replace", "path": "/0/-", "value": 2}], {"0": {"-": 2}}),
            ({"a": {}}, [{"op": "test", "path": "", "value": {"a": {}}}], {"a": {}}),
        ],
        ids=str,
    )
    def test_applied(self, document: Json, operations: Any, expected: Json) -> None:
        """Operations at the borders: the whole, the ends of arrays, names that look like something else."""
        assert patched(document, operations) == expected

    def test_copies_are_apart(self) -> None:
        """What was copied can be changed without changing what it was copied from; so can what the patch brought."""
        operations = [
            {"op": "copy", "from": "/a", "path": "/b"},
            {"op": "add", "path": "/b/-", "value": []},
            {"op": "add", "path": "/b/0/-", "value": 1},
            {"op": "copy", "from": "/b", "path": "/c"},
            {"op": "add", "path": "/c/0/-", "value": 2},
        ]
        assert patched({"a": []}, operations) == {"a": [], "b": [[1]], "c": [[1, 2]]}
        assert patched({"a": []}, operations) == {"a": [], "b": [[1]], "c": [[1, 2]]}

    @pytest.mark.parametrize(
        ("there", "value", "equal"),
        [
            (1, 1.0, True),
            (1, True, False),
            (0, False, False),
            ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
            ([1, 2], [2, 1], False),
            ("1", 1, False),
            (None, None, True),
            (None, False, False),
            ({}, [], False),
            (2**53 + 1, float(2**53), False),
        ],
        ids=str,
    )
    def test_compares_json(self, there: Any, value: Any, *, equal: bool) -> None:
        """Values are compared as JSON: 1 equals 1.0, true does not equal 1."""
        operations = [{"op": "test", "path": "/a", "value": value}]
        if equal:
            assert patched({"a": there}, operations) == {"a": there}
        else:
            with pytest.raises(Unmet):
                patched({"a": there}, operations)

    @pytest.mark.parametrize("path", ["/b", "/a/0", "/a/b"])
    def test_of_nothing(self, path: str) -> None:
        """A test of what is not there fails; whether it is hidden or missing makes no difference."""
        with pytest.raises(Unmet):
            patched({"a": 1}, [{"op": "test", "path": path, "value": None}])

    def test_numbers_keep_their_kind(self) -> None:
        """What a patch does not touch stays as it is: 1.0 does not become 1, nor a large integer a float."""
        document = {"a": 1.0, "b": 2**63 - 1, "c": -(2**63), "d": -0.0, "e": 1e300, "f": 5e-324, "g": "\u00e9\u2028"}
        assert repr(patched(document, [{"op": "add", "path": "/z", "value": 1}])) == repr({**document, "z": 1})

    @pytest.mark.parametrize(
        ("operation", "field"),
        [
            ({"op": "remove", "path": "/b"}, "path"),
            ({"op": "remove", "path": "/a/2"}, "path"),
            ({"op": "remove", "path": "/a/-"}, "path"),
            ({"op": "remove", "path": ""}, "path"),
            ({"op": "replace", "path": "/b", "value": 1}, "path"),
            ({"op": "replace", "path": "/a/-", "value": 1}, "path"),
            ({"op": "add", "path": "/a/3", "value": 1}, "path"),
            ({"op": "add", "path": "/a/01", "value": 1}, "path"),
            ({"op": "add", "path": "/a/+1", "value": 1}, "path"),
            ({"op": "add", "path": "/a/1e0", "value": 1}, "path"),
            ({"op": "add", "path": "/a/\u0661", "value": 1}, "path"),
            ({"op": "add", "path": "/a/" + "9" * 5000, "value": 1}, "path"),
            ({"op": "add", "path": "/a/-/b", "value": 1}, "path"),
            ({"op": "add", "path": "/s/0", "value": 1}, "path"),
            ({"op": "add", "path": "/a/", "value": 1}, "path"),
            ({"op": "copy", "from": "/b", "path": "/c"}, "from"),
            ({"op": "copy", "from": "/a", "path": "/b/c"}, "path"),
            ({"op": "move", "from": "/b", "path": "/b"}, "from"),
            ({"op": "move", "from": "/a/-", "path": "/b"}, "from"),
        ],
        ids=str,
    )
    def test_leads_nowhere(self, operation: Json, field: str) -> None:
        """A pointer to nothing, or an index that is none, is refused with the pointer into the patch."""
        document = {"a": [1, 2], "s": "text"}
        test = {"op": "test", "path": "/s", "value": "text"}
        assert refused(document, [test, operation]) == (f"1/{field}", "pointer")

    @pytest.mark.parametrize("path", ["/a/b", "/a/b/0/c"])
    def test_into_its_own_child(self, path: str) -> None:
        """What is moved can't come to lie within itself."""
        operation = {"op": "move", "from": "/a", "path": path}
        assert refused({"a": {"b": [{}]}}, [operation]) == ("0/path", "ownChild")

    def test_whole_into_itself(self) -> None:
        """Nor can the whole data."""
        assert refused({"a": {}}, [{"op": "move", "from": "", "path": "/a/b"}]) == ("0/path", "ownChild")

    @pytest.mark.parametrize("value", [1, None, [], "text"])
    def test_stays_an_object(self, value: Any) -> None:
        """Data is an object after each operation."""
        assert refused({"a": 1}, [{"op": "replace", "path": "", "value": value}]) == ("0/path", "type")

    @pytest.mark.parametrize("key", ["", "$a", "a.b", "__proto__"])
    def test_keys(self, key: str) -> None:
        """No operation makes a key that data must not have, at its path or within its value."""
        assert refused({}, [{"op": "add", "path": "/" + key, "value": 1}]) == ("0/path", "key")
        operation = {"op": "add", "path": "/b", "value": [{"x": {key: 1}}]}
        assert refused({}, [operation]) == (f"0/value/0/x/{key}", "key")


class TestForm:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({}, {"": "type"}),
            ([1], {"0": "type"}),
            ([{"path": "/a"}], {"0/op": "enum"}),
            ([{"op": ["add"], "path": "/a"}], {"0/op": "enum"}),
            ([{"op": "delete", "path": "/a"}], {"0/op": "enum"}),
            ([{"op": "add"}], {"0/path": "required", "0/value": "required"}),
            ([{"op": "move", "path": "/a"}], {"0/from": "required"}),
            ([{"op": "add", "path": 1, "value": 1}], {"0/path": "type"}),
            ([{"op": "add", "path": None, "value": 1}], {"0/path": "type"}),
            ([{"op": "add", "path": "a", "value": 1}], {"0/path": "pointer"}),
            ([{"op": "add", "path": "#/a", "value": 1}], {"0/path": "pointer"}),
            ([{"op": "add", "path": "/a~", "value": 1}], {"0/path": "pointer"}),
            ([{"op": "copy", "path": "/a~2", "from": "b"}], {"0/path": "pointer", "0/from": "pointer"}),
            (
                [{"op": "remove", "path": "/a"}, {"op": "x"}, {"op": "test", "path": "/a"}],
                {"1/op": "enum", "2/value": "required"},
            ),
        ],
        ids=str,
    )
    def test_refused(self, body: Any, expected: dict[str, str]) -> None:
        """Everything that is wrong with a patch's form is named, before any of it is done."""
        with pytest.raises(Malformed) as caught:
            read_json_patch(body)
        assert caught.value.reason == "PATCH_INVALID"
        assert {each.field: each.reason for each in caught.value.violations} == expected

    def test_at_most_a_thousand_operations(self) -> None:
        """A thousand operations are taken, and one more is not."""
        operation = {"op": "test", "path": "/a", "value": 1}
        assert patched({"a": 1}, [operation] * MAX_OPERATIONS) == {"a": 1}
        assert refused({"a": 1}, [operation] * (MAX_OPERATIONS + 1)) == ("", "maxItems")

    def test_many_mistakes(self) -> None:
        """At most a hundred violations are listed, and long names can't make the answer large."""
        with pytest.raises(Malformed) as caught:
            read_json_patch([{}] * 300)
        assert [each.reason for each in caught.value.violations] == ["enum"] * 100 + ["truncated"]
        with pytest.raises(Malformed) as caught:
            read_merge_patch({"x" * 40_000: {f"${number}": 1 for number in range(50_000)}})
        assert sum(len(each.field) for each in caught.value.violations) < 100_000

    def test_examples(self) -> None:
        """What the reference shows works on the data that it shows."""
        assert patched(DATA, JSON_PATCH)["loyalty"]["points"] == 1250
        assert merged(DATA, MERGE_PATCH)["loyalty"] == {"tier": "gold", "points": 1250}


class TestLimits:
    def test_doubling(self) -> None:
        """Copies that double the data end at the limit, long before there are many."""
        operations = [{"op": "copy", "from": "/a", "path": f"/a/{number}"} for number in range(MAX_OPERATIONS)]
        field, reason = refused({"a": {}}, operations, Limits(100_000, 64))
        assert reason in {"size", "depth"}
        assert int(field.split("/")[0]) < 70
        flat = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(MAX_OPERATIONS)]
        assert refused({"a": "x" * 100}, flat, Limits(100_000, 64)) == ("9/path", "size")

    def test_size_after_each(self) -> None:
        """What is too large in between is refused, though it would be small in the end."""
        operations = [{"op": "add", "path": "/a", "value": "x" * 200}, {"op": "remove", "path": "/a"}]
        assert refused({}, operations, Limits(100, 64)) == ("0/path", "size")

    def test_exact(self) -> None:
        """The limit is on the bytes of compact JSON: one more is too many."""
        operations = [{"op": "add", "path": "/\u00e4", "value": ["\u00e4", 1]}]
        size = len(msgspec.json.encode({"b": {}, "\u00e4": ["\u00e4", 1]}))
        assert patched({"b": {}}, operations, Limits(size, 64))
        assert refused({"b": {}}, operations, Limits(size - 1, 64)) == ("0/path", "size")

    def test_shrinking_is_always_allowed(self) -> None:
        """Data from before a limit was lowered can become smaller, but not larger."""
        document = {"a": "x" * 200, "b": "y" * 200}
        limits = Limits(100, 64)
        assert patched(document, [{"op": "remove", "path": "/a"}], limits) == {"b": "y" * 200}
        assert patched(document, [{"op": "move", "from": "/a", "path": "/c"}], limits)["c"]
        assert merged(document, {"a": None}, limits) == {"b": "y" * 200}
        assert refused(document, [{"op": "add", "path": "/c", "value": 1}], limits) == ("0/path", "size")
        with pytest.raises(Malformed):
            merged(document, {"c": 1}, limits)

    @pytest.mark.parametrize(
        "operation",
        [
            {"op": "add", "path": "/a/b/c", "value": {}},
            {"op": "copy", "from": "/a", "path": "/a/b/c"},
            {"op": "move", "from": "/d", "path": "/a/b/c"},
        ],
        ids=str,
    )
    def test_depth(self, operation: Json) -> None:
        """Each way of making data deeper ends at the limit; the data itself is the first level."""
        document: Json = {"a": {"b": {}}, "d": []}
        assert refused(document, [operation], Limits(1000, 3)) == ("0/path", "depth")
        assert patched(document, [operation], Limits(1000, 6))

    def test_work(self) -> None:
        """Copies that replace one another stay small, and are many: what they touch together is bounded too."""
        operations = [{"op": "copy", "from": "/a", "path": "/b"}] * MAX_OPERATIONS
        field, reason = refused({"a": "x" * 450}, operations, Limits(1000, 64))
        assert (field, reason) == ("2/op", "work")
        assert patched({"a": "x"}, operations, Limits(10_000, 64)) == {"a": "x", "b": "x"}


class TestMergePatch:
    @pytest.mark.parametrize(
        ("document", "patch", "expected"),
        [
            ({"a": "b"}, {"a": "c"}, {"a": "c"}),
            ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
            ({"a": "b"}, {"a": None}, {}),
            ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
            ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
            ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
            ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
            ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
            ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
            ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
            ({"a": "foo"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
            ({}, {"a": [None, {"b": None}]}, {"a": [None, {"b": None}]}),
            ({"a": 1}, {}, {"a": 1}),
        ],
        ids=str,
    )
    def test_appendix_of_rfc_7396(self, document: Json, patch: Json, expected: Json) -> None:
        """What the standard shows comes out as it shows: null removes, objects merge, the rest replaces."""
        assert same(merged(document, patch), expected)

    @pytest.mark.parametrize("patch", [None, 1, "text", [], ["c"]], ids=str)
    def test_must_be_an_object(self, patch: Any) -> None:
        """What would replace the whole data by something that is no object is refused."""
        with pytest.raises(Malformed) as caught:
            read_merge_patch(patch)
        assert [(each.field, each.reason) for each in caught.value.violations] == [("", "type")]

    def test_keys(self) -> None:
        """Keys that data must not have are named where they stand, removed or not."""
        with pytest.raises(Malformed) as caught:
            read_merge_patch({"a": [{"$b": 1}], "c.d": None})
        assert [each.field for each in caught.value.violations] == ["a/0/$b", "c.d"]

    def test_limits(self) -> None:
        """The result is as deep and as large as data may be, and no more."""
        assert merged({"a": {"b": 1}}, {"a": {"c": {}}}, Limits(1000, 3))
        for limits, reason in ((Limits(1000, 2), "depth"), (Limits(20, 10), "size")):
            with pytest.raises(Fault) as caught:
                merged({"a": {"b": 1}}, {"a": {"c": {}}, "d": 1}, limits)
            assert [each.reason for each in caught.value.violations] == [reason]
