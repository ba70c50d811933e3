"""The words of an organization's messages through the API, and the page that shows how messages look."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from schema_user.cli import preview
from schema_user.domain.contact import Channel
from schema_user.domain.wording import MAX_TEXTS_BYTES, Language, Occasion
from tests.conftest import ANY_TLS, SCHEMA, Api, Server, fresh_uri, reason, violations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = "/ui/messages/preview"
TEXTS: dict[str, Any] = {
    "de": {
        "verify": {
            "subject": "Willkommen bei {{.Service}}",
            "heading": "Grüezi & hallo",
            "intro": "Sie haben sich bei {{.Service}} angemeldet.",
            "button": "Ja, das bin ich",
            "footer": "Noch {{.Validity}}.",
            "sms": "{{.Code}}: {{.Service}}",
        },
        "addressChanged": {"intro": "Neu: {{.Address}}."},
        "addressRemoved": {"sms": "Weg bei {{.Service}}."},
    },
    "en": {"passwordReset": {"subject": "Forgot it?"}},
}


@pytest.fixture(scope="module")
def allowing(short_dir: Path) -> Iterator[Server]:
    """Run a server that lets organizations send from two domains."""
    environment = {
        "SCHEMA_USER_MAIL_FROM": "Users <no-reply@users.example.com>",
        "SCHEMA_USER_MAIL_FROM_DOMAINS": "mouse.example, Bücher.example",
    }
    running = Server(short_dir / "preview", environment=environment).start()
    yield running
    assert running.stop() == 0
    assert "unexpected" not in running.log(), running.log()


@pytest.fixture
def api(allowing: Server) -> Iterator[Api]:
    """Call it with its first token."""
    with allowing.client() as client:
        yield client


@pytest.fixture(scope="module")
def local(allowing: Server) -> Iterator[httpx.Client]:
    """Call it from this machine without a token."""
    with httpx.Client(base_url=allowing.url, timeout=30, verify=ANY_TLS) as client:
        yield client


@pytest.fixture
def organization(api: Api) -> str:
    """Give a fresh organization."""
    return str(api.ok("POST", "/v3alpha/organizations", {"name": "Mouse"})["organizationId"])


def put(api: Api, organization: str, **settings: Any) -> httpx.Response:
    """Change the settings of an organization."""
    return api.put(f"/v3alpha/organizations/{organization}", json={"settings": settings})


def settings_of(api: Api, organization: str) -> Any:
    """Read them."""
    return api.ok("GET", f"/v3alpha/organizations/{organization}")["organization"]["settings"]


class TestSettings:
    def test_they_come_back_as_they_were_given(self, api: Api, organization: str) -> None:
        """Sender, languages and texts are stored, and gone when the settings are replaced without them."""
        chosen = {
            "sender": {"name": "Mouse & Co", "address": "hallo@mouse.example"},
            "languages": ["de", "fr"],
            "texts": TEXTS,
        }
        assert put(api, organization, **chosen).status_code == 200
        assert settings_of(api, organization) == chosen
        query = {"queries": [{"idQuery": {"id": organization}}]}
        (found,) = api.ok("POST", "/v3alpha/organizations/search", query)["result"]
        assert found["settings"] == {key: chosen[key] for key in ("sender", "languages")}, "a page has many"
        sequence = api.ok("GET", f"/v3alpha/organizations/{organization}")["organization"]["details"]["sequence"]
        assert put(api, organization, **chosen).json()["details"]["sequence"] == sequence, "nothing changed"
        assert put(api, organization).status_code == 200
        assert settings_of(api, organization) == {}

    @pytest.mark.parametrize(
        ("settings", "found"),
        [
            ({"sender": {"name": "a@b.example"}}, {"settings/sender/name": "text"}),
            ({"sender": {"name": "x" * 61}}, {"settings/sender/name": "maxLength"}),
            ({"sender": {"name": "Bob\r\nBcc: a@b.example"}}, {"settings/sender/name": "text"}),
            ({"sender": {"address": "nobody"}}, {"settings/sender/address": "format"}),
            ({"sender": {"address": "Bob <a@mouse.example>"}}, {"settings/sender/address": "format"}),
            ({"sender": {"address": "a@mouse.example\r\nBcc: b@c.example"}}, {"settings/sender/address": "format"}),
            ({"sender": {"address": "zoë@mouse.example"}}, {"settings/sender/address": "format"}),
            ({"sender": {"address": "a@users.example.com"}}, {"settings/sender/address": "domain"}),
            ({"sender": {"address": "a@x.mouse.example"}}, {"settings/sender/address": "domain"}),
            ({"sender": {"phone": "+41791234567"}}, {"settings/sender/phone": "unknownField"}),
            ({"languages": ["de", "it"]}, {"settings/languages/1": "enum"}),
            ({"languages": ["de", "en", "de"]}, {"settings/languages/2": "unique"}),
            ({"languages": ["en"] * 5}, {"settings/languages": "maxItems"}),
            ({"texts": {"it": {}}}, {"settings/texts/it": "unknownField"}),
            ({"texts": {"de": {"newer": {}}}}, {"settings/texts/de/newer": "unknownField"}),
            ({"texts": {"de": {"verify": {"body": "x"}}}}, {"settings/texts/de/verify/body": "unknownField"}),
            (
                {"texts": {"de": {"addressChanged": {"button": "x"}}}},
                {"settings/texts/de/addressChanged/button": "unknownField"},
            ),
            ({"texts": {"de": {"verify": {"subject": ""}}}}, {"settings/texts/de/verify/subject": "minLength"}),
            ({"texts": {"de": {"verify": {"subject": "x" * 151}}}}, {"settings/texts/de/verify/subject": "maxLength"}),
            (
                {"texts": {"de": {"verify": {"subject": "{{.Code}}", "intro": "a\r\nb", "footer": "<a href=x>"}}}},
                {
                    "settings/texts/de/verify/subject": "text",
                    "settings/texts/de/verify/intro": "text",
                    "settings/texts/de/verify/footer": "text",
                },
            ),
            ({"texts": {"fr": {"verify": {"sms": "Bonjour"}}}}, {"settings/texts/fr/verify/sms": "text"}),
            (
                {"texts": {"es": {"passwordReset": {"heading": "{{.Nope}}"}}}},
                {"settings/texts/es/passwordReset/heading": "text"},
            ),
        ],
    )
    def test_what_messages_must_not_have_is_refused_with_its_place(
        self, api: Api, organization: str, settings: dict[str, Any], found: dict[str, str]
    ) -> None:
        """Each mistake is named by its pointer, and nothing is stored."""
        answer = put(api, organization, **settings)
        assert (answer.status_code, reason(answer)) == (400, "FIELD_INVALID")
        assert violations(answer) == found
        assert settings_of(api, organization) == {}

    def test_all_texts_together_have_a_limit(self, api: Api, organization: str) -> None:
        """Whatever fits in each place by its characters must fit in 64 KiB together, by its bytes."""
        codes = {"intro": "🐭" * 1000, "footer": "🐭" * 1000, "sms": "{{.Code}}" + "🐭" * 291}
        notices = {**codes, "sms": "🐭" * 300}
        one = {"verify": codes, "passwordReset": codes, "addressChanged": notices, "addressRemoved": notices}
        size = sum(len(text.encode()) for parts in one.values() for text in parts.values())
        assert size < MAX_TEXTS_BYTES < 2 * size
        assert put(api, organization, texts={"de": one}).status_code == 200
        answer = put(api, organization, texts={"de": one, "fr": one})
        assert violations(answer) == {"settings/texts": "maxLength"}
        assert "must have at most 65536 bytes" in answer.json()["message"]

    def test_a_domain_of_other_letters_is_the_same_as_its_ascii(self, api: Api, organization: str) -> None:
        """Domains are compared as the mail system writes them."""
        assert put(api, organization, sender={"address": "a@BÜCHER.example"}).status_code == 200
        assert settings_of(api, organization) == {"sender": {"address": "a@xn--bcher-kva.example"}}

    def test_by_default_an_organization_has_no_address_of_its_own(self, tenant: Any) -> None:
        """Without the setting nobody may speak from any domain; a name is free."""
        refused = put(tenant.owner, tenant.organization_id, sender={"address": "a@localhost"})
        assert violations(refused) == {"settings/sender/address": "domain"}
        assert put(tenant.owner, tenant.organization_id, sender={"name": "Mouse"}).status_code == 200


def sent_to(server: Server, recipient: str) -> str:
    """Wait for a message in the mailbox, and give it as it lies there, decoded."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        page = httpx.get(f"{server.url}/ui/mailbox", verify=ANY_TLS).text
        for part in page.split("<article>")[1:]:
            if recipient in part:
                return html.unescape(part)
        time.sleep(0.1)
    raise AssertionError("no message came")


