import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.channel import Content, DeliveryFailed, OutboundMessage, PermanentFailure, RateLimited, TemporaryFailure
from shared.channels.webhook import WebhookChannel, open_channel
from shared.outbound import OutboundHttp, OutboundSettings, open_outbound
from shared.outbound.networks import parse_networks
from shared.signing import make_secret
from tests.fakes.misbehaving_server import MisbehavingServer, run_misbehaving_server

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
PAYLOAD = {"type": "scenario.executed", "data": {"name": "Grüße \u2028 </script>"}}


@pytest.fixture
async def server() -> AsyncIterator[MisbehavingServer]:
    async with run_misbehaving_server() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[OutboundHttp]:
    async with open_outbound(OutboundSettings(allowed_networks=parse_networks("127.0.0.0/8"))) as http:
        yield http


@pytest.fixture
async def channel(http) -> AsyncIterator[WebhookChannel]:
    async with open_channel(http) as channel:
        yield channel


def message_to(address: str, *secrets: str) -> OutboundMessage:
    return OutboundMessage(
        id=ID,
        address=address,
        content=Content(subject="s", text="t", payload=PAYLOAD),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        secrets=secrets or (make_secret(),),
    )


def received(server: MisbehavingServer) -> tuple[dict[str, str], bytes]:
    head, body = server.requests[-1]
    lines = [line.partition(": ") for line in head.strip().split("\r\n")[1:]]
    return {name.lower(): value for name, _, value in lines}, body


class TestSigning:
    async def test_receivers_verify_it_with_the_library_of_the_convention(self, channel, server):
        secret = make_secret()

        receipt = await channel.send(message_to(server.url("ok"), secret))

        headers, body = received(server)
        assert Webhook(secret).verify(body, headers) == PAYLOAD
        assert headers["content-type"] == "application/json"
        assert (receipt.provider, receipt.provider_id) == ("webhook", str(ID))

    async def test_while_secrets_change_either_of_them_verifies_it(self, channel, server):
        new, old = make_secret(), make_secret()

        await channel.send(message_to(server.url("ok"), new, old))

        headers, body = received(server)
        assert len(headers["webhook-signature"].split(" ")) == 2
        for secret in (new, old):
            Webhook(secret).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(make_secret()).verify(body, headers)

    async def test_a_repetition_is_recognised_and_signed_anew(self, http, server):
        now = datetime.now(UTC)
        instants = iter([now - timedelta(days=2), now])
        channel = WebhookChannel(http, clock=lambda: next(instants))

        for _ in range(2):
            await channel.send(message_to(server.url("ok"), "whsec_" + "A" * 32))

        (first, first_body), (second, second_body) = server.requests
        assert first_body == second_body
        assert f"webhook-id: {ID}" in first
        assert f"webhook-id: {ID}" in second
        headers, _ = received(server)
        assert headers["webhook-timestamp"] == str(int(now.timestamp()))

    async def test_nothing_goes_out_unsigned(self, channel, server):
        message = OutboundMessage(
            id=ID,
            address=server.url("ok"),
            content=Content(subject="s", text="t", payload=PAYLOAD),
            created_at=datetime.now(UTC),
        )

        with pytest.raises(ValueError, match="needs a secret"):
            await channel.send(message)

        assert server.accept_count == 0

    async def test_the_body_is_json_in_utf_8(self, channel, server):
        await channel.send(message_to(server.url("ok")))

        _, body = received(server)
        assert json.loads(body) == PAYLOAD
        assert "Grüße".encode() in body


class TestAnswers:
    @pytest.mark.parametrize("behaviour", ["ok", "no-content", "bomb", "short-body", "continue-first"])
    async def test_any_2xx_means_that_it_was_taken(self, channel, server, behaviour):
        assert await channel.send(message_to(server.url(behaviour)))

    @pytest.mark.parametrize(
        ("behaviour", "failure", "retry_after"),
        [
            ("redirect", TemporaryFailure, None),
            ("switching-protocols", TemporaryFailure, None),
            ("400", TemporaryFailure, None),
            ("404", TemporaryFailure, None),
            ("429", RateLimited, None),
            ("429-seconds", RateLimited, timedelta(seconds=120)),
            ("429-date", RateLimited, timedelta(days=1)),
            ("429-garbage", RateLimited, None),
            ("500", TemporaryFailure, None),
            ("503-seconds", TemporaryFailure, timedelta(seconds=30)),
        ],
    )
    async def test_any_other_answer_is_tried_again(self, channel, server, behaviour, failure, retry_after):
        with pytest.raises(TemporaryFailure, match="the webhook answered") as caught:
            await channel.send(message_to(server.url(behaviour)))

        assert type(caught.value) is failure
        assert caught.value.retry_after == retry_after

    async def test_410_ends_the_address(self, channel, server):
        with pytest.raises(PermanentFailure, match="the webhook answered 410") as caught:
            await channel.send(message_to(server.url("410")))

        assert caught.value.address_gone

    async def test_an_internal_address_is_no_address_that_is_gone(self, channel):
        with pytest.raises(DeliveryFailed) as caught:
            await channel.send(message_to("https://169.254.169.254/latest/meta-data"))

        assert type(caught.value) is PermanentFailure
        assert not caught.value.address_gone

    @pytest.mark.parametrize("behaviour", ["ok", "404", "reset", "garbage"])
    async def test_neither_address_nor_secret_is_logged_or_told(self, channel, server, behaviour, caplog):
        caplog.set_level("DEBUG")
        secret = make_secret()

        outcomes = await asyncio.gather(
            channel.send(message_to(f"{server.url(behaviour)}?token=canary", secret)), return_exceptions=True
        )

        told = caplog.text + repr(outcomes)
        assert "canary" not in told
        assert secret not in told
        assert str(server.port) not in told
