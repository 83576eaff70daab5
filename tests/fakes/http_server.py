"""An HTTP server on loopback that keeps what it gets and answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True)
class Reply:
    """What the server answers."""

    status: int = 200
    body: str = "{}"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What the server got; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class HttpServer:
    """Answers every request with its reply, hands it on to another server, or says nothing at all."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.reply = Reply()
        self.is_silent = False
        # Where requests are answered instead, for real.
        self.behind: str | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            self.requests.append(request)
            if self.is_silent:
                await reader.read()  # Until the caller has had enough.
                return
            reply = await self._ask(self.behind, request) if self.behind else self.reply
            body = reply.body.encode()
            headers = {**reply.headers, "Content-Length": str(len(body)), "Connection": "close"}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {reply.status} Said\r\n{head}\r\n".encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _ask(self, behind: str, request: Request) -> Reply:
        async with httpx.AsyncClient(trust_env=False) as client:
            headers = {name: value for name, value in request.headers.items() if name != "content-length"}
            answer = await client.request(
                request.method, f"{behind}{request.path}", content=request.body, headers=headers, timeout=30
            )
        return Reply(answer.status_code, answer.text, {"Content-Type": answer.headers.get("Content-Type", "")})


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


@asynccontextmanager
async def run_http_server() -> AsyncIterator[HttpServer]:
    """Yield a running server that answers 200."""
    server = HttpServer()
    await server.start()
    try:
        yield server
    finally:
        await server.close()
