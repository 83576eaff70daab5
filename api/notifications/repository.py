"""What is asked of the inbox; always of the user who asks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from api.notifications.errors import NotificationNotFound
from api.notifications.schemas import Counts, MarkAllRead, MarkAllSeen, NotificationQuery, Status
from api.pagination import Window
from shared.models import Event, TestScenario, User, UserNotification

COLUMNS = (
    Event.id,
    Event.event_type,
    Event.scenario_id,
    Event.snapshot,
    Event.occurred_at,
    TestScenario.deleted_at.label("scenario_deleted_at"),
    UserNotification.reason,
    UserNotification.created_at,
    UserNotification.seen_at,
    UserNotification.read_at,
    UserNotification.archived_at,
)
ITS_EVENT = (Event.tenant_id == UserNotification.tenant_id, Event.id == UserNotification.event_id)
ITS_EVENT_AND_SCENARIO = (
    *ITS_EVENT,
    TestScenario.tenant_id == Event.tenant_id,
    TestScenario.id == Event.scenario_id,
)

NOT_ARCHIVED = UserNotification.archived_at.is_(None)
UNREAD = sa.and_(UserNotification.read_at.is_(None), NOT_ARCHIVED)
BY_STATUS: dict[Status, sa.ColumnElement[bool]] = {
    "all": NOT_ARCHIVED,
    "unread": UNREAD,
    "read": sa.and_(UserNotification.read_at.is_not(None), NOT_ARCHIVED),
    "archived": UserNotification.archived_at.is_not(None),
}


async def list_notifications(
    me: User, session: AsyncSession, which: NotificationQuery, window: Window
) -> Sequence[sa.Row[Any]]:
    """Return `COLUMNS` of notifications, newest first."""
    newest = sa.select(UserNotification.event_id).where(*_mine(me), BY_STATUS[which.status], *_about(which))
    if window.after_id is not None:
        newest = newest.where(UserNotification.event_id < window.after_id)
    newest = newest.order_by(UserNotification.event_id.desc()).limit(window.fetch)
    # The page is cut before it is joined. In one piece, the planner may walk back through all events of the
    # tenant to meet those of a user who has been told of few.
    query = (
        sa.select(*COLUMNS)
        .where(*_mine(me), UserNotification.event_id.in_(newest.correlate(None)), *ITS_EVENT_AND_SCENARIO)
        .order_by(UserNotification.event_id.desc())
    )
    return (await session.execute(query)).all()


async def get_notification(me: User, session: AsyncSession, notification_id: UUID) -> sa.Row[Any]:
    """Return `COLUMNS` of one notification.

    Raises:
        NotificationNotFound: There is none with this id in my inbox.
    """
    query = sa.select(*COLUMNS).where(*_mine(me), UserNotification.event_id == notification_id, *ITS_EVENT_AND_SCENARIO)
    return _found((await session.execute(query)).one_or_none())


async def count_notifications(me: User, session: AsyncSession) -> Counts:
    """Count what is unread and unseen, by the partial index alone: what is unseen is unread."""
    # Without the tenant, which the index does not hold: a user's id belongs to one tenant.
    query = sa.select(
        sa.func.count().label("unread"), sa.func.count().filter(UserNotification.seen_at.is_(None)).label("unseen")
    ).where(UserNotification.user_id == me.id, UNREAD)
    return Counts.model_validate((await session.execute(query)).one())


async def mark_read(me: User, session: AsyncSession, notification_id: UUID, *, at: datetime) -> sa.Row[Any]:
    """Mark one notification as read, and hence seen; the first time counts. Return its `COLUMNS`."""
    return await _mark(me, session, notification_id, read_at=_first(UserNotification.read_at, at), seen_at=_seen(at))


async def mark_unread(me: User, session: AsyncSession, notification_id: UUID) -> sa.Row[Any]:
    """Mark one notification as unread; it stays seen. Return its `COLUMNS`."""
    return await _mark(me, session, notification_id, read_at=None)


async def mark_archived(me: User, session: AsyncSession, notification_id: UUID, *, at: datetime) -> sa.Row[Any]:
    """Put one notification away; the first time counts. Return its `COLUMNS`."""
    return await _mark(me, session, notification_id, archived_at=_first(UserNotification.archived_at, at))


async def mark_unarchived(me: User, session: AsyncSession, notification_id: UUID) -> sa.Row[Any]:
    """Put one notification back. Return its `COLUMNS`."""
    return await _mark(me, session, notification_id, archived_at=None)


async def mark_all_read(me: User, session: AsyncSession, which: MarkAllRead, *, at: datetime) -> int:
    """Mark all unread notifications up to the given one as read; return how many there were."""
    statement = sa.update(UserNotification).where(
        *_mine(me), UNREAD, UserNotification.event_id <= which.up_to, *_about(which)
    )
    return await _count_updated(session, statement.values(read_at=at, seen_at=_seen(at)))


async def mark_all_seen(me: User, session: AsyncSession, which: MarkAllSeen, *, at: datetime) -> int:
    """Mark all unseen notifications up to the given one as seen; return how many there were."""
    unseen = sa.and_(UNREAD, UserNotification.seen_at.is_(None))
    statement = sa.update(UserNotification).where(*_mine(me), unseen, UserNotification.event_id <= which.up_to)
    return await _count_updated(session, statement.values(seen_at=at))


def _mine(me: User) -> tuple[sa.ColumnElement[bool], ...]:
    return UserNotification.tenant_id == me.tenant_id, UserNotification.user_id == me.id


def _about(which: NotificationQuery | MarkAllRead) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on the event that a notification tells of; none if no filter is set."""
    filters: list[sa.ColumnElement[bool]] = []
    if which.event_type is not None:
        filters.append(Event.event_type == which.event_type)
    if which.scenario_id is not None:
        filters.append(Event.scenario_id == which.scenario_id)
    return [*ITS_EVENT, *filters] if filters else []


def _first(column: Any, at: datetime) -> sa.ColumnElement[datetime]:
    return sa.func.coalesce(column, at)


def _seen(at: datetime) -> sa.ColumnElement[datetime]:
    return _first(UserNotification.seen_at, at)


async def _mark(me: User, session: AsyncSession, notification_id: UUID, **values: Any) -> sa.Row[Any]:
    """Change one notification and return its `COLUMNS`, in one statement."""
    statement = (
        sa.update(UserNotification)
        .where(*_mine(me), UserNotification.event_id == notification_id, *ITS_EVENT_AND_SCENARIO)
        .values(**values)
        .returning(*COLUMNS)
        .execution_options(synchronize_session=False)
    )
    return _found((await session.execute(statement)).one_or_none())


async def _count_updated(session: AsyncSession, statement: sa.Update) -> int:
    result = await session.execute(statement, execution_options={"synchronize_session": False})
    return cast("sa.CursorResult[Any]", result).rowcount


def _found(row: sa.Row[Any] | None) -> sa.Row[Any]:
    if row is None:
        raise NotificationNotFound
    return row
