"""Field permissions: what the keyword must be, what its rules give, and what of a schema is seen."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schema_user.domain.field_access import FieldAccess, FieldRole, reveals
from schema_user.domain.schema import SchemaState, UserSchema
from schema_user.errors import Violation
from schema_user.validation import gate
from schema_user.validation.permission_keyword import (
    KEYWORD,
    MOST_PATTERNS,
    PermissionCache,
    compile_permissions,
)
from schema_user.validation.seen_schema import seen_schema

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def owner_only(value: str | None = "rw") -> dict[str, Any]:
    """Give a subschema whose fields only the owner has, with a permission or none."""
    return {KEYWORD: {} if value is None else {"owner": value}}


def access(document: dict[str, Any], role: FieldRole = FieldRole.OWNER, dialect: str = "2020-12") -> FieldAccess:
    """Compile a schema for a role."""
    permissions = compile_permissions(document, dialect)
    assert permissions is not None
    return permissions.of(role)


def stored(document: dict[str, Any], revision: int = 1, dialect: str = "2020-12") -> UserSchema:
    """Give a stored schema."""
    return UserSchema(
        "s",
        None,
        "t",
        revision,
        json.dumps(document),
        dialect,
        SchemaState.ACTIVE,
        (),
        created_at=_NOW,
        changed_at=_NOW,
    )


def found(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Put a schema through the gate; give the fields and reasons of its findings."""
    return [(each.field, each.reason) for each in gate.check(document).violations]


HIDDEN = owner_only(None)


