"""SMS by Amazon SNS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import override

from shared.aws import CONNECTIONS, aws_call, open_aws_client
from shared.channel import SMS, Channel, OutboundMessage, Receipt
from shared.settings import Duration

if TYPE_CHECKING:
    from types_aiobotocore_sns import SNSClient
    from types_aiobotocore_sns.type_defs import MessageAttributeValueTypeDef


class SnsSettings(BaseSettings):
    """Which SNS sends our SMS. Credentials come from the standard AWS chain."""

    model_config = SettingsConfigDict(env_prefix="SNS_")

    region: str = Field(default="", description="AWS region of SNS; with it, SMS can go by SNS.")
    endpoint_url: str | None = Field(default=None, description="Endpoint of an SNS look-alike; AWS itself when unset.")
    sender_id: str = Field(default="", max_length=11, description="Name that SMS come from, where the country allows.")
    timeout: Duration = Field(default=timedelta(seconds=8), description="Total deadline of one SMS.")

    @property
    def is_on_offer(self) -> bool:
        """Whether there is a region to call."""
        return bool(self.region)


class SnsChannel(Channel):
    """Publishes to phone numbers. SNS tells no repetitions: what may have been sent is not sent again."""

    name = SMS
    provider = "sns"
    repeats_unknown = False

    def __init__(self, settings: SnsSettings, client: "SNSClient") -> None:
        """Use a client that somebody else opened and will close."""
        self._settings = settings
        self._client = client
        self._slots = asyncio.Semaphore(CONNECTIONS)
        # Promotional ones, the default, are held back at night and on trouble.
        self._attributes: dict[str, MessageAttributeValueTypeDef] = {
            "AWS.SNS.SMS.SMSType": {"DataType": "String", "StringValue": "Transactional"}
        }
        if settings.sender_id:
            self._attributes["AWS.SNS.SMS.SenderID"] = {"DataType": "String", "StringValue": settings.sender_id}

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        async with aws_call(self._slots, timeout=self._settings.timeout, secret=message.address):
            answer = await self._client.publish(
                PhoneNumber=message.address, Message=message.content.text, MessageAttributes=self._attributes
            )
            return Receipt(provider=self.provider, provider_id=answer["MessageId"])


@asynccontextmanager
async def open_channel(settings: SnsSettings) -> AsyncIterator[SnsChannel]:
    """Open the channel; it connects with its first message."""
    async with open_aws_client(
        "sns", region=settings.region, endpoint_url=settings.endpoint_url, timeout=settings.timeout
    ) as client:
        yield SnsChannel(settings, client)
