"""The words of messages: in each language, for each occasion, on each channel, in the voice of an organization."""

from __future__ import annotations

import contextlib
import html
import itertools
import re
import tomllib
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schema_user.delivery import texts as texts_module
from schema_user.delivery.email import MailWriter
from schema_user.delivery.texts import Texts, spoken
from schema_user.delivery.undelivered import Undelivered
from schema_user.delivery.voice import overlaid
from schema_user.domain.contact import Channel
from schema_user.domain.message import ADDRESS_CHANGED, VERIFY, Message
from schema_user.domain.organization import OrganizationSettings
from schema_user.domain.wording import (
    MAX_CHARACTERS,
    Language,
    Occasion,
    Part,
    Sender,
    Voice,
    filled,
    name_problem,
    occasion_of,
    parts,
    pick_language,
    placeholders,
    text_problem,
)
from schema_user.settings import SettingsError, read_settings

if TYPE_CHECKING:
    from email.message import EmailMessage

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LINK = "https://app.example.com/verify?user=290000000000000001&organization=default&code=ACDEF3&next=%2Fhome"
VOICE = Voice("Mouse & Co", "Mouse & Co", "no-reply@example.com")
TEXTS = Texts()
WORDS = {
    language: tomllib.loads((texts_module._TEMPLATES / f"words/{language}.toml").read_text(encoding="utf-8"))
    for language in Language
}
ALL = list(itertools.product(Occasion, Language))
GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""3GPP TS 23.038, table 6.2.1: each of these takes one septet; ^ { } [ ] ~ \\ | and the euro take two."""


def message(occasion: Occasion, channel: Channel = Channel.EMAIL, **changes: Any) -> Message:
    """Make a message of an occasion; one with a code is good for an hour, and has a link in a mail."""
    made = Message(
        message_id="290000000000000001:0f0e0d0c0b0a090807060504",
        kind=occasion.value if occasion.has_code else ADDRESS_CHANGED,
        channel=channel,
        user_id="290000000000000001",
        organization_id="default",
        recipient="minnie@example.com" if channel is Channel.EMAIL else "+41791234567",
        created_at=NOW,
    )
    if occasion.has_code:
        made = replace(made, code="ACDEF3", expires_at=NOW + timedelta(hours=1))
        made = replace(made, url=LINK if channel is Channel.EMAIL else None)
    elif occasion is Occasion.ADDRESS_CHANGED:
        made = replace(made, other="m••••@example.org" if channel is Channel.EMAIL else "+41••••67")
    return replace(made, **changes)


def own(part: Part, text: str, occasion: Occasion = Occasion.VERIFY, language: Language = Language.EN) -> Voice:
    """Give the voice of an organization with one text of its own."""
    return Voice("Mouse & Co", "Mouse & Co", "no-reply@example.com", texts={language: {occasion: {part: text}}})


class Seen(HTMLParser):
    """What a browser makes of a mail: its elements with their attributes, and its text."""

    def __init__(self, source: str) -> None:
        """Read a document."""
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text, but for the style sheet."""
        if self.elements[-1:] and self.elements[-1][0] != "style":
            self.text += data

    @property
    def shape(self) -> list[tuple[str, frozenset[str]]]:
        """The elements with the names of their attributes."""
        return [(tag, frozenset(attributes)) for tag, attributes in self.elements]


