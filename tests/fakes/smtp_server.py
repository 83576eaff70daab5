"""An SMTP server on loopback (aiosmtpd) that keeps the mails it gets and answers as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass(frozen=True)
class Mail:
    """A mail as it came, and whom it was handed over for."""

    sender: str
    recipients: list[str]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        """The mail as its reader sees it."""
        return message_from_bytes(self.content, policy=default)


class SmtpServer:
    """Takes every mail, or answers with the reply that it was given to a recipient or to a whole mail."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[Mail] = []
        self.session_count = 0
        self.credentials: list[tuple[bytes, bytes]] = []
        # What to answer to a recipient and to a mail; None for its consent.
        self.recipient_reply: str | None = None
        self.mail_reply: str | None = None
        self.is_silent = False
        # That a mail has come, answered or not.
        self.taken = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._sessions: list[_Session] = []
        self._never = asyncio.Event()

    async def start(self, **options: Any) -> None:
        def serve() -> SMTP:
            self.session_count += 1
            session = _Session(
                self, authenticator=self._authenticate, hostname="localhost", loop=asyncio.get_running_loop(), **options
            )
            self._sessions.append(session)
            return session

        self._server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and end all sessions."""
        if self._server:
            self._server.close()
        self.end_sessions()

    def end_sessions(self) -> None:
        """End all sessions without a word."""
        for session in self._sessions:
            session.end()
        self._sessions.clear()

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: LoginPassword
    ) -> AuthResult:
        self.credentials.append((login.login, login.password))
        return AuthResult(success=login.password == b"right", handled=False)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for this name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.recipient_reply:
            return self.recipient_reply
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient known"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append(Mail(envelope.mail_from or "", list(envelope.rcpt_tos), envelope.original_content or b""))
        self.taken.set()
        if self.is_silent:
            await self._never.wait()
        return self.mail_reply or f"250 2.0.0 Queued as {len(self.mails)}"


class _Session(SMTP):
    """A session that the test can end."""

    def end(self) -> None:
        if self.transport:
            self.transport.close()
        if self._handler_coroutine:
            self._handler_coroutine.cancel()


@asynccontextmanager
async def run_smtp_server(*, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[SmtpServer]:
    """Yield a running server; with a TLS context it offers STARTTLS."""
    server = SmtpServer()
    await server.start(tls_context=tls, **options)
    try:
        yield server
    finally:
        await server.close()
