"""The endpoints of subscriptions."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query

from api.dependencies import CurrentUser, OfferedChannels, Work, id_or, name_or
from api.event_types.errors import EventTypeNotFound
from api.json_route import JsonRoute
from api.pagination import NextLink
from api.problems import problems
from api.scenarios.errors import ScenarioNotFound
from api.subscriptions import service
from api.subscriptions.errors import EventTypeMandatory
from api.subscriptions.schemas import (
    EventTypeSubscription,
    EventTypeSubscriptionUpdate,
    ScenarioSubscription,
    ScenarioSubscriptionUpdate,
    SubscriptionQuery,
    Subscriptions,
)

router = APIRouter(tags=["Subscriptions"], route_class=JsonRoute)

ScenarioId = Annotated[UUID, id_or(ScenarioNotFound), Path(description="Id of the scenario.")]
EventTypeName = Annotated[str, name_or(EventTypeNotFound), Path(description="Name of the event type.")]


@router.get("/subscriptions")
async def list_subscriptions(
    query: Annotated[SubscriptionQuery, Query()], work: Work, me: CurrentUser, link: NextLink
) -> Subscriptions:
    """List what I hear of: every event type, and the scenarios I follow or muted."""
    return link.add_next(await service.list_subscriptions(work, me, query))


@router.put("/subscriptions/{event_type}", responses=problems(EventTypeNotFound))
async def enable_event_type(
    event_type: EventTypeName,
    update: Annotated[EventTypeSubscriptionUpdate, Body(default_factory=EventTypeSubscriptionUpdate)],
    work: Work,
    me: CurrentUser,
    offered: OfferedChannels,
) -> EventTypeSubscription:
    """Subscribe to an event type, or change the channels of the subscription. The body may be left out."""
    return await service.enable_event_type(work, me, offered, event_type, update)


@router.delete(
    "/subscriptions/{event_type}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(EventTypeNotFound, EventTypeMandatory),
)
async def disable_event_type(event_type: EventTypeName, work: Work, me: CurrentUser) -> None:
    """Take my subscription to an event type away. Past notifications stay."""
    await service.disable_event_type(work, me, event_type)


@router.put("/scenarios/{scenario_id}/subscription", responses=problems(ScenarioNotFound))
async def set_scenario_subscription(
    scenario_id: ScenarioId, update: ScenarioSubscriptionUpdate, work: Work, me: CurrentUser
) -> ScenarioSubscription:
    """Follow a scenario, or mute it. A muted one still brings the events of mandatory types."""
    return await service.set_scenario_level(work, me, scenario_id, update)


@router.delete(
    "/scenarios/{scenario_id}/subscription",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(ScenarioNotFound),
)
async def clear_scenario_subscription(scenario_id: ScenarioId, work: Work, me: CurrentUser) -> None:
    """Neither follow nor mute a scenario: the rules of the event types hold again."""
    await service.clear_scenario_level(work, me, scenario_id)
