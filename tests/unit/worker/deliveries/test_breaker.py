from datetime import timedelta

import pytest

from shared.channel import OutcomeUnknown, PermanentFailure, RateLimited, Receipt, TemporaryFailure
from shared.models import AttemptResult
from worker.deliveries.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker, State
from worker.deliveries.endpoints import Endpoints
from worker.deliveries.schedule import Outcome, outcome_of

DELIVERED = Outcome(result=AttemptResult.DELIVERED, receipt=Receipt(provider="webhook"))
DOWN = outcome_of(TemporaryFailure("down"))


class FakeClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(10):
        breaker.note(0, failed=True)
    return breaker


class TestBreaker:
    @pytest.mark.parametrize(
        ("failures", "successes", "state"),
        [(9, 0, State.CLOSED), (10, 0, State.OPEN), (7, 3, State.OPEN), (6, 4, State.CLOSED), (69, 31, State.CLOSED)],
    )
    def test_it_opens_when_seven_of_ten_fail(self, failures: int, successes: int, state: State):
        breaker = Breaker()

        for failed in [False] * successes + [True] * failures:
            breaker.note(0, failed=failed)

        assert breaker.state(0) is state

    def test_what_is_five_minutes_old_does_not_count(self):
        breaker = Breaker()
        for _ in range(9):
            breaker.note(0, failed=True)

        breaker.note(301, failed=True)

        assert breaker.state(301) is State.CLOSED

    def test_after_its_pause_it_lets_a_probe_through(self):
        breaker = opened()

        assert breaker.remaining(0) == FIRST_PAUSE
        assert breaker.state(FIRST_PAUSE.total_seconds() - 0.1) is State.OPEN
        assert breaker.state(FIRST_PAUSE.total_seconds()) is State.HALF_OPEN

    def test_a_probe_that_succeeds_closes_it_and_all_is_forgotten(self):
        breaker = opened()

        breaker.note(10, failed=False)

        assert breaker.state(10) is State.CLOSED
        breaker.note(11, failed=True)
        assert breaker.state(11) is State.CLOSED

    def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest(self):
        breaker = opened()
        now, pauses = 0.0, []

        for _ in range(8):
            pauses.append(breaker.remaining(now))
            now += pauses[-1].total_seconds()
            breaker.note(now, failed=True)

        assert pauses[:3] == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]
        assert pauses[-1] == LONGEST_PAUSE

    def test_what_was_on_its_way_when_it_opened_changes_nothing(self):
        breaker = opened()

        breaker.note(1, failed=False)

        assert breaker.remaining(1) == FIRST_PAUSE - timedelta(seconds=1)


class TestEndpoints:
    def test_a_server_gets_more_with_each_success_up_to_the_limit(self):
        endpoints = Endpoints(3, monotonic=FakeClock())
        rooms = []

        for _ in range(5):
            endpoints.begin("a")
            endpoints.end("a", DELIVERED)
            rooms.append(endpoints.rooms()["a"])

        assert rooms == [2, 3, 3, 3, 3]

    @pytest.mark.parametrize("outcome", [DOWN, outcome_of(OutcomeUnknown("silence"))])
    def test_and_begins_anew_with_one_after_a_failure(self, outcome: Outcome):
        endpoints = Endpoints(10, monotonic=FakeClock())
        for each in (DELIVERED, DELIVERED, DELIVERED, outcome):
            endpoints.begin("a")
            endpoints.end("a", each)

        assert endpoints.rooms() == {"a": 1}

    def test_one_that_refuses_is_well(self):
        endpoints = Endpoints(10, monotonic=FakeClock())

        for _ in range(20):
            endpoints.begin("a")
            endpoints.end("a", outcome_of(PermanentFailure("404")))

        assert endpoints.rooms() == {"a": 10}

    def test_one_that_asks_for_patience_gets_nothing_for_so_long(self):
        clock = FakeClock()
        endpoints = Endpoints(10, monotonic=clock)
        endpoints.begin("a")

        endpoints.end("a", outcome_of(RateLimited("slow down", retry_after=timedelta(seconds=30))))

        assert endpoints.rooms() == {"a": 0}
        assert endpoints.pauses() == {"a": timedelta(seconds=30)}
        clock.now += 30
        assert endpoints.rooms() == {"a": 1}

    def test_our_own_bugs_are_not_held_against_it(self):
        endpoints = Endpoints(10, monotonic=FakeClock())
        bug = Outcome(result=AttemptResult.TEMPORARY_FAILURE, is_bug=True)

        for _ in range(20):
            endpoints.begin("a")
            endpoints.end("a", bug)

        assert endpoints.pauses() == {}

    def test_one_that_nothing_is_sent_to_any_more_is_forgotten(self):
        clock = FakeClock()
        endpoints = Endpoints(10, monotonic=clock)
        for name in ("a", "b"):
            endpoints.begin(name)
        endpoints.end("a", DELIVERED)

        clock.now += 601

        assert set(endpoints.rooms()) == {"b"}


def test_a_server_that_is_down_for_an_hour_is_probed_now_and_then_and_drained_without_a_storm():
    clock = FakeClock()
    endpoints = Endpoints(10, monotonic=clock)
    up_at = clock.now + 3600
    attempts_while_down = most_at_once = delivered = 0

    # Always more waiting than it may get. Each message takes a second.
    while delivered < 500:
        room = endpoints.rooms().get("a", 1)
        most_at_once = max(most_at_once, room)
        for _ in range(room):
            endpoints.begin("a")
        clock.now += 1
        for _ in range(room):
            endpoints.end("a", DELIVERED if clock.now >= up_at else DOWN)
        if clock.now < up_at:
            attempts_while_down += room
        else:
            delivered += room

    # Ten until the breaker opens, then one probe with each pause, which soon are five minutes apart.
    assert attempts_while_down < 30
    assert most_at_once == 10
    # It is found to be well within the longest pause, and gets ten at a time soon after.
    assert clock.now - up_at < LONGEST_PAUSE.total_seconds() + 500 / 10 + 20
