"""API keys with their audit, and when a user's profile was last stated.

The two tables are new. `users` gets a column without a default, which rewrites nothing and holds its lock for an
instant; api and worker of the version before do not know it and go on.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# An audit that can be changed proves nothing. A right that is not granted would do for others, but not for the owner
# of the table, as whom small installations run everything.
REFUSE_CHANGES = """
CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit of API keys is only added to' USING ERRCODE = 'insufficient_privilege';
END
$$
"""


def upgrade() -> None:
    """Apply the change."""
    # Give up rather than queue behind a long transaction and block everyone who comes after.
    op.execute("SET lock_timeout = '2s'")
    op.add_column("users", sa.Column("profile_stated_at", sa.TIMESTAMP(timezone=True), nullable=True))
    op.create_table(
        "api_keys",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_table(
        "api_key_audit_entries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=False),
        sa.Column(
            "action",
            sa.Enum("created", "revoked", name="apikeyaction", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "api_key_id"],
            ["api_keys.tenant_id", "api_keys.id"],
            name=op.f("fk_api_key_audit_entries_tenant_id_api_key_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_api_key_audit_entries")),
    )
    op.create_index(
        "ix_api_key_audit_entries_api_key",
        "api_key_audit_entries",
        ["tenant_id", "api_key_id", "id"],
        unique=False,
    )
    op.execute(REFUSE_CHANGES)
    op.execute(
        "CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON api_key_audit_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit()"
    )


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET lock_timeout = '2s'")
    op.drop_table("api_key_audit_entries")
    op.execute("DROP FUNCTION refuse_change_of_audit()")
    op.drop_table("api_keys")
    op.drop_column("users", "profile_stated_at")
