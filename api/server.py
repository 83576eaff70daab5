"""The server: how it listens, and how it stops without failing a request."""

import asyncio
import ctypes
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from math import ceil
from types import FrameType

import structlog
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from api.lifespan import Runtime
from api.main import create_app
from api.settings import ApiSettings, Settings

logger = structlog.get_logger(__name__)

# Who has just connected speaks within a round trip; half a second is a lost packet and its repetition.
FIRST_WORDS = timedelta(milliseconds=500)
# In which a connection that was begun is made: a few round trips between balancer and api.
HANDSHAKE = timedelta(milliseconds=20)

# asm-generic/socket.h; Python has no name for it.
SO_ATTACH_FILTER = 26
# Classic BPF on the TCP header, linux/filter.h: whose flags (byte 13) include SYN is dropped, all else is let in.
WITHOUT_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
)


class AddressUnavailable(Exception):
    """The server cannot listen where it was told to; the message says why."""


def bind(settings: ApiSettings) -> socket.socket:
    """Return a socket with the configured address, which does not listen yet: until then a balancer is refused.

    Raises:
        AddressUnavailable: The port is taken or not ours to take, or this machine does not have the address.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    # A port whose last connections are still in TIME_WAIT is free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        message = f"Cannot listen on port {settings.port} of {settings.host}: {error.strerror or error}."
        raise AddressUnavailable(message) from error
    return listener


class Server(uvicorn.Server):
    """A server that says that it will go, before it goes.

    From the first signal on, `/readyz` answers 503 and every response ends its connection; requests are served as
    before until `DRAIN_DELAY` has passed, because a balancer needs a moment to notice. Then nobody is accepted any
    more, and who was accepted is served.
    """

    def __init__(self, settings: Settings) -> None:
        """Build the application and the server around it."""
        self._app = create_app(settings)
        self._drain_delay = settings.api.drain_delay
        self._draining = False
        super().__init__(
            uvicorn.Config(
                self._serve_request,
                interface="asgi3",
                lifespan="on",
                timeout_keep_alive=ceil(settings.api.keep_alive.total_seconds()),
                timeout_graceful_shutdown=ceil(settings.api.shutdown_timeout.total_seconds()),
                forwarded_allow_ips=settings.api.forwarded_allow_ips,
                access_log=False,
                server_header=False,
                log_config=None,
            )
        )

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the application, and while draining end the connection with the response."""

        async def send_and_close(message: Message) -> None:
            if self._draining and message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, send_and_close if scope["type"] == "http" else send)

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            logger.info("server.listening", host=host, port=port)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. SIGTERM a second time changes nothing; Ctrl-C a second time does not wait for balancers.

        Uvicorn would raise the signal again at the end: a server that was told to stop, and did, exits with 0.
        """
        if self._draining and sig != signal.SIGINT:
            return
        runtime: Runtime | None = getattr(self._app.state, "runtime", None)
        if self._draining or runtime is None or not self._drain_delay:
            self._stop()
        else:
            # A signal may come in the middle of anything, also of writing a line to the log.
            asyncio.get_running_loop().call_soon_threadsafe(self._drain)
        self._draining = True
        if runtime:
            runtime.readiness.draining = True

    def _drain(self) -> None:
        seconds = self._drain_delay.total_seconds()
        logger.info("server.draining", seconds=seconds)
        asyncio.get_running_loop().call_later(seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nobody any more, serve who was accepted, then close all that is open.

        Uvicorn alone would close connections at once that have not brought a request yet. Behind a balancer that is
        one that just sets out: it would see its request fail without knowing whether it was executed.
        """
        logger.info("server.closing", connection_count=len(self.server_state.connections))
        await self._stop_accepting(sockets or [])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FIRST_WORDS.total_seconds()
        while self.server_state.connections and loop.time() < deadline:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    async def _stop_accepting(self, listeners: Sequence[socket.socket]) -> None:
        """Stop listening without resetting a connection.

        For who connected, a connection stands before we accepted it, and its request may be on the way; but the
        kernel resets what waits to be accepted when the socket is closed. So first nobody new is let in.
        """
        for listener in listeners:
            _ignore_newcomers(listener)
        await asyncio.sleep(HANDSHAKE.total_seconds())
        waiting = [connection for listener in listeners for connection in _accept_all(listener)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._build_protocol, connection)

    def _build_protocol(self) -> asyncio.Protocol:
        # As uvicorn's own `startup` does for the connections that it accepts.
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _ignore_newcomers(listener: socket.socket) -> None:
    """Leave attempts to connect without an answer. They are repeated after a second, and then refused.

    Only Linux can do this, and not in every sandbox. Elsewhere who connects in the moment between the last accept and
    the close of the socket is reset.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(WITHOUT_SYN)
    instruction_count = len(WITHOUT_SYN) // struct.calcsize("=HBBI")
    with suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", instruction_count, ctypes.addressof(program))
        )


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return accepted
        connection.settimeout(0)
        accepted.append(connection)
