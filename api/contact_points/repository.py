"""What is asked of contact points; always of the user whose they are."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.contact_points.errors import ContactPointNotFound
from shared.channel import CHANNELS
from shared.ids import new_id
from shared.models import AttemptResult, ContactPoint, SendPurpose, SendQuota, User


async def list_contact_points(me: User, session: AsyncSession) -> Sequence[ContactPoint]:
    """Return all of mine, in the order of the channels."""
    query = sa.select(ContactPoint).where(ContactPoint.tenant_id == me.tenant_id, ContactPoint.user_id == me.id)
    return sorted(await session.scalars(query), key=lambda point: CHANNELS.index(point.channel))


async def claim_contact_point(me: User, session: AsyncSession, channel: str) -> ContactPoint:
    """Return mine on a channel, which nobody else can change before we commit.

    Raises:
        ContactPointNotFound: I have none there.
    """
    query = sa.select(ContactPoint).where(*_mine(me, channel)).with_for_update()
    point = await session.scalar(query, execution_options={"populate_existing": True})
    if point is None:
        raise ContactPointNotFound
    return point


async def create_contact_point(  # noqa: PLR0913 - its columns
    me: User,
    session: AsyncSession,
    channel: str,
    *,
    encrypted_address: str,
    masked_address: str,
    endpoint: str | None,
) -> bool:
    """Add one; return False where I have one on this channel already."""
    statement = (
        insert(ContactPoint)
        .values(
            tenant_id=me.tenant_id,
            id=new_id(),
            user_id=me.id,
            channel=channel,
            encrypted_address=encrypted_address,
            masked_address=masked_address,
            endpoint=endpoint,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "user_id", "channel"])
        .returning(ContactPoint.id)
    )
    return await session.scalar(statement) is not None


async def delete_contact_point(me: User, session: AsyncSession, channel: str) -> None:
    """Remove mine on a channel, if there is one."""
    await session.execute(
        sa.delete(ContactPoint).where(*_mine(me, channel)).execution_options(synchronize_session=False)
    )


async def record_result(
    me: User, session: AsyncSession, point: ContactPoint, result: AttemptResult, *, at: datetime
) -> None:
    """Write down what came of a message, unless the address was changed while it was under way."""
    values: dict[str, object] = {"last_result": result, "last_attempt_at": at}
    if result is AttemptResult.DELIVERED:
        values["failing_since"] = None
    await session.execute(
        sa.update(ContactPoint)
        .where(*_mine(me, point.channel), ContactPoint.encrypted_address == point.encrypted_address)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


async def claim_send(  # noqa: PLR0913 - whose quota, and which
    me: User,
    session: AsyncSession,
    channel: str,
    purpose: SendPurpose,
    *,
    window: timedelta,
    most: int,
    interval: timedelta,
    at: datetime,
) -> datetime | None:
    """Take one message from my quota; return when there is one again, if there is none now.

    Two that ask at once are asked one after the other: the row is the lock.
    """
    begin = insert(SendQuota).values(
        tenant_id=me.tenant_id,
        user_id=me.id,
        channel=channel,
        purpose=purpose,
        window_started_at=at,
        sent_count=1,
        sent_at=at,
    )
    has_ended = SendQuota.window_started_at <= at - window
    take = begin.on_conflict_do_update(
        index_elements=["tenant_id", "user_id", "channel", "purpose"],
        set_={
            "window_started_at": sa.case((has_ended, at), else_=SendQuota.window_started_at),
            "sent_count": sa.case((has_ended, 1), else_=SendQuota.sent_count + 1),
            "sent_at": at,
        },
        where=sa.and_(SendQuota.sent_at <= at - interval, sa.or_(has_ended, SendQuota.sent_count < most)),
    )
    if await session.scalar(take.returning(SendQuota.sent_at)) is not None:
        return None
    query = sa.select(SendQuota.window_started_at, SendQuota.sent_at, SendQuota.sent_count).where(
        SendQuota.tenant_id == me.tenant_id,
        SendQuota.user_id == me.id,
        SendQuota.channel == channel,
        SendQuota.purpose == purpose,
    )
    window_started_at, sent_at, sent_count = (await session.execute(query)).one()
    return max(sent_at + interval, window_started_at + window if sent_count >= most else sent_at)


def _mine(me: User, channel: str) -> tuple[sa.ColumnElement[bool], ...]:
    return ContactPoint.tenant_id == me.tenant_id, ContactPoint.user_id == me.id, ContactPoint.channel == channel