class TestEveryMessage:
    def test_each_language_has_the_same_words(self) -> None:
        """No word is missing in a language, and none is left over."""

        def names(words: Any, at: str = "") -> set[str]:
            if not isinstance(words, dict):
                return {f"{at}[{len(words)}]" if isinstance(words, list) else at}
            return {each for key, value in words.items() for each in names(value, f"{at}/{key}")}

        assert len({frozenset(names(words)) for words in WORDS.values()}) == 1
        for words in WORDS.values():
            assert {*words["email"]} == {*words["phone"]} == {*Occasion}
            for occasion in Occasion:
                assert {*parts(occasion)} - {Part.SMS} <= {*words["email"][occasion]}

    @pytest.mark.parametrize(("occasion", "language"), ALL)
    @pytest.mark.parametrize("url", [LINK, None], ids=["link", "no link"])
    def test_a_mail_says_everything_twice(self, occasion: Occasion, language: Language, url: str | None) -> None:
        """The text has the words of the HTML, no placeholder is left, and the subject is one line without the code."""
        sent = message(occasion, language=language.value, url=url if occasion.has_code else None)
        mail = TEXTS.mail(sent, NOW, VOICE)
        seen = Seen(mail.html)
        body = " ".join(seen.text.partition(mail.subject)[2].split())
        text = " ".join(mail.text.split())
        for said in (mail.subject, mail.text, mail.html, seen.text):
            assert not re.search(r"\{\{|\}\}|None|Undefined", said)
        assert "Mouse & Co" in mail.subject
        assert "ACDEF3" not in mail.subject
        assert "\n" not in mail.subject
        for value in filter(None, (sent.code, sent.url, sent.other)):
            assert value in text
            assert value in body
        assert (url in mail.text.splitlines()) if sent.url else ("http" not in mail.html)
        if sent.url is None:
            assert body == text
        assert all(len(line) <= 72 for line in mail.text.splitlines() if line != sent.url)

    @pytest.mark.parametrize(("occasion", "language"), ALL)
    def test_html_needs_no_image_and_no_style(self, occasion: Occasion, language: Language) -> None:
        """A reader who blocks images, styles and strangers has the same mail: a heading, paragraphs, links."""
        seen = Seen(TEXTS.mail(message(occasion, language=language.value), NOW, VOICE).html)
        tags = {tag for tag, _ in seen.elements}
        assert tags <= {"html", "head", "meta", "title", "style", "body", "div", "h1", "p", "a", "br"}
        assert {attributes.get("href") for tag, attributes in seen.elements if tag == "a"} <= {LINK}
        assert "url(" not in TEXTS.style
        assert "@import" not in TEXTS.style

    @pytest.mark.parametrize(("occasion", "language"), ALL)
    def test_html_says_its_language(self, occasion: Occasion, language: Language) -> None:
        """Screen readers pronounce it right, also where a program keeps nothing but the body."""
        elements = Seen(TEXTS.mail(message(occasion, language=language.value), NOW, VOICE).html).elements
        told = [(attributes["lang"], attributes["dir"]) for _, attributes in elements if "lang" in attributes]
        assert told == [(language.value, "ltr")] * 2
        assert [tag for tag, attributes in elements if "lang" in attributes] == ["html", "div"]

    @pytest.mark.parametrize(("occasion", "language"), ALL)
    def test_text_messages_fit_into_one(self, occasion: Occasion, language: Language) -> None:
        """160 septets of GSM-7 hold each, with a name of 20 characters, at the longest time that a code may be good."""
        sent = message(occasion, Channel.PHONE, language=language.value)
        voice = Voice("Kulturhaus am Rhein.", "", "no-reply@example.com")
        for left in (timedelta(minutes=10), timedelta(minutes=119), timedelta(days=366)):
            text = TEXTS.sms(replace(sent, expires_at=NOW + left) if sent.code else sent, NOW, voice)
            assert set(text) <= GSM_7
            assert len(text) <= 160
            assert "Kulturhaus am Rhein." in text
            assert "{" not in text
            assert text.startswith("ACDEF3 ") is occasion.has_code

    def test_a_link_comes_last_in_a_text_message(self) -> None:
        """The code stays in front, where a locked screen shows it."""
        text = TEXTS.sms(message(Occasion.VERIFY, Channel.PHONE, url="https://a.example/v?c=1"), NOW, VOICE)
        assert text.startswith("ACDEF3 ")
        assert text.endswith(". https://a.example/v?c=1")

    def test_a_masked_number_costs_no_second_message(self) -> None:
        """Dots beyond the GSM alphabet would more than halve the room that a text message has."""
        assert "+41****67" in TEXTS.sms(message(Occasion.ADDRESS_CHANGED, Channel.PHONE), NOW, VOICE)

    @pytest.mark.parametrize("channel", Channel)
    def test_a_kind_without_words_may_have_some_later(self, channel: Channel) -> None:
        """During a roll-out an older worker may meet a newer message: it waits for a newer worker."""
        write = TEXTS.mail if channel is Channel.EMAIL else TEXTS.sms
        with pytest.raises(Undelivered) as caught:
            write(message(Occasion.VERIFY, channel, kind="newer"), NOW, VOICE)
        assert not caught.value.permanent