class TestKeyword:
    @pytest.mark.parametrize(
        ("given", "field", "reason"),
        [
            ("rw", "", "type"),
            (None, "", "type"),
            ([], "", "type"),
            (True, "", "type"),
            ({"admin": "r"}, "/admin", "permissionRole"),
            ({"Owner": "r"}, "/Owner", "permissionRole"),
            ({"owner": "rwx"}, "/owner", "permissionValue"),
            ({"owner": ""}, "/owner", "permissionValue"),
            ({"owner": "wr"}, "/owner", "permissionValue"),
            ({"owner": "RW"}, "/owner", "permissionValue"),
            ({"self": None}, "/self", "permissionValue"),
            ({"self": ["r"]}, "/self", "permissionValue"),
        ],
    )
    def test_is_an_object_of_roles(self, given: object, field: str, reason: str) -> None:
        """Anything else is refused with its pointer, wherever it stands."""
        assert found({"properties": {"a": {KEYWORD: given}}}) == [(f"schema/properties/a/{KEYWORD}{field}", reason)]
        assert found({"$defs": {"a": {KEYWORD: given}}}) == [(f"schema/$defs/a/{KEYWORD}{field}", reason)]

    @pytest.mark.parametrize("given", [{}, {"owner": "r"}, {"self": "w"}, {"owner": "rw", "self": "rw"}])
    def test_may_name_one_role_or_none(self, given: dict[str, str]) -> None:
        """Each of these is taken."""
        assert found({KEYWORD: given, "properties": {"a": {KEYWORD: given}}}) == []

    def test_counts_at_schema_locations_only(self) -> None:
        """In const, enum, default and examples, and as the name of a member, it is no keyword."""
        value = {KEYWORD: "anything"}
        document = {"const": value, "enum": [value], "default": value, "examples": [value], "properties": {KEYWORD: {}}}
        assert found(document) == []
        assert compile_permissions(document, "2020-12") is None

    @pytest.mark.parametrize(
        ("document", "field"),
        [
            (
                {
                    "$dynamicAnchor": "node",
                    "properties": {"next": {"$dynamicRef": "#node"}, "secret": HIDDEN},
                },
                "schema/properties/secret/",
            ),
            ({"$defs": {"a": HIDDEN}, "properties": {"a": {"$dynamicRef": "#/$defs/a"}}}, "schema/$defs/a/"),
            (
                {
                    "properties": {"a": {"$dynamicRef": "#any"}},
                    "$defs": {
                        "one": {"$dynamicAnchor": "any"},
                        "two": {"$id": "two", "$defs": {"x": {"$dynamicAnchor": "any", "items": HIDDEN}}},
                    },
                },
                "schema/$defs/two/$defs/x/items/",
            ),
            (
                {
                    "$schema": "https://json-schema.org/draft/2019-09/schema",
                    "properties": {"next": {"$recursiveRef": "#"}, "secret": HIDDEN},
                },
                "schema/properties/secret/",
            ),
        ],
    )
    def test_is_not_reached_dynamically(self, document: dict[str, Any], field: str) -> None:
        """Where a dynamic reference may lead is not known before the document is there."""
        assert (field + KEYWORD, "permissionDynamic") in found(document)

    def test_a_dynamic_reference_beside_it_is_taken(self) -> None:
        """What holds around the reference holds inside, as long as no keyword is there."""
        document = {
            "properties": {
                "tree": {KEYWORD: {"self": "r"}, "$ref": "#/$defs/node"},
                "other": {"$dynamicRef": "#node"},
            },
            "$defs": {"node": {"$dynamicAnchor": "node", "properties": {"next": {"$dynamicRef": "#node"}}}},
        }
        assert found(document) == []
        data = {"tree": {"next": {"next": {}}}, "other": {"next": {}}}
        assert access(document).visible(data) == {"other": {"next": {}}}
        assert access(document, FieldRole.SELF).visible(data) == data
        assert access(document, FieldRole.SELF).denied(data, {"other": {}}) == ["data/tree"]

    @pytest.mark.parametrize("keyword", ["propertyNames", "contentSchema"])
    def test_is_refused_where_it_would_mean_nothing(self, keyword: str) -> None:
        """Names of members, and what is inside a string, are no places of the document."""
        assert found({keyword: {"not": HIDDEN}}) == [(f"schema/{keyword}/not/{KEYWORD}", "permissionPlace")]

    def test_depends_on_few_patterns_at_one_place(self) -> None:
        """Each combination of them may mean something else; those that decide nothing are not counted."""
        few = {f"^{number}": HIDDEN for number in range(MOST_PATTERNS)}
        assert found({"patternProperties": few | {f"^x{number}": {} for number in range(50)}}) == []
        assert found({"patternProperties": few | {"^x": HIDDEN}, KEYWORD: {}}) == [
            (f"schema/{KEYWORD}", "permissionSpread")
        ]

    @pytest.mark.parametrize("pattern", ["^(?!a)b", r"^[\p{L} ]{1,100}$"])
    def test_depends_on_small_linear_patterns(self, pattern: str) -> None:
        """They run where they cannot be stopped; the same pattern may stand where it decides nothing."""
        assert found({"patternProperties": {pattern: HIDDEN}}) == [
            (f"schema/patternProperties/{pattern}", "permissionPattern")
        ]
        assert found({"patternProperties": {pattern: {}}, "properties": {"a": HIDDEN}}) == []

    def test_meets_itself_in_a_bounded_number_of_ways(self) -> None:
        """Sets of subschemas that double with each level are refused; thousands of fields are not."""
        steps = {"a": {"$ref": "#/$defs/n0"}, "b": {"$ref": "#"}}
        document: dict[str, Any] = {
            "anyOf": [{"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}, {"properties": steps}],
            "$defs": {
                f"n{number}": {"properties": {name: {"$ref": f"#/$defs/n{number + 1}"} for name in "ab"}}
                for number in range(20)
            },
        }
        document["$defs"]["n20"] = HIDDEN
        assert [reason for _, reason in found(document)] == ["permissionSpread"]
        assert found({"properties": {f"field{number}": owner_only() for number in range(3000)}}) == []


class TestRules:
    DATA: dict[str, Any] = {"a": {"b": {"c": 1}}, "d": 2}  # noqa: RUF012 -- nobody changes it

    def test_a_missing_role_is_denied(self) -> None:
        """Present and the role missing: nothing for that role."""
        document = {"properties": {"a": {KEYWORD: {"self": "rw"}}}}
        assert access(document).visible(self.DATA) == {"d": 2}
        assert access(document, FieldRole.SELF).visible(self.DATA) == self.DATA

    def test_the_nearest_keyword_wins(self) -> None:
        """Wider or narrower than the ones around it."""
        inner = {KEYWORD: {"owner": "rw"}, "properties": {"c": HIDDEN}}
        document = {KEYWORD: {"owner": "r"}, "properties": {"a": {**HIDDEN, "properties": {"b": inner}}}}
        assert access(document).visible(self.DATA) == {"a": {"b": {}}, "d": 2}
        assert access(document).denied(self.DATA, {"a": {"b": {"x": 1}}, "d": 3}) == ["data/d"]

    @pytest.mark.parametrize(
        "way",
        [
            {"$ref": "#/$defs/narrow"},
            {"allOf": [{"$ref": "#/$defs/narrow"}]},
            {"anyOf": [{}, {"properties": {"a": HIDDEN}}]},
            {"oneOf": [{"properties": {"a": HIDDEN}}, True]},
            {"not": {"properties": {"a": HIDDEN}}},
            {"if": {"properties": {"a": HIDDEN}}},
            {"if": {}, "then": {"properties": {"a": HIDDEN}}},
            {"if": {}, "else": {"properties": {"a": HIDDEN}}},
            {"dependentSchemas": {"x": {"properties": {"a": HIDDEN}}}},
            {"patternProperties": {"^a$": HIDDEN}},
            {"anyOf": [{"additionalProperties": HIDDEN}]},
            {"anyOf": [{"unevaluatedProperties": HIDDEN}]},
        ],
    )
    def test_several_subschemas_give_what_all_of_them_give(self, way: dict[str, Any]) -> None:
        """Whichever branch matches, and whether or not one does."""
        document = {
            "properties": {"a": owner_only()},
            "$defs": {"narrow": {"properties": {"a": HIDDEN}}},
            **way,
        }
        assert "a" not in access(document).visible(self.DATA)

    def test_a_branch_without_the_keyword_takes_nothing_away(self) -> None:
        """To mention a member in a condition leaves the keyword that it has nearer than the one around."""
        document = {
            **HIDDEN,
            "properties": {"a": owner_only()},
            "if": {"properties": {"a": {"required": ["b"]}}},
            "then": {"required": ["d"]},
        }
        assert access(document).visible(self.DATA) == {"a": {"b": {"c": 1}}}

    def test_additional_members_are_those_not_named_beside(self) -> None:
        """Neither by name nor by a pattern; and unevaluated ones not by what surely applies, either."""
        document: dict[str, Any] = {
            "properties": {"a": {}},
            "patternProperties": {"^x": {}},
            "additionalProperties": HIDDEN,
        }
        data = {"a": 1, "x1": 1, "d": 1}
        assert access(document).visible(data) == {"a": 1, "x1": 1}
        document = {
            "allOf": [{"properties": {"a": {}}}, {"$ref": "#/$defs/x"}],
            "anyOf": [{"properties": {"d": {}}}],
            "$defs": {"x": {"patternProperties": {"^x": {}}}},
            "unevaluatedProperties": HIDDEN,
        }
        assert access(document).visible(data) == {"a": 1, "x1": 1}

    @pytest.mark.parametrize(
        ("dialect", "document"),
        [
            ("2020-12", {"prefixItems": [owner_only("r"), owner_only("rw")], "items": owner_only("w")}),
            ("draft-07", {"items": [owner_only("r"), owner_only("rw")], "additionalItems": owner_only("w")}),
        ],
    )
    def test_items_go_by_their_index(self, dialect: str, document: dict[str, Any]) -> None:
        """In each dialect's own words; an array is shown if all of its items are."""
        of = access({"properties": {"list": document}}, dialect=dialect)
        assert of.visible({"list": [1, 2]}) == {"list": [1, 2]}
        assert of.visible({"list": [1, 2, 3]}) == {}
        assert of.denied({"list": [1, 2]}, {"list": [1, 3]}) == []
        assert of.denied({"list": [1, 2]}, {"list": [0, 2]}) == ["data/list/0"]
        assert of.denied({"list": [1, 2]}, {"list": [1]}) == ["data/list"]

    def test_in_old_dialects_what_stands_beside_a_reference_counts(self) -> None:
        """The validator ignores it there; an author who gives a permission does not mean it to be ignored."""
        document = {"properties": {"a": {"$ref": "#/definitions/x", **HIDDEN}}, "definitions": {"x": {}}}
        assert access(document, dialect="draft-07").visible(self.DATA) == {"d": 2}


LISTS: dict[str, Any] = {
    "properties": {
        "open": {"items": {"properties": {"n": owner_only()}}},
        "people": {"items": {"properties": {"pin": {KEYWORD: {"self": "rw"}}, "id": owner_only("r")}}},
    }
}


class TestChanges:
    PEOPLE: dict[str, Any] = {"people": [{"n": "a", "pin": 1, "id": 7}, {"n": "b", "pin": 2}]}  # noqa: RUF012 -- likewise

    def test_hidden_values_stay(self) -> None:
        """At their index in arrays, and beside members that are removed."""
        of = access(LISTS)
        assert of.visible(self.PEOPLE) == {"people": [{"n": "a", "id": 7}, {"n": "b"}]}
        sent = {"people": [{"n": "A", "id": 7}, {}], "x": 1}
        assert of.denied(self.PEOPLE, sent) == []
        assert of.merged(self.PEOPLE, sent) == {"people": [{"n": "A", "pin": 1, "id": 7}, {"pin": 2}], "x": 1}

    @pytest.mark.parametrize(
        "people",
        [
            [{"n": "a", "id": 7}],
            [{"n": "a", "id": 7}, {"n": "b"}, {"n": "c"}],
            [{"n": "b"}, {"n": "a", "id": 7}],
            [],
            {},
            None,
        ],
    )
    def test_arrays_with_hidden_items_keep_length_and_order(self, people: Any) -> None:
        """Also if the array itself is dropped or replaced."""
        assert access(LISTS).denied(self.PEOPLE, {"people": people}) == ["data/people"]
        assert access(LISTS).denied(self.PEOPLE, {}) == ["data/people"]
        assert access(LISTS).denied({}, {"people": [{"n": "a"}]}) == ["data/people"]

    def test_open_arrays_are_free(self) -> None:
        """Who may read and write everything in the items inserts, removes and reorders."""
        of = access(LISTS)
        for items in ([], [{"n": 2}, {"n": 1}], [{"n": 1}, {"n": 2}, {"n": 3}], "none"):
            assert of.denied({"open": [{"n": 1}, {"n": 2}]}, {"open": items}) == []

    def test_denials_are_listed_by_place(self) -> None:
        """Added, removed and changed; pointers are escaped, and at most 100 are given."""
        document = {"properties": {each: owner_only("r") for each in ("a/b", "c~", "d")}}
        of = access(document)
        assert of.denied({"a/b": 1, "c~": 1}, {"c~": 2, "d": 1}) == ["data/a~1b", "data/c~0", "data/d"]
        many = {"additionalProperties": owner_only("r")}
        assert len(access(many).denied({}, {str(number): 1 for number in range(500)})) == 100

    def test_guesses_at_hidden_values_are_all_the_same(self) -> None:
        """A right one, a wrong one and one of what is not there are denied alike."""
        of = access({"properties": {"secret": HIDDEN}})
        assert [of.denied(data, {"secret": 1}) for data in ({"secret": 1}, {"secret": 2}, {})] == [["data/secret"]] * 3

    @pytest.mark.parametrize(
        ("around", "data", "value"),
        [
            ({KEYWORD: {"owner": "w"}, "properties": {"b": HIDDEN}}, {"b": 1}, 5),
            ({KEYWORD: {"owner": "w"}, "properties": {"b": HIDDEN}}, {"b": 1}, []),
            ({KEYWORD: {"owner": "w"}, "items": HIDDEN}, [1], 5),
            ({KEYWORD: {"owner": "rw"}, "items": HIDDEN}, [1], {}),
            ({KEYWORD: {"owner": "rw"}, "properties": {"b": HIDDEN}}, {"b": 1}, 5),
        ],
    )
    def test_a_value_of_another_type_does_not_wipe_out_what_is_hidden(
        self, around: dict[str, Any], data: Any, value: Any
    ) -> None:
        """Where something inside may not be written, whether or not it is there."""
        of = access({"properties": {"a": around}})
        assert of.denied({"a": data}, {"a": value}) == ["data/a"]
        assert of.denied({"a": type(data)()}, {"a": value}) == ["data/a"]

    def test_writing_without_reading_is_blind(self) -> None:
        """It replaces what is there, and says so whatever that was."""
        of = access({"properties": {"pin": owner_only("w")}})
        for before in ({"pin": 1}, {"pin": 2}, {}):
            judged = of.judged(before, {"pin": 1})
            assert (judged.denied, judged.blind) == ([], True)
            assert of.merged(before, {"pin": 1}) == {"pin": 1}
        assert of.merged({"pin": 2}, {"x": 1}) == {"pin": 2, "x": 1}
        assert of.judged({"pin": 2}, {}).blind is False

    def test_an_object_shown_for_its_members_outlives_them(self) -> None:
        """It is no place that the caller may read, so it cannot be removed."""
        of = access({"properties": {"a": {**HIDDEN, "properties": {"b": owner_only()}}}})
        data = {"a": {"b": 1, "c": 2}}
        assert of.visible(data) == {"a": {"b": 1}}
        assert (of.denied(data, {}), of.merged(data, {})) == ([], {"a": {"c": 2}})
        assert (of.denied({"a": {"b": 1}}, {}), of.merged({"a": {"b": 1}}, {})) == ([], {"a": {}})
        assert of.visible({"a": {}}) == {}
        assert of.denied(data, {"a": 1}) == ["data/a"]

    def test_between_whole_documents_only_differences_count(self) -> None:
        """As for a move to another schema: a hidden place that stays is no change."""
        of = access({"properties": {"a": HIDDEN, "b": {"items": owner_only("r")}}})
        assert of.denied_between({"a": 1, "b": [1]}, {"a": 1, "b": [1]}) == []
        assert of.denied_between({"a": 1, "b": [1]}, {"a": 2, "b": [1, 2]}) == ["data/a", "data/b"]

    def test_deep_and_long_documents_take_linear_time(self) -> None:
        """Arrays in arrays are compared once, not once for each level."""
        of = access(
            {"$ref": "#/$defs/x", "$defs": {"x": {"items": {"$ref": "#/$defs/x"}, "properties": {"p": HIDDEN}}}}
        )
        one: Any = [[number] for number in range(2000)]
        other: Any = [[number + 1] for number in range(2000)]
        for _ in range(50):
            one, other = [one, 1], [other, 1]
        assert of.denied({"a": one}, {"a": other}) == []


def test_what_a_move_would_reveal() -> None:
    """A place counts that was neither seen nor sent, in objects and in arrays."""
    assert reveals({"a": {"b": 1}}, {"a": {}}, {"a": {"c": 1}})
    assert not reveals({"a": {"b": 1}, "c": 2}, {"a": {"b": 0}}, {"c": 1})
    assert reveals({"a": [{"x": 1}]}, {"a": [{}]})
    assert reveals({"a": [1]}, {"b": [1]})
    assert not reveals({"a": [1, 2]}, {"a": [1, 2, 3]})


class TestErrors:
    @pytest.mark.parametrize(
        ("field", "told"),
        [
            ("data/a/b", "data/a"),
            ("data/a/b/c", "data/a"),
            ("data/a/b/c/d", "data/a"),
            ("data/a/x", "data/a/x"),
            ("data/secret", "data"),
            ("data", "data"),
            ("data/list/0/pin", "data/list/0"),
            ("data/list/0", "data/list/0"),
            ("data/closed/0", "data/closed"),
        ],
    )
    def test_are_told_at_the_nearest_readable_place(self, field: str, told: str) -> None:
        """By reason only, unless that is where they are."""
        document = {
            "properties": {
                "a": {"properties": {"b": {**HIDDEN, "properties": {"c": owner_only("r")}}}},
                "secret": HIDDEN,
                "list": {"items": {"properties": {"pin": HIDDEN}}},
                "closed": {"items": HIDDEN},
            }
        }
        data = {"a": {"b": {}}, "secret": {}, "list": [{"pin": 1}], "closed": [1]}
        (violation,) = access(document).readable(data, [Violation(field, "must be a duck", "duck")])
        assert (violation.field, violation.reason) == (told, "duck")
        assert (violation.description == "must be a duck") == (field == told)

    def test_several_at_hidden_places_are_one(self) -> None:
        """So that not even their number tells anything."""
        document = {"properties": {"a": HIDDEN, "b": HIDDEN}}
        asked = [Violation("data/a", "x", "type"), Violation("data/b", "y", "type"), Violation("data/a", "z", "enum")]
        told = access(document).readable({"a": 1, "b": 1}, asked)
        assert [(each.field, each.reason) for each in told] == [("data", "type"), ("data", "enum")]


class TestSeenSchema:
    def shown(self, document: dict[str, Any], role: FieldRole = FieldRole.OWNER, dialect: str = "2020-12") -> Any:
        """Give the schema as a role sees it, which must be one."""
        shown = json.loads(seen_schema(stored(document, dialect=dialect), access(document, role, dialect)))
        assert gate.check(shown).violations == ()
        return shown

    def test_leaves_out_what_is_hidden(self) -> None:
        """Members, their names, and definitions that nothing else needs."""
        document = {
            "type": "object",
            "required": ["name", "secret"],
            "properties": {
                "name": {"$ref": "#/$defs/text"},
                "secret": {**HIDDEN, "$ref": "#/$defs/secret"},
                "part": {**HIDDEN, "properties": {"open": owner_only("r"), "closed": {"enum": [1]}}},
            },
            "allOf": [{"properties": {"secret": {"title": "Secret"}}}],
            "dependentRequired": {"secret": ["name"], "name": ["secret"]},
            "patternProperties": {"^x": HIDDEN},
            "additionalProperties": False,
            "$defs": {"text": {"type": "string"}, "secret": {"enum": ["treasure"]}, "unused": {}},
        }
        assert self.shown(document) == {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"$ref": "#/$defs/text"},
                "part": {**HIDDEN, "properties": {"open": owner_only("r")}},
            },
            "allOf": [{"properties": {}}],
            "dependentRequired": {},
            "patternProperties": {},
            "additionalProperties": False,
            "$defs": {"text": {"type": "string"}},
        }

    def test_keeps_what_a_reference_needs(self) -> None:
        """Where it stands, without what is around it."""
        document = {
            "properties": {
                "a": {**HIDDEN, "properties": {"b": {"type": "string"}}, "minProperties": 3},
                "c": {"$ref": "#/properties/a/properties/b"},
            }
        }
        assert self.shown(document)["properties"] == {
            "a": {"properties": {"b": {"type": "string"}}},
            "c": {"$ref": "#/properties/a/properties/b"},
        }

    def test_of_shared_definitions_what_anybody_may_see(self) -> None:
        """A definition that is hidden at one place and open at another is shown."""
        document = {
            "properties": {"open": {"$ref": "#/definitions/d"}, "shut": {**HIDDEN, "$ref": "#/definitions/d"}},
            "definitions": {"d": {"properties": {"x": {}}, "required": ["x"]}},
            "$schema": "http://json-schema.org/draft-04/schema#",
        }
        shown = self.shown(document, dialect="draft-04")
        assert set(shown["properties"]) == {"open"}
        assert shown["definitions"] == document["definitions"]

    def test_items(self) -> None:
        """Items of which nothing may be read say nothing."""
        document = {
            "properties": {"l": {"prefixItems": [{"type": "string"}, {**HIDDEN, "type": "null"}], "items": HIDDEN}}
        }
        assert self.shown(document)["properties"] == {"l": {"prefixItems": [{"type": "string"}, {}]}}

    def test_a_recursive_schema(self) -> None:
        """It ends."""
        document = {"properties": {"next": {"$ref": "#"}, "a": HIDDEN}, "required": ["a"]}
        assert self.shown(document) == {"properties": {"next": {"$ref": "#"}}}


