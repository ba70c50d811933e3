"""What holds for every request: the order of the checks, the limits, the headers."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import ANY_TLS, Api, Server, Tenant, reason, violations

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = {"Content-Type": "application/json"}


def raw(
    api: Api, path: str, body: bytes | str, headers: Mapping[str, str] = JSON, method: str = "PUT"
) -> httpx.Response:
    """Send bytes as they are."""
    return api.request(method, path, content=body, headers=dict(headers))


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", "Basic abc", "Bearer \u00e4", "Bearer " + "x" * 5000]
)
def test_no_token_or_a_wrong_one_is_401_before_anything_else(server: Server, authorization: str | None) -> None:
    """401 with WWW-Authenticate, whatever the path, method and body."""
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    for method, path in (("PUT", "/v3alpha/users/1"), ("GET", "/nowhere"), ("BREW", "/v3alpha/users")):
        response = httpx.request(method, server.url + path, headers=headers, content=b"{", verify=ANY_TLS)
        assert (response.status_code, response.json()["code"]) == (401, 16)
        assert response.headers["www-authenticate"].startswith("Bearer")


def test_routing_comes_before_the_headers_and_the_body(admin: Api) -> None:
    """405 with Allow, then 406, 413 and 415, each before the body is decoded."""
    wrong_method = admin.request("POST", "/v3alpha/users/1", content=b"{", headers={"Accept": "text/html"})
    assert (wrong_method.status_code, wrong_method.json()["code"]) == (405, 12)
    assert {"GET", "PUT", "PATCH", "DELETE"} <= set(wrong_method.headers["allow"].replace(" ", "").split(","))
    big = b"{" * (1024 * 1024 + 1)
    assert raw(admin, "/v3alpha/users/1", big, {"Accept": "text/html"}).status_code == 406
    assert raw(admin, "/v3alpha/users/1", big, {"Content-Type": "text/plain"}).status_code == 413
    wrong_type = raw(admin, "/v3alpha/users/1", "{", {"Content-Type": "text/plain"})
    assert (wrong_type.status_code, wrong_type.json()["code"]) == (415, 3)
    assert raw(admin, "/v3alpha/users/1", "{").status_code == 400
    assert admin.get("/v3alpha/nothing").status_code == 404


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 404),
        ("*/*", 404),
        ("text/html, application/*;q=0.5", 404),
        ("application/json;q=0, */*", 406),
        ("text/html", 406),
        ("application/json; q=zero", 406),
    ],
)
def test_the_accept_header_is_heeded(admin: Api, accept: str, status: int) -> None:
    """What leaves no room for JSON is 406."""
    assert admin.get("/v3alpha/users/1", headers={"Accept": accept}).status_code == status


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 404),
        ("application/json; charset=UTF-8", 404),
        ("Application/JSON", 404),
        ("application/json; charset=latin-1", 415),
        ("application/xml", 415),
        (None, 415),
    ],
)
def test_the_content_type_is_heeded(admin: Api, content_type: str | None, status: int) -> None:
    """Only JSON in UTF-8 is taken."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert raw(admin, "/v3alpha/users/1", "{}", headers).status_code == status


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ('{"data": {"a": 1, "a": 2}}', "data/a", "duplicateKey"),
        ('{"schemaId": "a", "schemaId": "b"}', "schemaId", "duplicateKey"),
        ('{"data": {"a": NaN}}', "data/a", "range"),
        ('{"data": {"a": [Infinity]}}', "data/a/0", "range"),
        ('{"data": {"a": 1e999}}', "data/a", "range"),
        ('{"data": {"a": 9223372036854775808}}', "data/a", "range"),
        ('{"data": {"a": ' + "9" * 5000 + "}}", "data/a", "range"),
        ('{"data": {"a": "\\ud800"}}', "data/a", "surrogate"),
        ('{"data": {"a\\u0000": 1}}', "data/a\x00", "nul"),
        ('{"data": {"a": "\\u0000"}}', "data/a", "nul"),
        ('{"data": {"": 1}}', "data/", "key"),
        ('{"data": {"$set": 1}}', "data/$set", "key"),
        ('{"data": {"a": {"b.c": 1}}}', "data/a/b.c", "key"),
        ('{"data": {"__proto__": 1}}', "data/__proto__", "key"),
        ('{"data": {"a~/b": {"$x": 1}}}', "data/a~0~1b/$x", "key"),
        ('{"data": []}', "data", "type"),
        ('{"data": 1}', "data", "type"),
        ("[]", "", "type"),
        ("", "", "malformed"),
        ("{} {}", "", "malformed"),
        ('{"a"', "", "malformed"),
        ("\ufeff{}", "", "malformed"),
        (b'{"data": {"a": "\xff"}}', "", "malformed"),
        ('{"data": {"a": ' + "[" * 63 + "]" * 63 + "}}", "data/a" + "/0" * 62, "depth"),
        ('{"data": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}", "", "depth"),
        ('{"schemaId": ""}', "schemaId", "minLength"),
        ('{"schemaId": "' + "x" * 201 + '"}', "schemaId", "maxLength"),
        ('{"schemaId": 5}', "schemaId", "type"),
        ('{"username": "' + "x" * 201 + '"}', "username", "maxLength"),
        ('{"contact": {"fax": {}}}', "contact/fax", "unknownField"),
        (
            '{"contact": {"email": {"address": "a@example.com", "sendCode": {"urlTemplate": ""}}}}',
            "contact/email/sendCode/urlTemplate",
            "minLength",
        ),
    ],
)
def test_a_malformed_body_is_400_with_the_pointer(tenant: Tenant, body: str | bytes, field: str, rule: str) -> None:
    """Never a 500, never stored half: each is named where it stands."""
    user_id = tenant.user()
    response = raw(tenant.owner, f"/v3alpha/users/{user_id}", body)
    assert (response.status_code, response.json()["code"]) == (400, 3), response.text
    assert violations(response) == {field: rule}
    assert tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["details"]["sequence"] == "1"


