"""What is asked of scenarios and executions; always within the tenant of the user who asks."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from api.pagination import Window
from api.scenarios.errors import ScenarioNotFound
from api.scenarios.schemas import ScenarioQuery
from shared.models import Execution, TestScenario, User


async def get_scenario(me: User, session: AsyncSession, scenario_id: UUID) -> TestScenario:
    """Return a scenario that is not deleted.

    Raises:
        ScenarioNotFound: There is none with this id.
    """
    return await _get(session, _live(me, scenario_id))


async def claim_scenario(me: User, session: AsyncSession, scenario_id: UUID) -> TestScenario:
    """Return a scenario that is not deleted, and that nobody else can change before we commit.

    Raises:
        ScenarioNotFound: There is none with this id, or it was deleted while we waited for it.
    """
    # "No key update": rows that refer to the scenario can be written meanwhile, its id does not change.
    return await _get(session, _live(me, scenario_id).with_for_update(key_share=True))


async def list_scenarios(
    me: User, session: AsyncSession, which: ScenarioQuery, window: Window
) -> Sequence[TestScenario]:
    """Return scenarios, newest first."""
    query = sa.select(TestScenario).where(
        TestScenario.tenant_id == me.tenant_id,
        TestScenario.deleted_at.is_not(None) if which.deleted else TestScenario.deleted_at.is_(None),
    )
    if which.label is not None:
        query = query.where(TestScenario.labels.contains([which.label]))
    if window.after_id is not None:
        query = query.where(TestScenario.id < window.after_id)
    return (await session.scalars(query.order_by(TestScenario.id.desc()).limit(window.fetch))).all()


async def list_executions(me: User, session: AsyncSession, scenario_id: UUID, window: Window) -> Sequence[Execution]:
    """Return the executions of one scenario, newest first."""
    query = sa.select(Execution).where(Execution.tenant_id == me.tenant_id, Execution.scenario_id == scenario_id)
    if window.after_id is not None:
        query = query.where(Execution.id < window.after_id)
    return (await session.scalars(query.order_by(Execution.id.desc()).limit(window.fetch))).all()


def _live(me: User, scenario_id: UUID) -> sa.Select[TestScenario]:
    return sa.select(TestScenario).where(
        TestScenario.tenant_id == me.tenant_id, TestScenario.id == scenario_id, TestScenario.deleted_at.is_(None)
    )


async def _get(session: AsyncSession, query: sa.Select[TestScenario]) -> TestScenario:
    scenario = await session.scalar(query)
    if scenario is None:
        raise ScenarioNotFound
    return scenario
