"""The delivery channels: every module here is the adapter of one provider. Which are on offer, the settings say.

This registry is the only place that knows the adapters. An adapter is a `Channel`, a settings class and `open_channel`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from shared.channel import APPRISE, CHANNELS, EMAIL, IN_APP, SLACK, SMS, WEBHOOK, Channel
from shared.channels import apprise, ses, slack, smtp, sns, twilio, webhook
from shared.failover import Failover
from shared.mail import MailSettings
from shared.outbound import OutboundHttp, OutboundSettings, open_outbound
from shared.settings import SettingsInvalid, load_settings

# By the name of the channel, only those on offer; a `Failover` stands for several providers.
Channels: TypeAlias = Mapping[str, Channel]


def _split(value: object) -> object:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class OfferSettings(BaseSettings):
    """Which providers carry which channel."""

    email_providers: Names = Field(
        default=(),
        description="Who carries e-mail, in the order of preference, such as `ses,smtp`; unset: all with settings.",
    )
    sms_providers: Names = Field(
        default=(),
        description="Who carries SMS, in the order of preference, such as `sns,twilio`; unset: all with settings.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """The settings of all adapters together."""

    offer: OfferSettings
    mail: MailSettings
    ses: ses.SesSettings
    smtp: smtp.SmtpSettings
    sns: sns.SnsSettings
    twilio: twilio.TwilioSettings
    outbound: OutboundSettings
    slack: slack.SlackSettings
    webhook: webhook.WebhookSettings
    apprise: apprise.AppriseSettings


@dataclass(frozen=True, slots=True)
class _Provider:
    """How an adapter is found out about and opened."""

    channel: str
    is_on_offer: Callable[[ChannelSettings], bool]
    open: Callable[[ChannelSettings, OutboundHttp], AbstractAsyncContextManager[Channel]]


# In the order in which those that have settings are tried when no setting gives one.
_PROVIDERS = {
    "ses": _Provider(
        EMAIL,
        lambda settings: settings.ses.is_on_offer,
        lambda settings, _: ses.open_channel(settings.ses, settings.mail),
    ),
    "smtp": _Provider(
        EMAIL,
        lambda settings: settings.smtp.is_on_offer,
        lambda settings, _: smtp.open_channel(settings.smtp, settings.mail),
    ),
    "slack": _Provider(
        SLACK,
        lambda settings: settings.slack.is_on_offer,
        lambda settings, http: slack.open_channel(settings.slack, http),
    ),
    "sns": _Provider(
        SMS, lambda settings: settings.sns.is_on_offer, lambda settings, _: sns.open_channel(settings.sns)
    ),
    "twilio": _Provider(
        SMS, lambda settings: settings.twilio.is_on_offer, lambda settings, _: twilio.open_channel(settings.twilio)
    ),
    "webhook": _Provider(
        WEBHOOK, lambda settings: settings.webhook.is_on_offer, lambda _, http: webhook.open_channel(http)
    ),
    "apprise": _Provider(
        APPRISE,
        lambda settings: settings.apprise.is_on_offer,
        lambda settings, _: apprise.open_channel(settings.apprise),
    ),
}


def load_channel_settings() -> ChannelSettings:
    """Return the settings that the environment holds.

    Raises:
        SettingsInvalid: One is missing or wrong.
    """
    settings = ChannelSettings(
        offer=load_settings(OfferSettings),
        mail=load_settings(MailSettings),
        ses=load_settings(ses.SesSettings),
        smtp=load_settings(smtp.SmtpSettings),
        sns=load_settings(sns.SnsSettings),
        twilio=load_settings(twilio.TwilioSettings),
        outbound=load_settings(OutboundSettings),
        slack=load_settings(slack.SlackSettings),
        webhook=load_settings(webhook.WebhookSettings),
        apprise=load_settings(apprise.AppriseSettings),
    )
    _check(settings)
    return settings


def names_on_offer(settings: ChannelSettings) -> tuple[str, ...]:
    """Return the channels that people can be reached on, in the order of `CHANNELS`; not the inbox, which always is."""
    return tuple(name for name in CHANNELS if name != IN_APP and _providers_of(name, settings))


@asynccontextmanager
async def open_channels(settings: ChannelSettings) -> AsyncIterator[Channels]:
    """Open all that are on offer, for one process. Nothing connects before it is sent to."""
    async with AsyncExitStack() as stack:
        channels: dict[str, Channel] = {}
        http = await stack.enter_async_context(open_outbound(settings.outbound))
        for name in names_on_offer(settings):
            opened = [
                await stack.enter_async_context(_PROVIDERS[provider].open(settings, http))
                for provider in _providers_of(name, settings)
            ]
            channels[name] = opened[0] if len(opened) == 1 else Failover(opened)
        yield channels


def _providers_of(channel: str, settings: ChannelSettings) -> tuple[str, ...]:
    """Return who carries a channel, in the order of preference."""
    chosen = {EMAIL: settings.offer.email_providers, SMS: settings.offer.sms_providers}.get(channel, ())
    return chosen or tuple(
        name for name, provider in _PROVIDERS.items() if provider.channel == channel and provider.is_on_offer(settings)
    )


def _check(settings: ChannelSettings) -> None:
    for setting, channel, chosen in (
        ("EMAIL_PROVIDERS", EMAIL, settings.offer.email_providers),
        ("SMS_PROVIDERS", SMS, settings.offer.sms_providers),
    ):
        possible = [name for name, provider in _PROVIDERS.items() if provider.channel == channel]
        for name in chosen:
            if name not in possible:
                message = f"{setting}: must be of {', '.join(possible)}, between commas"
                raise SettingsInvalid(message)
            if not _PROVIDERS[name].is_on_offer(settings):
                message = f"{setting}: there are no settings of {name} ({name.upper()}_…)"
                raise SettingsInvalid(message)
    if _providers_of(EMAIL, settings) and not settings.mail.sender:
        message = "EMAIL_SENDER: needed where e-mail is sent"
        raise SettingsInvalid(message)
