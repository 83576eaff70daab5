"""Deliveries: the way of one notification to one contact point."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, TenantOwned


class DeliveryStatus(StrEnum):
    """How far a delivery is. All but the first are ends; a person can make a failed or a parked one pending again."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    SKIPPED = "skipped"
    PARKED = "parked"


class DeliveryReason(StrEnum):
    """Why a delivery ended, a closed set: each ends with exactly one."""

    DELIVERED = "delivered"
    NO_ADDRESS = "no_address"
    UNVERIFIED_ADDRESS = "unverified_address"
    CHANNEL_DISABLED = "channel_disabled"
    SUPPRESSED = "suppressed"
    PROVIDER_PERMANENT = "provider_permanent"
    RETRIES_EXHAUSTED = "retries_exhausted"
    EXPIRED = "expired"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Delivery(TenantOwned, Base):
    """One notification on its way to one contact point.

    Written by the fan-out together with the notification, so it exists once. The dispatcher takes what is
    due on lease: `next_attempt_at` moves to the end of the lease, and only who holds the token may record
    what came of it. A crash lets the lease run out, and the delivery is due again.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "event_id"], ["user_notifications.user_id", "user_notifications.event_id"], ondelete="CASCADE"
        ),
        sa.UniqueConstraint("user_id", "event_id", "channel", "about", postgresql_nulls_not_distinct=True),
        # The dispatcher's claim: tenant by tenant, what is due first.
        sa.Index(
            "ix_deliveries_due",
            "channel",
            "tenant_id",
            "next_attempt_at",
            postgresql_where=sa.text("status = 'pending'"),
        ),
        # What a person looks for in the log: few among many.
        sa.Index(
            "ix_deliveries_unsuccessful",
            "tenant_id",
            "id",
            postgresql_where=sa.text("status IN ('failed', 'parked')"),
        ),
        # What is tried again, by channel and by reason.
        sa.Index(
            "ix_deliveries_unsuccessful_kind",
            "tenant_id",
            "channel",
            "reason",
            "id",
            postgresql_where=sa.text("status IN ('failed', 'parked')"),
        ),
        sa.CheckConstraint("(status = 'pending') = (reason IS NULL)", name="ended_has_reason"),
    )

    user_id: Mapped[UUID]
    event_id: Mapped[UUID]
    channel: Mapped[str]
    # None for the notification itself; else the channel whose contact point was disabled, of which this is the word to
    # its owner. The event is the one that it could not be told of.
    about: Mapped[str | None]
    endpoint: Mapped[str | None]

    status: Mapped[DeliveryStatus]
    reason: Mapped[DeliveryReason | None]
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    lease_token: Mapped[UUID | None]
    # All attempts, and those of them that count for the retry schedule.
    attempt_count: Mapped[int] = mapped_column(default=0, server_default="0")
    failure_count: Mapped[int] = mapped_column(default=0, server_default="0")
