"""Where the messages of the local system end: an SMTP server, and an HTTP server that plays webhooks, Slack and Twilio.

Nothing leaves the machine. What came is printed in a line each, and shown at the root of the HTTP server. As a program
it serves two sockets that it gets from its parent, until SIGINT or SIGTERM.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import httpx
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from local.environment import HOST
from local.process import ChildProcess
from local.received import Inbox, Received
from shared.channel import EMAIL, SLACK, SMS, WEBHOOK
from shared.ids import new_id

# Those that other catchers of mail have taught people to try.
SMTP_PORT = 1025
HTTP_PORT = 8025
START_DEADLINE = timedelta(seconds=15)
CHECK_TIMEOUT = timedelta(seconds=1)
STOP_PATIENCE = timedelta(seconds=2)
BACKLOG = 100
MAX_BODY_BYTES = 1024 * 1024


class SinksUnavailable(Exception):
    """The sinks did not start; the message says why."""


class LocalSinks:
    """The sinks as a process of ours.

    The sockets are ours and the process only serves them: while it is being restarted messages wait, and no other
    program can take their ports.
    """

    def __init__(self) -> None:
        """Take the usual ports, or free ones where something else has those."""
        self._smtp = _listen(SMTP_PORT)
        self._http = _listen(HTTP_PORT)
        descriptors = [self._smtp.fileno(), self._http.fileno()]
        self.process = ChildProcess(
            "sinks",
            [sys.executable, "-m", "local.sinks", *map(str, descriptors)],
            environment=os.environ,
            descriptors=descriptors,
        )

    @property
    def url(self) -> str:
        """Where the page is that shows what came."""
        return f"http://{HOST}:{_port_of(self._http)}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment that makes all channels deliver here."""
        return {
            "EMAIL_SENDER": "Scenario notifications <no-reply@local.invalid>",
            "SMTP_HOST": HOST,
            "SMTP_PORT": str(_port_of(self._smtp)),
            "SMTP_SECURITY": "none",
            "TWILIO_ACCOUNT_SID": "local",
            "TWILIO_AUTH_TOKEN": "local",
            "TWILIO_SENDER": "+15005550006",  # Twilio's own number for trying out.
            "TWILIO_BASE_URL": self.url,
            "SLACK_WEBHOOKS_ENABLED": "true",
            "WEBHOOK_ENABLED": "true",
            "OUTBOUND_ALLOWED_NETWORKS": "127.0.0.0/8",
        }

    def start(self) -> None:
        """Run the process and return when it answers.

        Raises:
            SinksUnavailable: It ended, or did not answer within its deadline.
        """
        self.process.start()
        deadline = time.monotonic() + START_DEADLINE.total_seconds()
        while not self._answers():
            if self.process.exit_status is not None or time.monotonic() > deadline:
                message = "The sinks for messages did not start; the lines above say why."
                raise SinksUnavailable(message)

    def stop(self) -> None:
        """End the process and give the ports back. Safe to call twice and before the start."""
        self.process.stop(patience=STOP_PATIENCE)
        self._smtp.close()
        self._http.close()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/messages", timeout=CHECK_TIMEOUT.total_seconds(), trust_env=False).is_success
        except httpx.TransportError:
            return False


class Sinks:
    """Takes everything that is sent to it."""

    def __init__(self) -> None:
        """Begin with no messages."""
        self._inbox = Inbox()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Take a mail."""
        content = envelope.original_content or b""
        mail = message_from_bytes(content, policy=default)
        self._keep(
            Received(
                channel=EMAIL,
                to=", ".join(envelope.rcpt_tos),
                subject=str(mail["Subject"] or ""),
                text=_text_of(mail),
                id=mail["Message-ID"],
                headers={name: str(value) for name, value in mail.items()},
                content=content.decode(errors="replace"),
            )
        )
        return "250 2.0.0 Taken"

    async def take_webhook(self, request: web.Request) -> web.Response:
        """Take a webhook, whatever its path."""
        body = await request.text()
        payload = _parse_object(body)
        data = payload.get("data")
        title = data.get("title") if isinstance(data, dict) else None
        self._keep(
            Received(
                channel=WEBHOOK,
                to=request.path,
                subject=str(title or payload.get("type") or "(no title)"),
                text=json.dumps(payload, indent=2, ensure_ascii=False),
                id=request.headers.get("webhook-id"),
                headers=dict(request.headers),
                content=body,
            )
        )
        return web.Response(status=204)

    async def take_slack(self, request: web.Request) -> web.Response:
        """Take what an incoming webhook of Slack takes, and answer as it does."""
        body = await request.text()
        payload = _parse_object(body)
        text = str(payload.get("text") or "(blocks only)")
        self._keep(
            Received(
                channel=SLACK,
                to=request.path,
                subject=text.partition("\n")[0],
                text=json.dumps(payload, indent=2, ensure_ascii=False),
                headers=dict(request.headers),
                content=body,
            )
        )
        return web.Response(text="ok")

    async def take_sms(self, request: web.Request) -> web.Response:
        """Take what Twilio takes, and answer as it does."""
        form = await request.post()
        text = str(form.get("Body", ""))
        sid = f"SM{new_id().hex}"
        self._keep(
            Received(
                channel=SMS, to=str(form.get("To", "")), subject=text, text=text, id=sid, headers=dict(request.headers)
            )
        )
        return web.json_response({"sid": sid, "status": "queued"}, status=201)

    async def show_page(self, _request: web.Request) -> web.Response:
        """Answer with the page that shows what came."""
        return web.Response(text=self._inbox.as_page(), content_type="text/html")

    async def list_messages(self, _request: web.Request) -> web.Response:
        """Answer with what came, as JSON."""
        return web.json_response(self._inbox.as_json())

    def _keep(self, received: Received) -> None:
        self._inbox.add(received)
        sys.stdout.write(f"{received.as_line()}\n")
        sys.stdout.flush()


async def serve(*, smtp: socket.socket, http: socket.socket) -> None:
    """Serve on these sockets until SIGINT or SIGTERM."""
    sinks = Sinks()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    smtp_server = await loop.create_server(
        lambda: SMTP(sinks, hostname="localhost", ident="sink", enable_SMTPUTF8=True, loop=loop), sock=smtp
    )
    application = web.Application(client_max_size=MAX_BODY_BYTES)
    application.add_routes(
        [
            web.get("/", sinks.show_page),
            web.get("/messages", sinks.list_messages),
            web.post("/services/{hook:.+}", sinks.take_slack),
            web.post("/2010-04-01/Accounts/{account}/Messages.json", sinks.take_sms),
            web.post("/{path:.*}", sinks.take_webhook),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, http).start()
        await stop.wait()
    finally:
        smtp_server.close()
        await runner.cleanup()


def _text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain", "html"))
    return "\n".join(str(part.get_content()).splitlines()) if part else ""


def _parse_object(body: str) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _listen(wanted: int) -> socket.socket:
    """Return a socket that listens on the port if nothing uses it, else on one that is free."""
    try:
        return socket.create_server((HOST, wanted), backlog=BACKLOG)
    except OSError:
        return socket.create_server((HOST, 0), backlog=BACKLOG)


def _port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


if __name__ == "__main__":
    smtp_descriptor, http_descriptor = map(int, sys.argv[1:])
    asyncio.run(serve(smtp=socket.socket(fileno=smtp_descriptor), http=socket.socket(fileno=http_descriptor)))
