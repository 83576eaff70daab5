"""Which web pages may use the API from a browser (CORS)."""

import re
from typing import Annotated

from fastapi import Response
from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from typing_extensions import override

METHODS = ("GET", "POST", "PUT", "DELETE")
REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Request-Id")
# What a page may read of an answer beside the few headers that browsers show anyway.
RESPONSE_HEADERS = (
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Poll-Interval",
    "X-Request-Id",
)
# As browsers write them (RFC 6454, section 6.2): in lower case, without a path, without a slash at the end.
ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def _parse_origins(value: object) -> object:
    if not isinstance(value, str):
        return value
    origins = tuple(origin.strip() for origin in value.split(",") if origin.strip())
    for origin in origins:
        if origin == "*":
            message = "`*` would let every web page use the API in the name of its visitors; list the origins"
            raise ValueError(message)
        if not ORIGIN.fullmatch(origin):
            message = "must list origins as browsers write them, such as `https://app.example.com`, between commas"
            raise ValueError(message)
    return origins


class CorsSettings(BaseSettings):
    """Which web pages may use the API."""

    model_config = SettingsConfigDict(env_prefix="CORS_")

    origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_origins)] = Field(
        default=(),
        description="Origins of the web pages that may use the API, between commas; none when empty.",
    )


class CorsMiddleware(CORSMiddleware):
    """Tells browsers which pages may read the answers, those about problems included."""

    @override
    def preflight_response(self, request_headers: Headers) -> Response:
        """Return what is allowed. Whatever else a page asked for, its browser refuses: it does not need an error."""
        allowed = super().preflight_response(request_headers).headers
        headers = {name: value for name, value in allowed.items() if not name.startswith("content-")}
        return Response(status_code=204, headers=headers)


def build_cors(settings: CorsSettings) -> list[Middleware]:
    """Return the middleware that the settings ask for: none where no page may use the API."""
    if not settings.origins:
        return []
    return [
        Middleware(
            CorsMiddleware,
            allow_origins=settings.origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
        )
    ]
