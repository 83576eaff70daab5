"""Several providers of one channel: when one cannot, the next one sends.

Only a failure that says that nothing was taken moves a message on. One that may have been taken stays with its
provider, and one that is refused for good would be refused by the next one as well.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from typing_extensions import override

from shared.channel import (
    Channel,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    Receipt,
    TemporaryFailure,
)

logger = structlog.get_logger(__name__)

# A provider that failed so often in a row is left alone for a while. Then one message tries it again.
FAILURES_UNTIL_REST = 3
REST = timedelta(seconds=30)

# Seconds since some fixed instant, such as `time.monotonic`.
MonotonicClock = Callable[[], float]


@dataclass(slots=True)
class Condition:
    """How a provider has been doing lately."""

    failures_in_a_row: int = 0
    rests_until: float | None = None

    def is_available(self, now: float) -> bool:
        """Return whether it is to be asked: it is not resting."""
        return self.rests_until is None or now >= self.rests_until

    def record_success(self) -> None:
        """Forget its failures."""
        self.failures_in_a_row = 0
        self.rests_until = None

    def record_failure(self, now: float, *, retry_after: timedelta | None = None) -> None:
        """Count a failure; from the third in a row on, and whenever it asked for a pause, let the provider rest."""
        self.failures_in_a_row += 1
        if retry_after is not None:
            self.rests_until = now + retry_after.total_seconds()
        elif self.failures_in_a_row >= FAILURES_UNTIL_REST:
            self.rests_until = now + REST.total_seconds()


class Failover(Channel):
    """A channel by several providers, in the order of preference. Receipts name the one that took the message.

    A send takes as long as the deadlines of all providers together at most.
    """

    def __init__(self, channels: Sequence[Channel], *, clock: MonotonicClock = time.monotonic) -> None:
        """Take the providers, most wanted first; they serve one channel."""
        first = channels[0]
        self.name = first.name
        self.provider = ",".join(channel.provider for channel in channels)
        self.repeats_unknown = all(channel.repeats_unknown for channel in channels)
        self._providers = [(channel, Condition()) for channel in channels]
        self._clock = clock

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        failures: list[TemporaryFailure] = []
        for channel, condition in self._in_order():
            try:
                receipt = await channel.send(message)
            except TemporaryFailure as failure:
                condition.record_failure(self._clock(), retry_after=failure.retry_after)
                failures.append(failure)
                logger.warning("provider.failed", channel=self.name, provider=channel.provider, detail=str(failure))
            except OutcomeUnknown:
                # Who keeps silent is not asked for long, but this message is in its hands.
                condition.record_failure(self._clock())
                raise
            except PermanentFailure:
                condition.record_success()
                raise
            else:
                condition.record_success()
                return receipt
        raise _sum_up(failures)

    def _in_order(self) -> list[tuple[Channel, Condition]]:
        """Return whom to ask: who does not rest, or, when all do, everybody. A message is not held back by a guess."""
        now = self._clock()
        return [entry for entry in self._providers if entry[1].is_available(now)] or self._providers


def _sum_up(failures: Sequence[TemporaryFailure]) -> TemporaryFailure:
    """Return what all of them together say: later, and not before the first of them may be asked again."""
    detail = "; ".join(str(failure) for failure in failures)
    waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
    retry_after = min(waits) if len(waits) == len(failures) else None
    # A failed attempt, unless all of them only asked for patience.
    kind = RateLimited if all(isinstance(failure, RateLimited) for failure in failures) else TemporaryFailure
    return kind(detail, retry_after=retry_after)
