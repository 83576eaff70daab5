"""What a link to unsubscribe changes; always for the user whom it names."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.models import ContactPoint, DisabledReason, EventType, NotificationSubscription
from shared.unsubscribe import Unsubscription


async def is_mandatory(wish: Unsubscription, session: AsyncSession) -> bool:
    """Tell whether the event type reaches everybody, whatever they subscribe to."""
    query = sa.select(EventType.mandatory).where(EventType.name == wish.event_type)
    return bool(await session.scalar(query))


async def remove_channel(wish: Unsubscription, session: AsyncSession) -> bool:
    """Take the channel out of the user's subscription to the event type; return whether there is one."""
    channels = sa.func.array_remove(NotificationSubscription.channels, wish.channel)
    statement = (
        sa.update(NotificationSubscription)
        .where(
            NotificationSubscription.tenant_id == wish.tenant_id,
            NotificationSubscription.user_id == wish.user_id,
            NotificationSubscription.event_type == wish.event_type,
        )
        .values(channels=channels)
        .returning(NotificationSubscription.id)
        .execution_options(synchronize_session=False)
    )
    return (await session.execute(statement)).first() is not None


async def mark_contact_point_disabled(wish: Unsubscription, session: AsyncSession) -> None:
    """Have nothing sent to the user on this channel any more; what was disabled before keeps its reason."""
    statement = (
        sa.update(ContactPoint)
        .where(
            ContactPoint.tenant_id == wish.tenant_id,
            ContactPoint.user_id == wish.user_id,
            ContactPoint.channel == wish.channel,
            ContactPoint.disabled_at.is_(None),
        )
        .values(disabled_at=sa.func.now(), disabled_reason=DisabledReason.UNSUBSCRIBED)
        .execution_options(synchronize_session=False)
    )
    await session.execute(statement)
