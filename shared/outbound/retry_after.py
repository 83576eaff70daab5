"""The `Retry-After` of an answer (RFC 9110, section 10.2.3)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# As long as the longest wait between two attempts at a webhook. Whoever asks for more is asked again after that.
LONGEST = timedelta(days=1)
_MAX_DIGITS = 10


def find_retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """Return how long an answer asks to wait, at most `LONGEST`; None when it does not ask or makes no sense.

    Args:
        headers: Those of the answer; their names in any case, if the mapping allows it.
        now: The instant of the answer.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        return min(timedelta(seconds=int(value)), LONGEST)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # A date without a zone is in UTC.
    wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    return max(timedelta(0), min(wait, LONGEST))
