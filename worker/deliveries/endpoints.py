"""How many messages each server may get at this moment, of those that users name. Pure, with the clock it is given."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from worker.deliveries.breaker import Breaker, State
from worker.deliveries.schedule import Outcome

# A server we know nothing good of gets so many at once. With each success one more: a hundred servers that hang hold a
# hundred messages, and not a thousand.
FIRST_WINDOW = 1
# After so long without a message a server is forgotten, unless its breaker is open.
FORGET_AFTER = timedelta(minutes=10)
_FORGET_EVERY = timedelta(minutes=1)


@dataclass(slots=True)
class Endpoint:
    """What is known of one server."""

    used_at: float
    window: int = FIRST_WINDOW
    in_hand: int = 0
    breaker: Breaker = field(default_factory=Breaker)

    def room(self, now: float) -> int:
        """Return how many further messages it may get now."""
        match self.breaker.state(now):
            case State.OPEN:
                return 0
            case State.HALF_OPEN:
                return max(0, 1 - self.in_hand)
            case State.CLOSED:
                return max(0, self.window - self.in_hand)


class Endpoints:
    """All servers of one channel that there was something for lately."""

    def __init__(self, limit: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Know none yet.

        Args:
            limit: How many messages one of them gets at the same time, at most.
            monotonic: The clock.
        """
        self._limit = limit
        self._monotonic = monotonic
        self._known: dict[str, Endpoint] = {}
        self._forgotten_at = monotonic()

    def begin(self, name: str) -> None:
        """Take note that a message is on its way there."""
        endpoint = self._get(name)
        endpoint.in_hand += 1
        endpoint.used_at = self._monotonic()

    def end(self, name: str, outcome: Outcome) -> bool:
        """Take note of what came of a message; return whether another one may go there now that could not before."""
        now = self._monotonic()
        endpoint = self._get(name)
        was_full = endpoint.room(now) == 0
        endpoint.in_hand -= 1
        if outcome.is_bug:
            return was_full
        if outcome.blames_server:
            endpoint.window = FIRST_WINDOW
        else:
            endpoint.window = min(self._limit, endpoint.window + 1)
        endpoint.breaker.note(now, failed=outcome.blames_server)
        if outcome.retry_after is not None and not outcome.blames_server:
            endpoint.breaker.hold(now, outcome.retry_after)
        return was_full

    def rooms(self) -> dict[str, int]:
        """Return for how many messages each known server has room; any other has room for `FIRST_WINDOW`."""
        now = self._monotonic()
        self._forget(now)
        return {name: endpoint.room(now) for name, endpoint in self._known.items()}

    def pauses(self) -> dict[str, timedelta]:
        """Return which servers get nothing for how long."""
        now = self._monotonic()
        return {
            name: endpoint.breaker.remaining(now)
            for name, endpoint in self._known.items()
            if endpoint.breaker.state(now) is State.OPEN
        }

    def _get(self, name: str) -> Endpoint:
        if (endpoint := self._known.get(name)) is None:
            endpoint = self._known[name] = Endpoint(self._monotonic())
        return endpoint

    def _forget(self, now: float) -> None:
        if now - self._forgotten_at < _FORGET_EVERY.total_seconds():
            return
        self._forgotten_at = now
        for name in list(self._idle(now)):
            del self._known[name]

    def _idle(self, now: float) -> Iterator[str]:
        for name, endpoint in self._known.items():
            unused = now - endpoint.used_at > FORGET_AFTER.total_seconds()
            if unused and not endpoint.in_hand and endpoint.breaker.state(now) is not State.OPEN:
                yield name
