from datetime import UTC, datetime, timedelta

import pytest

from shared.outbound import find_retry_after

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", timedelta(0)),
        ("120", timedelta(minutes=2)),
        (" 7 ", timedelta(seconds=7)),
        ("99999999", timedelta(days=1)),
        ("Sun, 22 Nov 2026 12:00:30 GMT", timedelta(seconds=30)),
        ("Sun, 22 Nov 2026 13:00:30 +0100", timedelta(seconds=30)),
        ("Sun, 22 Nov 2026 12:00:30 -0000", timedelta(seconds=30)),
        ("Sun, 22 Nov 2026 11:00:00 GMT", timedelta(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", timedelta(days=1)),
    ],
)
def test_seconds_and_dates_say_how_long_to_wait(value, expected):
    assert find_retry_after({"Retry-After": value}, now=NOW) == expected


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "1.5", "1e3", "²", "٣", "9" * 5000, "Sun, 99 Nov 2026 12:00:30 GMT", "Sun, 22 Nov 99999 12:00"],
)
def test_what_makes_no_sense_says_nothing(value):
    assert find_retry_after({"Retry-After": value}, now=NOW) is None


def test_most_answers_do_not_say_it():
    assert find_retry_after({}, now=NOW) is None
