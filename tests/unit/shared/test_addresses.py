"""Addresses of each channel: what is one, how it is written, and how much of it is shown."""

import pytest

from shared.addresses import MAX_LENGTH, parse_address
from shared.channel import APPRISE, EMAIL, SLACK, SMS, WEBHOOK


class TestParse:
    @pytest.mark.parametrize(
        ("channel", "text", "value", "masked"),
        [
            (EMAIL, " alice@example.com ", "alice@example.com", "a…@example.com"),
            (EMAIL, "grüße@bücher.example", "grüße@bücher.example", "g…@bücher.example"),
            (SMS, "+49 (151) 123-45.678", "+4915112345678", "+49…78"),
            (SLACK, "C012AB3CD", "C012AB3CD", "C01…"),
            (SLACK, "https://hooks.slack.com/services/T/B/x", "https://hooks.slack.com/services/T/B/x",
             "https://hooks.slack.com/…"),
            (WEBHOOK, "https://Example.COM:8443/Hook?key=1#part", "https://example.com:8443/Hook?key=1",
             "https://example.com:8443/…"),
            (APPRISE, "NTFYS://host/Topic", "ntfys://host/Topic", "ntfys://…"),
        ],
    )  # fmt: skip
    def test_an_address_is_written_one_way_and_shown_in_part(self, channel: str, text: str, value: str, masked: str):
        address = parse_address(channel, text)

        assert (address.value, address.masked) == (value, masked)

    @pytest.mark.parametrize(
        ("channel", "text"),
        [
            (EMAIL, "alice"),
            (EMAIL, "alice@"),
            (EMAIL, "a@b@example.com"),
            (EMAIL, "Alice <alice@example.com>"),
            (EMAIL, "alice@example.com\r\nBcc: bob@example.com"),
            (EMAIL, "alice@example.com,bob@example.com"),
            (SMS, "0151 12345678"),
            (SMS, "+49"),
            (SMS, "+4915112345678901"),
            (SLACK, "general"),
            (SLACK, "#general"),
            (WEBHOOK, "example.com/hook"),
            (WEBHOOK, "ftp://example.com/hook"),
            (WEBHOOK, "https://user:password@example.com/hook"),
            (WEBHOOK, "https://example.com:0/hook"),
            (WEBHOOK, "https://example.com:99999/hook"),
            (WEBHOOK, "https:///hook"),
            (WEBHOOK, "https://example.com/a b"),
            (APPRISE, "ntfy"),
            (APPRISE, "ntfys://"),
            (WEBHOOK, "https://example.com/" + "a" * MAX_LENGTH),
        ],
    )
    def test_what_is_none_is_refused(self, channel: str, text: str):
        with pytest.raises(ValueError, match="should"):
            parse_address(channel, text)

    @pytest.mark.parametrize("channel", [APPRISE, EMAIL, SLACK, SMS, WEBHOOK])
    def test_a_refusal_does_not_repeat_the_text(self, channel: str):
        with pytest.raises(ValueError, match="should") as refusal:
            parse_address(channel, "https://hunter2@ x")

        assert "hunter2" not in str(refusal.value)


class TestEndpoint:
    def test_webhooks_of_one_server_share_it(self):
        def endpoint(text: str) -> str | None:
            return parse_address(WEBHOOK, text).endpoint

        assert endpoint("https://example.com/a") == endpoint("https://EXAMPLE.com/b")
        assert endpoint("https://example.com/a") != endpoint("https://example.com:8443/a")

    @pytest.mark.parametrize(("channel", "text"), [(EMAIL, "a@example.com"), (SMS, "+4915112345678")])
    def test_what_is_behind_a_provider_of_ours_has_none(self, channel: str, text: str):
        assert parse_address(channel, text).endpoint is None
