"""What is sent to SMS gateways, and what their answers mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from msgspec.structs import replace

from schema_user.delivery.sms import Twilio, Webhook, parse_sms_url, retry_span, signature
from schema_user.delivery.worker import Rhythm
from schema_user.domain.contact import Channel
from schema_user.domain.message import VERIFY, Message

if TYPE_CHECKING:
    from schema_user.delivery.sms import Post

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECRET = bytes(range(24))
OLD = bytes(range(100, 164))
ENCODED, ENCODED_OLD = (f"whsec_{base64.b64encode(each).decode()}" for each in (SECRET, OLD))
SMS = Message(
    message_id="290000000000000001:0f0e0d0c0b0a090807060504",
    kind=VERIFY,
    channel=Channel.PHONE,
    user_id="290000000000000001",
    organization_id="default",
    recipient="+41791234567",
    created_at=NOW,
    code="ACDEF3",
    code_digest=b"digest",
    expires_at=NOW + timedelta(minutes=10),
)
TEXT = "Your code for Example: ACDEF3. Valid for 10 minutes."
SERVICE = "MG" + "0123456789abcdef" * 2


def posted(url: str, message: Message = SMS, now: datetime = NOW) -> Post:
    """Give what goes to the gateway of a URL."""
    return parse_sms_url(url).post(message, TEXT, now)


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            (f"https://sms.example/a/b?c=d#{ENCODED}", Webhook("https://sms.example/a/b?c=d", (SECRET,))),
            (f"https://sms.example:8443#{ENCODED},{ENCODED_OLD}", Webhook("https://sms.example:8443", (SECRET, OLD))),
            (f"http://127.0.0.1:9000/sms#{ENCODED}", Webhook("http://127.0.0.1:9000/sms", (SECRET,))),
            (f"http://localhost/#{ENCODED}", Webhook("http://localhost/", (SECRET,))),
            (
                "twilio://AC1:tok%2Fen@api.twilio.com?from=+15550001111",
                Twilio("https://api.twilio.com", "AC1", "tok/en", "+15550001111"),
            ),
            (
                "twilio://AC1:t@api.twilio.com/?from=%2B15550001111",
                Twilio("https://api.twilio.com", "AC1", "t", "+15550001111"),
            ),
            ("twilio://AC1:t@[::1]:9000?from=Example", Twilio("http://[::1]:9000", "AC1", "t", "Example")),
            (
                f"twilio://AC1:t@sms.example:8443?from={SERVICE}",
                Twilio("https://sms.example:8443", "AC1", "t", SERVICE),
            ),
        ],
        ids=["webhook", "two secrets", "loopback", "localhost", "twilio", "encoded plus", "twilio here", "service"],
    )
    def test_good_ones(self, url: str, expected: Webhook | Twilio) -> None:
        """The fragment is never sent; a plus before a number is a plus."""
        assert parse_sms_url(url) == expected

    @pytest.mark.parametrize(
        "url",
        [
            "https://sms.example/",
            "https://sms.example/#",
            "https://sms.example/#hunter2",
            "https://sms.example/#whsec_",
            "https://sms.example/#whsec_hunter2hunter2hunter2hunter2hunter2",
            f"https://sms.example/#whsec_{base64.b64encode(bytes(23)).decode()}",
            f"https://sms.example/#whsec_{base64.b64encode(bytes(65)).decode()}",
            f"https://sms.example/#{ENCODED},hunter2",
            f"https://user:hunter2@sms.example/#{ENCODED}",
            f"http://sms.example/#{ENCODED}",
            f"ftp://sms.example/#{ENCODED}",
            f"https:///sms#{ENCODED}",
            f"https://sms.example:port/#{ENCODED}",
            f"https://sms.exämple/#{ENCODED}",
            f"https://sms example/#{ENCODED}",
            "https://[hunter2/#",
            "twilio://api.twilio.com?from=+15550001111",
            "twilio://AC1@api.twilio.com?from=+15550001111",
            "twilio://AC1:hunter2@api.twilio.com",
            "twilio://AC1:hunter2@api.twilio.com?from=",
            "twilio://AC1:hunter2@api.twilio.com?form=+15550001111",
            "twilio://AC1:hunter2@api.twilio.com?from=+15550001111&to=+1555",
            "twilio://AC1:hunter2@api.twilio.com/2010-04-01?from=+15550001111",
            f"twilio://AC1:hunter2@api.twilio.com?from=+15550001111#{ENCODED}",
            "twilio://AC1:hunter2@api.twilio.com?from=%0d%0a",
        ],
    )
    def test_bad_ones_are_refused_and_not_repeated(self, url: str) -> None:
        """The error names the setting and no part of its value, which holds a secret."""
        with pytest.raises(ValueError, match="SCHEMA_USER_SMS_URL must be") as caught:
            parse_sms_url(url)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("url", [f"https://sms.example/#{ENCODED}", "twilio://AC1:hunter2@h.example?from=Me"])
    def test_what_it_holds_is_not_shown(self, url: str) -> None:
        """No secret gets into a log by way of a value that is printed."""
        shown = repr(parse_sms_url(url)) + repr(posted(url))
        assert not any(secret in shown for secret in ("hunter2", "AC1", repr(SECRET), "Basic", TEXT))


class TestWebhook:
    def test_the_signature_is_that_of_the_specification(self) -> None:
        """The example that the libraries of Standard Webhooks are tested with."""
        secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    def test_the_body_says_what_to_send(self) -> None:
        """To whom, what, of which kind, under an id that tells nothing of the user."""
        post = posted(f"https://sms.example/#{ENCODED}")
        body = json.loads(post.content)
        assert body == {"to": SMS.recipient, "text": TEXT, "messageId": post.headers["webhook-id"], "kind": "verify"}
        assert post.headers["content-type"] == "application/json"
        assert SMS.user_id not in body["messageId"]

    def test_each_secret_signs(self) -> None:
        """While a secret is replaced, a gateway that knows one of the two is content."""
        post = posted(f"https://sms.example/#{ENCODED},{ENCODED_OLD}")
        signed = b".".join(
            [post.headers["webhook-id"].encode(), post.headers["webhook-timestamp"].encode(), post.content]
        )
        expected = [
            base64.b64encode(hmac.new(each, signed, hashlib.sha256).digest()).decode() for each in (SECRET, OLD)
        ]
        assert post.headers["webhook-signature"].split(" ") == [f"v1,{each}" for each in expected]
        assert post.headers["webhook-timestamp"] == str(int(NOW.timestamp()))

    def test_another_try_has_the_same_id(self) -> None:
        """So a gateway drops doubles; another message has another."""
        url = f"https://sms.example/#{ENCODED}"
        first, again = posted(url), posted(url, now=NOW + timedelta(minutes=1))
        other = posted(url, replace(SMS, message_id="290000000000000001:ff"))
        assert first.headers["webhook-id"] == again.headers["webhook-id"] != other.headers["webhook-id"]
        assert first.headers["webhook-signature"] != again.headers["webhook-signature"]


class TestTwilio:
    @pytest.mark.parametrize(
        ("sender", "field"), [("+15550001111", "From"), ("Example", "From"), (SERVICE, "MessagingServiceSid")]
    )
    def test_the_form(self, sender: str, field: str) -> None:
        """A messaging service has a field of its own; a plus survives the encoding."""
        post = posted(f"twilio://AC1:t%3Ak@api.twilio.com?from={sender}")
        assert post.url == "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json"
        assert dict(parse_qsl(post.content.decode())) == {"To": SMS.recipient, field: sender, "Body": TEXT}
        assert b"To=%2B4179" in post.content
        assert base64.b64decode(post.headers["authorization"].removeprefix("Basic ")) == b"AC1:t:k"


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "permanent"),
        [
            *((status, True) for status in (400, 402, 404, 405, 410, 413, 422)),
            *((status, False) for status in (301, 307, 401, 403, 408, 429, 500, 502, 503, 504)),
        ],
    )
    @pytest.mark.parametrize("url", [f"https://sms.example/#{ENCODED}", "twilio://AC1:t@h.example?from=Me"])
    def test_4xx_is_final_but_for_what_can_be_mended(self, url: str, status: int, permanent: bool) -> None:
        """A login, a limit, a server's own trouble and a redirect may be over at the next try."""
        fault = parse_sms_url(url).refusal(status, b'{"message": "+41791234567"}')
        assert (fault.reason, fault.permanent) == (f"HTTP {status}", permanent)

    @pytest.mark.parametrize(
        ("code", "permanent"), [(21610, True), (21211, True), (21614, True), (21606, False), (21659, False)]
    )
    def test_twilio_says_whose_fault_it_is(self, code: int, permanent: bool) -> None:
        """A number that cannot be reached is final; a sender that cannot send is a mistake in the settings."""
        answer = json.dumps({"code": code, "message": "to +41791234567", "status": 400}).encode()
        fault = Twilio("https://h.example", "AC1", "t", "Me").refusal(400, answer)
        assert (fault.reason, fault.permanent) == (f"HTTP 400 Twilio {code}", permanent)

    @pytest.mark.parametrize(
        "answer", [b"", b"<html>", b'{"code": "+41791234567"}', b"[1]", b'{"code": 1', b"\xff\xfe"]
    )
    def test_an_answer_that_is_no_error_of_twilio(self, answer: bytes) -> None:
        """The status alone counts, and nothing of the answer is repeated."""
        fault = Twilio("https://h.example", "AC1", "t", "Me").refusal(400, answer)
        assert (fault.reason, fault.permanent) == ("HTTP 400", True)

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            ("30", 30),
            ("0", 0),
            ("Sun, 01 Mar 2026 12:02:00 GMT", 120),
            ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("1e9", None),
            ("9" * 30, None),
            ("9" * 5000, None),
            ("Sun, 99 Mar 2026 12:02:00 GMT", None),
        ],
    )
    def test_when_to_come_again(self, said: str, seconds: int | None) -> None:
        """Seconds or a date; whatever else is said counts for nothing."""
        assert retry_span(said, NOW) == (None if seconds is None else timedelta(seconds=seconds))

    @pytest.mark.parametrize(
        ("asked", "low", "high"), [(None, 4, 6), (1, 4, 6), (90, 90, 90), (10**6, 3600, 3600)], ids=str
    )
    def test_whoever_asks_for_time_gets_it_within_bounds(self, asked: Any, low: int, high: int) -> None:
        """Never less than the pause that is due anyway, never more than an hour."""
        wait = Rhythm().retry_after(1, None if asked is None else timedelta(seconds=asked)).total_seconds()
        assert low <= wait <= high
