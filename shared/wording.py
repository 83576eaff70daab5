"""What a provider said of a failure, fit to be kept and shown: without whom it was about."""

import re

MAX_LENGTH = 200

_EMAIL = re.compile(r"[^\s<>\"'(),:;]+@[^\s<>\"'(),:;]+")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# A phone number however it is grouped. Other long numbers go with it and are not missed; ids that have letters stay.
_NUMBER = re.compile(r"(?<![A-Za-z0-9])\+?[0-9](?:[ ().-]{0,2}[0-9]){6,}(?![A-Za-z0-9])")


def quote_provider(text: str, *secrets: str) -> str:
    """Return the text in one line of at most 200 characters, without addresses, URLs, long numbers and the secrets."""
    for secret in filter(None, secrets):
        text = re.sub(re.escape(secret), "…", text, flags=re.IGNORECASE)
    for pattern in (_URL, _EMAIL, _NUMBER):
        text = pattern.sub("…", text)
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 1]}…"
