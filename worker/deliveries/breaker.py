"""Whether a server is worth a try: a circuit breaker. Pure, with the clock of whoever asks."""

from collections import deque
from datetime import timedelta
from enum import Enum, auto

WINDOW = timedelta(minutes=5)
MIN_ATTEMPTS = 10
FAILURE_RATE = 0.7
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=5)

# Attempts are counted by such parts of the window, however many there are.
_BUCKETS = 30
_BUCKET = WINDOW.total_seconds() / _BUCKETS


class State(Enum):
    """What may be sent."""

    CLOSED = auto()
    """Everything."""
    OPEN = auto()
    """Nothing for a while."""
    HALF_OPEN = auto()
    """One message, as a probe."""


class Breaker:
    """Opens when most attempts of the last minutes failed, and lets a single one through now and then.

    One that succeeds closes it, and all is forgotten; one that fails keeps it open for twice as long. Times
    are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        """Begin closed."""
        # Each is the number of the part, and how many attempts it saw and how many of them failed.
        self._buckets: deque[list[int]] = deque()
        self._pause = FIRST_PAUSE
        self._open_until: float | None = None

    def state(self, now: float) -> State:
        """Return what may be sent at this moment."""
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def remaining(self, now: float) -> timedelta:
        """Return how long it stays open."""
        return timedelta(seconds=max(0.0, (self._open_until or now) - now))

    def note(self, now: float, *, failed: bool) -> None:
        """Take note of an attempt that ended."""
        state = self.state(now)
        if state is State.OPEN:
            # It began before the breaker opened, and says nothing new.
            return
        if state is State.HALF_OPEN:
            if failed:
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
                self._open(now)
            else:
                self._close()
            return
        self._count(now, failed=failed)
        attempts = sum(bucket[1] for bucket in self._buckets)
        if attempts >= MIN_ATTEMPTS and sum(bucket[2] for bucket in self._buckets) >= FAILURE_RATE * attempts:
            self._open(now)

    def hold(self, now: float, pause: timedelta) -> None:
        """Let nothing through for so long, because the server asked for it; that is no failure."""
        self._open_until = max(self._open_until or now, now + pause.total_seconds())

    def _count(self, now: float, *, failed: bool) -> None:
        number = int(now // _BUCKET)
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0])
        while self._buckets[0][0] <= number - _BUCKETS:
            self._buckets.popleft()
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += failed

    def _open(self, now: float) -> None:
        self._buckets.clear()
        self._open_until = now + self._pause.total_seconds()

    def _close(self) -> None:
        self._buckets.clear()
        self._pause = FIRST_PAUSE
        self._open_until = None