def test_all_violations_of_the_envelope_come_at_once(tenant: Tenant) -> None:
    """A client mends its request in one round; the limit counts code points."""
    user_id = tenant.user()
    body = {"shemaId": 1, "username": "\N{GRINNING FACE}" * 201, "contact": {"email": {}, "phone": {"number": 7}}}
    response = tenant.owner.put(f"/v3alpha/users/{user_id}", json=body)
    assert violations(response) == {
        "shemaId": "unknownField",
        "username": "maxLength",
        "contact/email/address": "required",
        "contact/phone/number": "type",
    }
    fits = tenant.owner.put(f"/v3alpha/users/{user_id}", json={"username": "\N{GRINNING FACE}" * 200})
    assert fits.status_code == 200


def test_a_hundred_violations_are_listed_and_the_rest_counted(tenant: Tenant) -> None:
    """A body of many mistakes gets a bounded answer."""
    body = {"data": {f"${n}": 1 for n in range(250)}}
    response = tenant.owner.put(f"/v3alpha/users/{tenant.user()}", json=body)
    listed = response.json()["details"][1]["fieldViolations"]
    assert len(listed) == 101
    assert "150" in listed[-1]["description"]


def test_numbers_at_the_edges_survive(tenant: Tenant) -> None:
    """64-bit integers, doubles and every Unicode string come back as they were sent."""
    extra = {
        "min": -(2**63),
        "max": 2**63 - 1,
        "tiny": 5e-324,
        "text": "\u0001 \u2028 \ue000 \N{GRINNING FACE}",
        "n": None,
    }
    user_id = tenant.user(data={"name": "E", "extra": extra})
    assert tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["data"]["extra"] == extra


