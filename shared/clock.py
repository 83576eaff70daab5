"""The one place that reads the wall clock."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the current instant, aware and in UTC.

    Leases and deadlines that several processes share are compared by PostgreSQL's
    clock instead (`now()` in the statement), so that skewed machines cannot steal work.
    """
    return datetime.now(UTC)
