"""SES and SNS: what moto makes of our calls, and what AWS's error codes mean."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from uuid import UUID

import httpx
import pytest
from aiobotocore.session import get_session

from shared.channel import (
    Content,
    DeliveryFailed,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    TemporaryFailure,
)
from shared.channels import ses, sns
from shared.mail import MailSettings
from tests.fakes.http_server import HttpServer, Reply, run_http_server

REGION = "eu-central-1"
PATIENT = timedelta(seconds=30)
MAIL = MailSettings(sender="Größe <sender-of-test-aws@service.example>")
CONTENT = Content(subject="Checkout failed", text="Checkout failed.", html="<p>Checkout failed.</p>")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with run_http_server() as server:
        yield server


def message_to(address: str) -> OutboundMessage:
    return OutboundMessage(
        id=UUID("019abcde-0000-7000-8000-000000000001"),
        address=address,
        content=CONTENT,
        created_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
    )


async def send_mail(endpoint: str, mail: MailSettings = MAIL) -> None:
    settings = ses.SesSettings(region=REGION, endpoint_url=endpoint, timeout=PATIENT)
    async with ses.open_channel(settings, mail) as channel:
        await channel.send(message_to("bob@receiver.example"))


async def send_sms(endpoint: str) -> None:
    settings = sns.SnsSettings(region=REGION, endpoint_url=endpoint, timeout=PATIENT, sender_id="Scenarios")
    async with sns.open_channel(settings) as channel:
        await channel.send(message_to("+12025550100"))


async def fail_mail(endpoint: str, mail: MailSettings = MAIL) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await send_mail(endpoint, mail)
    return caught.value


async def fail_sms(endpoint: str) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await send_sms(endpoint)
    return caught.value


class TestSes:
    async def test_the_mail_arrives_as_it_was_built(self, server: HttpServer, sqs_endpoint: str):
        async with get_session().create_client("sesv2", region_name=REGION, endpoint_url=sqs_endpoint) as client:
            await client.create_email_identity(EmailIdentity=MAIL.address)

        server.behind = sqs_endpoint

        await send_mail(server.url)

        [request] = server.requests
        asked = json.loads(request.body)
        mail = message_from_bytes(base64.b64decode(asked["Content"]["Raw"]["Data"]), policy=default)
        assert asked["Destination"] == {"ToAddresses": ["bob@receiver.example"]}
        assert mail["From"] == MAIL.sender
        assert mail["Message-ID"] == "<019abcde-0000-7000-8000-000000000001@service.example>"

    async def test_a_sender_that_is_not_ours_is_refused(self, sqs_endpoint: str):
        failure = await fail_mail(sqs_endpoint, MailSettings(sender="nobody@elsewhere.example"))

        assert isinstance(failure, PermanentFailure)
        assert not failure.address_gone
        assert "elsewhere" not in str(failure)

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (429, "TooManyRequestsException", RateLimited),
            (400, "LimitExceededException", RateLimited),
            (400, "Throttling", RateLimited),
            (400, "MessageRejected", PermanentFailure),
            (400, "BadRequestException", PermanentFailure),
            (400, "SendingPausedException", TemporaryFailure),
            (400, "AccountSuspendedException", TemporaryFailure),
            (400, "MailFromDomainNotVerifiedException", TemporaryFailure),
            (403, "InvalidClientTokenId", TemporaryFailure),
            (500, "InternalFailure", TemporaryFailure),
            (503, "ServiceUnavailable", TemporaryFailure),
        ],
    )
    async def test_each_refusal_has_its_meaning(
        self, server: HttpServer, status: int, code: str, kind: type[DeliveryFailed]
    ):
        server.reply = Reply(status, json.dumps({"message": "No."}), {"x-amzn-ErrorType": code})

        assert type(await fail_mail(server.url)) is kind
        assert len(server.requests) == 1

    async def test_an_answer_of_somebody_else_leaves_the_outcome_unknown(self, server: HttpServer):
        server.reply = Reply(200, "{}")

        assert isinstance(await fail_mail(server.url), OutcomeUnknown)


class TestSns:
    async def test_a_number_gets_the_text(self, server: HttpServer, sqs_endpoint: str):
        server.behind = sqs_endpoint

        await send_sms(server.url)

        [request] = server.requests
        sent = httpx.QueryParams(request.body.decode())
        assert (sent["PhoneNumber"], sent["Message"]) == ("+12025550100", "Checkout failed.")
        assert {"Transactional", "Scenarios"} <= set(sent.values())

    @pytest.mark.parametrize(
        ("said", "is_gone"),
        [
            ("Invalid parameter: PhoneNumber Reason: +12025550100 is not valid to publish to", True),
            ("Phone number is opted out", True),
            ("Invalid parameter: Message Reason: too long", False),
        ],
    )
    async def test_a_number_that_takes_no_messages_is_gone(self, server: HttpServer, said: str, *, is_gone: bool):
        error = f"<Error><Type>Sender</Type><Code>InvalidParameter</Code><Message>{said}</Message></Error>"
        server.reply = Reply(400, f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>")

        failure = await fail_sms(server.url)

        assert isinstance(failure, PermanentFailure)
        assert failure.address_gone is is_gone
        assert "2025550100" not in str(failure)
