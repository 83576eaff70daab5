"""What can be done with subscriptions."""

from collections.abc import Sequence
from uuid import UUID

from api.event_types.repository import get_event_type
from api.pagination import Window
from api.problems import InvalidField, InvalidInput
from api.scenarios.repository import get_scenario
from api.subscriptions import repository
from api.subscriptions.errors import EventTypeMandatory
from api.subscriptions.schemas import (
    EventTypeSubscription,
    EventTypeSubscriptionUpdate,
    ScenarioSubscription,
    ScenarioSubscriptionUpdate,
    SubscriptionQuery,
    Subscriptions,
)
from shared.channel import CHANNELS, IN_APP
from shared.channels import Channels
from shared.models import EventType, NotificationSubscription, SubscriptionLevel, User
from shared.unit_of_work import UnitOfWork


async def list_subscriptions(work: UnitOfWork, me: User, query: SubscriptionQuery) -> Subscriptions:
    """Return what I hear of: all event types, and a page of the scenarios I follow or muted."""
    window = Window.of(query, me)
    event_types = await repository.list_event_types(me, work.session)
    rows = await repository.list_scenarios(me, work.session, window)
    page = window.cut(rows, key=lambda row: row[0])
    return Subscriptions(
        event_types=[_describe(event_type, subscription) for event_type, subscription in event_types],
        scenarios=[
            ScenarioSubscription(scenario_id=scenario_id, scenario_name=name, level=level)
            for scenario_id, name, level in page.rows
        ],
        next_cursor=page.next_cursor,
        has_more=page.has_more,
    )


async def enable_event_type(
    work: UnitOfWork, me: User, offered: Channels, name: str, update: EventTypeSubscriptionUpdate
) -> EventTypeSubscription:
    """Subscribe to an event type.

    Raises:
        InvalidInput: A channel is not on offer.
    """
    event_type = await get_event_type(work.session, name)
    channels = event_type.default_channels if update.channels is None else _choose(update.channels, offered)
    await repository.set_event_type(me, work.session, name, channels)
    return EventTypeSubscription(event_type=name, enabled=True, channels=channels, mandatory=event_type.mandatory)


async def disable_event_type(work: UnitOfWork, me: User, name: str) -> None:
    """Take the subscription to an event type away; past notifications stay.

    Raises:
        EventTypeMandatory: It reaches everybody.
    """
    if (await get_event_type(work.session, name)).mandatory:
        raise EventTypeMandatory
    await repository.delete_event_type(me, work.session, name)


async def set_scenario_level(
    work: UnitOfWork, me: User, scenario_id: UUID, update: ScenarioSubscriptionUpdate
) -> ScenarioSubscription:
    """Follow or mute a scenario. A muted one still brings the events of mandatory types."""
    scenario = await get_scenario(me, work.session, scenario_id)
    await repository.set_scenario(me, work.session, scenario_id, SubscriptionLevel(update.level))
    return ScenarioSubscription(scenario_id=scenario_id, scenario_name=scenario.name, level=update.level)


async def clear_scenario_level(work: UnitOfWork, me: User, scenario_id: UUID) -> None:
    """Neither follow nor mute a scenario: the rules of the event types hold again."""
    await get_scenario(me, work.session, scenario_id)
    await repository.delete_scenario(me, work.session, scenario_id)


def _choose(channels: Sequence[str], offered: Channels) -> list[str]:
    """Return these channels in the usual order, and the inbox before them."""
    detail = f"This installation offers: {', '.join([IN_APP, *offered])}"
    if errors := [
        InvalidField(pointer=f"#/channels/{index}", detail=detail, code="channel_not_offered")
        for index, channel in enumerate(channels)
        if channel != IN_APP and channel not in offered
    ]:
        raise InvalidInput(errors=errors)
    return [channel for channel in CHANNELS if channel == IN_APP or channel in channels]


def _describe(event_type: EventType, subscription: NotificationSubscription | None) -> EventTypeSubscription:
    if subscription is not None:
        channels = subscription.channels
    else:
        channels = event_type.default_channels if event_type.mandatory else []
    return EventTypeSubscription(
        event_type=event_type.name,
        enabled=subscription is not None or event_type.mandatory,
        channels=channels,
        mandatory=event_type.mandatory,
    )
