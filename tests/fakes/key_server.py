"""An identity provider's key server on loopback, which can be told to misbehave, and tokens that it would issue."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from typing_extensions import override

PrivateKey = RSAKey | ECKey | OKPKey


class _AnyAlgorithm(JWSRegistry):
    """Signs with whatever it is told to, without a warning."""

    @override
    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


def sign(claims: dict[str, Any], key: PrivateKey, algorithm: str, **header: Any) -> str:
    """Return a token signed with the key."""
    registry = _AnyAlgorithm(strict_check_header=False)
    return jwt.encode({"alg": algorithm, "kid": key.kid, **header}, dict(claims), key, registry=registry)


def public(key: PrivateKey, **members: Any) -> dict[str, Any]:
    """Return what a key server publishes of a key."""
    return {**key.as_dict(private=False), **members}


class KeyServer:
    """Answers every request with its keys, or as it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[dict[str, Any]] = []
        self.request_count = 0
        self.status = 200
        self.body: bytes | None = None
        self.headers = ""
        self.hangs = False
        self.drips = False
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = asyncio.Event()

    @property
    def last_request(self) -> str:
        """The head of the latest request."""
        return self._last_request.decode()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self._last_request = await reader.readuntil(b"\r\n\r\n")
            self.request_count += 1
            self.asked.set()
            await self.answering.wait()
            if self.hangs:
                await reader.read()  # until the caller has had enough
                return
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            head = (
                f"HTTP/1.1 {self.status} Said\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{self.headers}\r\n"
            )
            writer.write(head.encode())
            for byte in body if self.drips else b"":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
            if not self.drips:
                writer.write(body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def run_key_server(*keys: PrivateKey) -> AsyncIterator[KeyServer]:
    """Yield a running server that publishes these keys."""
    key_server = KeyServer()
    key_server.keys = [public(key) for key in keys]
    server = await asyncio.start_server(key_server._answer, "127.0.0.1", 0)
    key_server.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    try:
        yield key_server
    finally:
        server.close()
        await server.wait_closed()
