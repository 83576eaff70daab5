"""Which provider is asked when, under a clock that only the test moves."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from typing_extensions import override

from shared.channel import (
    EMAIL,
    Channel,
    Content,
    DeliveryFailed,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    Receipt,
    TemporaryFailure,
)
from shared.failover import FAILURES_UNTIL_REST, REST, Failover

MESSAGE = OutboundMessage(
    id=UUID(int=1),
    address="bob@receiver.example",
    content=Content(subject="Hello", text="Hello"),
    created_at=datetime(2026, 11, 22, tzinfo=UTC),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, duration: timedelta) -> None:
        self.now += duration.total_seconds()


class Provider(Channel):
    """Takes messages until it is given a failure."""

    name = EMAIL

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.failure: DeliveryFailed | None = None
        self.asked_count = 0

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        self.asked_count += 1
        if self.failure:
            raise self.failure
        return Receipt(provider=self.provider)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def first() -> Provider:
    return Provider("first")


@pytest.fixture
def second() -> Provider:
    return Provider("second")


@pytest.fixture
def failover(first: Provider, second: Provider, clock: Clock) -> Failover:
    return Failover([first, second], clock=clock)


async def took(failover: Failover) -> str:
    return (await failover.send(MESSAGE)).provider


async def fail(failover: Failover) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await failover.send(MESSAGE)
    return caught.value


class TestSend:
    async def test_the_most_wanted_one_sends(self, failover: Failover, second: Provider):
        assert await took(failover) == "first"
        assert second.asked_count == 0

    async def test_the_next_one_sends_what_the_first_could_not(self, failover: Failover, first: Provider):
        first.failure = TemporaryFailure("busy")

        assert await took(failover) == "second"

    async def test_a_limit_moves_a_message_on_too(self, failover: Failover, first: Provider):
        first.failure = RateLimited("slower")

        assert await took(failover) == "second"

    @pytest.mark.parametrize("failure", [OutcomeUnknown("silence"), PermanentFailure("no such mailbox")])
    async def test_what_may_have_been_taken_or_is_refused_for_good_stays(
        self, failover: Failover, first: Provider, second: Provider, failure: DeliveryFailed
    ):
        first.failure = failure

        assert await fail(failover) is failure
        assert second.asked_count == 0

    async def test_when_all_fail_it_says_why_and_waits_for_the_first_that_may_be_asked(
        self, failover: Failover, first: Provider, second: Provider
    ):
        first.failure = TemporaryFailure("busy", retry_after=timedelta(seconds=60))
        second.failure = RateLimited("slower", retry_after=timedelta(seconds=20))

        failure = await fail(failover)

        assert isinstance(failure, TemporaryFailure)
        assert not isinstance(failure, RateLimited)
        assert str(failure) == "busy; slower"
        assert failure.retry_after == timedelta(seconds=20)

    async def test_when_all_only_ask_for_patience_it_is_a_limit(
        self, failover: Failover, first: Provider, second: Provider
    ):
        first.failure = second.failure = RateLimited("slower")

        failure = await fail(failover)

        assert isinstance(failure, RateLimited)
        assert failure.retry_after is None

    def test_it_repeats_unknown_outcomes_only_if_all_do(self, first: Provider, second: Provider):
        assert Failover([first, second]).repeats_unknown

        second.repeats_unknown = False

        assert not Failover([first, second]).repeats_unknown


class TestRest:
    async def test_after_some_failures_in_a_row_a_provider_is_left_alone(
        self, failover: Failover, first: Provider, clock: Clock
    ):
        first.failure = TemporaryFailure("busy")
        for _ in range(FAILURES_UNTIL_REST):
            await took(failover)

        clock.advance(REST - timedelta(seconds=1))
        await took(failover)

        assert first.asked_count == FAILURES_UNTIL_REST

    async def test_then_it_is_asked_again_and_rests_at_its_first_failure(
        self, failover: Failover, first: Provider, clock: Clock
    ):
        first.failure = TemporaryFailure("busy")
        for _ in range(FAILURES_UNTIL_REST):
            await took(failover)
        clock.advance(REST)

        await took(failover)
        await took(failover)

        assert first.asked_count == FAILURES_UNTIL_REST + 1

    async def test_a_success_makes_it_the_first_again(self, failover: Failover, first: Provider, clock: Clock):
        first.failure = TemporaryFailure("busy")
        for _ in range(FAILURES_UNTIL_REST):
            await took(failover)
        clock.advance(REST)
        first.failure = None

        assert [await took(failover), await took(failover)] == ["first", "first"]

    async def test_failures_that_are_not_in_a_row_do_not_count(self, failover: Failover, first: Provider):
        for _ in range(FAILURES_UNTIL_REST):
            first.failure = TemporaryFailure("busy")
            await took(failover)
            first.failure = None
            await took(failover)

        assert await took(failover) == "first"

    async def test_who_asks_for_a_pause_gets_it_at_once(self, failover: Failover, first: Provider, clock: Clock):
        first.failure = RateLimited("slower", retry_after=timedelta(seconds=5))
        await took(failover)
        first.failure = None

        assert await took(failover) == "second"
        clock.advance(timedelta(seconds=5))
        assert await took(failover) == "first"

    async def test_silence_counts_as_a_failure(self, failover: Failover, first: Provider):
        first.failure = OutcomeUnknown("silence")
        for _ in range(FAILURES_UNTIL_REST):
            await fail(failover)

        assert await took(failover) == "second"

    async def test_when_all_rest_all_are_asked(self, failover: Failover, first: Provider, second: Provider):
        first.failure = second.failure = TemporaryFailure("busy")
        for _ in range(FAILURES_UNTIL_REST):
            await fail(failover)
        second.failure = None

        assert await took(failover) == "second"
