"""The reference as a page for people and as a document for programs: both made once, served without a token."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response, get
from markupsafe import Markup, escape

from schema_user.api.openapi_components import Json, ref
from schema_user.api.operation import JSON
from schema_user.api.reasons import error_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from litestar.handlers import HTTPRouteHandler

_FOLDER: Final = Path(__file__).parent / "templates"
_STYLE: Final = (_FOLDER / "docs.css").read_text(encoding="utf-8")
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE_HEADERS: Final = {
    **_HEADERS,
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
}
_COMMON: Final = ("Organization", "RequestId")
"""Parameters that the page shows once for all operations."""

_REFUSED: Final = 400
_SPANS: Final = (
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
    ("minimum", "maximum", ""),
)
_KEYS: Final = "keys: not empty, no dot, not __proto__, not beginning with $"
_CODE: Final = re.compile(r"(`+)(.+?)\1")
_STRONG: Final = re.compile(r"\*\*(.+?)\*\*")
_TOKEN: Final = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*|\btrue\b|\bfalse\b|\bnull\b)')


@dataclass(frozen=True, slots=True)
class Row:
    """One field of a body or an answer: where it stands, and what it may be."""

    depth: int
    name: str
    type: str
    required: bool
    limits: tuple[str, ...]
    choices: tuple[str, ...]
    description: str


@dataclass(frozen=True, slots=True)
class _Reference:
    """What is served, and the ETag of each."""

    document: bytes
    document_etag: str
    page: bytes
    page_etag: str


def render_docs(document: Json) -> bytes:
    """Render an OpenAPI document of ``openapi.build`` as one page that needs nothing else."""
    shared = document["components"]["parameters"]
    page = _TEMPLATES.get_template("docs.html.j2").render(
        style=Markup(_STYLE),  # noqa: S704 -- a file of ours
        info=document["info"],
        server=document["servers"][0]["url"],
        chapters=_chapters(document),
        common=[_parameter(shared[name]) for name in _COMMON],
        errors=error_rows(),
        examples=_error_examples(document),
    )
    return page.encode()


def _chapters(document: Json) -> list[tuple[Json, list[Json]]]:
    """Sort the operations under their tags; those that are another's alias are named there only."""
    tagged: dict[str, list[Json]] = {tag["name"]: [] for tag in document["tags"]}
    shown: dict[str, Json] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if (alias := operation.get("x-alias-of")) is not None:
                shown[alias]["also"].append(f"{method.upper()} {path}")
                continue
            made = shown[operation["operationId"]] = _shown(document, path, method.upper(), operation)
            tagged[operation["tags"][0]].append(made)
    return [(tag, tagged[tag["name"]]) for tag in document["tags"]]


def _error_examples(document: Json) -> dict[str, Json]:
    """Gather the examples of refusals by their reasons."""
    return {
        reason: example["value"]
        for response in document["components"]["responses"].values()
        for reason, example in response["content"][JSON]["examples"].items()
    }


def _shown(document: Json, path: str, method: str, operation: Json) -> Json:
    """Gather what the page shows of one operation."""
    common = [ref("parameters", name) for name in _COMMON]
    parameters = [_resolved(document, each) for each in operation["parameters"] if each not in common]
    body = operation.get("requestBody")
    content = next(iter(body["content"].values())) if body else None
    answers = {int(code): _resolved(document, each) for code, each in operation["responses"].items()}
    security: list[Json] = operation["security"] if "security" in operation else document["security"]
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "also": [],
        "summary": operation["summary"],
        "paragraphs": [
            each for each in operation["description"].split("\n\n") if not each.startswith("**Permission:**")
        ],
        "permission": operation.get("x-permission", ""),
        "open": "to all" if security == [] else "in part" if {} in security else "",
        "parameters": list(map(_parameter, parameters)),
        "body": list(field_rows(document, content["schema"])) if content else [],
        "body_text": _resolved(document, content["schema"]).get("description", "") if content else "",
        "body_limits": _limits(_resolved(document, content["schema"]))[0] if content else (),
        "body_required": bool(body and body["required"]),
        "curl": curl(path, method, operation, parameters),
        "answers": [_answer(document, code, each) for code, each in answers.items() if code < _REFUSED],
        "refusals": [(code, each["description"]) for code, each in answers.items() if code >= _REFUSED],
    }


def _parameter(parameter: Json) -> Json:
    return {"required": False, **parameter, "limits": _limits(parameter["schema"])[0]}


def _answer(document: Json, code: int, response: Json) -> Json:
    found: dict[str, Json] = response.get("content", {})
    media_type, content = next(iter(found.items()), ("", {}))
    schema: Json = content.get("schema", {})
    return {
        "code": code,
        "text": response["description"],
        "headers": [name for name in response["headers"] if name != "X-Request-Id"],
        "media_type": media_type,
        "rows": list(field_rows(document, schema)) if "$ref" in schema else [],
        "example": content.get("example"),
    }


def curl(path: str, method: str, operation: Json, parameters: list[Json]) -> str:
    """Write the operation's example as a command for a shell where ``URL`` and ``TOKEN`` are set."""
    for each in parameters:
        if each["in"] == "path":
            path = path.replace("{" + each["name"] + "}", each["example"])
    command = f'curl -X {method} "$URL{path}"' if method != "GET" else f'curl "$URL{path}"'
    parts = [command]
    if operation.get("security") != []:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    bodies: Json = operation.get("requestBody", {}).get("content", {})
    media_type = next(iter(bodies), "")
    if "example" in (content := bodies.get(media_type, {})):
        parts.append(f'-H "Content-Type: {media_type}"')
        text = msgspec.json.format(msgspec.json.encode(content["example"]), indent=2).decode()
        parts.append(f"--data {shlex.quote(text)}")
    return " \\\n  ".join(parts)


