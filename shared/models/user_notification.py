"""Notifications: an event told to one user."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, refers_to


class Reason(StrEnum):
    """Why a user got a notification; where several hold, the first of these is named."""

    MANDATORY = "mandatory"
    FOLLOWING = "following"
    SUBSCRIBED = "subscribed"


class UserNotification(Base):
    """An event in one user's inbox.

    The primary key is the insert key, the order of the list and the guarantee that nobody
    is told twice, in one index. Written only by the worker's fan-out, in one statement.
    """

    __tablename__ = "user_notifications"
    __table_args__ = (
        refers_to("users", "user_id", ondelete="CASCADE"),
        refers_to("events", "event_id"),
        # Read means seen: so every unseen row is an unread row, and one index counts both.
        sa.CheckConstraint("read_at IS NULL OR seen_at IS NOT NULL", name="read_is_seen"),
        sa.Index(
            "ix_user_notifications_unread",
            "user_id",
            "event_id",
            postgresql_include=["seen_at"],
            postgresql_where=sa.text("read_at IS NULL AND archived_at IS NULL"),
        ),
    )

    tenant_id: Mapped[UUID]
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    reason: Mapped[Reason]
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    seen_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    archived_at: Mapped[datetime | None]
