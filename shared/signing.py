"""What messages to webhooks are signed with: secrets that are made here, shown once, and change in peace."""

import base64
import json
import secrets
from datetime import datetime, timedelta

SECRET_BYTES = 32  # The Standard Webhooks convention asks for 24 to 64.
OVERLAP = timedelta(days=1)
# Each is a signature in the header of every message.
MAX_SECRETS = 5


def make_secret() -> str:
    """Return a new secret to sign with, in the form that receivers' libraries take."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def add_secret(stored: str | None, secret: str, *, at: datetime) -> str:
    """Return what to store when a secret is new: JSON, the newest first, each with its end.

    The one before it goes on to be signed with for a day, and so does what is still in its day: whoever asks for
    two new ones in a row does not lose the one that the receiver knows.
    """
    entries = [{"secret": secret, "expires_at": None}]
    for entry in json.loads(stored) if stored else []:
        ends_at = _ends_at(entry) or at + OVERLAP
        if ends_at > at:
            entries.append({"secret": entry["secret"], "expires_at": ends_at.isoformat()})
    return json.dumps(entries[:MAX_SECRETS])


def list_valid_secrets(stored: str, *, at: datetime) -> list[str]:
    """Return what a message is signed with: the newest secret, and those before it until they end."""
    entries = json.loads(stored)
    return [entry["secret"] for entry in entries if (ends_at := _ends_at(entry)) is None or ends_at > at]


def _ends_at(entry: dict[str, str | None]) -> datetime | None:
    return datetime.fromisoformat(entry["expires_at"]) if entry["expires_at"] else None
