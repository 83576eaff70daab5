from dataclasses import dataclass
from typing import ClassVar

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.models import DomainEvent, Event, EventType, Outcome, TestScenario, User
from shared.unit_of_work import UnitOfWork, open_unit_of_work
from tests.factories import NOON, make_scenario, make_tenant, make_user


@dataclass(frozen=True, kw_only=True)
class ScenarioRenamed(DomainEvent):
    event_type: ClassVar[str] = "scenario.renamed"


@pytest.fixture
async def alice(sessions: async_sessionmaker[AsyncSession]) -> User:
    async with sessions.begin() as session:
        return await make_user(session, await make_tenant(session), "alice")


async def list_events(sessions: async_sessionmaker[AsyncSession]) -> list[Event]:
    async with sessions() as session:
        return list(await session.scalars(select(Event).order_by(Event.id)))


async def test_what_happens_to_a_scenario_becomes_events_in_their_order(sessions, alice):
    async with open_unit_of_work(sessions) as work:
        scenario = TestScenario.create("Checkout", actor=alice, at=NOON)
        work.session.add(scenario)
        scenario.execute(Outcome.FAILED, duration_ms=1200, actor=alice, at=NOON)
        scenario.delete(actor=alice, at=NOON)

    created, executed, deleted = await list_events(sessions)
    assert [created.event_type, executed.event_type, deleted.event_type] == [
        "scenario.created",
        "scenario.executed",
        "scenario.deleted",
    ]
    assert {event.published_at for event in (created, executed, deleted)} == {None}
    assert executed.snapshot["scenario"] == {"id": str(scenario.id), "name": "Checkout"}
    assert executed.snapshot["actor"] == {"id": str(alice.id), "external_id": "alice", "name": "Alice"}
    assert executed.snapshot["execution"]["outcome"] == "failed"


async def test_a_change_that_is_rolled_back_leaves_no_event(sessions, alice):
    async def change_and_fail(work: UnitOfWork) -> None:
        work.session.add(TestScenario.create("Checkout", actor=alice, at=NOON))
        await work.session.flush()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        async with open_unit_of_work(sessions) as work:
            await change_and_fail(work)

    assert await list_events(sessions) == []


async def test_an_event_without_a_changed_column_is_written_all_the_same(sessions, alice):
    async with sessions.begin() as session:
        session.add(
            EventType(name="scenario.renamed", description="Renamed.", default_channels=["in_app"], mandatory=False)
        )
        scenario = await make_scenario(session, alice)

    async with open_unit_of_work(sessions) as work:
        found = await work.session.get_one(TestScenario, (scenario.tenant_id, scenario.id))
        found.record(ScenarioRenamed(scenario=found, actor=alice, occurred_at=NOON))

    [event] = await list_events(sessions)
    assert event.event_type == "scenario.renamed"


async def test_an_event_is_written_once_however_often_the_session_flushes(sessions, alice):
    async with open_unit_of_work(sessions) as work:
        work.session.add(TestScenario.create("Checkout", actor=alice, at=NOON))
        await work.session.flush()
        await work.session.flush()

    assert len(await list_events(sessions)) == 1


class TestAfterEvents:
    async def test_it_is_called_after_a_commit_that_wrote_events(self, sessions, alice):
        committed = []

        async with open_unit_of_work(sessions, after_events=lambda: committed.append(True)) as work:
            work.session.add(TestScenario.create("Checkout", actor=alice, at=NOON))
            assert committed == []

        assert committed == [True]

    async def test_it_is_not_called_when_nothing_happened(self, sessions, alice):
        committed = []

        async with open_unit_of_work(sessions, after_events=lambda: committed.append(True)) as work:
            await work.session.get_one(User, (alice.tenant_id, alice.id))

        assert committed == []
