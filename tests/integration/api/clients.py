"""Tokens as the identity provider would issue them, and clients of a running application."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import httpx
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import OctKey

from api.main import create_app
from api.settings import JwtSettings, Settings
from shared.channel import CHANNELS, IN_APP
from shared.channels import Channels, ChannelSettings
from shared.encryption import EncryptionSettings, build_cipher, make_key
from shared.queue.ports import Queue
from shared.settings import QueueSettings
from tests.fakes.channel import FakeChannel

SECRET = "a secret of the tests, long enough for HS256"
JWT_SETTINGS = JwtSettings.model_validate({"jwt_secret": SECRET, "jwt_issuer": "issuer", "jwt_audience": "audience"})

ENCRYPTION_SETTINGS = EncryptionSettings.model_validate({"encryption_keys": make_key()})
CIPHER = build_cipher(ENCRYPTION_SETTINGS)

OpenClient: TypeAlias = Callable[[str], AbstractAsyncContextManager[httpx.AsyncClient]]


def token_for(user: str, tenant: str = "demo", **claims: Any) -> str:
    """Return a valid token, with these claims changed or added."""
    claims = {
        "iss": "issuer",
        "aud": "audience",
        "sub": user,
        "tenant": tenant,
        "exp": int((datetime.now(UTC) + timedelta(hours=1)).timestamp()),
        **claims,
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


@asynccontextmanager
async def running_app(settings: Settings, queue: Queue, channels: Channels | None = None) -> AsyncIterator[FastAPI]:
    """Yield an application that has started, and stop it at the end; without channels it gets a fake of each."""

    @asynccontextmanager
    async def open_queue(_settings: QueueSettings) -> AsyncIterator[Queue]:
        yield queue

    @asynccontextmanager
    async def open_channels(_settings: ChannelSettings) -> AsyncIterator[Channels]:
        yield make_channels() if channels is None else channels

    app = create_app(settings, open_queue=open_queue, open_channels=open_channels)
    async with app.router.lifespan_context(app):
        yield app


def make_channels() -> dict[str, FakeChannel]:
    """Return a fake of every channel but the inbox."""
    return {name: FakeChannel(name) for name in CHANNELS if name != IN_APP}


@asynccontextmanager
async def client_of(app: FastAPI, token: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that sends the token, if there is one, with every request."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield client
