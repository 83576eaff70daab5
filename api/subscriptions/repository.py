"""What is asked of subscriptions; always of the user who asks."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.pagination import Window
from shared.ids import new_id
from shared.models import EventType, NotificationSubscription, SubscriptionLevel, TestScenario, User

RULE = "uq_notification_subscriptions_rule"


async def list_event_types(me: User, session: AsyncSession) -> Sequence[sa.Row[EventType, NotificationSubscription]]:
    """Return all event types by name, each with my subscription, None where I have none."""
    mine = sa.and_(
        NotificationSubscription.tenant_id == me.tenant_id,
        NotificationSubscription.user_id == me.id,
        NotificationSubscription.event_type == EventType.name,
    )
    query = (
        sa.select(EventType, NotificationSubscription)
        .outerjoin(NotificationSubscription, mine)
        .order_by(EventType.name)
    )
    return (await session.execute(query)).all()


async def list_scenarios(
    me: User, session: AsyncSession, window: Window
) -> Sequence[sa.Row[UUID, str, SubscriptionLevel]]:
    """Return id, name and level of the scenarios I follow or muted, newest scenario first, without deleted ones."""
    query = (
        sa.select(TestScenario.id, TestScenario.name, NotificationSubscription.level)
        .join_from(
            NotificationSubscription,
            TestScenario,
            sa.and_(
                TestScenario.tenant_id == NotificationSubscription.tenant_id,
                TestScenario.id == NotificationSubscription.scenario_id,
            ),
        )
        .where(
            NotificationSubscription.tenant_id == me.tenant_id,
            NotificationSubscription.user_id == me.id,
            NotificationSubscription.event_type.is_(None),
            TestScenario.deleted_at.is_(None),
        )
        .order_by(NotificationSubscription.scenario_id.desc())
        .limit(window.fetch)
    )
    if window.after_id is not None:
        query = query.where(NotificationSubscription.scenario_id < window.after_id)
    return (await session.execute(query)).all()


async def set_event_type(me: User, session: AsyncSession, event_type: str, channels: list[str]) -> None:
    """Subscribe to an event type, or change the channels of the subscription."""
    statement = insert(NotificationSubscription).values(
        tenant_id=me.tenant_id, id=new_id(), user_id=me.id, event_type=event_type, channels=channels
    )
    await session.execute(
        statement.on_conflict_do_update(
            constraint=RULE, set_={"channels": statement.excluded.channels, "updated_at": sa.func.now()}
        )
    )


async def set_scenario(me: User, session: AsyncSession, scenario_id: UUID, level: SubscriptionLevel) -> None:
    """Follow or mute a scenario, whatever it was before."""
    statement = insert(NotificationSubscription).values(
        tenant_id=me.tenant_id, id=new_id(), user_id=me.id, scenario_id=scenario_id, level=level
    )
    await session.execute(
        statement.on_conflict_do_update(
            constraint=RULE, set_={"level": statement.excluded.level, "updated_at": sa.func.now()}
        )
    )


async def delete_event_type(me: User, session: AsyncSession, event_type: str) -> None:
    """Take my subscription to an event type away, if there is one."""
    await _delete(me, session, NotificationSubscription.event_type == event_type)


async def delete_scenario(me: User, session: AsyncSession, scenario_id: UUID) -> None:
    """Neither follow nor mute a scenario any more."""
    await _delete(me, session, NotificationSubscription.scenario_id == scenario_id)


async def _delete(me: User, session: AsyncSession, subject: sa.ColumnElement[bool]) -> None:
    await session.execute(
        sa.delete(NotificationSubscription).where(
            NotificationSubscription.tenant_id == me.tenant_id, NotificationSubscription.user_id == me.id, subject
        )
    )
