"""SMS by Twilio: one form, posted to its API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Self

import httpx
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import override

from shared.channel import (
    SMS,
    Channel,
    DeliveryFailed,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    Receipt,
    TemporaryFailure,
)
from shared.settings import Duration
from shared.wording import quote_provider

# https://www.twilio.com/docs/api/errors: not a phone number; not one that takes SMS; not reachable from our number.
_NO_SUCH_ADDRESS = frozenset({21211, 21214, 21217, 21614})
# The owner of the number answered STOP.
_UNSUBSCRIBED = 21610
# More than one message a second from our number, too many waiting, too many at once.
_RATE_LIMITS = frozenset({14107, 20429, 21611})
# What only whoever runs us can repair: the account, its key, its credit.
_OURS_TO_REPAIR = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})


class TwilioSettings(BaseSettings):
    """Which account of Twilio sends our SMS."""

    model_config = SettingsConfigDict(env_prefix="TWILIO_")

    account_sid: str = Field(default="", description="Account at Twilio; with it, SMS can go by Twilio.")
    auth_token: SecretStr | None = Field(default=None, description="Its secret.")
    sender: str = Field(
        default="", description="Number or name that SMS come from, or the SID of a messaging service (`MG…`)."
    )
    base_url: str = Field(default="https://api.twilio.com", description="Where the API is.")
    timeout: Duration = Field(default=timedelta(seconds=8), description="Total deadline of one SMS.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.account_sid and not (self.auth_token and self.sender):
            message = "TWILIO_ACCOUNT_SID needs TWILIO_AUTH_TOKEN and TWILIO_SENDER beside it"
            raise ValueError(message)
        return self

    @property
    def is_on_offer(self) -> bool:
        """Whether there is an account."""
        return bool(self.account_sid)


class TwilioChannel(Channel):
    """Posts messages to Twilio, which tells repetitions from nothing: one whose outcome is unknown is not repeated."""

    name = SMS
    provider = "twilio"
    repeats_unknown = False

    def __init__(self, settings: TwilioSettings, client: httpx.AsyncClient) -> None:
        """Use a client that somebody else opened and will close."""
        self._settings = settings
        self._client = client
        self._url = f"{settings.base_url.rstrip('/')}/2010-04-01/Accounts/{settings.account_sid}/Messages.json"

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        settings = self._settings
        sender_field = "MessagingServiceSid" if settings.sender.startswith("MG") else "From"
        form = {"To": message.address, sender_field: settings.sender, "Body": message.content.text}
        token = settings.auth_token.get_secret_value() if settings.auth_token else ""
        try:
            async with asyncio.timeout(settings.timeout.total_seconds()):
                response = await self._client.post(self._url, data=form, auth=(settings.account_sid, token))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            detail = f"Twilio could not be reached: {type(error).__name__}"
            raise TemporaryFailure(detail) from error
        except (httpx.TransportError, TimeoutError) as error:
            detail = f"Twilio did not answer: {type(error).__name__}"
            raise OutcomeUnknown(detail) from error
        answer = _read(response)
        if response.is_success:
            return Receipt(provider=self.provider, provider_id=str(answer["sid"]) if "sid" in answer else None)
        raise _failure(response, answer, secrets=(token, message.address))


@asynccontextmanager
async def open_channel(settings: TwilioSettings) -> AsyncIterator[TwilioChannel]:
    """Open the channel; it connects with its first message."""
    deadline = settings.timeout.total_seconds()
    # Connecting ends well before the deadline of the whole, so that what runs into that one had been handed over.
    timeout = httpx.Timeout(deadline, connect=deadline / 2, pool=deadline / 4)
    async with httpx.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client:
        yield TwilioChannel(settings, client)


def _read(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _failure(response: httpx.Response, answer: dict[str, Any], *, secrets: tuple[str, ...]) -> DeliveryFailed:
    code = answer.get("code") if isinstance(answer.get("code"), int) else None
    status = response.status_code
    detail = quote_provider(f"Twilio answered {status}, error {code}: {answer.get('message', '')}", *secrets)
    if status == HTTPStatus.TOO_MANY_REQUESTS or code in _RATE_LIMITS:
        return RateLimited(detail, retry_after=_retry_after(response))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _OURS_TO_REPAIR:
        return TemporaryFailure(detail, retry_after=_retry_after(response))
    if status < HTTPStatus.BAD_REQUEST:
        # A redirect is not followed: this is not Twilio.
        return TemporaryFailure(detail)
    return PermanentFailure(detail, address_gone=code in _NO_SUCH_ADDRESS or code == _UNSUBSCRIBED)


def _retry_after(response: httpx.Response) -> timedelta | None:
    seconds = response.headers.get("Retry-After", "")
    return timedelta(seconds=int(seconds)) if seconds.isascii() and seconds.isdecimal() else None
