import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.channel import (
    Content,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    TemporaryFailure,
)
from shared.channels.slack import ADDRESS_IS_GONE, MESSAGE_IS_REFUSED, SlackChannel, SlackSettings, open_channel
from shared.outbound import OutboundHttp, OutboundSettings, open_outbound
from shared.outbound.networks import parse_networks

PAYLOAD = {"text": "Login passed", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "Grüße"}}]}
MEMBER = "U024BE7LH"


@dataclass
class Slack:
    """Slack on loopback: says what it is told to, and remembers what it was asked."""

    url: str = ""
    status: int = 200
    headers: str = ""
    body: bytes = b'{"ok": true, "channel": "D024BE91L", "ts": "1503435956.000247"}'
    requests: list[tuple[str, bytes]] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        self.requests.append((head, await reader.readexactly(int(length.partition(":")[2]))))
        writer.write(f"HTTP/1.1 {self.status} Said\r\nConnection: close\r\n{self.headers}\r\n".encode() + self.body)
        writer.close()


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    slack = Slack()
    listener = await asyncio.start_server(slack.answer, "127.0.0.1", 0)
    slack.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield slack


@pytest.fixture
async def http() -> AsyncIterator[OutboundHttp]:
    async with open_outbound(OutboundSettings(allowed_networks=parse_networks("127.0.0.0/8"))) as http:
        yield http


@pytest.fixture
async def channel(slack, http) -> AsyncIterator[SlackChannel]:
    settings = SlackSettings(webhooks_enabled=True, bot_token=SecretStr("xoxb-1"), api_url=f"{slack.url}/api/")
    async with open_channel(settings, http) as channel:
        yield channel


def message_to(address: str) -> OutboundMessage:
    return OutboundMessage(
        id=uuid4(),
        address=address,
        content=Content(subject="s", text="t", payload=PAYLOAD),
        created_at=datetime.now(UTC),
    )


class TestIncomingWebhooks:
    async def test_the_webhook_gets_the_payload_and_no_token(self, channel, slack):
        slack.body = b"ok"

        receipt = await channel.send(message_to(f"{slack.url}/services/T0/B0/x"))

        [(head, body)] = slack.requests
        assert head.startswith("POST /services/T0/B0/x ")
        assert "xoxb" not in head
        assert json.loads(body) == PAYLOAD
        assert (receipt.provider, receipt.provider_id) == ("slack", None)

    @pytest.mark.parametrize(
        ("status", "error", "gone"),
        [
            (404, "no_service", True),
            (404, "no_team", True),
            (410, "channel_is_archived", True),
            (410, "whatever", True),
            (404, "channel_not_found", False),
            (403, "action_prohibited", False),
            (400, "invalid_payload", False),
        ],
    )
    async def test_some_answers_are_final(self, channel, slack, status, error, gone):
        slack.status, slack.body = status, error.encode()

        with pytest.raises(PermanentFailure, match=f"Slack answered {status} {error}") as caught:
            await channel.send(message_to(f"{slack.url}/services/T0/B0/x"))

        assert caught.value.address_gone is gone

    @pytest.mark.parametrize(("status", "error"), [(500, "rollup_error"), (403, "invented_tomorrow"), (302, "")])
    async def test_others_are_tried_again(self, channel, slack, status, error):
        slack.status, slack.body = status, error.encode()

        with pytest.raises(TemporaryFailure, match=f"Slack answered {status}"):
            await channel.send(message_to(f"{slack.url}/services/T0/B0/x"))

    async def test_what_a_stranger_says_is_not_repeated(self, channel, slack):
        slack.status, slack.body = 500, b"<script>\nalert(1)</script>"

        with pytest.raises(TemporaryFailure) as caught:
            await channel.send(message_to(f"{slack.url}/services/T0/B0/x"))

        assert str(caught.value) == "Slack answered 500"

    async def test_too_many_are_limited(self, channel, slack):
        slack.status, slack.headers, slack.body = 429, "Retry-After: 30\r\n", b"rate_limited"

        with pytest.raises(RateLimited) as caught:
            await channel.send(message_to(f"{slack.url}/services/T0/B0/x"))

        assert caught.value.retry_after == timedelta(seconds=30)


class TestBot:
    async def test_the_bot_writes_to_the_member(self, channel, slack):
        receipt = await channel.send(message_to(MEMBER))

        [(head, body)] = slack.requests
        assert head.startswith("POST /api/chat.postMessage ")
        assert "Authorization: Bearer xoxb-1\r\n" in head
        assert json.loads(body) == {**PAYLOAD, "channel": MEMBER}
        assert (receipt.provider, receipt.provider_id) == ("slack", "1503435956.000247")

    @pytest.mark.parametrize("error", sorted(ADDRESS_IS_GONE | MESSAGE_IS_REFUSED))
    async def test_what_slack_refuses_is_final(self, channel, slack, error):
        slack.body = json.dumps({"ok": False, "error": error}).encode()

        with pytest.raises(PermanentFailure, match=f"Slack answered 200 {error}") as caught:
            await channel.send(message_to(MEMBER))

        assert caught.value.address_gone is (error in ADDRESS_IS_GONE)

    @pytest.mark.parametrize(
        "error",
        ["invalid_auth", "not_authed", "token_revoked", "account_inactive", "missing_scope", "internal_error", "new"],
    )
    async def test_what_the_operator_or_slack_can_repair_loses_no_message(self, channel, slack, error):
        slack.body = json.dumps({"ok": False, "error": error}).encode()

        with pytest.raises(TemporaryFailure, match=error) as caught:
            await channel.send(message_to(MEMBER))

        assert type(caught.value) is TemporaryFailure

    @pytest.mark.parametrize("status", [200, 429])
    async def test_too_many_are_limited(self, channel, slack, status):
        slack.status, slack.headers, slack.body = status, "Retry-After: 7\r\n", b'{"ok": false, "error": "ratelimited"}'

        with pytest.raises(RateLimited) as caught:
            await channel.send(message_to(MEMBER))

        assert caught.value.retry_after == timedelta(seconds=7)

    @pytest.mark.parametrize("body", [b"", b"ok", b"[]", b'{"ts": "1"}', b'{"ok": "yes"}', b"\xff"])
    async def test_an_answer_that_cannot_be_read_leaves_the_outcome_unknown(self, channel, slack, body):
        slack.body = body

        with pytest.raises(OutcomeUnknown):
            await channel.send(message_to(MEMBER))

    async def test_a_page_in_the_place_of_an_answer_is_tried_again(self, channel, slack):
        slack.status, slack.body = 502, b"<html>Bad Gateway</html>"

        with pytest.raises(TemporaryFailure, match=r"^Slack answered 502$"):
            await channel.send(message_to(MEMBER))


class TestOffer:
    @pytest.mark.parametrize(
        ("settings", "is_on_offer"),
        [
            ({}, False),
            ({"bot_token": ""}, False),
            ({"bot_token": "xoxb-1"}, True),
            ({"webhooks_enabled": True}, True),
        ],
    )
    def test_slack_is_on_offer_when_one_of_its_ways_is(self, settings, is_on_offer):
        assert SlackSettings(**settings).is_on_offer is is_on_offer

    @pytest.mark.parametrize("address", [MEMBER, "https://hooks.slack.com/services/T0/B0/x"])
    async def test_a_way_that_is_no_longer_on_offer_may_come_back(self, http, address):
        async with open_channel(SlackSettings(), http) as channel:
            with pytest.raises(TemporaryFailure, match="at present"):
                await channel.send(message_to(address))
