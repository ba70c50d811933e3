"""Text messages on their way to a real HTTP gateway that refuses, delays, drops and encrypts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from schema_user.delivery import sms
from schema_user.delivery.sms import SmsTransport
from schema_user.delivery.texts import Texts
from schema_user.delivery.undelivered import Undelivered
from schema_user.delivery.worker import Worker
from schema_user.domain.contact import Address, Channel, Contact
from schema_user.domain.message import VERIFY, Message
from schema_user.domain.wording import Voice
from tests.api.conftest import ELSEWHERE
from tests.api.sms_gateway import FRAGMENT, Answer, Gateway, serving
from tests.conftest import SCHEMA, Server
from tests.store.post import QUICK, eventually, person, until

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from schema_user.rooms import Rooms

NOW = datetime.now(UTC).replace(microsecond=0)
NUMBER = "+41791234567"
SMS = Message(
    message_id="user:1",
    kind=VERIFY,
    channel=Channel.PHONE,
    user_id="user",
    organization_id="default",
    recipient=NUMBER,
    created_at=NOW,
    code="ACDEF3",
    code_digest=b"digest",
    expires_at=NOW + timedelta(minutes=10),
)
VOICE = Voice("Example", "Example", "no-reply@example.com")
SECRETS = (NUMBER, NUMBER[1:], "ACDEF3", FRAGMENT, "s3cret")


def webhook(gateway: Gateway) -> str:
    """Give the URL by which a gateway takes webhooks."""
    return f"http://127.0.0.1:{gateway.port}/sms#{FRAGMENT}"


def twilio(gateway: Gateway) -> str:
    """Give the URL by which it speaks as Twilio does."""
    return f"twilio://AC1:s3cret@127.0.0.1:{gateway.port}?from=+15550001111"


Way = Callable[[Gateway], str]
WAYS = pytest.mark.parametrize("way", [webhook, twilio], ids=["webhook", "twilio"])


@contextlib.asynccontextmanager
async def transport(url: str) -> AsyncIterator[SmsTransport]:
    """Make the transport of a URL."""
    made = SmsTransport(url, Texts(), lambda: NOW)
    try:
        yield made
    finally:
        await made.close()


async def refused(url: str) -> Undelivered:
    """Send, and give why it was not taken."""
    async with transport(url) as out:
        with pytest.raises(Undelivered) as caught:
            await out.send(SMS, VOICE)
    assert not any(secret in caught.value.reason for secret in SECRETS)
    return caught.value


async def test_a_webhook_arrives_signed() -> None:
    """The gateway checks the signature by its own means, and finds the number and the words."""
    async with serving(Gateway()) as gateway, transport(webhook(gateway)) as out:
        await out.send(SMS, VOICE)
        await out.send(SMS, VOICE)
    first, again = gateway.asked
    assert (first.path, first.to, first.signed) == ("/sms", NUMBER, True)
    assert "ACDEF3" in first.fields["text"]
    assert first.headers["webhook-id"] == again.headers["webhook-id"] == first.fields["messageId"]
    assert "whsec_" not in repr(first)


async def test_twilio_gets_its_form() -> None:
    """With the account's credentials, and the sender that is set."""
    async with serving(Gateway(lambda _: Answer(201))) as gateway, transport(twilio(gateway)) as out:
        await out.send(SMS, VOICE)
    [asked] = gateway.asked
    assert asked.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"AC1:s3cret").decode()
    assert asked.fields == {"To": NUMBER, "From": "+15550001111", "Body": asked.fields["Body"]}
    assert "ACDEF3" in asked.fields["Body"]


@WAYS
@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_2xx_is_accepted(way: Way, status: int) -> None:
    """Whatever kind of success it is."""
    body = b"" if status == 204 else b"{}"
    async with serving(Gateway(lambda _: Answer(status, body=body))) as gateway, transport(way(gateway)) as out:
        await out.send(SMS, VOICE)
    assert len(gateway.asked) == 1


@WAYS
@pytest.mark.parametrize(
    ("answer", "reason", "permanent"),
    [
        (Answer(400, body=b'{"message": "+41791234567"}'), "HTTP 400", True),
        (Answer(404), "HTTP 404", True),
        (Answer(401), "HTTP 401", False),
        (Answer(403), "HTTP 403", False),
        (Answer(429), "HTTP 429", False),
        (Answer(503), "HTTP 503", False),
    ],
    ids=["bad", "not found", "login", "forbidden", "too many", "down"],
)
async def test_refusals_for_good_are_told_from_those_that_pass(
    way: Way, answer: Answer, reason: str, permanent: bool
) -> None:
    """4xx is final, but for what the operator can mend and what time heals."""
    async with serving(Gateway(lambda _: answer)) as gateway:
        fault = await refused(way(gateway))
    assert (fault.reason, fault.permanent, fault.retry_after) == (reason, permanent, None)


