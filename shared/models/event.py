"""Events: what happened, once. The table is the outbox as well."""

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.models.base import Base, TenantOwned, refers_to

if TYPE_CHECKING:
    from shared.models.test_scenario import TestScenario


class Event(TenantOwned, Base):
    """A fact about a scenario, with a snapshot of all that a message about it needs.

    An event is *unpublished* until the queue took it, *published* until its subscribers have
    their notifications, then *fanned out*. An event the queue refuses is quarantined, one the
    worker cannot handle is dead-lettered; both carry the reason and wait for a person.
    """

    __tablename__ = "events"
    __table_args__ = (
        refers_to("test_scenarios", "scenario_id"),
        refers_to("users", "actor_id"),
        sa.Index("ix_events_scenario", "tenant_id", "scenario_id", "id"),
        sa.Index(
            "ix_events_unpublished",
            "id",
            postgresql_where=sa.text("published_at IS NULL AND quarantined_at IS NULL"),
        ),
        sa.Index(
            "ix_events_awaiting_fan_out",
            "published_at",
            postgresql_where=sa.text("published_at IS NOT NULL AND fanned_out_at IS NULL AND dead_lettered_at IS NULL"),
        ),
        sa.Index(
            "ix_events_dead_lettered", "tenant_id", "id", postgresql_where=sa.text("dead_lettered_at IS NOT NULL")
        ),
    )

    event_type: Mapped[str] = mapped_column(sa.ForeignKey("event_types.name"))
    scenario_id: Mapped[UUID]
    actor_id: Mapped[UUID]
    snapshot: Mapped[dict[str, Any]] = mapped_column(JSONB)
    occurred_at: Mapped[datetime]

    # The way to the queue: api/relay.py, and worker/reconciler.py for what the queue lost.
    claimed_until: Mapped[datetime | None]
    refusal_count: Mapped[int] = mapped_column(default=0, server_default="0")
    publish_error: Mapped[str | None]
    published_at: Mapped[datetime | None]
    quarantined_at: Mapped[datetime | None]
    republish_count: Mapped[int] = mapped_column(default=0, server_default="0")

    # The way to the subscribers: worker/fanout.py.
    fan_out_cursor: Mapped[UUID | None]
    fanned_out_at: Mapped[datetime | None]
    dead_lettered_at: Mapped[datetime | None]
    dead_letter_reason: Mapped[str | None]

    # For the order of inserts only: the scenario's row goes first.
    scenario: Mapped["TestScenario"] = relationship()
