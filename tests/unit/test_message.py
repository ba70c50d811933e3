from __future__ import annotations

import pytest

from schema_user.domain.message import fill, template_problem


@pytest.mark.parametrize(
    "template",
    [
        "https://app.example.com/v?u={{.UserID}}&o={{.OrgID}}&c={{.Code}}",
        "https://app.example.com/{{.Code}}",
        "https://app.example.com",
        "HTTPS://APP.example.com/x",
        "http://localhost:3000/v?c={{.Code}}",
        "http://127.0.0.1/v",
        "http://[::1]:8080/v",
    ],
)
def test_good_templates_pass(template: str) -> None:
    """Https anywhere, http on loopback, placeholders from the path on."""
    assert template_problem(template, None) is None


@pytest.mark.parametrize(
    "template",
    [
        "http://app.example.com/",
        "javascript:alert(1)",
        "//app.example.com/",
        "/verify",
        "https://",
        "https:///path",
        "https://{{.Code}}.example.com/",
        "https://example.com{{.Code}}/",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com\\@evil.example/",
        "https://example.com/ x",
        "https://example.com/\n",
        "https://example.com/{{.Other}}",
        "https://example.com/{{ .Code }}",
        "https://example.com/{{.Code}",
        "https://example.com:99999/",
        "https://[::1/",
        "{{.Code}}",
    ],
)
def test_bad_templates_are_told_why(template: str) -> None:
    """Each has a problem in words, whatever hosts are allowed."""
    assert template_problem(template, None)


def test_only_allowed_hosts_are_led_to() -> None:
    """The host is compared whole and without case."""
    allowed = {"app.example.com"}
    assert template_problem("https://APP.example.com/", allowed) is None
    for host in ("evil.example", "app.example.com.evil.example", "xapp.example.com"):
        assert template_problem(f"https://{host}/", allowed)


def test_values_are_percent_encoded() -> None:
    """A value cannot break out of its place."""
    filled = fill(
        "https://e.example/?u={{.UserID}}&o={{.OrgID}}&c={{.Code}}", user_id="a&b=/?", organization_id="ö", code="X"
    )
    assert filled == "https://e.example/?u=a%26b%3D%2F%3F&o=%C3%B6&c=X"
