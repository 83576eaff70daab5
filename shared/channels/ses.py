"""E-mail by Amazon SES (API version 2), which gets the whole mail as we built it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import override

from shared.aws import CONNECTIONS, aws_call, open_aws_client
from shared.channel import EMAIL, Channel, OutboundMessage, Receipt
from shared.mail import MailSettings, build_mail, to_ascii_domain
from shared.settings import Duration

if TYPE_CHECKING:
    from types_aiobotocore_sesv2 import SESV2Client
    from types_aiobotocore_sesv2.type_defs import SendEmailRequestTypeDef


class SesSettings(BaseSettings):
    """Which SES sends our e-mail. Credentials come from the standard AWS chain."""

    model_config = SettingsConfigDict(env_prefix="SES_")

    region: str = Field(default="", description="AWS region of SES; with it, e-mail can go by SES.")
    endpoint_url: str | None = Field(default=None, description="Endpoint of an SES look-alike; AWS itself when unset.")
    configuration_set: str = Field(default="", description="SES configuration set, for its events and reputation.")
    timeout: Duration = Field(default=timedelta(seconds=8), description="Total deadline of one e-mail.")

    @property
    def is_on_offer(self) -> bool:
        """Whether there is a region to call."""
        return bool(self.region)


class SesChannel(Channel):
    """Hands mails to SES."""

    name = EMAIL
    provider = "ses"

    def __init__(self, settings: SesSettings, mail: MailSettings, client: "SESV2Client") -> None:
        """Use a client that somebody else opened and will close."""
        self._settings = settings
        self._mail = mail
        self._client = client
        self._slots = asyncio.Semaphore(CONNECTIONS)

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        mail = build_mail(message, sender=self._mail.sender)
        request: SendEmailRequestTypeDef = {
            "FromEmailAddress": self._mail.address,
            "Destination": {"ToAddresses": [to_ascii_domain(message.address)]},
            "Content": {"Raw": {"Data": mail}},
        }
        if self._settings.configuration_set:
            request["ConfigurationSetName"] = self._settings.configuration_set
        async with aws_call(self._slots, timeout=self._settings.timeout, secret=message.address):
            answer = await self._client.send_email(**request)
            return Receipt(provider=self.provider, provider_id=answer["MessageId"])


@asynccontextmanager
async def open_channel(settings: SesSettings, mail: MailSettings) -> AsyncIterator[SesChannel]:
    """Open the channel; it connects with its first mail."""
    async with open_aws_client(
        "sesv2", region=settings.region, endpoint_url=settings.endpoint_url, timeout=settings.timeout
    ) as client:
        yield SesChannel(settings, mail, client)
