"""An HTTP server on loopback that does whatever servers of other people do. What it does is the path of the URL."""

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DRIP_INTERVAL = 0.02
# About 200 KiB that become 189 MiB: members of a gzip stream unpack one after the other.
BOMB = gzip.compress(bytes(1024 * 1024)) * 189

# A server that says this, whatever it was asked.
ANSWERS: dict[str, bytes] = {
    "ok": OK,
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "redirect": b"HTTP/1.1 307 Go\r\nLocation: %(internal)s\r\nContent-Length: 0\r\n\r\n",
    "400": b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n",
    "404": b"HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n",
    "410": b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
    "429": b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n",
    "429-seconds": b"HTTP/1.1 429 Slow\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n",
    "429-date": b"HTTP/1.1 429 Slow\r\nRetry-After: Fri, 31 Dec 2100 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
    "429-garbage": b"HTTP/1.1 429 Slow\r\nRetry-After: soon\xff\r\nContent-Length: 0\r\n\r\n",
    "500": b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
    "503-seconds": b"HTTP/1.1 503 Later\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n",
    "cookie": b"HTTP/1.1 200 OK\r\nSet-Cookie: id=1; Path=/\r\nContent-Length: 2\r\n\r\nok",
    "http-1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "continue-first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: <x>\r\n\r\n" + OK,
    "switching-protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "two-answers": OK + b"HTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n",
    # What is no HTTP.
    "garbage": b"\x00\xff\xfe SSH-2.0-OpenSSH\r\n\r\n",
    "bad-status": b"HTTP/1.1 abc OK\r\n\r\n",
    "huge-header": b"HTTP/1.1 200 OK\r\nX-Huge: " + b"x" * 1024 * 1024 + b"\r\n\r\n",
    "many-headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)) + b"\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "negative-length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    # A status, and then a body that goes wrong.
    "short-body": b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nConnection: close\r\n\r\nok",
    "bad-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
    "bomb": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,
    "no-gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
}


@dataclass(slots=True)
class MisbehavingServer:
    """What the server was asked and said so far, and where it redirects to."""

    port: int = 0
    scheme: str = "http"
    internal: str = "http://169.254.169.254/"
    accept_count: int = 0
    close_count: int = 0
    sent_bytes: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)

    def url(self, behaviour: str, *, host: str = "127.0.0.1") -> str:
        """Return the URL at which it behaves so."""
        return f"{self.scheme}://{host}:{self.port}/{behaviour}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.accept_count += 1
        # The end of the test, or the client had enough.
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, OSError, ssl.SSLError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                behaviour = head.split(" ")[1].partition("?")[0].strip("/")
                if behaviour in DOES_NOT_READ:
                    await DOES_NOT_READ[behaviour](self, writer)
                    continue
                length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
                self.requests.append((head, await reader.readexactly(int(length.partition(":")[2]))))
                if behaviour in DOES:
                    await DOES[behaviour](self, writer)
                    continue
                answer = ANSWERS[behaviour].replace(b"%(internal)s", self.internal.encode())
                await self.say(writer, answer)
                if b"Connection: close" in answer or answer.startswith(b"HTTP/1.0"):
                    break
        self.close_count += 1
        writer.close()

    async def say(self, writer: asyncio.StreamWriter, text: bytes) -> None:
        """Send so much, and wait until it is on its way."""
        writer.write(text)
        await writer.drain()
        await asyncio.sleep(0)  # Nobody else would get a turn while the client reads as fast as this writes.
        self.sent_bytes += len(text)


Behaviour = Callable[[MisbehavingServer, asyncio.StreamWriter], Awaitable[None]]


async def _hang(*_: object) -> None:
    await asyncio.Event().wait()


async def _reset(_: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def _close(_: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _close_after_answer(server: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    await server.say(writer, OK)
    # The client hears of the end, and ends its half.
    writer.write_eof()


async def _drip(server: MisbehavingServer, writer: asyncio.StreamWriter, text: bytes) -> None:
    for byte in text:
        await server.say(writer, bytes([byte]))
        await asyncio.sleep(DRIP_INTERVAL)


async def _drip_head(server: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    await _drip(server, writer, b"HTTP/1.1 200 OK\r\nX-Drip: " + b"x" * 5000)


async def _drip_body(server: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    await server.say(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    await _drip(server, writer, b"x" * 5000)


async def _endless_body(server: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    await server.say(writer, b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in count():
        await server.say(writer, b"x" * 64 * 1024)


async def _endless_head(server: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    await server.say(writer, b"HTTP/1.1 200 OK\r\n")
    for number in count():
        await server.say(writer, b"X-%d: y\r\n" % number * 1000)


async def _endless_continue(server: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    for _ in count():
        await server.say(writer, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


async def _answer_early(server: MisbehavingServer, writer: asyncio.StreamWriter) -> None:
    await server.say(writer, b"HTTP/1.1 413 Much\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


DOES_NOT_READ: dict[str, Behaviour] = {"answer-early": _answer_early, "hang-unread": _hang}
DOES: dict[str, Behaviour] = {
    "hang": _hang,
    "reset": _reset,
    "close": _close,
    "close-after-answer": _close_after_answer,
    "drip-head": _drip_head,
    "drip-body": _drip_body,
    "endless-body": _endless_body,
    "endless-head": _endless_head,
    "endless-continue": _endless_continue,
}


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset (RST) instead of a goodbye (FIN)."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def run_misbehaving_server(
    *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[MisbehavingServer]:
    """Yield a running server; the connections that are still open at the end are cut."""
    server = MisbehavingServer(scheme="https" if tls else "http")
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await server.answer(reader, writer)
        finally:
            connections.discard(task)

    listener = await asyncio.start_server(serve, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await listener.wait_closed()
