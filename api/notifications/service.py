"""What can be done with the inbox."""

from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from api.notifications import repository
from api.notifications.schemas import (
    Actor,
    BulkUpdate,
    Counts,
    MarkAllRead,
    MarkAllSeen,
    Notification,
    NotificationPage,
    NotificationQuery,
    NotificationScenario,
    NotificationState,
)
from api.pagination import Window
from shared.clock import utc_now
from shared.models import User
from shared.texts import render_text
from shared.unit_of_work import UnitOfWork


async def list_notifications(work: UnitOfWork, me: User, query: NotificationQuery) -> NotificationPage:
    """Return a page of my inbox, newest first, with the counts."""
    window = Window.of(query, me)
    rows = await repository.list_notifications(me, work.session, query, window)
    page = window.cut(rows, key=lambda row: row.id)
    return NotificationPage.model_validate(
        {**page.to_page(partial(_show, me)), "counts": await repository.count_notifications(me, work.session)}
    )


async def count_notifications(work: UnitOfWork, me: User) -> Counts:
    """Return how much there is to read."""
    return await repository.count_notifications(me, work.session)


async def get_notification(work: UnitOfWork, me: User, notification_id: UUID) -> Notification:
    """Return one notification."""
    return _show(me, await repository.get_notification(me, work.session, notification_id))


async def mark_read(work: UnitOfWork, me: User, notification_id: UUID) -> NotificationState:
    """Mark one notification as read."""
    return await _state(work, me, await repository.mark_read(me, work.session, notification_id, at=utc_now()))


async def mark_unread(work: UnitOfWork, me: User, notification_id: UUID) -> NotificationState:
    """Mark one notification as unread."""
    return await _state(work, me, await repository.mark_unread(me, work.session, notification_id))


async def archive(work: UnitOfWork, me: User, notification_id: UUID) -> NotificationState:
    """Put one notification away."""
    return await _state(work, me, await repository.mark_archived(me, work.session, notification_id, at=utc_now()))


async def unarchive(work: UnitOfWork, me: User, notification_id: UUID) -> NotificationState:
    """Put one notification back into the inbox."""
    return await _state(work, me, await repository.mark_unarchived(me, work.session, notification_id))


async def mark_all_read(work: UnitOfWork, me: User, which: MarkAllRead) -> BulkUpdate:
    """Mark as read what the user has seen, and nothing that came later.

    Raises:
        NotificationNotFound: The newest one the caller names is not in my inbox.
    """
    await repository.get_notification(me, work.session, which.up_to)
    updated = await repository.mark_all_read(me, work.session, which, at=utc_now())
    return BulkUpdate(updated=updated, counts=await repository.count_notifications(me, work.session))


async def mark_all_seen(work: UnitOfWork, me: User, which: MarkAllSeen) -> BulkUpdate:
    """Mark as seen what was shown; it stays unread.

    Raises:
        NotificationNotFound: The newest one the caller names is not in my inbox.
    """
    await repository.get_notification(me, work.session, which.up_to)
    updated = await repository.mark_all_seen(me, work.session, which, at=utc_now())
    return BulkUpdate(updated=updated, counts=await repository.count_notifications(me, work.session))


async def _state(work: UnitOfWork, me: User, row: sa.Row[Any]) -> NotificationState:
    return NotificationState(notification=_show(me, row), counts=await repository.count_notifications(me, work.session))


def _show(me: User, row: sa.Row[Any]) -> Notification:
    """Return the notification that these `repository.COLUMNS` hold, with its text in my language."""
    text = render_text(row.event_type, row.snapshot, locale=me.locale)
    return Notification(
        id=row.id,
        event_type=row.event_type,
        title=text.title,
        body=text.body,
        scenario=NotificationScenario(
            id=row.scenario_id,
            name=row.snapshot["scenario"]["name"],
            deleted=row.scenario_deleted_at is not None,
        ),
        actor=Actor.model_validate(row.snapshot["actor"]),
        reason=row.reason,
        occurred_at=row.occurred_at,
        created_at=row.created_at,
        seen_at=row.seen_at,
        read_at=row.read_at,
        archived_at=row.archived_at,
    )
