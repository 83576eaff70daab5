from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from typing_extensions import override

from shared.clock import utc_now
from shared.models import Event
from shared.queue import OutgoingMessage, QueueDepth
from shared.queue.memory import MemoryQueue
from tests.factories import make_event, make_scenario, make_tenant, make_user
from worker import reconciler as module
from worker.reconciler import Reconciler
from worker.settings import WorkerSettings
from worker.stopping import Stop

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def reconciler(worker_engine: AsyncEngine, queue: MemoryQueue) -> Reconciler:
    return Reconciler(worker_engine, queue, WorkerSettings(), stop=Stop(), beat=lambda: None)


async def add_event(sessions: Sessions, *, published: timedelta | None = None, **columns: Any) -> Event:
    """Add an event that was published so long ago."""
    async with sessions.begin() as session:
        tenant = await make_tenant(session, slug=f"tenant-{utc_now().timestamp()}")
        author = await make_user(session, tenant)
        published_at = utc_now() - published if published else None
        return await make_event(
            session, await make_scenario(session, author), author, published_at=published_at, **columns
        )


async def is_in_outbox(sessions: Sessions, event: Event) -> bool:
    async with sessions() as session:
        return (await session.get_one(Event, (event.tenant_id, event.id))).published_at is None


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


@pytest.mark.parametrize(
    ("published", "republish_count", "overdue"),
    [
        (minutes(0.9), 0, False),
        (minutes(1.1), 0, True),
        (minutes(1.9), 1, False),
        (minutes(2.1), 1, True),
        (minutes(31), 5, False),
        (minutes(33), 5, True),
        (minutes(59), 6, False),
        (minutes(61), 6, True),
        (minutes(61), 1_000_000, True),
    ],
)
async def test_the_deadline_doubles_with_each_republication_up_to_an_hour(
    reconciler: Reconciler,
    sessions: Sessions,
    *,
    published: timedelta,
    republish_count: int,
    overdue: bool,
):
    event = await add_event(sessions, published=published, republish_count=republish_count)

    assert await reconciler.reconcile() == int(overdue)

    assert await is_in_outbox(sessions, event) is overdue


async def test_what_was_put_back_waits_for_a_relay_and_is_counted(reconciler: Reconciler, sessions: Sessions):
    event = await add_event(sessions, published=minutes(5), claimed_until=utc_now() + minutes(5))

    await reconciler.reconcile()
    await reconciler.reconcile()

    async with sessions() as session:
        event = await session.get_one(Event, (event.tenant_id, event.id))
    assert (event.published_at, event.claimed_until, event.republish_count) == (None, None, 1)


@pytest.mark.parametrize("done", ["fanned_out_at", "dead_lettered_at"])
async def test_what_is_done_stays_done(reconciler: Reconciler, sessions: Sessions, done: str):
    await add_event(sessions, published=minutes(90), **{done: utc_now()})

    assert await reconciler.reconcile() == 0


class TestBacklog:
    """Two events are overdue, and so many messages still in the queue."""

    async def test_what_may_still_be_in_the_queue_is_not_lost(
        self, reconciler: Reconciler, queue: MemoryQueue, sessions: Sessions
    ):
        await self.prepare(queue, sessions, message_count=2, published=minutes(5))

        assert await reconciler.reconcile() == 0

    async def test_fewer_messages_than_events_mean_a_loss(
        self, reconciler: Reconciler, queue: MemoryQueue, sessions: Sessions
    ):
        await self.prepare(queue, sessions, message_count=1, published=minutes(5))

        assert await reconciler.reconcile() == 2

    async def test_a_queue_without_headway_is_not_trusted(
        self, reconciler: Reconciler, queue: MemoryQueue, sessions: Sessions
    ):
        await self.prepare(queue, sessions, message_count=2, published=minutes(16))

        assert await reconciler.reconcile() == 2

    async def prepare(
        self, queue: MemoryQueue, sessions: Sessions, *, message_count: int, published: timedelta
    ) -> None:
        for _ in range(2):
            await add_event(sessions, published=published)
        await queue.send([OutgoingMessage(id=str(number), body="late") for number in range(message_count)])


async def test_an_event_in_somebody_s_hands_is_skipped(reconciler: Reconciler, engine: AsyncEngine, sessions: Sessions):
    held, lost = [await add_event(sessions, published=minutes(5)) for _ in range(2)]
    async with engine.begin() as worker:
        await worker.execute(text("SELECT 1 FROM events WHERE id = :id FOR NO KEY UPDATE"), {"id": held.id})

        assert await reconciler.reconcile() == 1

    assert not await is_in_outbox(sessions, held)
    assert await is_in_outbox(sessions, lost)


async def test_one_turn_is_bounded_and_begins_with_the_oldest(
    reconciler: Reconciler, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_EVENTS", 1)
    younger = await add_event(sessions, published=minutes(5))
    older = await add_event(sessions, published=minutes(6))

    assert await reconciler.reconcile() == 1

    assert await is_in_outbox(sessions, older)
    assert not await is_in_outbox(sessions, younger)


async def test_a_failure_does_not_end_the_loop(worker_engine: AsyncEngine, sessions: Sessions):
    event = await add_event(sessions, published=minutes(5))
    stop = Stop()
    turns: list[None] = []

    class UnreliableQueue(MemoryQueue):
        """A queue that has a bug the first time."""

        @override
        async def depth(self) -> QueueDepth:
            if not turns:
                raise ZeroDivisionError
            return await super().depth()

    def beat() -> None:
        turns.append(None)
        if len(turns) == 2:
            stop.request()

    settings = WorkerSettings.model_construct(reconcile_interval=timedelta(milliseconds=1))

    await Reconciler(worker_engine, UnreliableQueue(), settings, stop=stop, beat=beat).run()

    assert await is_in_outbox(sessions, event)
