"""Deliveries: contact points, the way of each notification to them, and every attempt.

Four new tables; no existing row is touched. Their foreign keys lock the tables they refer to for an instant, and the
index of dead letters keeps events from being written while it is built: hence before the first release. The previous
version of the worker does not write deliveries: what it fans out while both run stays in the inbox only.
"""

import sqlalchemy as sa
from alembic import op

from migrations.isolation import (
    API,
    OF_THIS_TENANT,
    OF_THIS_USER,
    OPERATOR,
    RELAY,
    WORKER,
    grant,
    isolate,
    reach_all,
)

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A program sees the log of its tenant, a user their own. `api_keys` shows only keys of the tenant that was entered, so
# this is asked once per statement and finds nothing for a user.
OF_A_PROGRAM = (
    "EXISTS (SELECT FROM api_keys WHERE id = (SELECT nullif(current_setting('app.caller_id', true), '')::uuid))"
)

GRANTS = {
    API: {
        "contact_points": ["SELECT", "INSERT", "UPDATE", "DELETE"],
        "send_quotas": ["SELECT", "INSERT", "UPDATE (window_started_at, sent_count, sent_at)"],
        "deliveries": [
            "SELECT",
            "UPDATE (status, reason, next_attempt_at, expires_at, ended_at, lease_token, failure_count)",
        ],
        "delivery_attempts": ["SELECT"],
    },
    WORKER: {
        "contact_points": [
            "SELECT",
            "UPDATE (disabled_at, disabled_reason, failing_since, last_attempt_at, last_result)",
        ],
        "deliveries": [
            "SELECT",
            "INSERT",
            "UPDATE (status, reason, next_attempt_at, ended_at, lease_token, attempt_count, failure_count)",
        ],
        "delivery_attempts": ["SELECT", "INSERT", "UPDATE (ended_at, result, detail, provider, provider_id)"],
        # A message is in its reader's language, and addresses them.
        "users": ["SELECT (name, locale, time_zone)"],
    },
    RELAY: {
        # Dead letters go round once more.
        "events": ["SELECT (dead_lettered_at)", "UPDATE (dead_lettered_at, dead_letter_reason)"],
    },
    OPERATOR: {
        # A new encryption key.
        "contact_points": [
            "SELECT (tenant_id, id, encrypted_address, encrypted_secrets)",
            "UPDATE (encrypted_address, encrypted_secrets)",
        ],
    },
}

# Ids of rows that one statement makes by the thousand. Like those made in Python: UUIDv7, by the time of day.
CREATE_NEW_ID = """
    CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
        SELECT encode(
            set_bit(set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6
                ), 52, 1), 53, 1),
            'hex')::uuid
    $$
"""