class TestLanguage:
    @pytest.mark.parametrize(
        ("wanted", "languages", "picked"),
        [
            (None, (), "en"),
            ("", (), "en"),
            ("de", (), "de"),
            ("de-CH", (), "de"),
            ("DE_at", ("fr",), "de"),
            ("fr-Latn-CA-x-any", (), "fr"),
            ("es-419", ("de",), "es"),
            ("it", ("de", "fr"), "de"),
            (None, ("fr",), "fr"),
            ("zh-Hant", (), "en"),
            ("deu", (), "en"),
            ("../de", (), "en"),
            ("de/../en", (), "en"),
            ("\0", ("es",), "es"),
        ],
    )
    def test_the_users_then_the_organizations_then_english(
        self, wanted: str | None, languages: tuple[str, ...], picked: str
    ) -> None:
        """A tag chooses by its language; it comes out of a user's data, so it leads to no file of its own."""
        assert pick_language(wanted, languages) == picked

    def test_the_choice_is_heard(self) -> None:
        """A user of another language gets the organization's first."""
        voice = Voice("Mouse & Co", "", "no-reply@example.com", languages=("fr", "de"))
        sent = message(Occasion.VERIFY, language="it-CH")
        assert TEXTS.mail(sent, NOW, voice).subject == "Confirmez votre adresse e-mail pour Mouse & Co"
        assert TEXTS.mail(sent, NOW, voice).language == "fr"
        assert "est votre code" in TEXTS.sms(replace(sent, channel=Channel.PHONE), NOW, voice)
        assert TEXTS.mail(replace(sent, language="de-AT"), NOW, voice).language == "de"


