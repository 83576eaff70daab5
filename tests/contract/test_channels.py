"""What every channel promises, seen on each adapter with a real counterpart on loopback."""

import asyncio
import base64
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from ipaddress import IPv4Network
from uuid import UUID

import pytest
from aiobotocore.session import get_session
from pydantic import SecretStr
from typing_extensions import override

import shared.channels
from shared.channel import (
    Channel,
    Content,
    DeliveryFailed,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    TemporaryFailure,
)
from shared.channels import apprise, ses, slack, smtp, sns, twilio, webhook
from shared.mail import MailSettings
from shared.outbound import OutboundHttp, OutboundSettings, open_outbound
from shared.signing import make_secret
from tests.fakes.http_server import HttpServer, Reply, Request, run_http_server
from tests.fakes.smtp_server import SmtpServer, run_smtp_server

PATIENT = timedelta(seconds=30)
# Long enough to hand a message over on a busy machine.
IMPATIENT = timedelta(seconds=1)
SECRET = "hunter2-of-the-account"
MAIL = MailSettings(sender="Scenarios <no-reply@service.example>")
REGION = "eu-central-1"
MESSAGE = OutboundMessage(
    id=UUID("019abcde-0000-7000-8000-000000000001"),
    address="",
    content=Content(subject="Checkout failed", text="Checkout failed after 3 s.", html="<p>Checkout failed.</p>"),
    created_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
    secrets=(make_secret(),),
)


class Case(ABC):
    """An adapter, a counterpart, and how that says what it has to say.

    Attributes:
        address: Whom messages go to.
        can_limit: Whether the protocol can say that we ask too often.
        can_refuse: Whether it can say that a message never will be taken.
        retry_after: How long to wait when it says so; None where it cannot.
    """

    address: str
    can_limit = True
    can_refuse = True
    retry_after: timedelta | None = None

    @abstractmethod
    def open(self, *, timeout: timedelta) -> AbstractAsyncContextManager[Channel]:
        """Open the channel to the counterpart."""

    @abstractmethod
    def accept(self) -> None: ...

    @abstractmethod
    def refuse_for_now(self) -> None: ...

    @abstractmethod
    def limit(self) -> None: ...

    @abstractmethod
    def refuse_for_good(self) -> None: ...

    @abstractmethod
    def keep_silent(self) -> None: ...

    @abstractmethod
    async def disappear(self) -> None: ...

    @abstractmethod
    def identities(self) -> list[str]:
        """Return what a receiver tells a repetition by, of each message that came."""


class SmtpCase(Case):
    address = "bob@receiver.example"
    can_limit = False

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    @override
    def open(self, *, timeout: timedelta) -> AbstractAsyncContextManager[Channel]:
        settings = smtp.SmtpSettings(host="127.0.0.1", port=self._server.port, security="none", timeout=timeout)
        return smtp.open_channel(settings, MAIL)

    @override
    def accept(self) -> None:
        self._server.recipient_reply = None

    @override
    def refuse_for_now(self) -> None:
        self._server.recipient_reply = f"450 4.2.0 <{self.address}> is busy"

    @override
    def limit(self) -> None:
        raise NotImplementedError

    @override
    def refuse_for_good(self) -> None:
        self._server.recipient_reply = f"550 5.7.1 <{self.address}> wants nothing from you"

    @override
    def keep_silent(self) -> None:
        self._server.is_silent = True

    @override
    async def disappear(self) -> None:
        await self._server.close()

    @override
    def identities(self) -> list[str]:
        return [str(mail.message["Message-ID"]) for mail in self._server.mails]


@dataclass
class HttpCase(Case):
    server: HttpServer
    address: str
    open_at: Callable[[str, timedelta], AbstractAsyncContextManager[Channel]]
    refused_for_now: Reply
    limited: Reply | None
    refused_for_good: Reply | None
    identify: Callable[[Request], str]
    retry_after: timedelta | None = None

    def __post_init__(self) -> None:
        self.can_limit = self.limited is not None
        self.can_refuse = self.refused_for_good is not None
        self._accepted = (self.server.behind, self.server.reply)

    @override
    def open(self, *, timeout: timedelta) -> AbstractAsyncContextManager[Channel]:
        return self.open_at(self.server.url, timeout)

    @override
    def accept(self) -> None:
        self.server.behind, self.server.reply = self._accepted

    @override
    def refuse_for_now(self) -> None:
        self._say(self.refused_for_now)

    @override
    def limit(self) -> None:
        assert self.limited
        self._say(self.limited)

    @override
    def refuse_for_good(self) -> None:
        assert self.refused_for_good
        self._say(self.refused_for_good)

    @override
    def keep_silent(self) -> None:
        self.server.is_silent = True

    @override
    async def disappear(self) -> None:
        await self.server.close()

    @override
    def identities(self) -> list[str]:
        return [self.identify(request) for request in self.server.requests]

    def _say(self, reply: Reply) -> None:
        self.server.behind = None
        self.server.reply = reply