class TestCache:
    async def test_keeps_rules_by_revision(self) -> None:
        """One that it holds is given again; a schema without permissions has none."""
        cache = PermissionCache()
        assert await cache.get(stored({})) is None
        first = await cache.get(stored({"properties": {"a": HIDDEN}}, 2))
        assert first is not None
        assert await cache.get(stored({}, 2)) is first
        assert await cache.get(stored({"properties": {"a": HIDDEN}}, 3)) is not first

    async def test_forgets_the_least_recently_used(self) -> None:
        """When it holds more than its limit; what is larger than that is used and not kept."""
        document = {"properties": {"a": HIDDEN}}
        weight = await PermissionCache().get(stored(document))
        assert weight is not None
        cache = PermissionCache(limit=2 * weight.weight)
        held = [await cache.get(stored(document, revision)) for revision in (1, 2, 3)]
        assert cache.size == 2 * weight.weight
        assert await cache.get(stored(document, 3)) is held[2]
        assert await cache.get(stored(document, 1)) is not held[0]
        small = PermissionCache(limit=1)
        assert await small.get(stored(document)) is not None
        assert small.size == 0

    async def test_finds_a_keyword_however_it_is_written(self) -> None:
        """Escapes in the text of a schema hide nothing."""
        text = json.dumps({"properties": {"a": HIDDEN}}).replace("urn:", "\\u0075rn:")
        schema = stored({})
        escaped = UserSchema(
            "s",
            None,
            "t",
            1,
            text,
            "2020-12",
            schema.state,
            (),
            created_at=schema.created_at,
            changed_at=schema.changed_at,
        )
        assert await PermissionCache().get(escaped) is not None


def test_words_about_a_place_do_not_tell_of_what_is_hidden_in_it() -> None:
    """What is wrong with a value that holds hidden ones keeps its reason only: its words speak of what is inside."""
    schema = {
        "properties": {"ssn": {"urn:zitadel:schema:permission": {"owner": "rw"}}, "name": {"type": "string"}},
        "maxProperties": 1,
    }
    permissions = compile_permissions(schema, "2020-12")
    assert permissions is not None
    data = {"ssn": 12, "name": "x"}
    found = [Violation("data", "must have at most 1 property, not 2", "maxProperties")]
    (told,) = permissions.of(FieldRole.SELF).readable(data, found)
    assert (told.field, told.reason) == ("data", "maxProperties")
    assert "2" not in told.description
    assert permissions.of(FieldRole.OWNER).readable(data, found) == found