def test_a_body_at_the_limit_is_taken_and_one_beyond_is_not(tenant: Tenant) -> None:
    """1 MiB, whether the length is announced or the body comes in chunks."""
    user_id = tenant.user()
    path = f"/v3alpha/users/{user_id}"
    frame = len(json.dumps({"data": {"name": "B", "extra": ""}}))
    fitting = json.dumps({"data": {"name": "B", "extra": "x" * (1024 * 1024 - frame)}})
    assert raw(tenant.owner, path, fitting).status_code == 200
    too_big = fitting.replace("xx", "xxx", 1)
    announced = raw(tenant.owner, path, too_big)
    assert (announced.status_code, reason(announced)) == (413, "BODY_TOO_LARGE")
    chunked = tenant.owner.put(path, content=iter([too_big.encode()]), headers=JSON)
    assert chunked.status_code == 413


def test_a_connection_ends_with_a_body_that_is_not_read(tenant: Tenant) -> None:
    """And the client is told: its next request must not be lost on a connection that the server is about to close."""
    path = f"/v3alpha/users/{tenant.user()}"
    for status, method, headers in (
        (401, "PUT", {**JSON, "Authorization": "Bearer wrong"}),
        (405, "POST", JSON),
        (413, "PUT", JSON),
        (415, "PUT", {}),
    ):
        content = b"x" * (1024 * 1024 + 1) if status == 413 else b"{}"
        refused = tenant.owner.request(method, path, content=content, headers=headers)
        assert (refused.status_code, refused.headers.get("connection")) == (status, "close")
    for response in (tenant.owner.get(path), raw(tenant.owner, path, "{}"), raw(tenant.owner, path, "{")):
        assert "connection" not in response.headers


