"""What can be done with the delivery log: people read their own part, programs the tenant's, and try again."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from api.api_keys import Program
from api.deliveries import repository
from api.deliveries.errors import DeliveryNotRetryable
from api.deliveries.schemas import (
    Attempt,
    Deliveries,
    DeliveryQuery,
    DeliveryRetry,
    DeliveryRetryRequest,
    LoggedDelivery,
    LoggedDeliveryDetails,
    LoggedDeliveryPage,
)
from api.deliveries.schemas import Delivery as DeliveryOutput
from api.notifications.repository import get_notification
from api.pagination import Window
from shared.models import Delivery, DeliveryAttempt, DeliveryStatus, User
from shared.unit_of_work import UnitOfWork


async def list_deliveries_of_notification(work: UnitOfWork, me: User, notification_id: UUID) -> Deliveries:
    """Return where else one of my notifications went."""
    await get_notification(me, work.session, notification_id)
    deliveries = await repository.list_deliveries_of_notification(me, work.session, notification_id)
    attempts = await repository.list_attempts(me, work.session, [delivery.id for delivery in deliveries])
    return Deliveries(
        data=[
            DeliveryOutput.model_validate(
                {**_facts(delivery), "attempts": _show_attempts(attempts.get(delivery.id, []))}
            )
            for delivery in deliveries
        ]
    )


async def list_deliveries(work: UnitOfWork, program: Program, query: DeliveryQuery) -> LoggedDeliveryPage:
    """Return a page of the tenant's log, newest first."""
    window = Window.of(query, program)
    user_id = await _find_user_id(work, program, query.user)
    if query.user is not None and user_id is None:
        return LoggedDeliveryPage(data=[], next_cursor=None, has_more=False)
    rows, looked_until = await repository.list_deliveries(program, work.session, query, user_id, window)
    page = window.cut(rows, key=lambda row: row[0].id, looked_until=looked_until)
    return LoggedDeliveryPage.model_validate(page.to_page(lambda row: _log(row[0], row[1])))


async def get_delivery(work: UnitOfWork, program: Program, delivery_id: UUID) -> LoggedDeliveryDetails:
    """Return one delivery of the tenant with every try."""
    delivery, external_id = await repository.get_delivery(program, work.session, delivery_id)
    attempts = await repository.list_attempts(program, work.session, [delivery_id])
    return LoggedDeliveryDetails(
        **_log(delivery, external_id).model_dump(), attempts=_show_attempts(attempts.get(delivery_id, []))
    )


async def retry_delivery(
    work: UnitOfWork, program: Program, delivery_id: UUID, *, expire_after: timedelta
) -> LoggedDeliveryDetails:
    """Make a delivery that failed or was parked due once more.

    Raises:
        DeliveryNotRetryable: It did neither.
    """
    delivery, _ = await repository.get_delivery(program, work.session, delivery_id, locked=True)
    if delivery.status not in repository.RETRYABLE:
        raise DeliveryNotRetryable
    await repository.mark_pending(program, work.session, [delivery_id], expire_after=expire_after)
    await work.session.refresh(delivery)
    return await get_delivery(work, program, delivery_id)


async def retry_deliveries(
    work: UnitOfWork, program: Program, which: DeliveryRetryRequest, *, expire_after: timedelta
) -> DeliveryRetry:
    """Make all deliveries due once more that failed or were parked and fit, or only tell which ones they are."""
    user_id = await _find_user_id(work, program, which.user)
    ids: Sequence[UUID] = []
    if which.user is None or user_id is not None:
        ids = await repository.list_retryable(program, work.session, which, user_id)
    retried = list(ids[: which.limit])
    if retried and not which.dry_run:
        await repository.mark_pending(program, work.session, retried, expire_after=expire_after)
    return DeliveryRetry(dry_run=which.dry_run, count=len(retried), has_more=len(ids) > which.limit, ids=retried)


async def _find_user_id(work: UnitOfWork, program: Program, external_id: str | None) -> UUID | None:
    return None if external_id is None else await repository.find_user_id(program, work.session, external_id)


def _facts(delivery: Delivery) -> dict[str, Any]:
    """Return what everybody is told of a delivery who may see it."""
    pending = delivery.status == DeliveryStatus.PENDING
    return {
        "id": delivery.id,
        "channel": delivery.channel,
        "about": delivery.about,
        "status": delivery.status,
        "reason": delivery.reason,
        "created_at": delivery.created_at,
        "next_attempt_at": delivery.next_attempt_at if pending else None,
        "expires_at": delivery.expires_at,
        "ended_at": delivery.ended_at,
    }


def _log(delivery: Delivery, external_id: str) -> LoggedDelivery:
    return LoggedDelivery.model_validate(
        {
            **_facts(delivery),
            "user": external_id,
            "notification_id": delivery.event_id,
            "attempt_count": delivery.attempt_count,
        }
    )


def _show_attempts(attempts: Sequence[DeliveryAttempt]) -> list[Attempt]:
    return [Attempt.model_validate(attempt) for attempt in attempts]
