"""Messages that somebody waits for: sent once, now, and what came of it is the answer."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from shared.channel import (
    Channel,
    DeliveryFailed,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
)
from shared.models import AttemptResult

# Less than `SHUTDOWN_TIMEOUT`: a stop breaks no message off whose fate nobody would be told.
SEND_TIMEOUT = timedelta(seconds=4)


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a message.

    Attributes:
        result: How it went.
        provider: Who carried it, or should have.
        detail: Why it failed, in one line; None after a success.
    """

    result: AttemptResult
    provider: str
    detail: str | None = None


async def send_now(channel: Channel, message: OutboundMessage) -> Sent:
    """Send a message and return what came of it. No transaction should be open: providers think for seconds."""
    deadline = asyncio.timeout(SEND_TIMEOUT.total_seconds())
    try:
        async with deadline:
            receipt = await channel.send(message)
    except DeliveryFailed as failure:
        return Sent(_result_of(failure), channel.provider, str(failure))
    except TimeoutError:
        if not deadline.expired():
            raise
        detail = f"no answer within {SEND_TIMEOUT.total_seconds():.0f} s; the message may still arrive"
        return Sent(AttemptResult.OUTCOME_UNKNOWN, channel.provider, detail)
    return Sent(AttemptResult.DELIVERED, receipt.provider)


def _result_of(failure: DeliveryFailed) -> AttemptResult:
    match failure:
        case RateLimited():
            return AttemptResult.RATE_LIMITED
        case PermanentFailure():
            return AttemptResult.PERMANENT_FAILURE
        case OutcomeUnknown():
            return AttemptResult.OUTCOME_UNKNOWN
    return AttemptResult.TEMPORARY_FAILURE
