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
from shared.queue.ports import Queue
from shared.settings import QueueSettings

SECRET = "a secret of the tests, long enough for HS256"
JWT_SETTINGS = JwtSettings.model_validate({"jwt_secret": SECRET, "jwt_issuer": "issuer", "jwt_audience": "audience"})

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
async def running_app(settings: Settings, queue: Queue) -> AsyncIterator[FastAPI]:
    """Yield an application that has started, and stop it at the end."""

    @asynccontextmanager
    async def open_queue(_settings: QueueSettings) -> AsyncIterator[Queue]:
        yield queue

    app = create_app(settings, open_queue=open_queue)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def client_of(app: FastAPI, token: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that sends the token, if there is one, with every request."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield client