class TestSpans:
    @pytest.mark.parametrize(
        ("span", "said"),
        [
            (timedelta(hours=1), (60, "minute")),
            (timedelta(minutes=59, seconds=59.999), (59, "minute")),
            (timedelta(minutes=119, seconds=59), (119, "minute")),
            (timedelta(hours=2), (2, "hour")),
            (timedelta(hours=47, minutes=59), (47, "hour")),
            (timedelta(days=2), (2, "day")),
            (timedelta(days=7) - timedelta(seconds=1), (6, "day")),
            (timedelta(seconds=119.9), (119, "second")),
            (timedelta(seconds=120), (2, "minute")),
            (timedelta(seconds=1), (1, "second")),
            (timedelta(seconds=-5), (0, "second")),
        ],
    )
    def test_they_are_told_in_one_unit(self, span: timedelta, said: tuple[int, str]) -> None:
        """Rounded down: a code is never dead while a message still promises it."""
        assert spoken(span) == said

    @given(st.timedeltas(timedelta(), timedelta(days=400)), st.booleans())
    def test_nothing_is_promised(self, span: timedelta, days: bool) -> None:
        """What is said is at most what is true, and more than half of it."""
        amount, unit = spoken(span, days=days)
        told = amount * {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[unit]
        assert told <= span.total_seconds() < 1.5 * told + 1

    @pytest.mark.parametrize(
        ("left", "said"),
        [
            (timedelta(seconds=1), ("1 second", "1 Sekunde", "1 seconde", "1 segundo")),
            (timedelta(seconds=59), ("59 seconds", "59 Sekunden", "59 secondes", "59 segundos")),
            (timedelta(minutes=10), ("10 minutes", "10 Minuten", "10 minutes", "10 minutos")),
            (timedelta(hours=3), ("3 hours", "3 Stunden", "3 heures", "3 horas")),
            (timedelta(days=3), ("3 days", "3 Tage", "3 jours", "3 días")),
        ],
    )
    def test_units_agree_with_their_number(self, left: timedelta, said: tuple[str, ...]) -> None:
        """One minute, two minutes, in each language."""
        sent = message(Occasion.VERIFY, expires_at=NOW + left)
        for language, words in zip(Language, said, strict=True):
            mail = TEXTS.mail(replace(sent, language=language.value), NOW, VOICE)
            assert re.search(rf"\b{words}\b", mail.text)

    def test_a_late_message_tells_the_time_that_is_left(self) -> None:
        """After retries the code is good for less than at first; the words are made when it is sent."""
        later = NOW + timedelta(minutes=25, milliseconds=1)
        assert "valid for 34 minutes" in TEXTS.mail(message(Occasion.VERIFY), later, VOICE).text
        assert "valid for 34 minutes" in TEXTS.sms(message(Occasion.VERIFY, Channel.PHONE), later, VOICE)

    def test_days_are_hours_in_a_text_message(self) -> None:
        """The Spanish word for them is beyond the alphabet."""
        sent = message(Occasion.VERIFY, Channel.PHONE, language="es", expires_at=NOW + timedelta(days=3))
        assert "72 horas" in TEXTS.sms(sent, NOW, VOICE)


class TestOwnTexts:
    @pytest.mark.parametrize("occasion", Occasion)
    def test_each_part_of_a_mail_takes_its_place(self, occasion: Occasion) -> None:
        """An organization's text stands where the service's stood, in the text and in the HTML."""
        for part in parts(occasion):
            text = "Own %s of {{.Service}}" % part  # noqa: UP031 -- braces are what this is about
            sent = message(occasion, Channel.PHONE if part is Part.SMS else Channel.EMAIL)
            if part is Part.SMS:
                assert TEXTS.sms(sent, NOW, own(part, text, occasion)) == "Own sms of Mouse & Co"
                continue
            mail = TEXTS.mail(sent, NOW, own(part, text, occasion))
            wanted = f"Own {part} of Mouse & Co"
            assert wanted in Seen(mail.html).text
            assert (mail.subject == wanted) is (part is Part.SUBJECT)
            assert (wanted in mail.text) is (part not in {Part.SUBJECT, Part.BUTTON})

    def test_other_languages_and_occasions_keep_the_services(self) -> None:
        """One text of one language changes nothing else."""
        voice = own(Part.SUBJECT, "Willkommen", language=Language.DE)
        assert TEXTS.mail(message(Occasion.VERIFY, language="de-CH"), NOW, voice).subject == "Willkommen"
        for sent in (message(Occasion.VERIFY), message(Occasion.PASSWORD_RESET, language="de")):
            assert TEXTS.mail(sent, NOW, voice) == TEXTS.mail(sent, NOW, VOICE)

    def test_placeholders_are_filled(self) -> None:
        """What an organization may speak of is told as it is."""
        text = "{{.Code}}: {{.Service}}, {{.Validity}}"
        sent = message(Occasion.VERIFY, Channel.PHONE)
        assert TEXTS.sms(sent, NOW, own(Part.SMS, text)) == "ACDEF3: Mouse & Co, 60 minutes"
        intro = own(Part.INTRO, "Now {{.Address}}.", Occasion.ADDRESS_CHANGED)
        assert "Now m••••@example.org." in TEXTS.mail(message(Occasion.ADDRESS_CHANGED), NOW, intro).text

    def test_what_stands_in_for_one_is_not_read_as_another(self) -> None:
        """A name that looks like a placeholder is a name."""
        assert filled("{{.Service}}", {"Service": "{{.Code}}", "Code": "ACDEF3"}) == "{{.Code}}"

    @pytest.mark.parametrize("occasion", Occasion)
    def test_the_code_stands_in_text_messages_only(self, occasion: Occasion) -> None:
        """Mail shows it in a place of its own; no subject, heading or button ever holds it."""
        for part in parts(occasion):
            allowed = "Code" in placeholders(occasion, part)
            assert allowed is (part is Part.SMS and occasion.has_code)
            assert (text_problem(occasion, part, "It is {{.Code}}.") is None) is allowed

    @pytest.mark.parametrize(
        ("part", "text", "problem"),
        [
            (Part.INTRO, "{{.Service}} says hello, {{.Validity}} long, at 5 < 6 {x}", None),
            (Part.INTRO, "{{.Unknown}}", "placeholder"),
            (Part.INTRO, "{{.Address}}", "placeholder"),
            (Part.INTRO, "{{ .Service }}", "placeholder"),
            (Part.INTRO, "{{.service}}", "placeholder"),
            (Part.INTRO, "{{{{.Service}}", "placeholder"),
            (Part.INTRO, "{{.Service}}}}", "placeholder"),
            (Part.SUBJECT, "{{.Validity}}", "placeholder"),
            (Part.BUTTON, " ", "blank"),
            (Part.SUBJECT, "a\r\nBcc: victim@example.com", "one line"),
            (Part.SUBJECT, "a\nb", "one line"),
            (Part.FOOTER, "a\tb", "one line"),
            (Part.FOOTER, "a\x85b", "one line"),
            (Part.FOOTER, "a\u2028b", "one line"),
            (Part.SUBJECT, "\u202egnp.exe", "one line"),
            (Part.SUBJECT, "a\x00", "one line"),
            (Part.INTRO, "<b>bold</b>", "markup"),
            (Part.INTRO, "</p>", "markup"),
            (Part.INTRO, "<!-- -->", "markup"),
            (Part.SMS, "Your code for {{.Service}}", "must hold {{.Code}}"),
            (Part.SMS, "{{.Code}}", None),
        ],
    )
    def test_what_a_text_must_not_be(self, part: Part, text: str, problem: str | None) -> None:
        """Plain words in one line, with the placeholders of their place."""
        found = text_problem(Occasion.VERIFY, part, text)
        assert (found is None) if problem is None else (problem in (found or ""))

    @pytest.mark.parametrize(("occasion", "language"), ALL)
    def test_the_services_own_words_obey_the_same_rules(self, occasion: Occasion, language: Language) -> None:
        """Whatever an organization may write could be the service's, and the reverse."""
        words = WORDS[language]["email"][occasion] | {"sms": WORDS[language]["phone"][occasion]}
        for part in parts(occasion):
            assert text_problem(occasion, part, words[part]) is None
            assert len(words[part]) <= MAX_CHARACTERS[part]

    @pytest.mark.parametrize(
        ("name", "good"),
        [
            ("Mouse & Co", True),
            ("Müller, Söhne (Bern)", True),
            ("Bank <service@bank.example>", False),
            ("service@bank.example", False),
            ('"quoted"', False),
            ("a\r\nBcc: b", False),
            ("\u202eknab", False),
            ("  ", False),
        ],
    )
    def test_a_senders_name_is_no_address(self, name: str, good: bool) -> None:
        """Programs show the name alone: one that looks like an address would deceive."""
        assert (name_problem(name) is None) is good


class TestVoice:
    INSTANCE = Voice("Users", "Users", "no-reply@users.example.com")

    def test_what_an_organization_chose_lies_over_the_instances(self) -> None:
        """Its name is also what messages call the service; what it left open is the instance's."""
        own_settings = OrganizationSettings(sender=Sender("Mouse & Co"), languages=(Language.DE,))
        voice = overlaid(self.INSTANCE, own_settings, ())
        assert voice == Voice("Mouse & Co", "Mouse & Co", "no-reply@users.example.com", (Language.DE,))
        assert overlaid(self.INSTANCE, OrganizationSettings(), ()) == self.INSTANCE

    def test_an_address_counts_within_the_allowed_domains(self) -> None:
        """One that was allowed once and is no longer is not used."""
        own_settings = OrganizationSettings(sender=Sender(address="hello@mouse.example"))
        assert overlaid(self.INSTANCE, own_settings, ("mouse.example",)).sender_address == "hello@mouse.example"
        for domains in ((), ("other.example", "use.example", "a.mouse.example")):
            assert overlaid(self.INSTANCE, own_settings, domains) == self.INSTANCE

    @pytest.mark.parametrize(
        ("text", "domains"),
        [("Mouse.example, bücher.example,", ("mouse.example", "xn--bcher-kva.example")), ("", ())],
        ids=["two", "none"],
    )
    def test_the_instance_names_domains(self, text: str, domains: tuple[str, ...]) -> None:
        """They are compared as the mail system writes them."""
        assert read_settings({"SCHEMA_USER_MAIL_FROM_DOMAINS": text}).mail_from_domains == domains

    @pytest.mark.parametrize("text", ["a@mouse.example", "mouse example", "*.mouse.example", "mouse..example"])
    def test_what_is_no_domain_is_refused(self, text: str) -> None:
        """A mistake is found at the start, not when somebody's address is refused."""
        with pytest.raises(SettingsError, match="MAIL_FROM_DOMAINS must be domains, separated by commas"):
            read_settings({"SCHEMA_USER_MAIL_FROM_DOMAINS": text})

    def test_a_mail_is_from_the_organization(self) -> None:
        """Header and words name it, whatever characters its name has."""
        voice = Voice("Müller, Söhne", "Müller, Söhne", "hello@mouse.example")
        raw = MailWriter("https://users.example.com", TEXTS).write(message(Occasion.VERIFY), NOW, voice).as_bytes()
        mail = message_from_bytes(raw, policy=default)
        (sender,) = mail["From"].addresses
        assert (sender.display_name, sender.addr_spec) == ("Müller, Söhne", "hello@mouse.example")
        assert mail["Subject"] == "Confirm your email address for Müller, Söhne"


HOSTILE = st.text(min_size=1, max_size=60) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='x",
        "</title></style><b>",
        "{{.Code}}",
        "{{ code }}{% raw %}",
        "&lt;b&gt;",
        "a\r\nBcc: victim@example.com\r\n\r\n<html>",
        "=?utf-8?q?a=0D=0ABcc:_victim=40example.com?=",
        "=?utf-8?b?YQ0KDQo8aHRtbD4=?=",
        "=?utf-8?q?Bank_=3Cadmin=40bank.example=3E?=",
        "?utf-8?q?a=0D=0ABcc:_victim=40example.com?=",
        "={{.Service}}",
    ]
)