async def test_twilio_numbers_its_refusals() -> None:
    """Support reads the number; the text around it repeats the recipient's and is not kept."""
    body = b'{"code": 21610, "message": "+41791234567 is unsubscribed", "status": 400}'
    async with serving(Gateway(lambda _: Answer(400, body=body))) as gateway:
        fault = await refused(twilio(gateway))
    assert (fault.reason, fault.permanent) == ("HTTP 400 Twilio 21610", True)


async def test_a_gateway_may_ask_for_time() -> None:
    """What it says in Retry-After is handed on."""
    async with serving(Gateway(lambda _: Answer(429, {"retry-after": "90"}))) as gateway:
        assert (await refused(webhook(gateway))).retry_after == timedelta(seconds=90)


@WAYS
async def test_a_redirect_is_not_followed(way: Way) -> None:
    """Codes and credentials go to the gateway that is set, and nowhere else."""
    async with serving(Gateway()) as other:
        answer = Answer(307, {"location": f"http://127.0.0.1:{other.port}/"})
        async with serving(Gateway(lambda _: answer)) as gateway:
            fault = await refused(way(gateway))
    assert (fault.reason, fault.permanent) == ("HTTP 307", False)
    assert not other.asked


async def test_a_gateway_that_is_not_there_may_come_back() -> None:
    """A refused connection is tried again."""
    async with serving(Gateway()) as gateway:
        pass
    fault = await refused(webhook(gateway))
    assert not fault.permanent
    assert fault.reason.startswith("ConnectError")


