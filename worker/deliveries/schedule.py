"""What becomes of a delivery after an attempt. Pure but for the jitter."""

import random
from dataclasses import dataclass
from datetime import timedelta

from shared.channel import (
    WEBHOOK,
    DeliveryFailed,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    Receipt,
    TemporaryFailure,
)
from shared.models import AttemptResult, DeliveryReason, DeliveryStatus

JITTER = 0.2

# The waits of the Standard Webhooks convention: ten attempts within 75 hours, by when somebody has repaired the server.
_WEBHOOK_RETRIES = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
# A person is told within the day or not at all.
_RETRIES = tuple(timedelta(seconds=seconds) for seconds in (30, 120, 600, 1800, 7200, 14_400))

# How long to leave alone who says that we ask too often, and not for how long.
_RATE_LIMIT_PAUSE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one attempt.

    Attributes:
        result: How it went, as the log of attempts names it.
        detail: Why, in one line; None after a success.
        receipt: The word of the provider, if it took the message.
        retry_after: How long to wait at least, where the provider said so.
        address_gone: Whether nothing should be sent to this address again.
        is_bug: Whether the fault is ours, and says nothing about the address.
    """

    result: AttemptResult
    detail: str | None = None
    receipt: Receipt | None = None
    retry_after: timedelta | None = None
    address_gone: bool = False
    is_bug: bool = False

    @property
    def blames_address(self) -> bool:
        """Whether it speaks against the address, should it go on like that."""
        return self.result not in {AttemptResult.DELIVERED, AttemptResult.RATE_LIMITED} and not self.is_bug

    @property
    def blames_server(self) -> bool:
        """Whether the server behind the address seems to be out of order; one that refuses is not."""
        return self.blames_address and self.result is not AttemptResult.PERMANENT_FAILURE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the delivery: an end with its reason, or another attempt.

    Attributes:
        status: How far it is now.
        reason: Why it ended; None while it goes on.
        wait: How long until the next attempt, if there is one.
        failed: Whether the attempt counts for the retry schedule.
    """

    status: DeliveryStatus
    reason: DeliveryReason | None = None
    wait: timedelta = timedelta(0)
    failed: bool = False


def outcome_of(failure: DeliveryFailed) -> Outcome:
    """Return what an adapter said by raising."""
    detail = str(failure)
    match failure:
        case RateLimited():
            return Outcome(result=AttemptResult.RATE_LIMITED, detail=detail, retry_after=failure.retry_after)
        case TemporaryFailure():
            return Outcome(result=AttemptResult.TEMPORARY_FAILURE, detail=detail, retry_after=failure.retry_after)
        case PermanentFailure():
            return Outcome(result=AttemptResult.PERMANENT_FAILURE, detail=detail, address_gone=failure.address_gone)
        case OutcomeUnknown():
            return Outcome(result=AttemptResult.OUTCOME_UNKNOWN, detail=detail)
        case _:
            return Outcome(result=AttemptResult.TEMPORARY_FAILURE, detail=detail)


def decide(outcome: Outcome, *, channel: str, failure_count: int, repeats_unknown: bool) -> Verdict:
    """Return what becomes of a delivery.

    Args:
        outcome: What came of the attempt.
        channel: Its channel, which has its own schedule.
        failure_count: How many attempts before this one failed.
        repeats_unknown: Whether a message that may have been taken is sent again.
    """
    match outcome.result:
        case AttemptResult.DELIVERED:
            return Verdict(DeliveryStatus.DELIVERED, DeliveryReason.DELIVERED)
        case AttemptResult.PERMANENT_FAILURE:
            return Verdict(DeliveryStatus.FAILED, DeliveryReason.PROVIDER_PERMANENT, failed=True)
        case AttemptResult.RATE_LIMITED:
            return Verdict(DeliveryStatus.PENDING, wait=_later(outcome.retry_after or _RATE_LIMIT_PAUSE))
        case AttemptResult.OUTCOME_UNKNOWN if not repeats_unknown:
            return Verdict(DeliveryStatus.PARKED, DeliveryReason.OUTCOME_UNKNOWN, failed=True)
    retries = retries_of(channel)
    if failure_count >= len(retries):
        return Verdict(DeliveryStatus.FAILED, DeliveryReason.RETRIES_EXHAUSTED, failed=True)
    wait = jittered(retries[failure_count])
    if outcome.retry_after is not None:
        wait = max(wait, _later(outcome.retry_after))
    return Verdict(DeliveryStatus.PENDING, wait=wait, failed=True)


def retries_of(channel: str) -> tuple[timedelta, ...]:
    """Return how long to wait after the first failed attempt, the second, and so on."""
    return _WEBHOOK_RETRIES if channel == WEBHOOK else _RETRIES


def jittered(wait: timedelta) -> timedelta:
    """Return the wait, longer or shorter by up to a fifth: what failed together does not come back together."""
    return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - nobody gains by guessing it


def _later(wait: timedelta) -> timedelta:
    """Return the wait or a little more, never less."""
    return wait * random.uniform(1, 1 + JITTER)  # noqa: S311 - as above
