"""A webhook receiver that costs as little as possible, in a process of its own."""

import asyncio
import multiprocessing
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import cast

import uvloop
from typing_extensions import override

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
HEADERS_END = b"\r\n\r\n"
LENGTH = b"content-length:"


class Receiver(asyncio.Protocol):
    """Answers each request with 204, or none of them."""

    def __init__(self, *, hangs: bool) -> None:
        """Begin a connection."""
        self._hangs = hangs
        self._received = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self._hangs:
            return
        self._received += data
        while (end := self._received.find(HEADERS_END)) >= 0:
            head = self._received[:end].lower()
            at = head.find(LENGTH) + len(LENGTH)
            length = int(head[at:].split(b"\r\n", 1)[0])
            if len(self._received) < end + len(HEADERS_END) + length:
                return
            self._received = self._received[end + len(HEADERS_END) + length :]
            self._transport.write(ANSWER)


def host(number: int) -> str:
    """Return the address of a server: each has its own on this machine's loopback."""
    return f"127.0.{number // 250}.{number % 250 + 1}"


@contextmanager
def running(server_count: int, *, hanging: Collection[int] = ()) -> Iterator[int]:
    """Run so many servers while the block runs, and yield their port; those that hang take all and say nothing."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(server_count, frozenset(hanging), theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(server_count: int, hanging: Collection[int], pipe: Connection) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        port = 0
        for number in range(server_count):
            server = await loop.create_server(
                lambda number=number: Receiver(hangs=number in hanging), host(number), port, backlog=1000
            )
            port = server.sockets[0].getsockname()[1]
        pipe.send(port)
        await asyncio.Event().wait()

    uvloop.run(serve())