@WAYS
@pytest.mark.parametrize("answer", [Answer(drops=True), Answer(hangs=True)], ids=["drops", "hangs"])
async def test_a_gateway_that_drops_or_hangs_is_left_in_time(
    way: Way, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is tried again later."""
    monkeypatch.setattr(sms, "HAND_OVER_TIMEOUT", 0.3)
    async with serving(Gateway(lambda _: answer)) as gateway:
        fault = await asyncio.wait_for(refused(way(gateway)), 5)
    assert not fault.permanent


@WAYS
@pytest.mark.parametrize("answer", [Answer(endless=True), Answer(stalls=True)], ids=["endless", "stalls"])
async def test_what_follows_the_status_decides_nothing(
    way: Way, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that never ends is read for a moment and a little, and the message counts as taken."""
    monkeypatch.setattr(sms, "_READ_TIMEOUT", 0.2)
    async with serving(Gateway(lambda _: answer)) as gateway, transport(way(gateway)) as out:
        await asyncio.wait_for(out.send(SMS, VOICE), 5)
    assert len(gateway.asked) == 1


async def test_a_long_refusal_is_not_read_to_its_end() -> None:
    """Nor does it keep the worker."""
    async with serving(Gateway(lambda _: Answer(500, endless=True))) as gateway:
        assert (await asyncio.wait_for(refused(twilio(gateway)), 5)).reason == "HTTP 500"
        assert gateway.poured < 2**24  # what fits into the buffers between the two


@WAYS
@pytest.mark.parametrize("status", [200, 400])
async def test_connections_are_used_again(way: Way, status: int) -> None:
    """One after the other needs one; at once each has its own, and nobody waits."""
    gone = 0
    async with serving(Gateway(lambda _: Answer(status))) as gateway, transport(way(gateway)) as out:
        for _ in range(4):
            with contextlib.suppress(Undelivered):
                await out.send(SMS, VOICE)
            gone += 1
        assert (gateway.connections, gone) == (1, 4)
        await asyncio.gather(*(out.send(SMS, VOICE) for _ in range(5)), return_exceptions=True)
        assert gateway.connections <= 5
    assert len(gateway.asked) == 9


async def test_a_connection_that_the_gateway_closed_is_replaced() -> None:
    """It costs no try."""
    async with serving(Gateway()) as gateway, transport(webhook(gateway)) as out:
        gateway.answer = lambda _: Answer(headers={"connection": "close"})
        await out.send(SMS, VOICE)
        await out.send(SMS, VOICE)
    assert gateway.connections == 2


async def test_https_arrives(server_tls: ssl.SSLContext, trusted: None) -> None:
    """With a good certificate."""
    async with (
        serving(Gateway(), server_tls) as gateway,
        transport(f"https://{ELSEWHERE}:{gateway.port}/sms#{FRAGMENT}") as out,
    ):
        await out.send(SMS, VOICE)
    assert gateway.asked[0].signed


@pytest.mark.parametrize("url", ["https://{}/sms#" + FRAGMENT, "twilio://AC1:s3cret@{}?from=Me"])
async def test_a_doubtful_gateway_sees_nothing(url: str, server_tls: ssl.SSLContext) -> None:
    """A certificate that nobody vouches for ends it before the credentials and the code."""
    async with serving(Gateway(), server_tls) as gateway:
        fault = await refused(url.format(f"{ELSEWHERE}:{gateway.port}"))
    assert (fault.reason, fault.permanent) == ("ConnectError: SSLCertVerificationError", False)
    assert not gateway.asked


async def test_plain_http_goes_to_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is meant for this machine stays on it, whatever the environment says."""
    async with serving(Gateway()) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        async with serving(Gateway()) as gateway, transport(webhook(gateway)) as out:
            await out.send(SMS, VOICE)
    assert (len(gateway.asked), len(proxy.asked)) == (1, 0)


async def test_the_client_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """As the server has it set up, and whatever a gateway answers."""
    with caplog.at_level(logging.WARNING):
        async with serving(Gateway(lambda _: Answer(400, body=NUMBER.encode()))) as gateway:
            await refused(twilio(gateway))
    assert caplog.text == ""


async def texted(rooms: Rooms, number: str) -> None:
    """Store a user with a phone number that waits to be verified."""
    user = await person(rooms.wiring, channel=Channel.PHONE, recipient=number)
    before = await rooms.wiring.users.find(user.user_id)
    assert before
    phone = Contact(phone=Address(number, codes=user.contact.email.codes if user.contact.email else ()))
    assert await rooms.wiring.users.replace(before, structs.replace(before, contact=phone, version=before.version + 1))


async def test_a_black_hole_delays_nobody(rooms: Rooms) -> None:
    """While one number is never answered for, fifty others get their message at their first try."""
    hole = "+41790000000"
    async with serving(Gateway(lambda asked: Answer(hangs=asked.to == hole))) as gateway:
        out = SmsTransport(webhook(gateway), Texts(), rooms.wiring.now)
        worker = Worker(rooms.wiring, {Channel.PHONE: out}, QUICK)
        for number in range(51):
            await texted(rooms, f"+417900000{number:02}")
        while await rooms.wiring.relay.sweep():
            pass
        running = asyncio.create_task(worker.run())
        records = await until(rooms, "sent", 50)
        assert [each["tries"] for each in records if each["state"] == "sent"] == [1] * 50
        assert gateway.connections <= QUICK.at_once
        gateway.answer = lambda _: Answer()
        gateway.released.set()
        await until(rooms, "sent", 51)
        await worker.stop()
        await running
    assert all(asked.signed for asked in gateway.asked)


@pytest.mark.soak
async def test_a_server_with_a_gateway_sends_its_codes(short_dir: Path) -> None:
    """From the request to the text message: the refused one is tried again, and the code that arrives verifies."""
    refusals = iter([Answer(503)])
    async with serving(Gateway(lambda _: next(refusals, Answer(202)))) as gateway:
        server = Server(short_dir / "sms", environment={"SCHEMA_USER_SMS_URL": webhook(gateway)})
        await asyncio.to_thread(server.start)
        try:
            with server.client() as api:
                made = await asyncio.to_thread(
                    api.ok, "POST", "/v3alpha/user_schemas", {"type": "person", "schema": SCHEMA}
                )
                contact = {"contact": {"phone": {"number": NUMBER, "sendCode": {}}}}
                body = {"schemaId": made["id"], "data": {"name": "Minnie"}} | contact
                user_id = (await asyncio.to_thread(api.ok, "POST", "/v3alpha/users", body))["userId"]
                await eventually(lambda: len(gateway.asked) == 2)
                code = re.search(r"\b[A-Z0-9]{6}\b", gateway.asked[1].fields["text"])
                assert code
                path = f"/v3alpha/users/{user_id}/phone/verify"
                await asyncio.to_thread(api.ok, "POST", path, {"verificationCode": code[0]})
        finally:
            await asyncio.to_thread(server.stop)
    assert all(asked.signed for asked in gateway.asked)
    assert len({asked.headers["webhook-id"] for asked in gateway.asked}) == 1
    assert not any(secret in server.log() for secret in (NUMBER, code[0], FRAGMENT))
