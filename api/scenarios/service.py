"""What can be done with scenarios. What follows from it is recorded by the model."""

from uuid import UUID

from api.pagination import Window
from api.scenarios import repository
from api.scenarios.schemas import (
    Execution,
    ExecutionCreate,
    ExecutionPage,
    ExecutionQuery,
    Scenario,
    ScenarioCreate,
    ScenarioPage,
    ScenarioQuery,
)
from shared.clock import utc_now
from shared.models import TestScenario, User
from shared.unit_of_work import UnitOfWork


async def create_scenario(work: UnitOfWork, me: User, new: ScenarioCreate) -> Scenario:
    """Create a scenario."""
    scenario = TestScenario.create(new.name, description=new.description, labels=new.labels, actor=me, at=utc_now())
    work.session.add(scenario)
    await work.session.flush()
    return Scenario.model_validate(scenario)


async def list_scenarios(work: UnitOfWork, me: User, query: ScenarioQuery) -> ScenarioPage:
    """Return a page of scenarios, newest first."""
    window = Window.of(query, me)
    rows = await repository.list_scenarios(me, work.session, query, window)
    page = window.cut(rows, key=lambda scenario: scenario.id)
    return ScenarioPage.model_validate(page.to_page(Scenario.model_validate))


async def get_scenario(work: UnitOfWork, me: User, scenario_id: UUID) -> Scenario:
    """Return one scenario."""
    return Scenario.model_validate(await repository.get_scenario(me, work.session, scenario_id))


async def execute_scenario(work: UnitOfWork, me: User, scenario_id: UUID, run: ExecutionCreate) -> Execution:
    """Record a run of the scenario."""
    scenario = await repository.claim_scenario(me, work.session, scenario_id)
    execution = scenario.execute(run.outcome, duration_ms=run.duration_ms, url=run.url, actor=me, at=utc_now())
    work.session.add(execution)
    await work.session.flush()
    return Execution.model_validate(execution)


async def list_executions(work: UnitOfWork, me: User, scenario_id: UUID, query: ExecutionQuery) -> ExecutionPage:
    """Return a page of the scenario's executions, newest first."""
    window = Window.of(query, me, scenario_id)
    await repository.get_scenario(me, work.session, scenario_id)
    rows = await repository.list_executions(me, work.session, scenario_id, window)
    page = window.cut(rows, key=lambda execution: execution.id)
    return ExecutionPage.model_validate(page.to_page(Execution.model_validate))


async def delete_scenario(work: UnitOfWork, me: User, scenario_id: UUID) -> None:
    """Delete the scenario; notifications about it stay readable."""
    scenario = await repository.claim_scenario(me, work.session, scenario_id)
    scenario.delete(actor=me, at=utc_now())
