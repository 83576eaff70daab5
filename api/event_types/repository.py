"""What is asked of the catalogue, which is the same for all tenants and hence takes no scope."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from api.event_types.errors import EventTypeNotFound
from api.pagination import Window
from shared.models import EventType


async def get_event_type(session: AsyncSession, name: str) -> EventType:
    """Return one event type.

    Raises:
        EventTypeNotFound: There is none of this name.
    """
    event_type = await session.get(EventType, name)
    if event_type is None:
        raise EventTypeNotFound
    return event_type


async def list_event_types(session: AsyncSession, window: Window) -> Sequence[EventType]:
    """Return event types by name."""
    query = sa.select(EventType).order_by(EventType.name).limit(window.fetch)
    if window.after is not None:
        query = query.where(EventType.name > window.after)
    return (await session.scalars(query)).all()
