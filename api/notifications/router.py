"""The endpoints of the inbox."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from starlette.convertors import StringConvertor, register_url_convertor

from api.dependencies import CurrentUser, Work, id_or
from api.idempotency.dependency import ANSWERED_ONCE
from api.json_route import JsonRoute
from api.notifications import service
from api.notifications.errors import NotificationNotFound
from api.notifications.schemas import (
    BulkUpdate,
    Counts,
    MarkAllRead,
    MarkAllSeen,
    Notification,
    NotificationPage,
    NotificationQuery,
    NotificationState,
)
from api.pagination import NextLink
from api.problems import problems
from api.revalidation import REVALIDATED

router = APIRouter(prefix="/notifications", tags=["Notifications"], route_class=JsonRoute)

NotificationId = Annotated[UUID, id_or(NotificationNotFound), Path(description="Id of the notification.")]


class _NotificationIdConvertor(StringConvertor):
    """Any last part of a path but the names of actions: GET on one of those is a 405, not an id that is unknown."""

    regex = "(?!(?:read|seen)$)[^/]+"


register_url_convertor("notification_id", _NotificationIdConvertor())


@router.get("", dependencies=[REVALIDATED])
async def list_notifications(
    query: Annotated[NotificationQuery, Query()], work: Work, me: CurrentUser, link: NextLink
) -> NotificationPage:
    """List my notifications, newest first, with the counts."""
    return link.add_next(await service.list_notifications(work, me, query))


@router.get("/counts", dependencies=[REVALIDATED])
async def get_notification_counts(work: Work, me: CurrentUser) -> Counts:
    """Return how many of my notifications are unread and unseen."""
    return await service.count_notifications(work, me)


@router.post("/read", dependencies=[ANSWERED_ONCE], responses=problems(NotificationNotFound))
async def mark_all_notifications_read(which: MarkAllRead, work: Work, me: CurrentUser) -> BulkUpdate:
    """Mark all my notifications as read, but only up to the newest one the user has seen."""
    return await service.mark_all_read(work, me, which)


@router.post("/seen", dependencies=[ANSWERED_ONCE], responses=problems(NotificationNotFound))
async def mark_all_notifications_seen(which: MarkAllSeen, work: Work, me: CurrentUser) -> BulkUpdate:
    """Clear the badge: mark my notifications as seen up to the given one. They stay unread."""
    return await service.mark_all_seen(work, me, which)


@router.get("/{notification_id:notification_id}", responses=problems(NotificationNotFound))
async def get_notification(notification_id: NotificationId, work: Work, me: CurrentUser) -> Notification:
    """Return one of my notifications."""
    return await service.get_notification(work, me, notification_id)


@router.put("/{notification_id}/read", responses=problems(NotificationNotFound))
async def mark_notification_read(notification_id: NotificationId, work: Work, me: CurrentUser) -> NotificationState:
    """Mark one of my notifications as read and return it with the new counts."""
    return await service.mark_read(work, me, notification_id)


@router.delete("/{notification_id}/read", responses=problems(NotificationNotFound))
async def mark_notification_unread(notification_id: NotificationId, work: Work, me: CurrentUser) -> NotificationState:
    """Mark one of my notifications as unread and return it with the new counts."""
    return await service.mark_unread(work, me, notification_id)


@router.put("/{notification_id}/archive", responses=problems(NotificationNotFound))
async def archive_notification(notification_id: NotificationId, work: Work, me: CurrentUser) -> NotificationState:
    """Put one of my notifications away and return it with the new counts."""
    return await service.archive(work, me, notification_id)


@router.delete("/{notification_id}/archive", responses=problems(NotificationNotFound))
async def unarchive_notification(notification_id: NotificationId, work: Work, me: CurrentUser) -> NotificationState:
    """Put one of my notifications back into the inbox and return it with the new counts."""
    return await service.unarchive(work, me, notification_id)
