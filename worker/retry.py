"""When to try again. Pure but for the jitter."""

import random
from datetime import timedelta

# More doublings than any cap allows; without this limit a large attempt would overflow.
MAX_DOUBLINGS = 60


def backoff(attempt: int, *, base: timedelta, cap: timedelta, jitter: float = 0.2) -> timedelta:
    """Return how long to wait after the given attempt failed.

    The wait doubles with every attempt up to `cap`. Jitter spreads what failed together,
    so that it does not all come back together.

    Args:
        attempt: Number of the attempt that just failed, starting at 1.
        base: Wait after the first attempt, before jitter.
        cap: Longest wait, before jitter.
        jitter: Largest share by which the wait may grow or shrink.
    """
    doubled = base.total_seconds() * 2.0 ** min(attempt - 1, MAX_DOUBLINGS)
    wait = min(doubled, cap.total_seconds())
    return timedelta(seconds=wait * random.uniform(1 - jitter, 1 + jitter))  # noqa: S311 - nobody gains by guessing it


def outage_backoff(attempt: int) -> timedelta:
    """Return how long to leave a dependency alone after so many failures in a row: 1 to 15 s, jitter included."""
    return backoff(attempt, base=timedelta(seconds=1.25), cap=timedelta(seconds=12.5))
