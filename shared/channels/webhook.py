"""Webhooks: messages to servers of users, signed by the Standard Webhooks convention.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from standardwebhooks import Webhook
from typing_extensions import override

from shared.channel import (
    WEBHOOK,
    Channel,
    DeliveryFailed,
    OutboundMessage,
    PermanentFailure,
    RateLimited,
    Receipt,
    TemporaryFailure,
)
from shared.clock import Clock, utc_now
from shared.outbound import OutboundHttp, OutboundResponse, find_retry_after


class WebhookSettings(BaseSettings):
    """Whether webhooks are on offer."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOK_")

    enabled: bool = Field(default=False, description="Whether users may have messages sent to servers of theirs.")

    @property
    def is_on_offer(self) -> bool:
        """Tell whether users can choose this channel."""
        return self.enabled


class WebhookChannel(Channel):
    """POSTs the payload; any 2xx answer means that it was taken."""

    name = WEBHOOK
    provider = "webhook"

    def __init__(self, http: OutboundHttp, *, clock: Clock = utc_now) -> None:
        """Take the client to send with, and the clock whose time is signed."""
        self._http = http
        self._clock = clock

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        """Send a message, signed with each of its secrets, so that receivers can change theirs in peace.

        Raises:
            DeliveryFailed: It was not certainly taken.
            ValueError: The message brings no secret: nothing goes out unsigned.
        """
        body = json.dumps(message.content.payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        response = await self._http.post(message.address, body=body.encode(), headers=self._sign(message, body))
        if HTTPStatus(200) <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            return Receipt(provider=self.provider, provider_id=str(message.id))
        raise self._describe(response)

    def _sign(self, message: OutboundMessage, body: str) -> dict[str, str]:
        if not message.secrets:
            text = "a message to a webhook needs a secret to be signed with"
            raise ValueError(text)
        # Of this attempt: receivers refuse what is older than a few minutes, and later attempts come days later.
        now = self._clock()
        signatures = [Webhook(secret).sign(str(message.id), now, body) for secret in message.secrets]
        return {
            "Content-Type": "application/json",
            "webhook-id": str(message.id),
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    def _describe(self, response: OutboundResponse) -> DeliveryFailed:
        """Return the failure that an answer stands for.

        By the convention every answer but 2xx is a failure that is tried again, except 410, by which receivers
        unsubscribe. That goes for redirects, which are not followed, and for 4xx: a deployment that went wrong answers
        404 or 401 for an hour, and its owner wants the messages of that hour.
        """
        detail = f"the webhook answered {response.status}"
        retry_after = find_retry_after(response.headers, now=self._clock())
        if response.status == HTTPStatus.GONE:
            return PermanentFailure(detail, address_gone=True)
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimited(detail, retry_after=retry_after)
        return TemporaryFailure(detail, retry_after=retry_after)


@asynccontextmanager
async def open_channel(http: OutboundHttp) -> AsyncIterator[WebhookChannel]:
    """Open the channel. The client stays open after it: it belongs to the caller."""
    yield WebhookChannel(http)
