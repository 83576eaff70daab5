"""Whose rows a transaction may reach: the second wall behind the predicates of the queries.

PostgreSQL's row-level security (migration 0004) shows a transaction the rows of the tenant and the user that it has
entered, and none while it has entered nothing. Both are settings of the transaction and end with it, so connections can
be shared by everybody, behind PgBouncer as well.
"""

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

TENANT = "app.tenant_id"
CALLER = "app.caller_id"
API_KEY_PREFIX = "app.api_key_prefix"

_SCOPE = "scope"
_ENTER = sa.text(f"SELECT set_config('{TENANT}', :tenant_id, true), set_config('{CALLER}', :caller_id, true)")


@dataclass(frozen=True, slots=True)
class Scope:
    """A tenant, and who calls: a user, or the key of a program.

    Without a caller, what belongs to one is out of sight.
    """

    tenant_id: UUID
    caller_id: UUID | None = None


def entering_tenant(tenant_id: sa.SQLColumnExpression[UUID]) -> sa.ColumnElement[str]:
    """Return a column that makes the transaction enter the tenant whom the statement finds, in that same statement."""
    return sa.func.set_config(TENANT, sa.cast(tenant_id, sa.Text()), sa.true())


def entering_caller(user_id: sa.SQLColumnExpression[UUID]) -> sa.ColumnElement[str]:
    """Return a column that makes the transaction enter the user whom the statement finds, in that same statement."""
    return sa.func.set_config(CALLER, sa.cast(user_id, sa.Text()), sa.true())


def keep_scope(session: AsyncSession, scope: Scope) -> None:
    """Enter the scope in every further transaction of the session; the one under way has entered it already."""
    session.info[_SCOPE] = scope


async def enter_scope(session: AsyncSession, scope: Scope) -> None:
    """Enter the scope, in the transaction under way, if there is one, and in every further one of the session."""
    under_way = session.in_transaction()
    keep_scope(session, scope)
    if under_way:
        await session.execute(_ENTER, _parameters(scope))


async def show_api_key(session: AsyncSession, prefix: str) -> None:
    """Let this transaction see the API key of that prefix, whose tenant is not known yet."""
    await session.execute(sa.select(sa.func.set_config(API_KEY_PREFIX, prefix, sa.true())))


@event.listens_for(Session, "after_begin")
def _enter_again(session: Session, transaction: SessionTransaction, connection: sa.Connection) -> None:
    scope: Scope | None = session.info.get(_SCOPE)
    if scope is not None and not transaction.nested:
        connection.execute(_ENTER, _parameters(scope))


def _parameters(scope: Scope) -> dict[str, str]:
    return {"tenant_id": str(scope.tenant_id), "caller_id": str(scope.caller_id or "")}
