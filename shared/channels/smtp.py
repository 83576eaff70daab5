"""E-mail by SMTP, over connections that are kept and used again."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Literal

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import override

from shared.channel import (
    EMAIL,
    Channel,
    DeliveryFailed,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    Receipt,
    TemporaryFailure,
)
from shared.mail import MailSettings, build_mail, to_ascii_domain
from shared.settings import Duration
from shared.wording import quote_provider

# Servers and what stands before them forget idle connections after some minutes; the silent way to find out is slow.
MAX_IDLE = timedelta(seconds=60)
FAREWELL = timedelta(seconds=1)

_COMPLETED = range(200, 300)
_START_INPUT = 354
_REFUSED = 400
_CLOSING = 421
_PERMANENT = 500
# What only whoever runs us can repair: we should have signed in, or did so wrongly. The mail itself can wait for that.
_UNAUTHENTICATED = frozenset({530, 534, 535, 538})
# RFC 3463: no such mailbox, no such system, no address, mailbox has moved; RFC 7505: a domain that takes no mail.
_NO_SUCH_ADDRESS = re.compile(r"5\.1\.(?:1|2|3|6|10)\b")
_LINE_WITH_PERIOD = re.compile(rb"^\.", re.MULTILINE)


class SmtpSettings(BaseSettings):
    """Which server takes our e-mail."""

    model_config = SettingsConfigDict(env_prefix="SMTP_")

    host: str = Field(default="", description="Server that takes our e-mail; with it, e-mail can go by SMTP.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="`starttls`, `tls` from the first byte (port 465), or `none` for a server on the same machine.",
    )
    username: str = Field(default="", description="Name to sign in with; without it we do not sign in.")
    password: SecretStr | None = Field(default=None, description="Password to sign in with.")
    ca_file: str = Field(default="", description="Certificates to trust instead of those of the system.")
    connections: int = Field(default=10, ge=1, le=100, description="Most connections of one process.")
    timeout: Duration = Field(default=timedelta(seconds=10), description="Total deadline of one e-mail.")

    @property
    def is_on_offer(self) -> bool:
        """Whether there is a server."""
        return bool(self.host)


class SmtpChannel(Channel):
    """Hands mails to one server. What it refuses for now or for good is the server's word, not that of the last one."""

    name = EMAIL
    provider = "smtp"

    def __init__(self, settings: SmtpSettings, mail: MailSettings) -> None:
        """Connect when the first mail is sent."""
        self._settings = settings
        self._mail = mail
        self._slots = asyncio.Semaphore(settings.connections)
        # The one used last is used next, so that those nobody needs any more grow old.
        self._idle: list[tuple[SMTP, float]] = []

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        mail = build_mail(message, sender=self._mail.sender)
        transfer = _Transfer(self._mail.address, to_ascii_domain(message.address), mail)
        try:
            async with asyncio.timeout(self._settings.timeout.total_seconds()), self._slots:
                reply = await self._hand_over(transfer)
        except TimeoutError as error:
            detail = f"The server did not answer within {self._settings.timeout.total_seconds():g} s."
            raise transfer.failure(detail) from error
        return Receipt(provider=self.provider, provider_id=quote_provider(reply))

    async def close(self) -> None:
        """Take leave of the server, which need not answer."""
        idle, self._idle = self._idle, []
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL.total_seconds()):
                await asyncio.gather(*(connection.quit() for connection, _ in idle), return_exceptions=True)
        for connection, _ in idle:
            connection.close()

    async def _hand_over(self, transfer: "_Transfer") -> str:
        """Return the server's reply to the mail."""
        while (connection := await self._take_idle()) is not None:
            try:
                return await self._use(connection, transfer)
            except _Stale:
                continue
        try:
            connection = await self._connect()
        except (SMTPException, OSError, ValueError) as error:
            message = f"No session with the server: {_describe(error)}"
            raise TemporaryFailure(message) from error
        try:
            return await self._use(connection, transfer)
        except _Stale as error:
            message = "The server ended the session before it took the mail."
            raise TemporaryFailure(message) from error

    async def _take_idle(self) -> SMTP | None:
        """Return a session that is there already, None if there is none any more."""
        while self._idle:
            connection, since = self._idle.pop()
            answers = False
            try:
                if connection.is_connected and time.monotonic() - since < MAX_IDLE.total_seconds():
                    # It tells whether the session is still there, and clears what a refused mail has left behind.
                    await connection.rset()
                    answers = True
            except (SMTPException, OSError):
                continue
            finally:
                if not answers:
                    connection.close()
            if answers:
                return connection
        return None

    async def _connect(self) -> SMTP:
        settings = self._settings
        connection = SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username or None,
            password=settings.password.get_secret_value() if settings.password else None,
            # What we say hello as; the name of this machine is nobody's business, and looking it up takes a thread.
            local_hostname=self._mail.address.rpartition("@")[2],
            timeout=settings.timeout.total_seconds(),
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            cert_bundle=settings.ca_file or None,
        )
        await connection.connect()
        return connection

    async def _use(self, connection: SMTP, transfer: "_Transfer") -> str:
        """Send the mail over a connection, and keep that if the session can go on afterwards."""
        keep = False
        try:
            reply = await transfer.run(connection)
            keep = True
        except SMTPResponseException as error:
            keep = error.code >= _REFUSED and error.code != _CLOSING
            if transfer.is_handed_over and error.code < _REFUSED:
                message = f"The server answered what cannot be understood: {_describe(error)}"
                raise OutcomeUnknown(message) from error
            if error.code == _CLOSING and not transfer.is_handed_over:
                raise _Stale from error
            raise _refusal(error) from error
        except (SMTPServerDisconnected, SMTPTimeoutError, ConnectionError) as error:
            if transfer.is_handed_over:
                message = f"The connection was lost: {_describe(error)}"
                raise OutcomeUnknown(message) from error
            raise _Stale from error
        finally:
            if keep:
                self._idle.append((connection, time.monotonic()))
            else:
                connection.close()
        return reply


