"""The words in which migrations say who may do what to which rows.

The migration that creates a table with a `tenant_id` calls `isolate` for it, and `grant` for each role that needs it; a
test fails when one does not. Released migrations rely on these functions: add to them, but do not change what they do.

A migration that changes rows of an isolated table says so, because its owner is subject to the policies too and would
otherwise change none: `op.execute("ALTER TABLE … NO FORCE ROW LEVEL SECURITY")` before, `FORCE` after, in the same
transaction.
"""

from collections.abc import Iterable

from alembic import op

API = "notifications_api"
WORKER = "notifications_worker"
RELAY = "notifications_relay"
OPERATOR = "notifications_operator"

# Sub-selects, so that the setting is read once per statement and not once per row; and an empty text is nobody, because
# that is what a setting of an earlier transaction leaves behind.
THIS_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"
THIS_CALLER = "(SELECT nullif(current_setting('app.caller_id', true), '')::uuid)"

OF_THIS_TENANT = f"tenant_id = {THIS_TENANT}"
OF_THIS_USER = f"user_id = {THIS_CALLER}"
OF_THIS_CALLER = f"caller_id = {THIS_CALLER}"

# Roles belong to the cluster and may be there already: made by an administrator, or by the migration of another
# database. NOINHERIT keeps from the api what the relay may do until it says that it is the relay.
CREATE_ROLE = """
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
            CREATE ROLE {role} NOLOGIN {options};
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        -- Another database of this cluster was migrated at the same moment.
        NULL;
    END
    $$
"""
LET_API_BECOME_RELAY = f"""
    DO $$
    BEGIN
        IF pg_has_role('{API}', '{RELAY}', 'MEMBER') THEN
            NULL;
        ELSIF current_setting('server_version_num')::integer >= 160000 THEN
            GRANT {RELAY} TO {API} WITH INHERIT FALSE, SET TRUE;
        ELSE
            GRANT {RELAY} TO {API};
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
    END
    $$
"""
# Whoever created a role administers it, which does not mean to be able to act as it.
LET_OWNER_BECOME_OPERATOR = f"""
    DO $$
    BEGIN
        IF current_setting('server_version_num')::integer >= 160000 THEN
            IF NOT pg_has_role('{OPERATOR}', 'SET') THEN
                GRANT {OPERATOR} TO CURRENT_USER WITH INHERIT FALSE, SET TRUE;
            END IF;
        ELSIF NOT pg_has_role('{OPERATOR}', 'MEMBER') THEN
            GRANT {OPERATOR} TO CURRENT_USER;
        END IF;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE '% is left to whoever administers {OPERATOR}', current_user;
    END
    $$
"""


def create_roles() -> None:
    """Create the group roles that are missing. Nobody logs in as one; logins are made their members."""
    for role, options in ((API, "NOINHERIT"), (WORKER, "INHERIT"), (RELAY, "INHERIT"), (OPERATOR, "INHERIT")):
        op.execute(CREATE_ROLE.format(role=role, options=options))
    op.execute(LET_API_BECOME_RELAY)
    op.execute(LET_OWNER_BECOME_OPERATOR)


def isolate(table: str, *, visible: str = OF_THIS_TENANT, writable: str | None = None) -> None:
    """Let everybody, the owner included, reach only the rows of the tenant that their transaction has entered.

    Args:
        table: A table with a `tenant_id`.
        visible: Which rows are seen.
        writable: Which rows may be written; the visible ones when left out.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY of_this_tenant ON {table} USING ({visible}) WITH CHECK ({writable or visible})")


def grant(role: str, table: str, verbs: Iterable[str]) -> None:
    """Let a role do this to a table, `verbs` being as in GRANT: `SELECT`, or `UPDATE (read_at)`."""
    op.execute(f"GRANT {', '.join(verbs)} ON {table} TO {role}")


def reach_all(role: str, table: str) -> None:
    """Let a role reach the rows of all tenants; what it may do with them is said by its grants."""
    op.execute(f"CREATE POLICY {role} ON {table} TO {role} USING (true) WITH CHECK (true)")


def revoke(table: str) -> None:
    """Take all grants on a table back."""
    op.execute(f"REVOKE ALL ON {table} FROM {API}, {WORKER}, {RELAY}, {OPERATOR}")


def open_up(table: str) -> None:
    """Take back `isolate` and `reach_all`."""
    for policy in ("of_this_tenant", API, WORKER, OPERATOR):
        op.execute(f"DROP POLICY IF EXISTS {policy} ON {table}")
    op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
