"""Slack: incoming webhooks, which users make themselves, and the bot of a workspace, which writes to its members.

Not with Slack's SDK: only the guarded client knows whether a request was written before the connection ended, holds to
one deadline, and is there anyway for the webhooks.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import override

from shared.channel import (
    SLACK,
    Channel,
    DeliveryFailed,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    Receipt,
    TemporaryFailure,
)
from shared.clock import Clock, utc_now
from shared.outbound import OutboundHttp, OutboundResponse, find_retry_after

# https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors and
# https://docs.slack.dev/reference/methods/chat.postMessage#errors. What is in none of these sets is tried again: what
# Slack introduces tomorrow, and above all what the operator can repair (`invalid_auth`, `missing_scope`).
ADDRESS_IS_GONE = frozenset(
    {
        "channel_is_archived",
        "is_archived",
        "no_active_hooks",
        "no_service",
        "no_service_id",
        "no_team",
        "team_disabled",
        "user_disabled",
        "user_not_found",
    }
)
MESSAGE_IS_REFUSED = frozenset(
    {
        "action_prohibited",
        "as_user_not_supported",
        "cannot_dm_bot",
        "channel_not_found",
        "invalid_arguments",
        "invalid_blocks",
        "invalid_blocks_format",
        "invalid_payload",
        "invalid_token",
        "messages_tab_disabled",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
        "not_in_channel",
        "posting_to_general_channel_denied",
        "restricted_action",
        "restricted_action_non_threadable_channel",
        "restricted_action_read_only_channel",
        "restricted_action_thread_locked",
        "restricted_action_thread_only_channel",
        "too_many_attachments",
    }
)
RATE_IS_LIMITED = frozenset({"message_limit_exceeded", "rate_limited", "ratelimited"})
LONGEST_ERROR = 60


class SlackSettings(BaseSettings):
    """Which ways to Slack are on offer."""

    model_config = SettingsConfigDict(env_prefix="SLACK_")

    webhooks_enabled: bool = Field(
        default=False, description="Whether users may give incoming webhooks of Slack, or of what speaks the same."
    )
    bot_token: SecretStr | None = Field(
        default=None,
        description="Token (`xoxb-…`) of the bot that writes to members and channels; it needs the scope `chat:write`.",
    )
    api_url: str = Field(default="https://slack.com/api", description="Where Slack's API is.")

    @property
    def is_on_offer(self) -> bool:
        """Tell whether users can choose this channel."""
        return self.webhooks_enabled or bool(self.bot_token)


class SlackChannel(Channel):
    """Writes to Slack: by the webhook where the address is a URL, else by the bot."""

    name = SLACK
    provider = "slack"

    def __init__(self, settings: SlackSettings, http: OutboundHttp, *, clock: Clock = utc_now) -> None:
        """Take the settings, the client to send with, and the clock by which waits are reckoned."""
        self._settings = settings
        self._http = http
        self._clock = clock

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        if "://" in message.address:
            return await self._send_by_webhook(message)
        return await self._send_by_bot(message)

    async def _send_by_webhook(self, message: OutboundMessage) -> Receipt:
        if not self._settings.webhooks_enabled:
            detail = "incoming webhooks are not on offer at present"
            raise TemporaryFailure(detail)
        response = await self._post(message.address, message.content.payload)
        if response.status == HTTPStatus.OK:
            return Receipt(provider=self.provider)
        error = response.body.decode(errors="replace").strip()
        raise self._describe(response, error)

    async def _send_by_bot(self, message: OutboundMessage) -> Receipt:
        if not self._settings.bot_token:
            detail = "there is no bot at present"
            raise TemporaryFailure(detail)
        response = await self._post(
            f"{self._settings.api_url.rstrip('/')}/chat.postMessage",
            {**message.content.payload, "channel": message.address},
            {"Authorization": f"Bearer {self._settings.bot_token.get_secret_value()}"},
        )
        answer = _parse_object(response.body)
        if response.status != HTTPStatus.OK or answer.get("ok") is False:
            raise self._describe(response, str(answer.get("error", "")))
        if answer.get("ok") is not True:
            detail = "Slack answered what cannot be read"
            raise OutcomeUnknown(detail)
        return Receipt(provider=self.provider, provider_id=str(answer["ts"]) if "ts" in answer else None)

    async def _post(
        self, url: str, payload: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> OutboundResponse:
        body = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        return await self._http.post(
            url, body=body, headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        )

    def _describe(self, response: OutboundResponse, error: str) -> DeliveryFailed:
        """Return the failure that an answer stands for: by the word that Slack has for it, else by the status."""
        detail = f"Slack answered {response.status}"
        # A word, not a page of whoever the URL belongs to.
        if error.isascii() and error.replace("_", "").isalnum() and len(error) <= LONGEST_ERROR:
            detail += f" {error}"
        if error in ADDRESS_IS_GONE or response.status == HTTPStatus.GONE:
            return PermanentFailure(detail, address_gone=True)
        if error in MESSAGE_IS_REFUSED:
            return PermanentFailure(detail)
        retry_after = find_retry_after(response.headers, now=self._clock())
        if error in RATE_IS_LIMITED or response.status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimited(detail, retry_after=retry_after)
        return TemporaryFailure(detail, retry_after=retry_after)


@asynccontextmanager
async def open_channel(settings: SlackSettings, http: OutboundHttp) -> AsyncIterator[SlackChannel]:
    """Open the channel. The client stays open after it: it belongs to the caller."""
    yield SlackChannel(settings, http)


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
