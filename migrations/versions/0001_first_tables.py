"""The first tables, and the three event types.

Everything is new: no existing row is touched and no lock can be waited for.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    # Give up rather than queue behind a long transaction and block everyone who comes after.
    op.execute("SET lock_timeout = '2s'")
    event_types = op.create_table(
        "event_types",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("default_channels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("mandatory", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_event_types")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("slug", name=op.f("uq_tenants_slug")),
    )
    op.create_table(
        "users",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column("notify_self", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_users_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_users")),
        sa.UniqueConstraint("tenant_id", "external_id", name=op.f("uq_users_tenant_id_external_id")),
    )
    op.create_table(
        "test_scenarios",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("executed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "created_by"],
            ["users.tenant_id", "users.id"],
            name=op.f("fk_test_scenarios_tenant_id_created_by"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_test_scenarios")),
    )
    op.create_index("ix_test_scenarios_labels", "test_scenarios", ["labels"], unique=False, postgresql_using="gin")
    op.create_index(
        "ix_test_scenarios_live",
        "test_scenarios",
        ["tenant_id", "id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "events",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("scenario_id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("snapshot", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("claimed_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("refusal_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("publish_error", sa.Text(), nullable=True),
        sa.Column("published_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("quarantined_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("republish_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fan_out_cursor", sa.Uuid(), nullable=True),
        sa.Column("fanned_out_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("dead_lettered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("dead_letter_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["event_type"], ["event_types.name"], name=op.f("fk_events_event_type")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "actor_id"], ["users.tenant_id", "users.id"], name=op.f("fk_events_tenant_id_actor_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "scenario_id"],
            ["test_scenarios.tenant_id", "test_scenarios.id"],
            name=op.f("fk_events_tenant_id_scenario_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_events")),
    )
    op.create_index(
        "ix_events_awaiting_fan_out",
        "events",
        ["published_at"],
        unique=False,
        postgresql_where=sa.text("published_at IS NOT NULL AND fanned_out_at IS NULL AND dead_lettered_at IS NULL"),
    )
    op.create_index("ix_events_scenario", "events", ["tenant_id", "scenario_id", "id"], unique=False)
    op.create_index(
        "ix_events_unpublished",
        "events",
        ["id"],
        unique=False,
        postgresql_where=sa.text("published_at IS NULL AND quarantined_at IS NULL"),
    )
    op.create_table(
        "executions",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("scenario_id", sa.Uuid(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "passed",
                "failed",
                "error",
                "skipped",
                name="outcome",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("executed_by", sa.Uuid(), nullable=False),
        sa.Column("executed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "executed_by"],
            ["users.tenant_id", "users.id"],
            name=op.f("fk_executions_tenant_id_executed_by"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "scenario_id"],
            ["test_scenarios.tenant_id", "test_scenarios.id"],
            name=op.f("fk_executions_tenant_id_scenario_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_executions")),
    )
    op.create_index("ix_executions_scenario", "executions", ["tenant_id", "scenario_id", "id"], unique=False)
    op.create_table(
        "notification_subscriptions",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("scenario_id", sa.Uuid(), nullable=True),
        sa.Column(
            "level",
            sa.Enum("all", "muted", name="subscriptionlevel", native_enum=False, create_constraint=True, length=32),
            server_default="all",
            nullable=False,
        ),
        sa.Column("channels", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "event_type IS NULL OR level = 'all'", name=op.f("ck_notification_subscriptions_only_scenarios_are_muted")
        ),
        sa.CheckConstraint(
            "(event_type IS NULL) <> (scenario_id IS NULL)", name=op.f("ck_notification_subscriptions_one_subject")
        ),
        sa.ForeignKeyConstraint(
            ["event_type"], ["event_types.name"], name=op.f("fk_notification_subscriptions_event_type")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "scenario_id"],
            ["test_scenarios.tenant_id", "test_scenarios.id"],
            name=op.f("fk_notification_subscriptions_tenant_id_scenario_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["users.tenant_id", "users.id"],
            name=op.f("fk_notification_subscriptions_tenant_id_user_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_notification_subscriptions")),
        sa.UniqueConstraint(
            "tenant_id",
            "user_id",
            "event_type",
            "scenario_id",
            name="uq_notification_subscriptions_rule",
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index(
        "ix_notification_subscriptions_event_type",
        "notification_subscriptions",
        ["tenant_id", "event_type", "user_id"],
        unique=False,
        postgresql_include=["channels"],
        postgresql_where=sa.text("event_type IS NOT NULL"),
    )
    op.create_index(
        "ix_notification_subscriptions_scenario",
        "notification_subscriptions",
        ["tenant_id", "scenario_id", "user_id"],
        unique=False,
        postgresql_include=["level"],
        postgresql_where=sa.text("scenario_id IS NOT NULL"),
    )
    op.create_table(
        "user_notifications",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column(
            "reason",
            sa.Enum(
                "mandatory",
                "following",
                "subscribed",
                name="reason",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("read_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("archived_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("read_at IS NULL OR seen_at IS NOT NULL", name=op.f("ck_user_notifications_read_is_seen")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "event_id"],
            ["events.tenant_id", "events.id"],
            name=op.f("fk_user_notifications_tenant_id_event_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["users.tenant_id", "users.id"],
            name=op.f("fk_user_notifications_tenant_id_user_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "event_id", name=op.f("pk_user_notifications")),
    )
    op.create_index(
        "ix_user_notifications_unread",
        "user_notifications",
        ["user_id", "event_id"],
        unique=False,
        postgresql_include=["seen_at"],
        postgresql_where=sa.text("read_at IS NULL AND archived_at IS NULL"),
    )
    op.bulk_insert(
        event_types,
        [
            {"name": name, "description": description, "default_channels": ["in_app"], "mandatory": False}
            for name, description in (
                ("scenario.created", "A test scenario was created."),
                ("scenario.executed", "A test scenario was executed."),
                ("scenario.deleted", "A test scenario was deleted."),
            )
        ],
    )


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET lock_timeout = '2s'")
    op.drop_table("user_notifications")
    op.drop_table("notification_subscriptions")
    op.drop_table("executions")
    op.drop_table("events")
    op.drop_table("test_scenarios")
    op.drop_table("users")
    op.drop_table("tenants")
    op.drop_table("event_types")