class _Stale(Exception):
    """The session was over before the mail was handed over."""


class _Transfer:
    """One mail on its way, which knows from when on it may have been taken."""

    def __init__(self, sender: str, recipient: str, mail: bytes) -> None:
        self.is_handed_over = False
        self._sender = sender
        self._recipient = recipient
        self._mail = _LINE_WITH_PERIOD.sub(b"..", mail) + b".\r\n"

    async def run(self, connection: SMTP) -> str:
        """Return the server's reply to the whole mail."""
        international = not self._recipient.isascii()
        encoding, options = ("utf-8", ["SMTPUTF8", "BODY=8BITMIME"]) if international else ("ascii", [])
        await connection.mail(self._sender, options=options, encoding=encoding)
        await connection.rcpt(self._recipient, encoding=encoding)
        # Not `data()`: its errors do not tell whether the mail itself had been written.
        start = await connection.execute_command(b"DATA")
        if start.code != _START_INPUT:
            raise SMTPResponseException(start.code, start.message)
        protocol = connection.protocol
        if protocol is None:
            raise _Stale
        protocol.write(self._mail)
        self.is_handed_over = True
        reply = await protocol.read_response()
        if reply.code not in _COMPLETED:
            raise SMTPResponseException(reply.code, reply.message)
        return reply.message

    def failure(self, detail: str) -> DeliveryFailed:
        """Return what it means that nothing more was heard."""
        return OutcomeUnknown(detail) if self.is_handed_over else TemporaryFailure(detail)


@asynccontextmanager
async def open_channel(settings: SmtpSettings, mail: MailSettings) -> AsyncIterator[SmtpChannel]:
    """Open the channel; it connects with its first mail."""
    channel = SmtpChannel(settings, mail)
    try:
        yield channel
    finally:
        await channel.close()


def _refusal(error: SMTPResponseException) -> DeliveryFailed:
    detail = f"The server answered {_describe(error)}"
    if error.code < _PERMANENT or error.code in _UNAUTHENTICATED:
        return TemporaryFailure(detail)
    gone = isinstance(error, SMTPRecipientRefused) and _NO_SUCH_ADDRESS.match(error.message) is not None
    return PermanentFailure(detail, address_gone=gone)


def _describe(error: Exception) -> str:
    if isinstance(error, SMTPAuthenticationError):
        # What it says may repeat what we signed in with.
        return f"{error.code}, it does not let us sign in"
    if isinstance(error, SMTPResponseException):
        return quote_provider(f"{error.code} {error.message}")
    if isinstance(error, SMTPConnectError):
        return "it could not be reached"
    return type(error).__name__
