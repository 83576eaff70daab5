from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.retry import backoff, outage_backoff

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10), (5000, 10)])
def test_the_wait_doubles_up_to_the_cap(attempt: int, seconds: int):
    assert backoff(attempt, base=SECOND, cap=10 * SECOND, jitter=0) == seconds * SECOND


@given(st.integers(1, 100), st.floats(0, 1))
def test_jitter_stays_within_its_share(attempt: int, jitter: float):
    exact = backoff(attempt, base=SECOND, cap=60 * SECOND, jitter=0)

    wait = backoff(attempt, base=SECOND, cap=60 * SECOND, jitter=jitter)

    tolerance = timedelta(microseconds=1)
    assert exact * (1 - jitter) - tolerance <= wait <= exact * (1 + jitter) + tolerance


@given(st.integers(1, 100))
def test_a_dependency_is_left_alone_for_1_to_15_seconds(attempt: int):
    assert SECOND <= outage_backoff(attempt) <= 15 * SECOND
