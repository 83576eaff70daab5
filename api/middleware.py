"""What happens to every request, whatever it asks for."""

import re
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.answers import added_headers
from api.problems import ContentTooLarge, InternalError
from shared.ids import new_id
from shared.unsubscribe import PATH as UNSUBSCRIBE_PATH

logger = structlog.get_logger(__name__)

# Balancers and monitors ask for these every few seconds; nobody reads that they did.
UNLOGGED_PATHS = frozenset({"/livez", "/readyz", "/metrics"})

ACCEPTABLE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContextMiddleware:
    """Gives each request its id and one line in the log, and each answer the headers that all have."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started_at = time.perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(added_headers(scope))
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "private, no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            if scope["path"] not in UNLOGGED_PATHS:
                _log(scope, status, started_at)


def _request_id(given: str | None) -> str:
    """Return the caller's own id, so that a request can be followed through all services, or a new one."""
    return given if given and ACCEPTABLE_REQUEST_ID.fullmatch(given) else str(new_id())


def _log(scope: Scope, status: int | None, started_at: float) -> None:
    # Whoever knows the link can unsubscribe its owner, so it is not for everybody who reads the log.
    is_secret = scope["path"].startswith(UNSUBSCRIBE_PATH)
    # The operation groups what the path tells apart. The query is not logged: it may hold what people typed.
    operation = getattr(scope.get("endpoint"), "__name__", None)
    duration_ms = round((time.perf_counter() - started_at) * 1000, 1)
    client = scope["client"][0] if scope.get("client") else None
    logger.info(
        "request.handled",
        method=scope["method"],
        path=f"{UNSUBSCRIBE_PATH}…" if is_secret else scope["path"],
        operation=operation,
        status=status,
        duration_ms=duration_ms,
        client=client,
    )


class InternalErrorMiddleware:
    """Answers even to what nobody expected."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        except Exception:
            logger.exception("request.failed")
            if has_begun:
                raise
            await InternalError().to_response(scope)(scope, receive, send)


class BodyLimitMiddleware:
    """Refuses bodies that are too large, by what they announce and by what really arrives.

    FastAPI has a limit of its own, but answers in plain text from outside of all
    middleware, so without problem details and request id.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        """Wrap the application."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            await ContentTooLarge().to_response(scope)(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise ContentTooLarge
            return message

        await self._app(scope, receive_counted, send)
