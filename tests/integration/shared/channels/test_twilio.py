"""SMS by Twilio, against a server that answers as Twilio documents: the form that is posted, and its error codes."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs
from uuid import UUID

import pytest
from pydantic import SecretStr

from shared.channel import (
    Content,
    DeliveryFailed,
    OutboundMessage,
    PermanentFailure,
    RateLimited,
    Receipt,
    TemporaryFailure,
)
from shared.channels.twilio import TwilioSettings, open_channel
from tests.fakes.http_server import HttpServer, Reply, run_http_server

MESSAGE = OutboundMessage(
    id=UUID("019abcde-0000-7000-8000-000000000001"),
    address="+12025550100",
    content=Content(subject="Größe & Preis", text="Größe & Preis: 100 %"),
    created_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
)


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with run_http_server() as server:
        yield server


async def send(server: HttpServer, *, sender: str = "+12025550199") -> Receipt:
    settings = TwilioSettings(
        account_sid="AC1",
        auth_token=SecretStr("token"),
        sender=sender,
        base_url=server.url,
        timeout=timedelta(seconds=30),
    )
    async with open_channel(settings) as channel:
        return await channel.send(MESSAGE)


async def fail(server: HttpServer, reply: Reply) -> DeliveryFailed:
    server.reply = reply
    with pytest.raises(DeliveryFailed) as caught:
        await send(server)
    return caught.value


def error(status: int, code: object, **headers: str) -> Reply:
    return Reply(status, json.dumps({"code": code, "message": "No.", "status": status}), headers)


class TestSend:
    async def test_the_text_is_posted_to_the_account(self, server: HttpServer):
        server.reply = Reply(201, json.dumps({"sid": "SM1"}))

        receipt = await send(server)

        [request] = server.requests
        assert request.path == "/2010-04-01/Accounts/AC1/Messages.json"
        assert request.headers["authorization"] == f"Basic {base64.b64encode(b'AC1:token').decode()}"
        assert parse_qs(request.body.decode()) == {
            "To": ["+12025550100"],
            "From": ["+12025550199"],
            "Body": ["Größe & Preis: 100 %"],
        }
        assert receipt == Receipt(provider="twilio", provider_id="SM1")

    async def test_a_messaging_service_can_be_the_sender(self, server: HttpServer):
        await send(server, sender="MG1")

        [request] = server.requests
        assert parse_qs(request.body.decode())["MessagingServiceSid"] == ["MG1"]


class TestFailures:
    @pytest.mark.parametrize("code", [21211, 21610, 21614])
    async def test_a_number_that_takes_no_messages_of_ours_is_gone(self, server: HttpServer, code: int):
        failure = await fail(server, error(400, code))

        assert isinstance(failure, PermanentFailure)
        assert failure.address_gone

    async def test_another_fault_of_the_message_is_for_good(self, server: HttpServer):
        failure = await fail(server, error(400, 21617))

        assert isinstance(failure, PermanentFailure)
        assert not failure.address_gone

    @pytest.mark.parametrize("reply", [error(429, 20429), error(400, 21611)])
    async def test_a_limit_is_told_apart(self, server: HttpServer, reply: Reply):
        assert isinstance(await fail(server, reply), RateLimited)

    @pytest.mark.parametrize("seconds", ["soon", "-1", "", "٣"])
    async def test_a_wait_that_is_none_is_no_wait(self, server: HttpServer, seconds: str):
        failure = await fail(server, error(429, 20429, **{"Retry-After": seconds}))

        assert isinstance(failure, RateLimited)
        assert failure.retry_after is None

    @pytest.mark.parametrize(
        "reply",
        [
            error(401, 20003),
            error(503, 20503),
            Reply(502, "<html>Bad gateway</html>"),
            Reply(302, "", {"Location": "https://elsewhere.example/"}),
        ],
    )
    async def test_what_can_be_repaired_is_temporary(self, server: HttpServer, reply: Reply):
        assert isinstance(await fail(server, reply), TemporaryFailure)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("reply", [error(400, ["21211"]), Reply(400, "[]"), Reply(404, "")])
    async def test_an_answer_without_a_code_goes_by_its_status(self, server: HttpServer, reply: Reply):
        failure = await fail(server, reply)

        assert isinstance(failure, PermanentFailure)
        assert not failure.address_gone
