"""The pages that a browser shows: plain HTML without a script, in the language it asks for."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.unsubscribe.service import Ended
from shared.unsubscribe import Unsubscription

TEMPLATES = Path(__file__).parent / "templates"
FALLBACK_LANGUAGE = "en"
STYLE = (
    "body{margin:0;padding:24px;background:#f4f5f7;color:#1c1e21;font:16px/1.5 system-ui,sans-serif}"
    "main{max-width:480px;margin:10vh auto 0;padding:24px;background:#fff;border-radius:8px}"
    "h1{margin:0 0 12px;font-size:20px}"
    "button{padding:8px 16px;border:0;border-radius:6px;background:#0b57d0;color:#fff;font:inherit;cursor:pointer}"
)


def ask(wish: Unsubscription, accept_language: str | None) -> HTMLResponse:
    """Return the page with the button; opening it changes nothing."""
    return _page("ask", wish, accept_language)


def confirm(wish: Unsubscription, ended: Ended, accept_language: str | None) -> HTMLResponse:
    """Return the page that says what has come to an end."""
    return _page(f"ended_{ended}", wish, accept_language)


def choose_language(accept_language: str | None) -> str:
    """Return the language of ours that a browser likes best, by its `Accept-Language` (RFC 9110, section 12.5.4)."""
    liked: list[tuple[float, str]] = []
    for part in (accept_language or "").split(","):
        tag, _, parameter = part.strip().lower().partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        language = tag.partition("-")[0]
        if language in _languages() and quality > 0:
            liked.append((quality, language))
    # The first of those that are liked the same.
    return max(liked, key=lambda preference: preference[0])[1] if liked else FALLBACK_LANGUAGE


def _page(name: str, wish: Unsubscription, accept_language: str | None) -> HTMLResponse:
    language = choose_language(accept_language)
    template = _environment().get_template(f"{language}.html.j2")
    page = template.render(page=name, language=language, style=STYLE, event_type=wish.event_type, channel=wish.channel)
    return HTMLResponse(page, headers=dict(_headers(language)))


@cache
def _headers(language: str) -> Mapping[str, str]:
    """Return what keeps the page from running, loading or telling anything."""
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return {
        "Cache-Control": "no-store",
        "Content-Language": language,
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'",
        # The address is the key.
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Language",
        "X-Robots-Tag": "noindex",
    }


@cache
def _languages() -> frozenset[str]:
    return frozenset(path.name.partition(".")[0] for path in TEMPLATES.glob("*.html.j2")) - {"page"}


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