def field_rows(document: Json, schema: Json, depth: int = 0, above: tuple[str, ...] = ()) -> Iterator[Row]:
    """List the fields of an object, each with those in it after it; one that holds itself is not entered again."""
    schema = _resolved(document, schema)
    required = schema.get("required", ())
    for name, prop in schema.get("properties", {}).items():
        options = [option for option in prop.get("anyOf", [prop]) if option != {"type": "null"}]
        inner = next((option for option in options if "$ref" in option), options[0])
        many = "items" in inner
        target = inner["items"] if many else inner
        component = target.get("$ref", "").rpartition("/")[2]
        resolved = _resolved(document, target)
        limits, choices = _limits({**resolved, **(inner if many else {}), **prop})
        entered = component not in above and bool(resolved.get("properties"))
        if component in above:
            limits = (*limits, f"again {component}, as above")
        text = prop.get("description") or inner.get("description") or resolved.get("description", "")
        type_ = f"list of {_type(resolved)}s" if many else _type(resolved)
        yield Row(depth, name, type_, name in required, limits, choices or _limits(resolved)[1], text)
        if entered:
            yield from field_rows(document, target, depth + 1, (*above, component))


def _type(schema: Json) -> str:
    kind = schema.get("type", "any")
    return " or ".join(each for each in kind if each != "null") if isinstance(kind, list) else str(kind)


def _limits(schema: Json) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say what a value may be: in words, and the words it may be one of."""
    words = [
        _span(schema.get(low), schema.get(high), unit) for low, high, unit in _SPANS if {low, high} & schema.keys()
    ]
    words += [schema["format"]] if "format" in schema else []
    words += [f"matches {schema['pattern']}"] if "pattern" in schema else []
    words += [_KEYS] if "propertyNames" in schema else []
    words += ["exactly one of the members below"] if "oneOf" in schema else []
    if "not" in schema:
        names = dict.fromkeys(name for pair in schema["not"]["anyOf"] for name in pair["required"])
        words.append("at most one of " + ", ".join(names))
    if schema.get("default", []) not in ([], {}):
        words.append(f"default {_plain(schema['default'])}")
    return tuple(words), tuple(_plain(each) for each in schema.get("enum", ()) if each is not None)


def _span(low: int | None, high: int | None, unit: str) -> str:
    if low is None or high is None:
        return f"at least {low:,}{unit}" if high is None else f"at most {high:,}{unit}"
    return f"{low:,} to {high:,}{unit}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _resolved(document: Json, value: Json) -> Json:
    """Follow a reference within the document."""
    if "$ref" not in value:
        return value
    found: Any = document
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    result: Json = found
    return result


def _inline(text: str) -> Markup:
    """Turn the little Markdown of descriptions, code and emphasis, into HTML."""
    safe = str(escape(text))
    return Markup(_STRONG.sub(r"<strong>\1</strong>", _CODE.sub(r"<code>\2</code>", safe)))  # noqa: S704 -- escaped above


def _breakable(text: str) -> Markup:
    """Let a long name or path break at its own joints."""
    return Markup(re.sub(r"([/_])(?=[^/_])", r"\1<wbr>", str(escape(text))))  # noqa: S704 -- escaped above


def _coloured(value: Any) -> Markup:
    """Write an example as JSON, with its keys, texts and numbers told apart; text is left as it is."""
    if isinstance(value, str):
        return escape(value)
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    made, end = Markup(), 0
    for match in _TOKEN.finditer(text):
        kind = "n" if match[3] else "k" if match[2] else "s"
        made += text[end : match.start()] + Markup('<span class="{}">{}</span>').format(kind, match[1] or match[3])
        end = match.end(3) if match[3] else match.end(1)
    return made + text[end:]


_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters |= {"breakable": _breakable, "coloured": _coloured, "inline": _inline}


@get("/openapi.json")
async def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Give this reference as an OpenAPI 3.1 document."""
    made = await _reference(request)
    return _answered(request, made.document, made.document_etag, JSON, _HEADERS)


@get("/docs")
async def docs_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Give this reference as a page; it needs no script and nothing from elsewhere."""
    made = await _reference(request)
    return _answered(request, made.page, made.page_etag, "text/html", _PAGE_HEADERS)


async def _reference(request: Request[Any, Any, Any]) -> _Reference:
    """Make what is served, once per application and only if somebody reads it: it takes half a second."""
    state = request.app.state
    made = state.get("reference")
    if not isinstance(made, _Reference):
        made = state.reference = await asyncio.to_thread(_made, state.openapi)
    return made


def _made(openapi: Callable[[], Json]) -> _Reference:
    described = openapi()
    document, page = msgspec.json.encode(described), render_docs(described)
    return _Reference(document, _etag(document), page, _etag(page))


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _answered(
    request: Request[Any, Any, Any], content: bytes, etag: str, media_type: str, headers: Mapping[str, str]
) -> Response[bytes]:
    sent = {**headers, "ETag": etag}
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if etag in known or known == ["*"]:
        return Response(b"", status_code=304, headers=sent, media_type=media_type)
    return Response(content, headers=sent, media_type=media_type)


ROUTES: list[HTTPRouteHandler] = [openapi_json, docs_page]
