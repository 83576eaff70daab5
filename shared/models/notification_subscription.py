"""Subscriptions: who wants to hear of what."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, TenantOwned, refers_to


class SubscriptionLevel(StrEnum):
    """What a subscription asks for."""

    ALL = "all"
    MUTED = "muted"


class NotificationSubscription(TenantOwned, Base):
    """One rule of one user, of one of two kinds.

    A rule for an event type (`event_type` set) enables that type for all scenarios and names
    the channels. A rule for a scenario (`scenario_id` set) follows it, whatever the event type,
    or mutes it. No row means: not subscribed.
    """

    __tablename__ = "notification_subscriptions"
    __table_args__ = (
        refers_to("users", "user_id", ondelete="CASCADE"),
        refers_to("test_scenarios", "scenario_id", ondelete="CASCADE"),
        sa.UniqueConstraint(
            "tenant_id",
            "user_id",
            "event_type",
            "scenario_id",
            name="uq_notification_subscriptions_rule",
            postgresql_nulls_not_distinct=True,
        ),
        sa.CheckConstraint("(event_type IS NULL) <> (scenario_id IS NULL)", name="one_subject"),
        sa.CheckConstraint("event_type IS NULL OR level = 'all'", name="only_scenarios_are_muted"),
        # The two indexes of the fan-out's join: user_id last, because chunks go by user, and all that it reads in them.
        sa.Index(
            "ix_notification_subscriptions_event_type",
            "tenant_id",
            "event_type",
            "user_id",
            postgresql_include=["channels"],
            postgresql_where=sa.text("event_type IS NOT NULL"),
        ),
        sa.Index(
            "ix_notification_subscriptions_scenario",
            "tenant_id",
            "scenario_id",
            "user_id",
            postgresql_include=["level"],
            postgresql_where=sa.text("scenario_id IS NOT NULL"),
        ),
    )

    user_id: Mapped[UUID]
    event_type: Mapped[str | None] = mapped_column(sa.ForeignKey("event_types.name"))
    scenario_id: Mapped[UUID | None]
    level: Mapped[SubscriptionLevel] = mapped_column(
        default=SubscriptionLevel.ALL, server_default=SubscriptionLevel.ALL.value
    )
    channels: Mapped[list[str]] = mapped_column(server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=sa.func.now(), onupdate=sa.func.now())
