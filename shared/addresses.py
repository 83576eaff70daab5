"""Addresses on each channel: what has the form of one, and how much of it may be shown."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

from shared.channel import APPRISE, EMAIL, SLACK, SMS, WEBHOOK

MAX_LENGTH = 2048
MAX_EMAIL_LENGTH = 320

# Modest on purpose: whether an address exists only a message to it can tell. Refused is what is no address at all, and
# what would mean something else in the header of a mail. This pattern is read as JSON Schema as well.
EMAIL_PATTERN = r'^[^\s\x00-\x1f\x7f@<>(),:;"\\\[\]]{1,64}@[^\s\x00-\x1f\x7f@<>(),:;"\\\[\]]{1,255}$'

_EMAIL = re.compile(EMAIL_PATTERN)
# E.164: a plus, the country, and at most fifteen digits in all.
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_PHONE_PUNCTUATION = re.compile(r"[ ()./-]")
# A member, a channel or a group, as the bot of a workspace names them.
_SLACK_ID = re.compile(r"[CDGUW][A-Z0-9]{8,20}")
_URL_CHARACTERS = re.compile(r"[!-~]+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,30}")
_ENDPOINT_BYTES = 12


@dataclass(frozen=True, slots=True)
class Address:
    """An address as it is used, and as it may be shown.

    Attributes:
        value: The address, written the one way it is always written.
        masked: Enough of it for its owner to recognise it, too little to reach or to abuse it.
        endpoint: Names the server behind it, by a digest; None where all addresses are behind one provider.
    """

    value: str
    masked: str
    endpoint: str | None = None


def parse_address(channel: str, text: str) -> Address:
    """Return the address that the text is on a channel.

    Raises:
        ValueError: It is none there. The message says what one looks like, and never repeats the text.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        message = f"should have at most {MAX_LENGTH} characters"
        raise ValueError(message)
    return _PARSERS[channel](text)


def is_email(text: str) -> bool:
    """Tell whether the text has the form of an e-mail address."""
    return len(text) <= MAX_EMAIL_LENGTH and _EMAIL.fullmatch(text) is not None and text.isprintable()


def _parse_email(text: str) -> Address:
    if not is_email(text):
        message = "should be an e-mail address such as alice@example.com"
        raise ValueError(message)
    name, _, domain = text.partition("@")
    return Address(text, f"{name[0]}…@{domain}")


def _parse_phone(text: str) -> Address:
    number = _PHONE_PUNCTUATION.sub("", text)
    if not _PHONE.fullmatch(number):
        message = "should be a phone number with its country, such as +49 151 12345678"
        raise ValueError(message)
    return Address(number, f"{number[:3]}…{number[-2:]}")


def _parse_webhook(text: str) -> Address:
    url = _parse_url(text)
    origin = f"{url.scheme}://{url.netloc}"
    return Address(urlunsplit(url), f"{origin}/…", _digest(origin))


def _parse_slack(text: str) -> Address:
    if _SLACK_ID.fullmatch(text):
        return Address(text, f"{text[:3]}…")
    try:
        url = _parse_url(text)
    except ValueError:
        message = "should be the URL of an incoming webhook, or the id of a Slack member or channel"
        raise ValueError(message) from None
    # Slack limits each webhook by itself: the server behind all of them is never what is slow.
    return Address(urlunsplit(url), f"{url.scheme}://{url.netloc}/…", _digest(urlunsplit(url)))


def _parse_apprise(text: str) -> Address:
    scheme, separator, rest = text.partition("://")
    if not (separator and rest and _SCHEME.fullmatch(scheme.lower()) and _URL_CHARACTERS.fullmatch(text)):
        message = "should be an Apprise URL such as ntfys://host/topic"
        raise ValueError(message)
    return Address(f"{scheme.lower()}://{rest}", f"{scheme.lower()}://…", _digest(text))


def _parse_url(text: str) -> SplitResult:
    message = "should be a URL such as https://example.com/hooks/1, without user name or password"
    if not _URL_CHARACTERS.fullmatch(text):
        raise ValueError(message)
    url = urlsplit(text)
    try:
        port = url.port
    except ValueError:
        raise ValueError(message) from None
    if url.scheme not in {"http", "https"} or not url.hostname or "@" in url.netloc or port == 0:
        raise ValueError(message)
    return url._replace(netloc=url.netloc.lower(), fragment="")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_ENDPOINT_BYTES).hexdigest()


_PARSERS: dict[str, Callable[[str], Address]] = {
    EMAIL: _parse_email,
    SLACK: _parse_slack,
    SMS: _parse_phone,
    WEBHOOK: _parse_webhook,
    APPRISE: _parse_apprise,
}