class TestHostileValues:
    @given(name=HOSTILE, url=HOSTILE, text=HOSTILE, occasion=st.sampled_from(Occasion))
    def test_nothing_becomes_markup(self, name: str, url: str, text: str, occasion: Occasion) -> None:
        """Whatever a name, a link or a text is, even one that no rule lets in: the page has the same elements."""
        text = text.replace("{{.", "{{")
        sent = message(occasion, other="m••••@example.org" if occasion is Occasion.ADDRESS_CHANGED else None)
        plain = Seen(TEXTS.mail(sent, NOW, VOICE).html)
        if sent.url:
            sent = replace(sent, url=url)
        chosen: dict[str, str] = dict.fromkeys((Part.HEADING, Part.INTRO, Part.FOOTER, Part.SUBJECT), text)
        voice = Voice(name, name, "no-reply@example.com", texts={"en": {occasion.value: chosen}})
        mail = TEXTS.mail(sent, NOW, voice)
        seen = Seen(mail.html)
        assert seen.shape == plain.shape
        if sent.url:
            links = [attributes["href"] for tag, attributes in seen.elements if tag == "a"]
            assert links == [html.unescape(html.escape(url))] * 2
        assert "\n" not in mail.subject
        assert "\r" not in mail.subject

    @given(name=HOSTILE, subject=HOSTILE)
    def test_no_header_is_injected(self, name: str, subject: str) -> None:
        """A mail has the headers that it should have, or is not sent at all."""
        voice = Voice(
            name, name, "no-reply@example.com", texts={"en": {"verify": {"subject": subject.replace("{{.", "{{")}}}
        )
        with contextlib.suppress(Undelivered):  # for good, if the name cannot stand in a header
            self.judge(MailWriter("https://users.example.com", TEXTS).write(message(Occasion.VERIFY), NOW, voice))

    @staticmethod
    def judge(written: EmailMessage) -> None:
        """Look at a mail as its reader's program does."""
        mail = message_from_bytes(written.as_bytes(), policy=default)
        assert set(mail.keys()) == {
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "MIME-Version",
            "Content-Type",
            "Content-Language",
        }
        assert [each.addr_spec for each in mail["To"].addresses] == ["minnie@example.com"]
        assert [each.addr_spec for each in mail["From"].addresses] == ["no-reply@example.com"]

    @given(HOSTILE)
    def test_what_is_let_in_is_shown_as_it_is(self, text: str) -> None:
        """A text that the rules allow is read by people letter for letter, but for spaces."""
        if text_problem(Occasion.VERIFY, Part.HEADING, text) is not None or "{{" in text:
            return
        mail = TEXTS.mail(message(Occasion.VERIFY), NOW, own(Part.HEADING, text))
        wanted = " ".join(each for each in text.split(" ") if each)
        assert f"<h1>{wanted}</h1>" in html.unescape(mail.html)


def test_a_message_of_another_kind_has_no_occasion() -> None:
    """The removal of an address is the change to none."""
    assert occasion_of(message(Occasion.VERIFY, kind="newer")) is None
    assert occasion_of(message(Occasion.ADDRESS_CHANGED)) is Occasion.ADDRESS_CHANGED
    assert occasion_of(message(Occasion.ADDRESS_REMOVED)) is Occasion.ADDRESS_REMOVED
    assert occasion_of(message(Occasion.VERIFY, kind=VERIFY)) is Occasion.VERIFY
