from datetime import timedelta

import pytest

from shared.channel import EMAIL, SMS, WEBHOOK, OutcomeUnknown, PermanentFailure, RateLimited, Receipt, TemporaryFailure
from shared.models import AttemptResult, DeliveryReason, DeliveryStatus
from worker.deliveries.schedule import Outcome, Verdict, decide, outcome_of, retries_of

HOUR = timedelta(hours=1)


def verdict_on(
    outcome: Outcome, *, channel: str = WEBHOOK, failure_count: int = 0, repeats_unknown: bool = True
) -> Verdict:
    return decide(outcome, channel=channel, failure_count=failure_count, repeats_unknown=repeats_unknown)


def test_webhooks_are_tried_ten_times_within_75_hours():
    assert len(retries_of(WEBHOOK)) + 1 == 10
    assert timedelta(hours=75) < sum(retries_of(WEBHOOK), timedelta(0)) < timedelta(hours=76)


@pytest.mark.parametrize("channel", [EMAIL, SMS])
def test_people_are_told_within_the_day(channel: str):
    assert len(retries_of(channel)) + 1 == 7
    assert sum(retries_of(channel), timedelta(0)) < timedelta(hours=7)


@pytest.mark.parametrize("failure_count", range(9))
def test_a_retry_comes_by_the_schedule_give_or_take_a_fifth(failure_count: int):
    planned = retries_of(WEBHOOK)[failure_count]

    waits = [verdict_on(outcome_of(TemporaryFailure("busy")), failure_count=failure_count).wait for _ in range(200)]

    assert all(planned * 0.8 <= wait <= planned * 1.2 for wait in waits)
    # What failed together does not come back together.
    assert max(waits) - min(waits) > planned * 0.2


def test_after_the_last_retry_it_has_failed():
    verdict = verdict_on(outcome_of(TemporaryFailure("busy")), failure_count=9)

    assert (verdict.status, verdict.reason) == (DeliveryStatus.FAILED, DeliveryReason.RETRIES_EXHAUSTED)


def test_a_longer_wait_that_the_server_asks_for_is_kept():
    verdict = verdict_on(outcome_of(TemporaryFailure("busy", retry_after=HOUR)))

    assert HOUR <= verdict.wait <= HOUR * 1.2
    assert verdict.failed


def test_a_shorter_one_hurries_nothing():
    verdict = verdict_on(outcome_of(TemporaryFailure("busy", retry_after=timedelta(seconds=1))), failure_count=2)

    assert verdict.wait >= timedelta(minutes=24)


@pytest.mark.parametrize("retry_after", [None, HOUR])
@pytest.mark.parametrize("failure_count", [0, 9, 1000])
def test_a_rate_limit_is_no_failed_attempt(retry_after: timedelta | None, failure_count: int):
    verdict = verdict_on(outcome_of(RateLimited("slow down", retry_after=retry_after)), failure_count=failure_count)

    assert verdict.status is DeliveryStatus.PENDING
    assert verdict.wait >= (retry_after or timedelta(seconds=30))
    assert not verdict.failed


def test_a_permanent_failure_is_the_end():
    verdict = verdict_on(outcome_of(PermanentFailure("no")))

    assert (verdict.status, verdict.reason) == (DeliveryStatus.FAILED, DeliveryReason.PROVIDER_PERMANENT)


def test_what_may_have_been_taken_is_repeated_or_parked_as_the_channel_wants_it():
    outcome = outcome_of(OutcomeUnknown("silence"))

    assert verdict_on(outcome).status is DeliveryStatus.PENDING
    parked = verdict_on(outcome, channel=SMS, repeats_unknown=False)
    assert (parked.status, parked.reason) == (DeliveryStatus.PARKED, DeliveryReason.OUTCOME_UNKNOWN)


@pytest.mark.parametrize(
    ("outcome", "address", "server"),
    [
        (Outcome(result=AttemptResult.DELIVERED, receipt=Receipt(provider="smtp")), False, False),
        (outcome_of(RateLimited("slow down")), False, False),
        (outcome_of(PermanentFailure("404")), True, False),
        (outcome_of(TemporaryFailure("503")), True, True),
        (outcome_of(OutcomeUnknown("silence")), True, True),
        (Outcome(result=AttemptResult.TEMPORARY_FAILURE, is_bug=True), False, False),
    ],
)
def test_what_speaks_against_an_address_and_against_its_server(outcome: Outcome, *, address: bool, server: bool):
    assert outcome.blames_address is address
    assert outcome.blames_server is server