def upgrade() -> None:
    """Apply the change."""
    op.execute("SET lock_timeout = '2s'")
    op.execute(CREATE_NEW_ID)
    op.create_table(
        "contact_points",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("encrypted_address", sa.Text(), nullable=False),
        sa.Column("masked_address", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column("encrypted_secrets", sa.Text(), nullable=True),
        sa.Column("verified_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("code_hash", sa.LargeBinary(), nullable=True),
        sa.Column("code_sent_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("code_expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("code_try_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("disabled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "disabled_reason",
            sa.Enum(
                "owner",
                "unsubscribed",
                "gone",
                "dead",
                name="disabledreason",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("failing_since", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_attempt_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_result", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["users.tenant_id", "users.id"],
            name=op.f("fk_contact_points_tenant_id_user_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_contact_points")),
        sa.UniqueConstraint(
            "tenant_id", "user_id", "channel", name=op.f("uq_contact_points_tenant_id_user_id_channel")
        ),
    )
    op.create_table(
        "send_quotas",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum("code", "test", name="sendpurpose", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("window_started_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("sent_count", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["users.tenant_id", "users.id"],
            name=op.f("fk_send_quotas_tenant_id_user_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", "channel", "purpose", name=op.f("pk_send_quotas")),
    )
    op.create_table(
        "deliveries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=True),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column(
            "status",
            sa.Enum(
                "pending",
                "delivered",
                "failed",
                "skipped",
                "parked",
                name="deliverystatus",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "reason",
            sa.Enum(
                "delivered",
                "no_address",
                "unverified_address",
                "channel_disabled",
                "suppressed",
                "provider_permanent",
                "retries_exhausted",
                "expired",
                "outcome_unknown",
                name="deliveryreason",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("next_attempt_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failure_count", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("(status = 'pending') = (reason IS NULL)", name=op.f("ck_deliveries_ended_has_reason")),
        sa.ForeignKeyConstraint(
            ["user_id", "event_id"],
            ["user_notifications.user_id", "user_notifications.event_id"],
            name=op.f("fk_deliveries_user_id_event_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "user_id",
            "event_id",
            "channel",
            "about",
            name=op.f("uq_deliveries_user_id_event_id_channel_about"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["channel", "tenant_id", "next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_unsuccessful",
        "deliveries",
        ["tenant_id", "id"],
        unique=False,
        postgresql_where=sa.text("status IN ('failed', 'parked')"),
    )
    # What is tried again by channel and by reason.
    op.create_index(
        "ix_deliveries_unsuccessful_kind",
        "deliveries",
        ["tenant_id", "channel", "reason", "id"],
        unique=False,
        postgresql_where=sa.text("status IN ('failed', 'parked')"),
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "result",
            sa.Enum(
                "delivered",
                "temporary_failure",
                "rate_limited",
                "permanent_failure",
                "outcome_unknown",
                name="attemptresult",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "delivery_id"],
            ["deliveries.tenant_id", "deliveries.id"],
            name=op.f("fk_delivery_attempts_tenant_id_delivery_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "delivery_id", "number", name=op.f("pk_delivery_attempts")),
    )

    for role, tables in GRANTS.items():
        for table, verbs in tables.items():
            grant(role, table, verbs)
    isolate("contact_points", visible=f"{OF_THIS_TENANT} AND {OF_THIS_USER}")
    isolate("send_quotas", visible=f"{OF_THIS_TENANT} AND {OF_THIS_USER}")
    seen_by_caller = f"{OF_THIS_TENANT} AND ({OF_THIS_USER} OR {OF_A_PROGRAM})"
    isolate("deliveries", visible=seen_by_caller)
    isolate("delivery_attempts", visible=f"{OF_THIS_TENANT} AND delivery_id IN (SELECT id FROM deliveries)")
    for table in ("contact_points", "deliveries", "delivery_attempts"):
        reach_all(WORKER, table)
    reach_all(OPERATOR, "contact_points")
    # The relay works for all tenants on what waits to be published. Where a transaction has entered a tenant it reaches
    # the rest of that tenant's events as well, and of those only dead letters are its business.
    op.execute(
        f"CREATE POLICY unpublished_or_dead ON events AS RESTRICTIVE FOR UPDATE TO {RELAY}"
        " USING (published_at IS NULL OR dead_lettered_at IS NOT NULL) WITH CHECK (true)"
    )
    # Not concurrently: another migration that waits for the lock of this one would be waited for.
    op.execute(
        "-- squawk-ignore require-concurrent-index-creation\n"
        "CREATE INDEX ix_events_dead_lettered ON events (tenant_id, id) WHERE dead_lettered_at IS NOT NULL"
    )


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET lock_timeout = '2s'")
    op.drop_index("ix_events_dead_lettered", table_name="events")
    op.execute("DROP POLICY unpublished_or_dead ON events")
    op.execute(
        f"REVOKE SELECT (dead_lettered_at), UPDATE (dead_lettered_at, dead_letter_reason) ON events FROM {RELAY}"
    )
    op.drop_table("delivery_attempts")
    op.drop_table("deliveries")
    op.drop_table("send_quotas")
    op.drop_table("contact_points")
    op.execute("DROP FUNCTION new_id()")
    op.execute(f"REVOKE SELECT (name, locale, time_zone) ON users FROM {WORKER}")