def test_a_message_goes_out_in_the_organizations_voice(allowing: Server, api: Api, organization: str) -> None:
    """What was chosen is what a user gets, in the user's language, else in the organization's first."""
    assert put(api, organization, sender={"name": "Mouse & Co"}, languages=["de"], texts=TEXTS).status_code == 200
    schema = {**SCHEMA, "additionalProperties": True}
    headers = {"x-zitadel-orgid": organization}
    schema_id = api.ok("POST", "/v3alpha/user_schemas", {"type": "mouse", "schema": schema}, headers=headers)["id"]

    def user(number: int, **data: str) -> None:
        contact = {"email": {"address": f"voice{number}@example.com"}, "phone": {"number": f"+4179123000{number}"}}
        body = {"schemaId": schema_id, "data": {"name": "M", **data}, "contact": contact}
        api.ok("POST", "/v3alpha/users", body, headers=headers)

    user(1, preferredLanguage="it")
    mail = sent_to(allowing, "voice1@example.com")
    assert "<h2>Willkommen bei Mouse & Co</h2>" in mail
    assert "Grüezi & hallo" in mail
    assert re.search(r"Noch (60|59) Minuten\.", mail)
    assert re.search(r"<pre>[A-Z0-9]{6}: Mouse & Co", sent_to(allowing, "+41791230001"))
    user(2, preferredLanguage="fr-CH")
    assert "<h2>Confirmez votre adresse e-mail pour Mouse & Co</h2>" in sent_to(allowing, "voice2@example.com")


