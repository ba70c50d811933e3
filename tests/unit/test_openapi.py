from __future__ import annotations

import ast
import base64
import hashlib
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest
from litestar import Litestar
from litestar.datastructures import State
from litestar.testing import TestClient

import schema_user
from schema_user.api import docs, glossary, status
from schema_user.api.body import decode
from schema_user.api.docs import field_rows, render_docs
from schema_user.api.door import Door
from schema_user.api.openapi import build, operation_of
from schema_user.api.reasons import REASONS, error_rows
from schema_user.api.router import ROUTES
from schema_user.domain import identifier
from schema_user.domain.document import forbidden_key
from schema_user.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = build(ROUTES, "1.2.3", "https://users.example.com")
PAGE = render_docs(DOCUMENT).decode()
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
BODIES = {
    name: content
    for name, (_, _, operation) in OPERATIONS.items()
    if (content := operation.get("requestBody", {}).get("content", {}).get("application/json"))
}
STRUCTS = {
    operation.name: operation.body
    for route in ROUTES
    if (operation := operation_of(route)) and operation.body and not operation.media
}
EXAMPLES = [
    pytest.param(content["schema"], example, id=f"{name}-{kind}-{media_type}")
    for name, (_, _, operation) in OPERATIONS.items()
    for kind, part in {"body": operation.get("requestBody", {}), **operation["responses"]}.items()
    for media_type, content in part.get("content", {}).items()
    if (example := content.get("example")) is not None
] + [
    pytest.param(content["schema"], example["value"], id=f"{name}-{reason}")
    for name, response in DOCUMENT["components"]["responses"].items()
    for content in response["content"].values()
    for reason, example in content["examples"].items()
]


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(member)


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """A validator of a schema that may refer to the document's components."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def faults(branch: type[Fault] = Fault) -> Iterator[type[Fault]]:
    """Every fault of the tree."""
    for below in branch.__subclasses__():
        yield below
        yield from faults(below)


def reasons_in_source() -> set[str]:
    """Every reason that is given to a fault or to ``refused``, or written into an answer, anywhere in the source."""
    root = Path(schema_user.__file__).parent
    makers = {"Fault", "refused", *(each.__name__ for each in faults())}
    found = set()
    for file in root.rglob("*.py"):
        if file.name == "refusals.py":  # its examples are not reasons that are given
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            given: list[ast.AST] = []
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in makers:
                given = [*node.args[:2], *(word.value for word in node.keywords if word.arg == "reason")]
            elif isinstance(node, ast.FunctionDef) and node.name in makers:
                given = list(node.args.defaults)
            elif isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                given = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "reason"]
            texts = [part.value for each in given for part in ast.walk(each) if isinstance(part, ast.Constant)]
            found |= {text for text in texts if isinstance(text, str) and re.fullmatch(r"[A-Z]+(_[A-Z]+)*", text)}
    return found


class TestDocument:
    def test_every_route_is_in_it_and_nothing_else(self) -> None:
        """Each path and method that is served is described once, and no other."""
        served = {
            (re.sub(r"\{(\w+):\w+\}", "{}", path), str(method).lower())
            for route in ROUTES
            for path in route.paths
            for method in route.http_methods
        }
        assert {(re.sub(r"\{\w+\}", "{}", path), method) for method, path, _ in OPERATIONS.values()} == served
        assert sum(len(methods) for methods in DOCUMENT["paths"].values()) == len(OPERATIONS)

    def test_every_reference_resolves(self) -> None:
        """No $ref leads nowhere."""
        for each in inside(DOCUMENT):
            if "$ref" in each:
                found: Any = DOCUMENT
                for name in each["$ref"].removeprefix("#/").split("/"):
                    found = found[name]
                assert isinstance(found, dict)

    def test_every_component_is_used(self) -> None:
        """A component to which nothing refers would be a leftover."""
        used = {each["$ref"] for each in inside(DOCUMENT) if "$ref" in each}
        components = DOCUMENT["components"]
        for kind in ("schemas", "responses", "parameters", "headers"):
            assert {f"#/components/{kind}/{name}" for name in components[kind]} <= used

    def test_two_structs_never_share_a_name(self) -> None:
        """Names of schemas are plain words; msgspec would put a module before two that are the same."""
        assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in DOCUMENT["components"]["schemas"])

    def test_every_field_is_camel_case_and_explained(self) -> None:
        """Whoever reads the reference learns what each field means."""
        for name, schema in DOCUMENT["components"]["schemas"].items():
            for field, prop in schema.get("properties", {}).items():
                assert re.fullmatch(r"[a-z][A-Za-z]*|@type", field)
                assert prop.get("description"), f"{name}.{field}"

    def test_the_glossary_explains_nothing_that_is_gone(self) -> None:
        """An entry about a field that no struct has is refused."""
        known = DOCUMENT["components"]["schemas"]
        fields = {field for schema in known.values() for field in schema.get("properties", {})}
        precise = {f"{name}.{field}" for name, schema in known.items() for field in schema.get("properties", {})}
        assert {*glossary.FIELDS, *glossary.LIMITS} <= fields | precise

    def test_bodies_refuse_unknown_fields_and_answers_may_grow(self) -> None:
        """Bodies are closed, views are open for fields of later versions."""
        schemas = DOCUMENT["components"]["schemas"]
        for name, schema in schemas.items():
            if name.endswith("Body"):
                assert schema["additionalProperties"] is False
            if name.endswith("View"):
                assert "additionalProperties" not in schema

    def test_every_body_has_an_example_that_decodes(self) -> None:
        """What the reference shows is taken by the very code that takes requests."""
        for name, content in BODIES.items():
            origin = OPERATIONS[name][2].get("x-alias-of", name)
            decode(msgspec.json.encode(content["example"]), STRUCTS[origin], 64)
        assert {OPERATIONS[name][2].get("x-alias-of", name) for name in BODIES} == STRUCTS.keys()

    @pytest.mark.parametrize(
        ("struct", "body", "taken"),
        [
            ("UserQueryBody", {"stateQuery": {"state": "USER_STATE_ACTIVE"}, "notQuery": None}, True),
            ("UserQueryBody", {"stateQuery": None}, False),
            ("UserQueryBody", {"userIdQuery": {"id": "1"}, "schemaIdQuery": {"id": "1"}}, False),
            ("EmailBody", {"address": "a@b.example", "sendCode": None, "returnCode": {}}, True),
            ("EmailBody", {"address": "a@b.example", "sendCode": {}, "returnCode": {}}, False),
            ("EmailBody", {"address": "a@b.example", "isVerified": False}, False),
        ],
    )
    def test_alternatives_are_part_of_the_schemas(self, struct: str, body: dict[str, Any], *, taken: bool) -> None:
        """What the code refuses beyond types, two alternatives at once, is refused by the document too."""
        assert validator({"$ref": f"#/components/schemas/{struct}"}).is_valid(body) is taken

    @pytest.mark.parametrize(("schema", "example"), EXAMPLES)
    def test_every_example_obeys_its_schema(self, schema: dict[str, Any], example: Any) -> None:
        """Examples of bodies, answers and refusals are valid by the schemas beside them."""
        whole = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
            "components": DOCUMENT["components"],
        }
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(whole, format_checker=checker).validate(example)

    def test_a_token_is_asked_for_where_the_door_asks(self) -> None:
        """What the document says of tokens is what the door does."""
        elsewhere: dict[str, Any] = {"client": ("203.0.113.7", 1)}
        for _, path, operation in OPERATIONS.values():
            security = operation.get("security", DOCUMENT["security"])
            assert (security != []) is Door._needs_token({**elsewhere, "path": path}, {}), path
            here = Door._needs_token({"client": ("127.0.0.1", 1), "path": path}, {b"host": b"127.0.0.1"})
            assert (security != [] and {} not in security) is here, path

    def test_aliases_name_what_they_are_aliases_of(self) -> None:
        """A second path or method says which operation it is."""
        assert OPERATIONS["update_user_patch"][2]["x-alias-of"] == "update_user"
        assert OPERATIONS["search_users_alias"][1] == "/v3alpha/users/_search"
        for name, (_, _, operation) in OPERATIONS.items():
            origin = operation.get("x-alias-of", name)
            assert operation["summary"] == OPERATIONS[origin][2]["summary"]
            assert (origin != name) == ("The same operation as" in operation["description"])

    def test_ids_in_paths_are_those_that_the_domain_allows(self) -> None:
        """The pattern is said once more for clients; it must not drift from the one that is enforced."""
        assert f"^{identifier._CLIENT_ID.pattern}$" == glossary.ID_PATTERN

    @pytest.mark.parametrize("key", ["", "$a", "a.b", "__proto__", "a", "a$", "_", "__proto__x", "ä b"])
    def test_keys_of_data_are_those_that_are_taken(self, key: str) -> None:
        """The pattern of keys says the same as the rule that is enforced."""
        assert (re.search(glossary.KEY_PATTERN, key) is None) == (forbidden_key(key) is not None)

    def test_refusals_are_described_by_what_they_are(self) -> None:
        """Every operation lists what all can answer, and each refusal's examples carry the codes of that status."""
        codes = {http: {code for code, at in status.CODES.values() if at == http} for _, http in status.CODES.values()}
        for _, _, operation in OPERATIONS.values():
            answers = operation["responses"]
            wanted = {"405", "500"} if "x-permission" not in operation else {"400", "401", "403", "406", "500", "503"}
            assert (
                wanted | ({"413", "415"} if "x-permission" in operation and "requestBody" in operation else set())
                <= answers.keys()
            )
            for http, answer in answers.items():
                if "$ref" in answer:
                    component = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                    examples = component["content"]["application/json"]["examples"].values()
                    assert {each["value"]["code"] for each in examples} == codes.get(int(http), {13})