def test_a_connection_serves_bodies_one_after_the_other(server: Server) -> None:
    """However large, announced or in chunks: each is read to its end and no further."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.connect()
    assert connection.sock is not None
    own = connection.sock.getsockname()
    headers = {**JSON, "Authorization": f"Bearer {server.token}"}
    for size in (1, 20_000, 1_000_000):
        body = json.dumps({"data": {"name": "x" * size}}).encode()
        for content in (body, iter([body[:9], body[9:]])):
            connection.request("PUT", "/v3alpha/users/none", content, headers, encode_chunked=content is not body)
            response = connection.getresponse()
            assert (response.status, json.load(response)["code"]) == (404, 5)
            assert connection.sock is not None
            assert connection.sock.getsockname() == own
    connection.close()


def test_headers_of_one_name_are_one_list(admin: Api) -> None:
    """What may be a list is read as one, what may not is refused rather than picked from (RFC 9110, 5.3)."""

    def status(method: str, *headers: tuple[str, str]) -> int:
        body = b"{}" if method == "PUT" else None
        return admin.request(method, "/v3alpha/users/none", content=body, headers=list(headers)).status_code

    accept = ("Accept", "text/html"), ("Accept", "application/json")
    assert status("GET", *accept) == 404
    assert status("GET", accept[0], accept[0]) == 406
    assert status("PUT", *JSON.items(), *JSON.items()) == 415
    assert status("PUT", *JSON.items(), ("If-Match", '"1"'), ("If-Match", '"2"')) == 400


def test_options_names_the_methods_of_the_path(admin: Api) -> None:
    """As the refusal of another method does."""
    answer = admin.options("/v3alpha/users/1")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "DELETE, GET, OPTIONS, PATCH, PUT"


def test_unknown_and_repeated_query_parameters_are_refused(tenant: Tenant) -> None:
    """A typo in ``validateOnly`` must not turn a rehearsal into the real thing."""
    path = f"/v3alpha/users/{tenant.user()}"
    for query in ("?validateonly=true", "?validateOnly=yes", "?validateOnly=true&validateOnly=false"):
        response = tenant.owner.put(path + query, json={})
        assert (response.status_code, reason(response)) == (400, "QUERY_INVALID")


def test_request_ids_are_taken_or_made(admin: Api) -> None:
    """A well-formed X-Request-Id is kept, another replaced; errors carry it too."""
    kept = admin.get("/v3alpha/users/none", headers={"X-Request-Id": "abc.DEF-1_2"})
    assert kept.headers["x-request-id"] == "abc.DEF-1_2"
    assert kept.json()["details"][-1]["requestId"] == "abc.DEF-1_2"
    for odd in ("a b", "x" * 129, "\u00e9"):
        made = admin.get("/v3alpha/users/none", headers={b"X-Request-Id": odd.encode("latin-1")})
        assert made.headers["x-request-id"] not in {odd, ""}


def test_reads_can_be_conditional(tenant: Tenant) -> None:
    """If-None-Match with the present ETag is 304 without a body; caches are told to keep nothing for others."""
    path = f"/v3alpha/users/{tenant.user()}"
    first = tenant.owner.get(path)
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["vary"] == "Authorization, x-zitadel-orgid"
    second = tenant.owner.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.content) == (304, b"")
    assert tenant.owner.get(path, headers={"If-None-Match": '"99", W/"1"'}).status_code == 304
    assert tenant.owner.get(path, headers={"If-None-Match": '"99"'}).status_code == 200
    written = tenant.owner.put(path, json={"data": {"name": "C"}}, headers={"If-None-Match": '"2"'})
    assert (written.status_code, written.json()["details"]["sequence"]) == (200, "2")


def test_null_is_absent_everywhere_in_the_envelope(tenant: Tenant) -> None:
    """Also for a field with a default; a required one stays required."""
    body = {"query": {"limit": None, "asc": None}, "sortingColumn": None, "queries": None, "pageToken": None}
    assert tenant.owner.post("/v3alpha/users/search", json=body).status_code == 200
    query = {"usernameQuery": {"username": "x", "method": None}, "notQuery": None}
    assert tenant.owner.post("/v3alpha/users/search", json={"queries": [query]}).status_code == 200
    refused = tenant.owner.post("/v3alpha/users", json={"schemaId": None, "data": {"name": None}})
    assert violations(refused) == {"schemaId": "type"}


def test_public_paths_need_no_token(server: Server) -> None:
    """Health, the OpenAPI document and its page are open; metrics and mailbox only for this machine."""
    for path in ("/health/live", "/health/ready", "/openapi.json", "/docs", "/metrics", "/ui/mailbox"):
        assert httpx.get(server.url + path, verify=ANY_TLS).status_code == 200, path
    for path in ("/metrics", "/ui/mailbox"):
        for headers in ({"Forwarded": "for=1.2.3.4"}, {"X-Forwarded-For": "1.2.3.4"}, {"Host": "evil.example"}):
            assert httpx.get(server.url + path, headers=headers, verify=ANY_TLS).status_code == 401, (path, headers)


def test_garbage_on_the_wire_harms_nobody(server: Server) -> None:
    """A truncated body, a lying length and a pipelined mess end their own connection only."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.putrequest("PUT", "/v3alpha/users/1")
    connection.putheader("Authorization", f"Bearer {server.token}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"data": ')
    connection.close()
    for garbage in (b"\x00\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        mess = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        mess.connect()
        assert mess.sock is not None
        mess.sock.sendall(garbage)
        mess.close()
    assert httpx.get(server.url + "/health/ready", verify=ANY_TLS).status_code == 200


def test_internal_fields_of_bodies_stay_out_of_the_log(server: Server, tenant: Tenant) -> None:
    """Neither values nor codes nor tokens are written to the log."""
    secret_name = "Xylophonist-7731"
    user_id = tenant.user(data={"name": secret_name})
    answer: dict[str, Any] = tenant.owner.ok(
        "PUT",
        f"/v3alpha/users/{user_id}",
        {"contact": {"email": {"address": "quiet-4412@example.com", "returnCode": {}}}},
    )
    tenant.owner.put(f"/v3alpha/users/{user_id}", json={"data": {"name": 5, "odd": secret_name}})
    log = server.log()
    for secret in (secret_name, "quiet-4412", answer["emailCode"], server.token, tenant.owner.token):
        assert secret not in log
