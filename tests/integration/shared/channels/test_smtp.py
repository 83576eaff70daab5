"""E-mail by SMTP, against aiosmtpd: sessions, encryption, signing in, and what the server's words mean."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trustme
from pydantic import SecretStr

from shared.channel import (
    Channel,
    Content,
    DeliveryFailed,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    TemporaryFailure,
)
from shared.channels.smtp import SmtpSettings, open_channel
from shared.mail import MailSettings
from tests.fakes.smtp_server import SmtpServer, run_smtp_server

MAIL = MailSettings(sender="Scenarios <no-reply@service.example>")
MESSAGE = OutboundMessage(
    id=UUID("019abcde-0000-7000-8000-000000000001"),
    address="bob@receiver.example",
    content=Content(subject="Checkout failed", text="Checkout failed."),
    created_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
)


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with run_smtp_server() as server:
        yield server


def open_to(server: SmtpServer, **changes: Any) -> AbstractAsyncContextManager[Channel]:
    settings = {"host": "127.0.0.1", "port": server.port, "security": "none", "timeout": timedelta(seconds=30)}
    return open_channel(SmtpSettings.model_validate(settings | changes), MAIL)


async def fail(server: SmtpServer, **changes: Any) -> DeliveryFailed:
    async with open_to(server, **changes) as channel:
        with pytest.raises(DeliveryFailed) as caught:
            await channel.send(MESSAGE)
    return caught.value


class TestSessions:
    async def test_one_session_carries_many_mails(self, server: SmtpServer):
        async with open_to(server) as channel:
            for _ in range(5):
                await channel.send(MESSAGE)

        assert len(server.mails) == 5
        assert server.session_count == 1

    async def test_there_are_no_more_sessions_than_asked_for(self, server: SmtpServer):
        async with open_to(server, connections=3) as channel:
            await asyncio.gather(*(channel.send(MESSAGE) for _ in range(20)))

        assert len(server.mails) == 20
        assert server.session_count <= 3

    async def test_a_session_that_the_server_ended_is_replaced(self, server: SmtpServer):
        async with open_to(server) as channel:
            await channel.send(MESSAGE)
            server.end_sessions()

            await channel.send(MESSAGE)

        assert len(server.mails) == 2
        assert server.session_count == 2

    async def test_a_session_whose_server_has_had_enough_is_replaced(self, server: SmtpServer):
        async with open_to(server) as channel:
            await channel.send(MESSAGE)
            server.recipient_reply = "421 4.7.0 Too many mails in one session"

            with pytest.raises(TemporaryFailure):
                await channel.send(MESSAGE)

        assert server.session_count == 2

    async def test_after_a_refusal_the_session_goes_on(self, server: SmtpServer):
        async with open_to(server) as channel:
            server.recipient_reply = "550 5.1.1 Unknown"
            with pytest.raises(PermanentFailure):
                await channel.send(MESSAGE)
            server.recipient_reply = None

            await channel.send(MESSAGE)

        assert server.session_count == 1


class TestTransfer:
    async def test_lines_of_a_single_period_arrive(self, server: SmtpServer):
        text = "one\n.\n..two\n.three"

        async with open_to(server) as channel:
            await channel.send(replace(MESSAGE, content=replace(MESSAGE.content, text=text)))

        [mail] = server.mails
        assert mail.message.get_content().replace("\r\n", "\n") == f"{text}\n"

    async def test_the_envelope_has_the_bare_addresses(self, server: SmtpServer):
        async with open_to(server) as channel:
            await channel.send(replace(MESSAGE, address="bob@bücher.example"))

        [mail] = server.mails
        assert mail.sender == "no-reply@service.example"
        assert mail.recipients == ["bob@xn--bcher-kva.example"]
        assert mail.content.isascii()

    async def test_an_international_address_goes_where_it_is_understood(self):
        async with run_smtp_server(enable_SMTPUTF8=True) as server, open_to(server) as channel:
            await channel.send(replace(MESSAGE, address="jürgen@receiver.example"))

        [mail] = server.mails
        assert mail.recipients == ["jürgen@receiver.example"]
        assert mail.message["To"] == "jürgen@receiver.example"

    async def test_an_address_whose_domain_cannot_be_is_gone(self, server: SmtpServer):
        async with open_to(server) as channel:
            with pytest.raises(PermanentFailure) as caught:
                await channel.send(replace(MESSAGE, address=f"bob@{'x' * 64}.example"))

        assert caught.value.address_gone

    async def test_an_international_address_is_refused_where_it_is_not(self, server: SmtpServer):
        async with open_to(server) as channel:
            with pytest.raises(PermanentFailure):
                await channel.send(replace(MESSAGE, address="jürgen@receiver.example"))

    async def test_a_connection_lost_after_the_mail_leaves_the_outcome_unknown(self, server: SmtpServer):
        server.is_silent = True

        async with open_to(server) as channel:
            sending = asyncio.create_task(channel.send(MESSAGE))
            await server.taken.wait()
            server.end_sessions()

            with pytest.raises(OutcomeUnknown):
                await sending


class TestReplies:
    @pytest.mark.parametrize("reply", ["550 5.1.1 Unknown user", "550 5.1.10 Null MX", "553 5.1.3 Bad address"])
    async def test_an_address_that_is_none_is_gone(self, server: SmtpServer, reply: str):
        server.recipient_reply = reply

        failure = await fail(server)

        assert isinstance(failure, PermanentFailure)
        assert failure.address_gone

    @pytest.mark.parametrize("reply", ["550 5.7.1 Blocked", "550 Go away", "552 5.2.2 Mailbox full"])
    async def test_an_address_that_wants_nothing_from_us_is_not(self, server: SmtpServer, reply: str):
        server.recipient_reply = reply

        failure = await fail(server)

        assert isinstance(failure, PermanentFailure)
        assert not failure.address_gone

    async def test_a_mail_can_be_refused_as_a_whole(self, server: SmtpServer):
        server.mail_reply = "554 5.6.0 Not like this"

        assert isinstance(await fail(server), PermanentFailure)

    async def test_a_reply_that_is_none_leaves_the_outcome_unknown(self, server: SmtpServer):
        server.mail_reply = "What?"

        assert isinstance(await fail(server), OutcomeUnknown)

    async def test_a_mail_can_be_put_off_as_a_whole(self, server: SmtpServer):
        server.mail_reply = "452 4.3.1 Out of storage"

        assert isinstance(await fail(server), TemporaryFailure)


class TestSecurity:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def tls(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    @pytest.fixture
    def ca_file(self, authority: trustme.CA, tmp_path: Path) -> str:
        path = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(path)
        return str(path)

    async def test_a_session_is_encrypted_before_we_sign_in(self, tls: ssl.SSLContext, ca_file: str):
        signing_in = {"username": "service", "password": SecretStr("right")}
        async with (
            run_smtp_server(tls=tls, auth_require_tls=True) as server,
            open_to(server, security="starttls", ca_file=ca_file, **signing_in) as channel,
        ):
            await channel.send(MESSAGE)

        assert len(server.mails) == 1
        assert server.credentials == [(b"service", b"right")]

    async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(self, tls: ssl.SSLContext):
        async with run_smtp_server(tls=tls) as server:
            assert isinstance(await fail(server, security="starttls"), TemporaryFailure)

        assert server.mails == []

    @pytest.mark.parametrize("security", ["starttls", "tls"])
    async def test_without_encryption_nothing_is_sent(self, server: SmtpServer, security: str):
        assert isinstance(await fail(server, security=security, timeout=timedelta(seconds=5)), TemporaryFailure)

        assert server.mails == []

    async def test_a_wrong_password_is_ours_to_repair_and_not_repeated_to_anybody(
        self, tls: ssl.SSLContext, ca_file: str
    ):
        async with run_smtp_server(tls=tls) as server:
            failure = await fail(
                server, security="starttls", ca_file=ca_file, username="service", password=SecretStr("wr0ng-secret")
            )

        assert isinstance(failure, TemporaryFailure)
        assert "wr0ng-secret" not in str(failure)
        assert "sign in" in str(failure)