class TestReasons:
    def test_the_table_holds_every_reason_of_the_source(self) -> None:
        """A new reason must be explained, and one that is gone must leave."""
        assert reasons_in_source() == set(REASONS)

    def test_every_kind_of_fault_has_a_row(self) -> None:
        """The table of errors shows each branch of the tree of faults, and what is unexpected."""
        rows = {(row.code, row.http) for row in error_rows()}
        assert rows == {status.CODES[fault] for fault in faults()} | {(13, 500)}


class TestPage:
    def test_it_needs_no_script_and_nothing_from_elsewhere(self) -> None:
        """No script, no style attribute, and no address but this service's own examples."""
        assert not re.search(r"<script|\son\w+=|\sstyle=|javascript:", PAGE)
        assert set(re.findall(r'(?:src|href)="(?!#|data:,")([^"]*)"', PAGE)) == {"/openapi.json"}
        assert "url(" not in PAGE
        assert "@import" not in PAGE

    def test_every_operation_reason_and_error_has_its_place(self) -> None:
        """Each can be linked to; every link within the page leads somewhere, and no place is named twice."""
        places = re.findall(r'\sid="([^"]+)"', PAGE)
        assert len(places) == len(set(places))
        originals = {name for name, (_, _, operation) in OPERATIONS.items() if "x-alias-of" not in operation}
        assert originals | {f"reason-{reason}" for reason in REASONS} <= set(places)
        assert set(re.findall(r'href="#([^"]+)"', PAGE)) <= set(places)

    def test_commands_say_what_the_examples_say(self) -> None:
        """A shell reads the body of a command back as the example, and no placeholder is left in its path."""
        for name, (method, path, operation) in OPERATIONS.items():
            parameters = [each for each in operation["parameters"] if "name" in each]
            words = shlex.split(docs.curl(path, method.upper(), operation, parameters))
            assert words[0] == "curl"
            assert not re.search(r"\{\w+\}", next(word for word in words if word.startswith("$URL/")))
            if name in BODIES:
                assert msgspec.json.decode(words[words.index("--data") + 1]) == BODIES[name]["example"]

    def test_nested_fields_are_shown_with_their_limits(self) -> None:
        """A field deep in a body stands in the table with what holds for it."""
        rows = {(row.depth, row.name): row for row in field_rows(DOCUMENT, BODIES["update_user"]["schema"])}
        assert rows[2, "address"].limits == ("1 to 200 characters",)
        assert rows[2, "address"].required
        assert rows[1, "email"].limits == ("at most one of sendCode, returnCode, isVerified",)
        assert rows[3, "urlTemplate"].type == "string"

    def test_queries_within_queries_are_not_entered_for_ever(self) -> None:
        """A struct that holds itself is described once."""
        rows = list(field_rows(DOCUMENT, BODIES["search_users"]["schema"]))
        assert len(rows) < 100
        assert any("again UserQueryBody" in limit for row in rows for limit in row.limits)

    def test_text_of_the_document_is_escaped(self) -> None:
        """Markup in a description is shown, not obeyed, also within code and in examples."""
        evil = "<script>alert(1)</script>"
        text = msgspec.json.encode(DOCUMENT).replace(b"Give a user.", f"Give `{evil}` {evil}".encode())
        document = msgspec.json.decode(text.replace(b'"minnie"', msgspec.json.encode(evil)))
        page = render_docs(document).decode()
        assert "<script" not in page
        assert "&lt;script&gt;" in page


class TestServing:
    @pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
    def test_it_is_sent_once_and_then_known(self, path: str) -> None:
        """The answer has an ETag and must be asked for again; the ETag that is known is answered 304."""
        app = Litestar(docs.ROUTES, state=State({"openapi": lambda: DOCUMENT}), openapi_config=None)
        with TestClient(app) as client:
            first = client.get(path)
            assert first.status_code == 200
            assert first.headers["cache-control"] == "no-cache"
            assert first.headers["content-type"] in {"application/json", "text/html; charset=utf-8"}
            again = client.get(path, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
            assert (again.status_code, again.content) == (304, b"")
            assert client.get(path, headers={"If-None-Match": '"x"'}).content == first.content

    def test_the_page_allows_its_own_style_and_nothing_else(self) -> None:
        """The policy names the digest of the style that is in the page."""
        app = Litestar(docs.ROUTES, state=State({"openapi": lambda: DOCUMENT}), openapi_config=None)
        with TestClient(app) as client:
            answer = client.get("/docs")
            assert client.get("/openapi.json").json() == DOCUMENT
        style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        policy = answer.headers["content-security-policy"]
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;")
        assert "unsafe" not in policy
