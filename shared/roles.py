"""The database's roles: groups without a login, which hold the rights of api, worker and relay (migration 0004)."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

API = "notifications_api"
WORKER = "notifications_worker"
# What the next two may do is inherited by nobody: the api becomes the relay, and whoever runs `notify keys` or
# `notify tenants` an operator, for a transaction.
RELAY = "notifications_relay"
OPERATOR = "notifications_operator"

BECOME_RELAY = text(f"SET LOCAL ROLE {RELAY}")
# Back to what the login may do, within the transaction.
BECOME_SELF = text("SET LOCAL ROLE NONE")
BECOME_OPERATOR = text(f"SET LOCAL ROLE {OPERATOR}")

_HAS = text("SELECT pg_has_role(current_user, :role, 'USAGE')")
_IS_SUBJECT = text("SELECT row_security_active('users')")


async def has_role(engine: AsyncEngine, role: str) -> bool:
    """Tell whether the engine's login has the rights of a role. A superuser has those of all."""
    async with engine.connect() as connection:
        return bool(await connection.scalar(_HAS, {"role": role}))


async def is_subject_to_policies(engine: AsyncEngine) -> bool:
    """Tell whether row-level security holds for the engine's login: for all but superusers and their like."""
    async with engine.connect() as connection:
        return bool(await connection.scalar(_IS_SUBJECT))
