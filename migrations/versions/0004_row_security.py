"""Row-level security: what a query forgets to ask, the database still refuses.

Roles for api, worker, relay and the commands of operators, with the rights that each needs; policies on every table of
a tenant.

It locks each table for a moment. Api and worker have to connect as members of their roles from now on
(`notify roles grant`): as the owner they would see nothing, as a superuser everything. Hence it comes before the first
release; a later change of this kind would grant first and force in the release after.
"""

from alembic import op

from migrations.isolation import (
    API,
    OF_THIS_CALLER,
    OF_THIS_TENANT,
    OF_THIS_USER,
    OPERATOR,
    RELAY,
    WORKER,
    create_roles,
    grant,
    isolate,
    open_up,
    reach_all,
    revoke,
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Rights by table and verb. Columns are named where rows change, so that no statement can move a row to another owner.
GRANTS = {
    API: {
        "alembic_version": ["SELECT"],
        "event_types": ["SELECT"],
        "tenants": ["SELECT (id, slug)"],
        "users": [
            "SELECT",
            "INSERT",
            "UPDATE (name, email, locale, time_zone, notify_self, profile_stated_at, updated_at)",
        ],
        "test_scenarios": ["SELECT", "INSERT", "UPDATE (name, description, labels, executed_at, deleted_at)"],
        "executions": ["SELECT", "INSERT"],
        "events": ["SELECT", "INSERT"],
        "notification_subscriptions": ["SELECT", "INSERT", "UPDATE (level, channels, updated_at)", "DELETE"],
        "user_notifications": ["SELECT", "UPDATE (seen_at, read_at, archived_at)"],
        "api_keys": ["SELECT", "UPDATE (last_used_at)"],
        "idempotency_keys": ["SELECT", "INSERT", "UPDATE (fingerprint, status, headers, body, created_at, expires_at)"],
    },
    WORKER: {
        "alembic_version": ["SELECT"],
        "event_types": ["SELECT"],
        # Whom to tell, not who they are.
        "users": ["SELECT (tenant_id, id, notify_self)"],
        "events": [
            "SELECT",
            "UPDATE (published_at, claimed_until, republish_count, fan_out_cursor, fanned_out_at)",
            "UPDATE (dead_lettered_at, dead_letter_reason)",
        ],
        "notification_subscriptions": ["SELECT"],
        "user_notifications": ["SELECT", "INSERT"],
        # It deletes what has expired; the right to change that is the right to lock the row first.
        "idempotency_keys": ["SELECT (tenant_id, caller_id, key, expires_at)", "UPDATE (expires_at)", "DELETE"],
    },
    OPERATOR: {
        "tenants": ["SELECT", "INSERT"],
        "users": ["SELECT (tenant_id, id)"],
        "api_keys": ["SELECT", "INSERT", "UPDATE (revoked_at)"],
        "api_key_audit_entries": ["SELECT", "INSERT"],
    },
    RELAY: {
        # What a message carries, and how far it is on its way: nothing of what happened.
        "events": [
            "SELECT (tenant_id, id, event_type, scenario_id, occurred_at)",
            "SELECT (claimed_until, refusal_count, published_at, quarantined_at)",
            "UPDATE (claimed_until, refusal_count, publish_error, published_at, quarantined_at)",
        ],
    },
}

ISOLATED = (
    "users",
    "test_scenarios",
    "executions",
    "events",
    "notification_subscriptions",
    "user_notifications",
    "api_keys",
    "api_key_audit_entries",
    "idempotency_keys",
)
REACHING_ALL = {
    WORKER: ("users", "events", "notification_subscriptions", "user_notifications", "idempotency_keys"),
    OPERATOR: ("users", "api_keys", "api_key_audit_entries"),
}


def upgrade() -> None:
    """Apply the change."""
    # Give up rather than queue behind a long transaction and block everyone who comes after.
    op.execute("SET lock_timeout = '2s'")
    create_roles()
    for role, tables in GRANTS.items():
        for table, verbs in tables.items():
            grant(role, table, verbs)

    for table in ("users", "test_scenarios", "executions", "events", "api_keys", "api_key_audit_entries"):
        isolate(table)
    mine = f"{OF_THIS_TENANT} AND {OF_THIS_USER}"
    isolate("notification_subscriptions", visible=mine)
    # The user alone says which rows are seen: the index that counts them does not hold the tenant, and a user has one.
    isolate("user_notifications", visible=OF_THIS_USER, writable=mine)
    isolate("idempotency_keys", visible=f"{OF_THIS_TENANT} AND {OF_THIS_CALLER}")

    for role, reached in REACHING_ALL.items():
        for table in reached:
            reach_all(role, table)
    # A key says whose it is, so it is looked up before there is a tenant: whoever names its prefix sees it.
    op.execute(
        f"CREATE POLICY of_this_prefix ON api_keys FOR SELECT TO {API}"
        " USING (prefix = (SELECT current_setting('app.api_key_prefix', true)))"
    )
    op.execute(f"CREATE POLICY of_the_relay ON events FOR SELECT TO {RELAY} USING (true)")
    op.execute(
        f"CREATE POLICY of_the_outbox ON events FOR UPDATE TO {RELAY} USING (published_at IS NULL) WITH CHECK (true)"
    )


def downgrade() -> None:
    """Take the change back. The roles stay: other databases of the cluster and logins may have them."""
    op.execute("SET lock_timeout = '2s'")
    op.execute("DROP POLICY of_this_prefix ON api_keys")
    for policy in ("of_the_relay", "of_the_outbox"):
        op.execute(f"DROP POLICY {policy} ON events")
    for table in ISOLATED:
        open_up(table)
    for table in sorted({table for tables in GRANTS.values() for table in tables}):
        revoke(table)
