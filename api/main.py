"""Builds the application."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware

from api.api_keys import ApiKeyVerifier
from api.authentication import build_verifier
from api.cors import build_cors
from api.health.router import router as health
from api.lifespan import OpenChannels, OpenQueue, open_queue, run_services
from api.middleware import BodyLimitMiddleware, InternalErrorMiddleware, RequestContextMiddleware
from api.openapi import OPENAPI_PATH, build_openapi
from api.problem_handlers import add_problem_handlers
from api.rate_limiter import RateLimiter
from api.routes import router
from api.settings import Settings
from shared.channels import open_channels


def create_app(
    settings: Settings, *, open_queue: OpenQueue = open_queue, open_channels: OpenChannels = open_channels
) -> FastAPI:
    """Return the application; nothing is opened before its lifespan begins.

    Args:
        settings: All that it needs to know.
        open_queue: How to reach the queue; tests bring one in memory.
        open_channels: How to open what messages are sent by; tests bring their own.
    """
    limiter = RateLimiter(settings.rate_limit)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with run_services(app, settings, open_queue, open_channels), aclosing(limiter):
            yield

    app = FastAPI(
        lifespan=lifespan,
        openapi_url=OPENAPI_PATH,
        # The usual pages load their scripts from elsewhere, and a redirect would hide a wrong address.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(RequestContextMiddleware),
            # Around everything that answers: a page has to be able to read a problem as well.
            *build_cors(settings.cors),
            Middleware(InternalErrorMiddleware),
            Middleware(BodyLimitMiddleware, max_bytes=settings.api.max_body_bytes),
        ],
    )
    app.state.verifier = build_verifier(settings.jwt)
    app.state.api_key_verifier = ApiKeyVerifier()
    app.state.limiter = limiter
    app.state.poll = settings.poll
    app.state.expiry = settings.expiry
    add_problem_handlers(app)
    app.include_router(router)
    app.include_router(health)
    app.openapi = partial(build_openapi, app)  # type: ignore[method-assign] # the documented way to change it
    return app