def shown(page: httpx.Response) -> str:
    """Give the mail that stands in the frame of a page."""
    found = re.search(r'<iframe sandbox srcdoc="([^"]*)"', page.text)
    assert found is not None
    return html.unescape(found[1])


class TestPage:
    @pytest.mark.parametrize("occasion", Occasion)
    @pytest.mark.parametrize("language", Language)
    def test_every_mail_and_text_message_is_shown(self, local: httpx.Client, occasion: str, language: str) -> None:
        """Each link of the table leads to a page with the mail beside its text, filled with samples."""
        page = local.get(f"{PAGE}?kind={occasion}&language={language}")
        assert page.status_code == 200
        assert f'<html lang="{language}" dir="ltr">' in shown(page)
        assert "Users" in shown(page)
        assert page.text.count('aria-current="page"') == 1
        sms = local.get(f"{PAGE}?kind={occasion}&language={language}&channel=phone")
        assert sms.status_code == 200
        assert "<iframe" not in sms.text
        assert "Users" in sms.text.partition("<pre")[2]

    def test_the_table_leads_to_all(self, local: httpx.Client, api: Api, organization: str) -> None:
        """Every kind, channel and language is one link away, in the same organization."""
        page = local.get(f"{PAGE}?organizationId={organization}").text
        links = [html.unescape(each) for each in re.findall(r'<a href="([^"]*)"', page)]
        assert len(set(links)) == len(links) == len(Occasion) * 2 * len(Language)
        assert all(f"organizationId={organization}" in link for link in links)
        assert all(local.get(f"{PAGE}{link}").status_code == 200 for link in links)

    def test_an_organizations_words_are_shown(self, local: httpx.Client, api: Api, organization: str) -> None:
        """What is stored is what is seen, escaped."""
        assert put(api, organization, sender={"name": "Mouse & Co"}, texts=TEXTS, emailCodeTtl="2m").status_code == 200
        page = local.get(f"{PAGE}?language=de&organizationId={organization}")
        assert "<h1>Grüezi &amp; hallo</h1>" in shown(page)
        assert "Noch 2 Minuten." in shown(page)
        assert "Mouse &amp; Co &lt;no-reply@users.example.com&gt;" in page.text

    def test_nothing_may_come_from_elsewhere(self, local: httpx.Client) -> None:
        """No script, no stranger, and the two style sheets by their digests; a mail can do nothing in its frame."""
        page = local.get(PAGE)
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        for source in (page.text, shown(page)):
            style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
            assert style is not None
            assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy
        assert "<script" not in page.text
        assert '<iframe sandbox srcdoc="' in page.text
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize("name", ["kind", "channel", "language"])
    def test_what_is_not_there_is_refused_by_name(self, local: httpx.Client, name: str) -> None:
        """A typo is told, and not shown as something else."""
        answer = local.get(PAGE, params={name: "<newer>"})
        assert (answer.status_code, violations(answer)) == (400, {name: "enum"})
        assert "newer" not in answer.text

    @pytest.mark.parametrize(
        ("roles", "status"),
        [(["ORG_OWNER"], 200), (["ORG_USER_MANAGER"], 403), (["SCHEMA_AUTHOR"], 403)],
        ids=["owner", "manager", "author"],
    )
    @pytest.mark.parametrize("named", [True, False], ids=["organization", "none"])
    def test_from_elsewhere_it_takes_message_read(
        self,
        allowing: Server,
        local: httpx.Client,
        api: Api,
        organization: str,
        roles: list[str],
        status: int,
        named: bool,
    ) -> None:
        """Behind a proxy a token is needed, and what it permits, there or anywhere."""
        away = {"X-Forwarded-For": "203.0.113.7"}
        grants = [{"role": role, "organizationId": organization} for role in roles]
        token = api.ok("POST", "/v3alpha/tokens", {"name": "test", "roles": grants})["token"]
        query = f"?organizationId={organization}" if named else ""
        with allowing.client(token) as caller:
            assert caller.get(PAGE + query, headers=away).status_code == status
            foreign = caller.get(f"{PAGE}?organizationId=default", headers=away)
            assert (foreign.status_code, reason(foreign)) == (404, "ORGANIZATION_NOT_FOUND")
        assert local.get(f"{PAGE}{query}", headers=away).status_code == 401

    def test_an_organization_that_is_not_there(self, local: httpx.Client) -> None:
        """It is missing for this machine too."""
        answer = local.get(f"{PAGE}?organizationId=nobody")
        assert (answer.status_code, reason(answer)) == (404, "ORGANIZATION_NOT_FOUND")

    @pytest.mark.soak
    def test_with_a_database_elsewhere_this_machine_needs_a_token_too(self, short_dir: Path, mongod_uri: str) -> None:
        """Only the local default trusts whoever sits at it."""
        environment = {
            "SCHEMA_USER_MONGODB_URI": fresh_uri(mongod_uri),
            "SCHEMA_USER_SECRET_KEY": "a secret of the tests without any comma",
        }
        server = Server(short_dir / "preview-elsewhere", environment=environment).start()
        try:
            assert httpx.get(server.url + PAGE, verify=ANY_TLS).status_code == 401
            with server.client("sut_wrong") as stranger, server.client() as caller:
                assert stranger.get(PAGE).status_code == 401
                assert caller.get(PAGE).status_code == 200
                assert caller.get(PAGE, headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 200
        finally:
            server.stop()


def run(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``schema-user messages preview`` beside a server."""
    environment = {
        **os.environ,
        **server.environment,
        "SCHEMA_USER_DATA_DIR": str(server.data_dir),
        "SCHEMA_USER_PUBLIC_URL": "https://users.example.com",
    }
    command = [sys.executable, "-m", "schema_user.cli", "messages", "preview", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


class TestCommand:
    def test_it_prints_a_mail(self, allowing: Server) -> None:
        """Headers and text, with a link of the service."""
        done = run(allowing, "--kind", "password_reset", "--language", "fr")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(
            "From: Users <no-reply@users.example.com>\nTo: minnie@example.org\nSubject: Choisissez"
        )
        assert "60 minutes" in done.stdout

    def test_it_writes_a_file_in_an_organizations_voice(
        self, allowing: Server, api: Api, organization: str, tmp_path: Path
    ) -> None:
        """The HTML is the one that a user would get."""
        assert put(api, organization, texts=TEXTS).status_code == 200
        file = tmp_path / "mail.html"
        done = run(allowing, "--language", "de", "--organization", organization, "--html", str(file))
        assert (done.returncode, done.stdout) == (0, "")
        assert "Grüezi &amp; hallo" in file.read_text(encoding="utf-8")

    def test_it_offers_all_there_are(self) -> None:
        """The choices stand there once more, so that nobody waits for what knows them to see --help."""
        assert tuple(Occasion) == preview._KINDS
        assert tuple(Channel) == preview._CHANNELS
        assert tuple(Language) == preview._LANGUAGES

    def test_it_needs_no_database_for_the_services_own_words(self, tmp_path: Path) -> None:
        """Nothing is started, nothing is made."""
        environment = {**os.environ, "SCHEMA_USER_DATA_DIR": str(tmp_path / "none")}
        command = [sys.executable, "-m", "schema_user.cli", "messages", "preview"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert not (tmp_path / "none").exists()

    def test_it_prints_a_text_message(self, allowing: Server) -> None:
        """One line, nothing else."""
        done = run(allowing, "--channel", "phone")
        assert done.stdout.count("\n") == 1
        assert done.stdout.startswith("H4KQ9T is your code for Users")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--organization", "nobody"], "organization not found"),
            (["--channel", "phone", "--html", "x.html"], "a text message has none"),
        ],
        ids=["no organization", "no html"],
    )
    def test_what_cannot_be_shown_is_said(self, allowing: Server, arguments: list[str], words: str) -> None:
        """A sentence, and status 1."""
        done = run(allowing, *arguments)
        assert done.returncode == 1
        assert words in done.stderr


def test_the_reference_shows_texts_that_are_taken(api: Api, organization: str) -> None:
    """The examples of the parts are good texts in their places."""
    schemas = json.loads(api.get("/openapi.json").text)["components"]["schemas"]
    given = {
        name: schema["examples"][0] if "examples" in schema else schema["example"]
        for name, schema in schemas["CodeTextsBody"]["properties"].items()
        if "example" in schema or "examples" in schema
    }
    assert given
    assert put(api, organization, texts={"de": {"verify": given}}).status_code == 200
