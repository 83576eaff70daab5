"""The HTTP client for addresses that users gave.

Whoever may name a URL could make us ask our own network for it. So nothing is sent to internal addresses, redirects are
not followed, no proxy or cookie is used, and an answer can take neither more time nor more memory than was set aside.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

import aiohttp
from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.channel import PermanentFailure
from shared.outbound.connections import GuardedResolver, IsPermitted, LookUp, make_socket
from shared.outbound.failures import describe_failure
from shared.outbound.networks import is_inside, is_internet, parse_networks
from shared.settings import Duration

MAX_BODY_BYTES = 16 * 1024
MAX_HEADER_COUNT = 100
MAX_HEADER_BYTES = 8 * 1024

# Servers that close an idle connection after 5 s are common (Node, uvicorn): a request into one that is just being
# closed has an unknown outcome.
IDLE = timedelta(seconds=4)

# In ASCII, and without a user name: `https://example.com@127.0.0.1/` is meant to mislead.
URL = re.compile(r"(https?)://(?![^/?#]*@)[!-~]+", re.IGNORECASE)

HEADERS = {
    "Accept": "*/*",
    # Nothing is unpacked either: 189 KiB can become 395 MiB.
    "Accept-Encoding": "identity",
    "User-Agent": "scenario-notifications",
}


def _split_networks(value: object) -> object:
    return parse_networks(value) if isinstance(value, str) else value


class OutboundSettings(BaseSettings):
    """How addresses that users gave are called."""

    model_config = SettingsConfigDict(env_prefix="OUTBOUND_")

    timeout: Duration = Field(
        default=timedelta(seconds=15), description="Longest time one call to a user's address may take in all."
    )
    connect_timeout: Duration = Field(
        default=timedelta(seconds=5), description="Longest time until such a call is connected, TLS included."
    )
    max_connections: int = Field(
        default=500, ge=1, description="Connections to users' addresses that one process may have open."
    )
    max_connections_per_host: int = Field(default=50, ge=1, description="How many of them may go to one host and port.")
    allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split_networks)] = (
        Field(
            default=(),
            description="Internal networks that users' addresses may be in, such as `10.1.0.0/16`, between commas. "
            "Only there plain `http` is spoken. Everything else internal is refused.",
        )
    )


@dataclass(frozen=True, slots=True)
class OutboundResponse:
    """What a server answered.

    Attributes:
        status: The status code; a redirect is an answer like any other.
        headers: The headers, found by their names in any case.
        body: The beginning of the body as it came over the wire: 16 KiB of it, or less when the server broke off.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutboundHttp:
    """Calls addresses that users gave. Connections are kept for a few seconds and used again."""

    def __init__(self, sessions: Mapping[str, aiohttp.ClientSession], *, timeout: timedelta) -> None:
        """Take a session for each scheme that is spoken, and how long a call may take in all."""
        self._sessions = sessions
        self._timeout = timeout.total_seconds()

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> OutboundResponse:
        """Send a body and return the answer, whatever its status.

        Once the status is known, what happens to the rest of the answer changes nothing about it.

        Raises:
            PermanentFailure: The address is none that anything may be sent to.
            TemporaryFailure: The request did not get through.
            OutcomeUnknown: It was written, and no answer came, or none that is HTTP.
        """
        called = URL.fullmatch(url)
        if called is None:
            message = "the address is no URL that can be called"
            raise PermanentFailure(message)
        upload = aiohttp.UploadTracker()
        status: int | None = None
        answered: Mapping[str, str] = {}
        beginning = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._sessions[called[1].lower()].post(
                    url, data=body, headers=headers, allow_redirects=False, upload_tracker=upload
                ) as response,
            ):
                status, answered = response.status, response.headers
                await _read(response.content, beginning)
        except (aiohttp.ClientError, OSError) as error:
            if status is None:
                # Without the cause, whose text shows the URL.
                raise describe_failure(error, was_written=upload.bytes_written >= len(body)) from None
        return OutboundResponse(status, answered, bytes(beginning))


@asynccontextmanager
async def open_outbound(
    settings: OutboundSettings, *, tls: ssl.SSLContext | None = None, look_up: LookUp = socket.getaddrinfo
) -> AsyncIterator[OutboundHttp]:
    """Open a client, and close its connections at the end.

    Args:
        settings: Its deadlines and limits, and which internal networks are permitted after all.
        tls: Whom to trust; the certificate authorities of the system when None.
        look_up: Looks up the addresses of a host, as `socket.getaddrinfo` does.
    """
    allowed = partial(is_inside, networks=settings.allowed_networks)

    def is_permitted(address: str) -> bool:
        return is_internet(address) or allowed(address)

    tls = tls or ssl.create_default_context()
    tls.set_alpn_protocols(["http/1.1"])
    async with (
        _open_session(settings, is_permitted=is_permitted, tls=tls, look_up=look_up) as secure,
        _open_session(settings, is_permitted=allowed, tls=tls, look_up=look_up) as plain,
    ):
        yield OutboundHttp({"https": secure, "http": plain}, timeout=settings.timeout)


@asynccontextmanager
async def _open_session(
    settings: OutboundSettings, *, is_permitted: IsPermitted, tls: ssl.SSLContext, look_up: LookUp
) -> AsyncIterator[aiohttp.ClientSession]:
    resolver = GuardedResolver(is_permitted, look_up)
    connector = aiohttp.TCPConnector(
        resolver=resolver,
        socket_factory=partial(make_socket, is_permitted=is_permitted),
        ssl=tls,
        limit=settings.max_connections,
        limit_per_host=settings.max_connections_per_host,
        keepalive_timeout=IDLE.total_seconds(),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout.total_seconds()),
        headers=HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=MAX_BODY_BYTES,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADER_COUNT,
    ) as session:
        try:
            yield session
        finally:
            await resolver.close()  # The session closes only a resolver that it made itself.


async def _read(content: aiohttp.StreamReader, into: bytearray) -> None:
    while len(into) < MAX_BODY_BYTES and (part := await content.read(MAX_BODY_BYTES - len(into))):
        into += part
