"""Tokens for the people of the local system, signed with the secret that `notify up` made for it."""

import secrets
from datetime import timedelta
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import OctKey

from local.keeping import ensure_kept
from shared.clock import utc_now

ISSUER = "https://local.invalid"
AUDIENCE = "scenario-notifications"
SECRET_FILE = "jwt-secret"  # noqa: S105 - its name, not the secret
LIFETIME = timedelta(hours=12)


def ensure_secret(directory: Path) -> str:
    """Return the secret of the local system in this directory, made at the first call."""
    return ensure_kept(directory / SECRET_FILE, lambda: secrets.token_urlsafe(48))


def find_secret(directory: Path) -> str | None:
    """Return the secret of the local system in this directory, None if there is no such system."""
    path = directory / SECRET_FILE
    return path.read_text() if path.exists() else None


def issue_token(secret: str, *, user: str, tenant: str) -> str:
    """Return a JWT for the user, valid for twelve hours.

    The user need not exist: the api creates whoever comes with a valid token. The tenant must.
    """
    now = utc_now()
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "tenant": tenant,
        "name": user.title(),
        "iat": int(now.timestamp()),
        "exp": int((now + LIFETIME).timestamp()),
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))
