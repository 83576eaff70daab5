import asyncio
from itertools import chain, combinations
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from typing_extensions import override

from api.relay import SENDER_FAULTS_UNTIL_QUARANTINE, Relay, RelaySettings
from shared.models import Event, TestScenario, User
from shared.queue.envelope import parse_envelope
from shared.queue.memory import MemoryQueue
from shared.queue.ports import QueueUnavailable, SendFailure
from tests.factories import make_event, make_scenario, make_tenant, make_user

Sessions = async_sessionmaker[AsyncSession]


class FaultyQueue(MemoryQueue):
    """A queue that is away, never answers, or refuses the messages a test names."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.hangs = False
        self.failed_calls = 0
        self.refusals: dict[str, SendFailure] = {}
        self.sent: list[UUID] = []

    def refuse(self, event_id: UUID, *, sender_fault: bool) -> None:
        self.refusals[str(event_id)] = SendFailure(str(event_id), "Refused", "said the test", sender_fault)

    @override
    async def send(self, messages):
        if self.away:
            self.failed_calls += 1
            raise QueueUnavailable("away")
        if self.hangs:
            self.failed_calls += 1
            await asyncio.Event().wait()
        self.sent += [parse_envelope(message.body).id for message in messages if message.id not in self.refusals]
        return [self.refusals[message.id] for message in messages if message.id in self.refusals]


@pytest.fixture
def queue() -> FaultyQueue:
    return FaultyQueue()


@pytest.fixture
async def alice(sessions: Sessions) -> User:
    async with sessions.begin() as session:
        return await make_user(session, await make_tenant(session))


@pytest.fixture
async def scenario(sessions: Sessions, alice: User) -> TestScenario:
    async with sessions.begin() as session:
        return await make_scenario(session, alice)


@pytest.fixture
def add_events(sessions: Sessions, scenario: TestScenario, alice: User):
    async def add(count: int) -> list[UUID]:
        async with sessions.begin() as session:
            return [(await make_event(session, scenario, alice)).id for _ in range(count)]

    return add


def build_relay(sessions: Sessions, queue: FaultyQueue, **settings: object) -> Relay:
    return Relay(sessions, queue, RelaySettings.model_validate(settings))


async def get_event(sessions: Sessions, event_id: UUID) -> Event:
    async with sessions() as session:
        return (await session.scalars(select(Event).where(Event.id == event_id))).one()


async def list_unpublished(sessions: Sessions) -> list[UUID]:
    async with sessions() as session:
        return list(await session.scalars(select(Event.id).where(Event.published_at.is_(None)).order_by(Event.id)))


async def end_leases(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(text("UPDATE events SET claimed_until = now() - interval '1 second'"))


class TestPublishBatch:
    async def test_events_go_to_the_queue_once_and_in_order(self, sessions, api_sessions, queue, add_events):
        ids = await add_events(3)
        relay = build_relay(api_sessions, queue)

        await relay.publish_batch()
        await relay.publish_batch()

        assert queue.sent == ids
        assert await list_unpublished(sessions) == []

    async def test_a_full_batch_says_that_there_may_be_more(self, api_sessions, queue, add_events):
        await add_events(3)
        relay = build_relay(api_sessions, queue, batch_size=2)

        assert not await relay.publish_batch()
        assert await relay.publish_batch()

    async def test_an_event_with_a_lower_id_that_commits_late_is_not_lost(
        self, sessions, api_sessions, queue, scenario, alice
    ):
        relay = build_relay(api_sessions, queue)
        async with sessions() as late, sessions() as early:
            first = await make_event(late, scenario, alice)
            second = await make_event(early, scenario, alice)
            assert first.id < second.id
            await early.commit()
            await relay.publish_batch()
            await late.commit()

            await relay.publish_batch()

        assert queue.sent == [second.id, first.id]

    async def test_two_relays_never_send_the_same_event(self, api_sessions, queue, add_events):
        ids = await add_events(40)
        relays = [build_relay(api_sessions, queue, batch_size=5) for _ in range(4)]

        async def publish_all(relay: Relay) -> None:
            while not await relay.publish_batch():
                pass

        await asyncio.gather(*map(publish_all, relays))

        assert sorted(queue.sent) == ids

    async def test_whichever_messages_are_refused_exactly_they_stay_unpublished(
        self, sessions, api_sessions, queue, add_events
    ):
        ids = await add_events(4)
        relay = build_relay(api_sessions, queue)
        subsets = chain.from_iterable(combinations(ids, size) for size in range(1, 5))

        for subset in subsets:
            queue.refusals.clear()
            for event_id in subset:
                queue.refuse(event_id, sender_fault=False)
            async with sessions.begin() as session:
                await session.execute(text("UPDATE events SET published_at = NULL, claimed_until = NULL"))
            await relay.publish_batch()
            assert await list_unpublished(sessions) == list(subset)

    async def test_an_event_the_queue_faults_three_times_is_quarantined_with_its_reason(
        self, sessions, api_sessions, queue, add_events
    ):
        bad, good = await add_events(2)
        queue.refuse(bad, sender_fault=True)
        relay = build_relay(api_sessions, queue)

        for _ in range(SENDER_FAULTS_UNTIL_QUARANTINE + 1):
            await relay.publish_batch()
            await end_leases(sessions)

        event = await get_event(sessions, bad)
        assert event.refusal_count == SENDER_FAULTS_UNTIL_QUARANTINE
        assert event.quarantined_at is not None
        assert event.publish_error == "Refused: said the test"
        assert queue.sent == [good]

    async def test_refusals_that_are_not_the_events_fault_never_quarantine_it(
        self, sessions, api_sessions, queue, add_events
    ):
        [event_id] = await add_events(1)
        queue.refuse(event_id, sender_fault=False)
        relay = build_relay(api_sessions, queue)

        for _ in range(SENDER_FAULTS_UNTIL_QUARANTINE + 1):
            await relay.publish_batch()
            await end_leases(sessions)
        queue.refusals.clear()
        await relay.publish_batch()

        assert queue.sent == [event_id]

    async def test_claims_are_given_back_when_the_queue_is_away(self, api_sessions, queue, add_events):
        ids = await add_events(2)
        relay = build_relay(api_sessions, queue)
        queue.away = True
        with pytest.raises(QueueUnavailable):
            await relay.publish_batch()

        queue.away = False
        await relay.publish_batch()

        assert queue.sent == ids

    async def test_events_of_a_relay_that_died_while_sending_are_sent_after_its_lease(
        self, sessions, api_sessions, queue, add_events
    ):
        ids = await add_events(2)
        await build_relay(api_sessions, queue)._claim()
        relay = build_relay(api_sessions, queue)

        await relay.publish_batch()
        assert queue.sent == []
        await end_leases(sessions)
        await relay.publish_batch()

        assert queue.sent == ids

    async def test_it_does_not_wait_for_a_worker_that_already_has_the_event(
        self, sessions, api_sessions, queue, add_events
    ):
        [taken, free] = await add_events(2)
        relay = build_relay(api_sessions, queue)
        claimed = await relay._claim()
        assert [event.id for event in claimed] == [taken, free]
        await end_leases(sessions)

        async with sessions() as worker:
            await worker.execute(select(Event).where(Event.id == taken).with_for_update(key_share=True))
            await relay.publish_batch()

        assert await list_unpublished(sessions) == [taken]


class TestRun:
    async def test_a_wake_up_publishes_at_once(self, api_sessions, queue, add_events):
        relay = build_relay(api_sessions, queue, poll_interval=3600)
        running = asyncio.create_task(relay.run())
        ids = await add_events(1)

        relay.wake()
        while not queue.sent:
            await asyncio.sleep(0.01)

        assert queue.sent == ids
        relay.stop()
        await running

    async def test_a_stop_sends_what_is_committed(self, api_sessions, queue, add_events):
        relay = build_relay(api_sessions, queue, poll_interval=3600, batch_size=2)
        running = asyncio.create_task(relay.run())
        ids = await add_events(5)

        relay.stop()
        relay.stop()
        await running

        assert queue.sent == ids

    async def test_a_stop_before_the_start_drains_and_returns(self, api_sessions, queue, add_events):
        ids = await add_events(1)
        relay = build_relay(api_sessions, queue)

        relay.stop()
        await relay.run()

        assert queue.sent == ids

    async def test_a_stop_takes_no_longer_than_the_drain_timeout_and_gives_claims_back(
        self, sessions, queue, add_events
    ):
        ids = await add_events(2)
        queue.hangs = True
        relay = build_relay(sessions, queue, drain_timeout=0.1)
        running = asyncio.create_task(relay.run())
        while not queue.failed_calls:
            await asyncio.sleep(0.01)

        relay.stop()
        await running

        queue.hangs = False
        await build_relay(sessions, queue).publish_batch()
        assert queue.sent == ids

    async def test_a_queue_that_is_away_neither_ends_the_loop_nor_loses_an_event(
        self, api_sessions, queue, add_events, monkeypatch
    ):
        monkeypatch.setattr("api.relay.FIRST_PAUSE", RelaySettings().poll_interval / 100)
        ids = await add_events(1)
        queue.away = True
        relay = build_relay(api_sessions, queue, poll_interval=0.01)
        running = asyncio.create_task(relay.run())

        while queue.failed_calls < 2:
            await asyncio.sleep(0.01)
        queue.away = False
        while not queue.sent:
            await asyncio.sleep(0.01)

        assert queue.sent == ids
        relay.stop()
        await running
