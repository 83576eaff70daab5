"""What is asked of the delivery log: of a user's own part, or, by a program, of the whole tenant's."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from api.api_keys import Program
from api.deliveries.errors import DeliveryNotFound
from api.deliveries.schemas import DeliveryQuery, DeliveryRetryRequest
from api.pagination import Window
from shared.models import Delivery, DeliveryAttempt, DeliveryStatus, User

# How much of the log one page looks at, where its filters have no index of their own.
MAX_LOOKED = 10_000

# In the words of the partial indexes, or a plan made for any status would not use them.
UNSUCCESSFUL = sa.literal_column("deliveries.status IN ('failed', 'parked')", sa.Boolean())
RETRYABLE = (DeliveryStatus.FAILED, DeliveryStatus.PARKED)


async def list_deliveries_of_notification(me: User, session: AsyncSession, notification_id: UUID) -> Sequence[Delivery]:
    """Return where else my notification went, by channel."""
    query = (
        sa.select(Delivery)
        .where(Delivery.tenant_id == me.tenant_id, Delivery.user_id == me.id, Delivery.event_id == notification_id)
        .order_by(Delivery.channel, Delivery.id)
    )
    return (await session.scalars(query)).all()


async def list_attempts(
    caller: User | Program, session: AsyncSession, delivery_ids: Sequence[UUID]
) -> Mapping[UUID, list[DeliveryAttempt]]:
    """Return every try of these deliveries, in order, by the id of the delivery."""
    query = (
        sa.select(DeliveryAttempt)
        .where(DeliveryAttempt.tenant_id == caller.tenant_id, DeliveryAttempt.delivery_id.in_(delivery_ids))
        .order_by(DeliveryAttempt.delivery_id, DeliveryAttempt.number)
    )
    attempts: defaultdict[UUID, list[DeliveryAttempt]] = defaultdict(list)
    for attempt in await session.scalars(query):
        attempts[attempt.delivery_id].append(attempt)
    return attempts


async def find_user_id(program: Program, session: AsyncSession, external_id: str) -> UUID | None:
    """Return the id of a user of the program's tenant, None if there is no such user."""
    query = sa.select(User.id).where(User.tenant_id == program.tenant_id, User.external_id == external_id)
    user_id: UUID | None = await session.scalar(query)
    return user_id


async def list_deliveries(
    program: Program, session: AsyncSession, which: DeliveryQuery, user_id: UUID | None, window: Window
) -> tuple[Sequence[sa.Row[Delivery, str]], UUID | None]:
    """Return deliveries with the external ids of their users, newest first, and up to where was looked.

    The latter is None where that is the end of the log.
    """
    if user_id is None:
        delivery, looked_until = Delivery, await _find_horizon(program, session, which, window)
    else:
        # All of one user, by the index of their notifications: few, so they are all looked at.
        theirs = sa.select(Delivery).where(Delivery.tenant_id == program.tenant_id, Delivery.user_id == user_id)
        delivery, looked_until = aliased(Delivery, theirs.cte("theirs").prefix_with("MATERIALIZED")), None
    query = (
        sa.select(delivery, User.external_id)
        .join(User, sa.and_(User.tenant_id == delivery.tenant_id, User.id == delivery.user_id))
        .where(delivery.tenant_id == program.tenant_id, *_filters(delivery, which))
        .order_by(delivery.id.desc())
        .limit(window.fetch)
    )
    if user_id is None and _is_unsuccessful(which):
        query = query.where(UNSUCCESSFUL)
    if window.after_id is not None:
        query = query.where(delivery.id < window.after_id)
    if looked_until is not None:
        query = query.where(delivery.id >= looked_until)
    return (await session.execute(query)).all(), looked_until


async def get_delivery(
    program: Program, session: AsyncSession, delivery_id: UUID, *, locked: bool = False
) -> sa.Row[Delivery, str]:
    """Return a delivery with the external id of its user, on demand so that nobody else can change it meanwhile.

    Raises:
        DeliveryNotFound: There is none with this id in the program's tenant.
    """
    query = (
        sa.select(Delivery, User.external_id)
        .join(User, sa.and_(User.tenant_id == Delivery.tenant_id, User.id == Delivery.user_id))
        .where(Delivery.tenant_id == program.tenant_id, Delivery.id == delivery_id)
    )
    if locked:
        query = query.with_for_update(of=Delivery, key_share=True)
    row = (await session.execute(query)).one_or_none()
    if row is None:
        raise DeliveryNotFound
    return row


async def list_retryable(
    program: Program, session: AsyncSession, which: DeliveryRetryRequest, user_id: UUID | None
) -> Sequence[UUID]:
    """Return the ids of what failed or was parked and fits, the oldest first: one more than asked for, if there is."""
    query = (
        sa.select(Delivery.id)
        .where(Delivery.tenant_id == program.tenant_id, UNSUCCESSFUL, *_filters(Delivery, which))
        .order_by(Delivery.id)
        .limit(which.limit + 1)
    )
    if user_id is not None:
        query = query.where(Delivery.user_id == user_id)
    if not which.dry_run:
        # What somebody else has in hand, they try again themselves.
        query = query.with_for_update(skip_locked=True, key_share=True)
    return (await session.scalars(query)).all()


async def mark_pending(
    program: Program, session: AsyncSession, delivery_ids: Sequence[UUID], *, expire_after: timedelta
) -> None:
    """Make deliveries that ended due once more, as if they had never been tried; their attempts stay."""
    statement = (
        sa.update(Delivery)
        .where(Delivery.tenant_id == program.tenant_id, Delivery.id.in_(delivery_ids), Delivery.status.in_(RETRYABLE))
        .values(
            status=DeliveryStatus.PENDING,
            reason=None,
            next_attempt_at=sa.func.now(),
            expires_at=sa.func.now() + expire_after,
            ended_at=None,
            lease_token=None,
            failure_count=0,
        )
        .execution_options(synchronize_session=False)
    )
    await session.execute(statement)


async def _find_horizon(program: Program, session: AsyncSession, which: DeliveryQuery, window: Window) -> UUID | None:
    """Return the oldest delivery that a page with filters looks at, None if that is the end of the log."""
    if not _filters(Delivery, which):
        return None
    query = sa.select(Delivery.id).where(Delivery.tenant_id == program.tenant_id)
    if _is_unsuccessful(which):
        query = query.where(UNSUCCESSFUL)
    if window.after_id is not None:
        query = query.where(Delivery.id < window.after_id)
    horizon: UUID | None = await session.scalar(query.order_by(Delivery.id.desc()).offset(MAX_LOOKED - 1).limit(1))
    return horizon


def _filters(delivery: type[Delivery], which: DeliveryQuery | DeliveryRetryRequest) -> list[sa.ColumnElement[bool]]:
    filters: dict[Any, str | None] = {
        delivery.status: which.status,
        delivery.channel: which.channel,
        # A reason that there is not is none that anything ended for.
        sa.cast(delivery.reason, sa.Text()): which.reason,
    }
    return [column == value for column, value in filters.items() if value is not None]


def _is_unsuccessful(which: DeliveryQuery) -> bool:
    return which.status in RETRYABLE
