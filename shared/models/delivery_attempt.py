"""Attempts: every try of a delivery, with what came of it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base


class AttemptResult(StrEnum):
    """What came of an attempt."""

    DELIVERED = "delivered"
    TEMPORARY_FAILURE = "temporary_failure"
    RATE_LIMITED = "rate_limited"
    PERMANENT_FAILURE = "permanent_failure"
    OUTCOME_UNKNOWN = "outcome_unknown"


class DeliveryAttempt(Base):
    """One try. Its row is written before anything is sent: one without an end is the trace of a crash."""

    __tablename__ = "delivery_attempts"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["tenant_id", "delivery_id"], ["deliveries.tenant_id", "deliveries.id"], ondelete="CASCADE"
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    delivery_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    result: Mapped[AttemptResult | None]
    # In one line, without the address or a secret: whoever may see the delivery may read it.
    detail: Mapped[str | None]
    provider: Mapped[str | None]
    provider_id: Mapped[str | None]
