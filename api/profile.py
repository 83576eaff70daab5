"""What can be known of a person: the forms of name, e-mail address, locale and time zone, wherever they come from."""

import re
from functools import cache
from importlib.resources import files

from shared.addresses import MAX_EMAIL_LENGTH, is_email

MAX_EXTERNAL_ID_LENGTH = 255
MAX_NAME_LENGTH = 200
MAX_LOCALE_LENGTH = 35
MAX_TIME_ZONE_LENGTH = 64

# A language tag (RFC 5646, section 2.1): language, script, region, variants, extensions, private use. The longer names
# of languages that its grammar reserves were never given to any. The pattern is read as JSON Schema as well.
LOCALE = (
    r"^[A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?$"
)

_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LOCALE = re.compile(LOCALE)
_REGION_LENGTH = 2
_SCRIPT_LENGTH = 4


def parse_line(value: str, *, max_length: int) -> str:
    """Return the value if the database can hold it and a line can show it.

    Raises:
        ValueError: It is blank, too long, or holds control characters or halves of characters.
    """
    if not value.strip() or len(value) > max_length or _UNUSABLE.search(value):
        message = "should be a line of text"
        raise ValueError(message)
    return value


def parse_email(value: str) -> str:
    """Return the value if it has the form of an e-mail address.

    Raises:
        ValueError: It has not.
    """
    if not is_email(parse_line(value, max_length=MAX_EMAIL_LENGTH)):
        message = "should be an e-mail address"
        raise ValueError(message)
    return value


def parse_locale(value: str) -> str:
    """Return a language tag as it is usually written: `en-GB` for `EN_gb`, which some identity providers send.

    Raises:
        ValueError: It is not well-formed.
    """
    tag = value.replace("_", "-")
    if len(tag) > MAX_LOCALE_LENGTH or not _LOCALE.fullmatch(tag):
        message = "should be a language tag such as en or pt-BR"
        raise ValueError(message)
    # RFC 5646, section 2.1.1: lower case, but regions in upper and scripts in title case, unless a singleton precedes.
    first, *rest = tag.lower().split("-")
    written = [first]
    for subtag in rest:
        if len(written[-1]) == 1:
            written.append(subtag)
        elif len(subtag) == _REGION_LENGTH:
            written.append(subtag.upper())
        else:
            written.append(subtag.title() if len(subtag) == _SCRIPT_LENGTH and subtag.isalpha() else subtag)
    return "-".join(written)


def parse_time_zone(value: str) -> str:
    """Return the value if it names a time zone of the IANA database.

    Raises:
        ValueError: It does not.
    """
    if value not in _time_zones():
        message = "should be a time zone of the IANA database such as Europe/Berlin"
        raise ValueError(message)
    return value


@cache
def _time_zones() -> frozenset[str]:
    # From the package, which is the same everywhere: slim images have no database of their own, and asking `zoneinfo`
    # for all names opens hundreds of files.
    return frozenset(files("tzdata").joinpath("zones").read_text().split())
