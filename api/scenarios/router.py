"""The endpoints of scenarios and executions."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Response

from api.dependencies import CurrentUser, Work, id_or
from api.idempotency.dependency import ANSWERED_ONCE
from api.json_route import JsonRoute
from api.pagination import NextLink
from api.problems import problems
from api.scenarios import service
from api.scenarios.errors import ScenarioNotFound
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

router = APIRouter(prefix="/scenarios", tags=["Scenarios"], route_class=JsonRoute)

ScenarioId = Annotated[UUID, id_or(ScenarioNotFound), Path(description="Id of the scenario.")]


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    dependencies=[ANSWERED_ONCE],
    responses={HTTPStatus.CREATED: {"headers": {"Location": {"$ref": "#/components/headers/Location"}}}},
)
async def create_scenario(new: ScenarioCreate, work: Work, me: CurrentUser, response: Response) -> Scenario:
    """Create a scenario."""
    scenario = await service.create_scenario(work, me, new)
    response.headers["Location"] = f"/v1/scenarios/{scenario.id}"
    return scenario


@router.get("")
async def list_scenarios(
    query: Annotated[ScenarioQuery, Query()], work: Work, me: CurrentUser, link: NextLink
) -> ScenarioPage:
    """List the scenarios of my tenant, newest first."""
    return link.add_next(await service.list_scenarios(work, me, query))


@router.get("/{scenario_id}", responses=problems(ScenarioNotFound))
async def get_scenario(scenario_id: ScenarioId, work: Work, me: CurrentUser) -> Scenario:
    """Return one scenario. A deleted one is found only in the list of deleted scenarios."""
    return await service.get_scenario(work, me, scenario_id)


@router.delete("/{scenario_id}", status_code=HTTPStatus.NO_CONTENT, responses=problems(ScenarioNotFound))
async def delete_scenario(scenario_id: ScenarioId, work: Work, me: CurrentUser) -> None:
    """Delete a scenario. Notifications about it stay readable."""
    await service.delete_scenario(work, me, scenario_id)


@router.post(
    "/{scenario_id}/executions",
    status_code=HTTPStatus.CREATED,
    dependencies=[ANSWERED_ONCE],
    responses=problems(ScenarioNotFound),
)
async def execute_scenario(
    scenario_id: ScenarioId,
    run: Annotated[ExecutionCreate, Body(default_factory=ExecutionCreate)],
    work: Work,
    me: CurrentUser,
) -> Execution:
    """Record a run of a scenario. The body may be left out."""
    return await service.execute_scenario(work, me, scenario_id, run)


@router.get("/{scenario_id}/executions", responses=problems(ScenarioNotFound))
async def list_executions(
    scenario_id: ScenarioId,
    query: Annotated[ExecutionQuery, Query()],
    work: Work,
    me: CurrentUser,
    link: NextLink,
) -> ExecutionPage:
    """List the runs of a scenario, newest first."""
    return link.add_next(await service.list_executions(work, me, scenario_id, query))
