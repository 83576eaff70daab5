"""Which channels are on offer, and who carries them."""

import os
from ipaddress import IPv4Network

import pytest

from shared.channels import load_channel_settings, names_on_offer, open_channels
from shared.failover import Failover
from shared.settings import SettingsInvalid

PREFIXES = ("EMAIL_", "SMS_", "SMTP_", "SES_", "SNS_", "TWILIO_", "SLACK_", "WEBHOOK_", "APPRISE_", "OUTBOUND_")
SMTP = {"EMAIL_SENDER": "no-reply@service.example", "SMTP_HOST": "127.0.0.1"}
TWILIO = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "token", "TWILIO_SENDER": "+12025550199"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)


@pytest.fixture
def set_(monkeypatch: pytest.MonkeyPatch):
    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def on_offer() -> tuple[str, ...]:
    return names_on_offer(load_channel_settings())


class TestOffer:
    def test_without_settings_nothing_is(self):
        assert on_offer() == ()

    def test_what_has_settings_is_in_the_order_of_answers(self, set_):
        set_(**TWILIO, **SMTP, WEBHOOK_ENABLED="true", SLACK_WEBHOOKS_ENABLED="true", APPRISE_SCHEMAS="ntfys")

        assert on_offer() == ("email", "slack", "sms", "webhook", "apprise")

    def test_what_is_empty_is_not_set(self, set_):
        set_(
            SMTP_HOST="",
            SES_REGION="",
            SNS_REGION="",
            TWILIO_ACCOUNT_SID="",
            TWILIO_AUTH_TOKEN="",
            EMAIL_PROVIDERS="",
            SLACK_BOT_TOKEN="",
        )

        assert on_offer() == ()


class TestOpen:
    async def test_each_channel_is_opened_by_its_provider(self, set_):
        set_(**TWILIO, **SMTP, WEBHOOK_ENABLED="true")

        async with open_channels(load_channel_settings()) as channels:
            assert {name: channel.provider for name, channel in channels.items()} == {
                "email": "smtp",
                "sms": "twilio",
                "webhook": "webhook",
            }

    async def test_several_providers_stand_in_for_each_other_in_the_order_asked_for(self, set_):
        set_(**SMTP, SES_REGION="eu-central-1", EMAIL_PROVIDERS=" smtp, ses")

        async with open_channels(load_channel_settings()) as channels:
            assert isinstance(channels["email"], Failover)
            assert channels["email"].provider == "smtp,ses"
            assert channels["email"].name == "email"

    async def test_who_is_not_asked_for_is_left_out(self, set_):
        set_(**TWILIO, SNS_REGION="eu-central-1", SMS_PROVIDERS="twilio")

        async with open_channels(load_channel_settings()) as channels:
            assert channels["sms"].provider == "twilio"
            assert not channels["sms"].repeats_unknown


class TestSettings:
    def test_networks_of_ones_own_can_be_opened(self, set_):
        set_(OUTBOUND_ALLOWED_NETWORKS="127.0.0.0/8")

        assert load_channel_settings().outbound.allowed_networks == (IPv4Network("127.0.0.0/8"),)

    @pytest.mark.parametrize(
        ("values", "complaint"),
        [
            ({"EMAIL_PROVIDERS": "pigeon"}, "EMAIL_PROVIDERS: must be of ses, smtp"),
            ({"SMS_PROVIDERS": "smtp"}, "SMS_PROVIDERS: must be of sns, twilio"),
            ({"EMAIL_PROVIDERS": "ses"}, "EMAIL_PROVIDERS: there are no settings of ses"),
            ({"SMTP_HOST": "smtp.example.com"}, "EMAIL_SENDER: needed"),
            ({"TWILIO_ACCOUNT_SID": "AC1"}, "TWILIO_ACCOUNT_SID needs TWILIO_AUTH_TOKEN"),
        ],
    )
    def test_what_cannot_work_is_said(self, set_, values: dict[str, str], complaint: str):
        set_(**values)

        with pytest.raises(SettingsInvalid, match=complaint):
            load_channel_settings()
