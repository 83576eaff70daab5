"""POSTs per second of the HTTP clients at hand, against a sink in a process of its own, as ratios of one run.

`python -m benchmarks.http_clients --help` lists the options. The clients take turns, so that what else the machine does
hits them all.
"""

import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from ipaddress import ip_network
from multiprocessing.connection import Connection

import aiohttp
import httpx
import uvloop
from cyclopts import App
from typing_extensions import override

from shared.outbound import OutboundSettings, open_outbound

BODY = json.dumps({"type": "scenario.executed", "data": {"name": "Login", "note": "x" * 700}}).encode()
HEADERS = {
    "Content-Type": "application/json",
    "webhook-id": "01890a5d-ac96-774b-bcce-b302099a8057",
    "webhook-timestamp": "1763800000",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
}
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"

Post = Callable[[], Awaitable[object]]

app = App(help=__doc__)


class Sink(asyncio.Protocol):
    """Answers each request as soon as all of it is there; looks for nothing else, so that it is never what is slow."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._received = b""

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(BODY):
            self._received = b""
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


def run_sink(ready: Connection) -> None:
    """Serve until the process is ended, after telling the port."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0, backlog=1000)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


@app.default
def main(*, requests: int = 1_000, concurrency: int = 100, rounds: int = 3) -> None:
    """Run each client in turn, on asyncio's loop and on uvloop, and print the medians.

    Parameters
    ----------
    requests:
        How many requests a client sends in each round.
    concurrency:
        How many of them are under way at a time.
    rounds:
        How often each client has its turn.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sink = context.Process(target=run_sink, args=(there,), daemon=True)
    sink.start()
    url = f"http://127.0.0.1:{here.recv()}/hook"
    try:
        for name, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
            report(name, run(measure(url, requests=requests, concurrency=concurrency, rounds=rounds)))
    finally:
        sink.terminate()
        sink.join()


async def measure(url: str, *, requests: int, concurrency: int, rounds: int) -> dict[str, float]:
    """Return the median of requests per second of each client."""
    rates: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        clients = await open_clients(stack, url, concurrency)
        for post in clients.values():
            await send(post, requests=concurrency, concurrency=concurrency)  # Connections are made, code is warm.
        for _ in range(rounds):
            for name, post in clients.items():
                began = time.perf_counter()
                await send(post, requests=requests, concurrency=concurrency)
                rates.setdefault(name, []).append(requests / (time.perf_counter() - began))
    return {name: statistics.median(found) for name, found in rates.items()}


async def open_clients(stack: AsyncExitStack, url: str, concurrency: int) -> dict[str, Post]:
    """Return the clients by name, each as what sends one request and reads the answer."""
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    httpx_client = await stack.enter_async_context(httpx.AsyncClient(limits=limits, trust_env=False, headers=HEADERS))
    session = await stack.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency), headers=HEADERS)
    )
    outbound = await stack.enter_async_context(
        open_outbound(
            OutboundSettings(
                max_connections=concurrency,
                max_connections_per_host=concurrency,
                allowed_networks=(ip_network("127.0.0.0/8"),),
            )
        )
    )

    async def post_by_httpx() -> None:
        await httpx_client.post(url, content=BODY)

    async def post_by_aiohttp() -> None:
        async with session.post(url, data=BODY) as response:
            await response.read()

    async def post_by_outbound() -> None:
        await outbound.post(url, body=BODY, headers=HEADERS)

    return {"httpx": post_by_httpx, "aiohttp": post_by_aiohttp, "shared.outbound": post_by_outbound}


async def send(post: Post, *, requests: int, concurrency: int) -> None:
    """Send so many requests, so many at a time."""
    remaining = iter(range(requests))

    async def work() -> None:
        for _ in remaining:
            await post()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())


def report(loop: str, rates: dict[str, float]) -> None:
    """Print the figures of one event loop, beside those of the bare client."""
    for name, rate in rates.items():
        print(f"{loop:<8} {name:<16} {rate:>8,.0f} requests/s {rate / rates['aiohttp']:>8.2f} of aiohttp")


if __name__ == "__main__":
    app()