@asynccontextmanager
async def smtp_case(_request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with run_smtp_server() as server:
        yield SmtpCase(server)


@asynccontextmanager
async def ses_case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    moto: str = request.getfixturevalue("sqs_endpoint")
    async with get_session().create_client("sesv2", region_name=REGION, endpoint_url=moto) as client:
        await client.create_email_identity(EmailIdentity=MAIL.address)

    def refusal(status: int, code: str) -> Reply:
        return Reply(status, json.dumps({"message": "Not for bob@receiver.example"}), {"x-amzn-ErrorType": code})

    def identify(request: Request) -> str:
        mail = message_from_bytes(base64.b64decode(json.loads(request.body)["Content"]["Raw"]["Data"]))
        return str(mail["Message-ID"])

    async with run_http_server() as server:
        server.behind = moto
        yield HttpCase(
            server=server,
            address="bob@receiver.example",
            open_at=lambda url, timeout: ses.open_channel(
                ses.SesSettings(region=REGION, endpoint_url=url, timeout=timeout), MAIL
            ),
            refused_for_now=refusal(503, "ServiceUnavailable"),
            limited=refusal(429, "TooManyRequestsException"),
            refused_for_good=refusal(400, "MessageRejected"),
            identify=identify,
        )


@asynccontextmanager
async def sns_case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    def refusal(status: int, code: str) -> Reply:
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>Not for +12025550100</Message></Error>"
        return Reply(status, f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>")

    async with run_http_server() as server:
        server.behind = request.getfixturevalue("sqs_endpoint")
        yield HttpCase(
            server=server,
            address="+12025550100",
            open_at=lambda url, timeout: sns.open_channel(
                sns.SnsSettings(region=REGION, endpoint_url=url, timeout=timeout)
            ),
            refused_for_now=refusal(500, "InternalError"),
            limited=refusal(400, "Throttled"),
            refused_for_good=refusal(400, "InvalidParameter"),
            identify=body_of,
        )


@asynccontextmanager
async def twilio_case(_request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    def refusal(status: int, code: int) -> Reply:
        body = {"code": code, "message": f"Not for +12025550100: {SECRET}", "status": status}
        return Reply(status, json.dumps(body), {"Retry-After": "7"} if status == 429 else {})

    async with run_http_server() as server:
        server.reply = Reply(201, json.dumps({"sid": "SM1", "status": "queued"}))
        yield HttpCase(
            server=server,
            address="+12025550100",
            open_at=lambda url, timeout: twilio.open_channel(
                twilio.TwilioSettings(
                    account_sid="AC1",
                    auth_token=SecretStr(SECRET),
                    sender="+12025550199",
                    base_url=url,
                    timeout=timeout,
                )
            ),
            refused_for_now=refusal(503, 20503),
            limited=refusal(429, 20429),
            refused_for_good=refusal(400, 21211),
            identify=body_of,
            retry_after=timedelta(seconds=7),
        )


@asynccontextmanager
async def webhook_case(_request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with run_http_server() as server:
        yield HttpCase(
            server=server,
            address=f"{server.url}/hooks/{SECRET}",
            open_at=lambda _, timeout: with_http(timeout, webhook.open_channel),
            refused_for_now=Reply(503, SECRET),
            limited=Reply(429, SECRET, {"Retry-After": "7"}),
            refused_for_good=Reply(410, SECRET),
            identify=lambda request: request.headers["webhook-id"],
            retry_after=timedelta(seconds=7),
        )


@asynccontextmanager
async def slack_case(_request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    settings = slack.SlackSettings(webhooks_enabled=True)
    async with run_http_server() as server:
        yield HttpCase(
            server=server,
            address=f"{server.url}/services/{SECRET}",
            open_at=lambda _, timeout: with_http(timeout, lambda http: slack.open_channel(settings, http)),
            refused_for_now=Reply(500, "rollup_error"),
            limited=Reply(429, "rate_limited", {"Retry-After": "7"}),
            refused_for_good=Reply(404, "no_service"),
            identify=body_of,
            retry_after=timedelta(seconds=7),
        )


@asynccontextmanager
async def apprise_case(_request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with run_http_server() as server:
        yield HttpCase(
            server=server,
            address=f"{server.url.replace('http', 'json')}/{SECRET}",
            open_at=lambda _, timeout: apprise.open_channel(
                apprise.AppriseSettings(schemas=("json",), timeout=timeout)
            ),
            refused_for_now=Reply(503, SECRET),
            # Apprise tells only whether it worked.
            limited=None,
            refused_for_good=None,
            identify=body_of,
        )


@asynccontextmanager
async def with_http(
    timeout: timedelta,  # noqa: ASYNC109 - the client's, not ours
    open_channel: Callable[[OutboundHttp], AbstractAsyncContextManager[Channel]],
) -> AsyncIterator[Channel]:
    settings = OutboundSettings(timeout=timeout, allowed_networks=(IPv4Network("127.0.0.0/8"),))
    async with open_outbound(settings) as http, open_channel(http) as channel:
        yield channel


def body_of(request: Request) -> str:
    return request.body.decode()


CASES = {
    "apprise": apprise_case,
    "ses": ses_case,
    "slack": slack_case,
    "smtp": smtp_case,
    "sns": sns_case,
    "twilio": twilio_case,
    "webhook": webhook_case,
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(params=sorted(CASES))
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with CASES[request.param](request) as case:
        yield case


# Apprise looks for a module that Python will not have much longer.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def send(case: Case, *, deadline: timedelta = PATIENT) -> None:
    async with case.open(timeout=deadline) as channel:
        await channel.send(replace(MESSAGE, address=case.address))


async def fail(case: Case, *, deadline: timedelta = PATIENT) -> DeliveryFailed:
    """Send a message, see that it fails, and that the reason tells nobody's secrets."""
    with pytest.raises(DeliveryFailed) as caught:
        await send(case, deadline=deadline)
    detail = str(caught.value)
    assert detail
    assert case.address not in detail
    assert SECRET not in detail
    assert "\n" not in detail
    return caught.value


def test_every_adapter_has_a_case():
    assert {module.name for module in pkgutil.iter_modules(shared.channels.__path__)} == set(CASES)


async def test_a_message_is_taken_and_the_receipt_names_the_provider(case: Case):
    async with case.open(timeout=PATIENT) as channel:
        receipt = await channel.send(replace(MESSAGE, address=case.address))

    assert receipt.provider == channel.provider
    assert len(case.identities()) == 1


async def test_a_repetition_can_be_told_by_what_is_the_same(case: Case):
    await send(case)
    await send(case)

    first, second = case.identities()
    assert first == second


async def test_messages_side_by_side_all_arrive(case: Case):
    async with case.open(timeout=PATIENT) as channel:
        message = replace(MESSAGE, address=case.address)
        await asyncio.gather(*(channel.send(message) for _ in range(10)))

    assert len(case.identities()) == 10


async def test_a_refusal_for_now_is_temporary(case: Case):
    case.refuse_for_now()

    failure = await fail(case)

    assert isinstance(failure, TemporaryFailure)
    assert not isinstance(failure, RateLimited)


async def test_a_limit_is_told_apart_and_says_how_long_to_wait(case: Case):
    if not case.can_limit:
        pytest.skip("The protocol has no word for it.")
    case.limit()

    failure = await fail(case)

    assert isinstance(failure, RateLimited)
    assert failure.retry_after == case.retry_after


async def test_a_refusal_for_good_is_permanent(case: Case):
    if not case.can_refuse:
        pytest.skip("The protocol has no word for it.")
    case.refuse_for_good()

    assert isinstance(await fail(case), PermanentFailure)


async def test_silence_after_the_message_was_handed_over_leaves_the_outcome_unknown(case: Case):
    case.keep_silent()

    assert isinstance(await fail(case, deadline=IMPATIENT), OutcomeUnknown)


async def test_a_counterpart_that_is_not_there_is_a_temporary_failure(case: Case):
    await case.disappear()

    assert isinstance(await fail(case), TemporaryFailure)


async def test_after_a_failure_the_next_message_is_taken(case: Case):
    message = replace(MESSAGE, address=case.address)
    case.refuse_for_now()
    async with case.open(timeout=PATIENT) as channel:
        with pytest.raises(TemporaryFailure):
            await channel.send(message)

        case.accept()

        receipt = await channel.send(message)

    assert receipt.provider
