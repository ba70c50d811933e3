"""Webhooks: what happened, handed to URLs that organizations chose, signed by Standard Webhooks 1.0."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from msgspec import structs

from schema_user.delivery.sms import named, retry_span, signature
from schema_user.delivery.undelivered import Undelivered
from schema_user.delivery.worker import Ended, Failed, Outcome, Rhythm, Worker, log_unexpected
from schema_user.domain.keyring import SealError
from schema_user.domain.message import WEBHOOK
from schema_user.outbound import AddressRefused
from schema_user.store.webhooks import delivery_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import httpx2

    from schema_user.domain.message import Message
    from schema_user.domain.webhook import Delivery, Webhook
    from schema_user.store.connection import Document
    from schema_user.wiring import Wiring

TIMEOUT: Final = 10.0
"""Seconds for one event, from the lookup of the host to the status of the answer."""

RHYTHM: Final = replace(Rhythm(), at_once=64)

_AT_ONCE: Final = 2
_AT_ONCE_WELL: Final = 16
"""Changes that one webhook is told of at once by this process, more of them once it answered well; of ``at_once`` in
all, so that a receiver that hangs leaves slots to the others."""

_LONGEST_REST: Final = 60.0
"""Seconds for which a webhook that fails again and again is left alone, beside what each of its messages waits."""

_REMEMBERED: Final = 10_000
"""Webhooks of which it is remembered how they answered."""

_OK: Final = range(200, 300)
_GONE: Final = 410


class Gone(Undelivered):
    """The receiver wants to be told nothing any more."""


class WebhookTransport:
    """Posts events to the receivers' URLs, never to an address that is not public unless that is allowed."""

    def __init__(self, now: Callable[[], datetime], *, allow_private: bool) -> None:
        """``now`` dates the signatures."""
        self._now = now
        self._allow_private = allow_private
        self._client: httpx2.AsyncClient | None = None
        self._making = asyncio.Lock()

    async def send(self, delivery: Delivery, webhook: Webhook) -> None:
        """Tell a webhook of a change: one request for each event, all at once, as their order is not promised.

        Raises:
            Gone: if the receiver answered 410 to any.
            Undelivered: unless it answered 2xx to all; then all are told again, under the same ids.
        """
        told = [self._post(webhook, name, content) for name, content in delivery.events()]
        faults = [each for each in await asyncio.gather(*told, return_exceptions=True) if each is not None]
        for fault in sorted(faults, key=lambda each: not isinstance(each, Gone)):
            raise fault

    async def _post(self, webhook: Webhook, name: str, content: bytes) -> None:
        now = self._now()
        at = int(now.timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(at),
            "webhook-signature": " ".join(signature(key, name, at, content) for key in webhook.keys(now)),
        }
        client = await self._open()
        from httpx2 import HTTPError, InvalidURL  # noqa: PLC0415 -- it is loaded by now, see _make_client

        try:
            async with asyncio.timeout(TIMEOUT):
                request = client.build_request("POST", webhook.url, headers=headers, content=content)
                response = await client.send(request, stream=True)
                await response.aclose()  # whatever it says beside its status is nobody's to keep
        except AddressRefused as error:
            raise Undelivered("the host has an address that is not public", permanent=True) from error
        except (HTTPError, InvalidURL, OSError) as error:
            raise Undelivered(named(error)) from error
        if response.status_code == _GONE:
            raise Gone("HTTP 410", permanent=True)
        if response.status_code not in _OK:
            wait = retry_span(response.headers.get("retry-after", ""), now)
            raise Undelivered(f"HTTP {response.status_code}", retry_after=wait)

    async def _open(self) -> httpx2.AsyncClient:
        async with self._making:
            if self._client is None:
                # Aside: a server that tells no webhook anything never loads the client, and no request waits for it.
                self._client = await asyncio.to_thread(_make_client, allow_private=self._allow_private)
            return self._client

    async def close(self) -> None:
        """Close the connections; another event opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _make_client(*, allow_private: bool) -> httpx2.AsyncClient:
    from schema_user.outbound.client import guarded_client  # noqa: PLC0415 -- takes a tenth of a second

    return guarded_client(allow_private=allow_private, timeout=TIMEOUT)


class WebhookWorker(Worker):
    """Tells webhooks what happened, beside the worker that writes to people.

    A receiver that hangs or fails gets two slots at most, and rests longer and longer, so that it delays no other.
    """

    _channels = (WEBHOOK,)

    def __init__(self, wiring: Wiring, rhythm: Rhythm = RHYTHM) -> None:
        """Tell the webhooks of one database."""
        super().__init__(wiring, {}, rhythm)
        self._webhooks = wiring.webhooks
        self._transport = WebhookTransport(wiring.now, allow_private=wiring.settings.private_addresses_allowed)
        self._busy: Counter[str] = Counter()
        self._well: set[str] = set()
        self._failures: dict[str, tuple[int, float]] = {}
        self._claiming = asyncio.Lock()

    def _announce(self) -> None:
        """There is always a way to webhooks."""

    async def _close(self) -> None:
        await self._transport.close()

    async def _bury(self) -> bool:
        """The worker beside it empties what was parked for long, of whatever kind."""
        return False

    async def _claim(self) -> tuple[Document, Message | None] | None:
        """Claim the next message of a webhook that is neither busy nor resting; one claim at a time, to count right."""
        async with self._claiming:
            if self._stopping.is_set():
                return None
            most = {webhook: _AT_ONCE_WELL if webhook in self._well else _AT_ONCE for webhook in self._busy}
            busy = [webhook for webhook, count in self._busy.items() if count >= most[webhook]]
            lease = timedelta(seconds=self._rhythm.lease)
            claimed = await self._outbox.claim(
                self._channels, self._now(), lease, self._name, apart_from=[*busy, *self._resting()]
            )
            if claimed is not None:
                self._busy[claimed[0]["webhook_id"]] += 1
            return claimed

    def _resting(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        return [webhook for webhook, (_, until) in self._failures.items() if until > now]

    async def _send(self, record: Document, message: Message | None) -> Outcome:  # noqa: ARG002 -- a webhook's has none
        webhook_id: str = record["webhook_id"]
        try:
            outcome = await self._tell(record)
        finally:
            self._busy[webhook_id] -= 1
            if not self._busy[webhook_id]:
                del self._busy[webhook_id]
        self._remember(webhook_id, failed=isinstance(outcome, Failed))
        return outcome

    def _remember(self, webhook_id: str, *, failed: bool) -> None:
        if not failed:
            self._failures.pop(webhook_id, None)
            if len(self._well) >= _REMEMBERED:
                self._well.clear()
            self._well.add(webhook_id)
            return
        self._well.discard(webhook_id)
        count = self._failures.pop(webhook_id, (0, 0.0))[0] + 1
        if len(self._failures) >= _REMEMBERED:
            del self._failures[next(iter(self._failures))]
        rest = min(_LONGEST_REST, self._rhythm.poll * 2.0 ** min(count - 1, 10))
        self._failures[webhook_id] = (count, asyncio.get_running_loop().time() + rest)

    async def _tell(self, record: Document) -> Outcome:
        if record["tries"] > self._rhythm.tries:
            return Failed("every try was cut off", permanent=True)
        try:
            webhook = await self._webhooks.with_secrets(record["webhook_id"])
        except SealError:
            return Failed("sealed under a key that is not set")
        if webhook is None:
            return Ended("dropped", None)
        if not webhook.active:
            return Failed("the webhook is not active", permanent=True)
        try:
            async with asyncio.timeout(self._rhythm.send_timeout):
                await self._transport.send(delivery_of(record), webhook)
        except Gone as fault:
            await self._end(webhook)
            return Failed(fault.reason, permanent=True)
        except Undelivered as fault:
            return Failed(fault.reason, fault.permanent, fault.retry_after)
        except TimeoutError:
            return Failed("not sent in time")
        except Exception as error:  # noqa: BLE001 -- a bug in one message's way is no reason to lose it
            log_unexpected(error)
            return Failed(type(error).__name__)
        return Ended("sent", webhook.host)

    async def _end(self, webhook: Webhook) -> None:
        """Tell a webhook nothing more; if somebody changed it just now, its next 410 does."""
        ended = structs.replace(
            webhook, active=False, gone=True, secrets=(), changed_at=self._now(), version=webhook.version + 1
        )
        await self._webhooks.replace(webhook, ended)
