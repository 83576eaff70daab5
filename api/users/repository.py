"""What is asked of the users' table."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import Program
from api.authentication import Identity
from api.users.schemas import UserProvision
from shared.ids import new_id
from shared.models import Tenant, User
from shared.scope import Scope, entering_caller, entering_tenant, keep_scope


async def find_user(identity: Identity, session: AsyncSession) -> User | None:
    """Return the user the token names, in whose scope the session works from then on.

    None if the user or the tenant is not known. Two statements, because nobody sees users of a tenant that the
    transaction has not entered.
    """
    tenant = sa.select(Tenant.id, entering_tenant(Tenant.id)).where(_is_tenant(identity.tenant))
    tenant_id = await session.scalar(tenant)
    if tenant_id is None:
        return None
    query = sa.select(User, entering_caller(User.id)).where(
        User.tenant_id == tenant_id, User.external_id == identity.external_id
    )
    user: User | None = await session.scalar(query)
    if user is not None:
        keep_scope(session, Scope(user.tenant_id, user.id))
    return user


async def create_user(identity: Identity, session: AsyncSession) -> None:
    """Create the user in the tenant that `find_user` entered, unless it is not known or somebody else was faster."""
    row = sa.select(
        Tenant.id,
        sa.literal(new_id()),
        sa.literal(identity.external_id),
        sa.literal(identity.name or identity.external_id),
        sa.literal(identity.email, sa.Text()),
        sa.literal(identity.locale, sa.Text()),
        sa.literal(identity.time_zone, sa.Text()),
        sa.literal(identity.issued_at, sa.TIMESTAMP(timezone=True)),
    ).where(_is_tenant(identity.tenant))
    columns = ["tenant_id", "id", "external_id", "name", "email", "locale", "time_zone", "profile_stated_at"]
    statement = insert(User).from_select(columns, row, include_defaults=False)
    await session.execute(statement.on_conflict_do_nothing(index_elements=["tenant_id", "external_id"]))


async def update_profile(me: User, session: AsyncSession, news: dict[str, Any], *, stated_at: datetime | None) -> None:
    """Write down news of a user, unless somebody has written down later ones meanwhile.

    Args:
        me: Whose profile it is; shows what is true afterwards.
        session: The session that `me` belongs to.
        news: The columns that change.
        stated_at: When it was said, if that is known.
    """
    statement = sa.update(User).where(
        User.tenant_id == me.tenant_id,
        User.id == me.id,
        sa.or_(User.profile_stated_at.is_(None), User.profile_stated_at < stated_at),
    )
    await session.execute(
        statement.values(**news, profile_stated_at=stated_at).execution_options(synchronize_session=False)
    )
    await session.refresh(me)


async def upsert_user(
    program: Program, session: AsyncSession, external_id: str, provision: UserProvision, *, stated_at: datetime
) -> tuple[User, bool]:
    """Create or change a user of the program's tenant; return the user, and whether it is new."""
    profile = {**provision.model_dump(), "profile_stated_at": stated_at}
    statement = insert(User).values(tenant_id=program.tenant_id, id=new_id(), external_id=external_id, **profile)
    upsert = statement.on_conflict_do_update(
        index_elements=["tenant_id", "external_id"], set_={**profile, "updated_at": sa.func.now()}
    )
    # A row that nobody has changed yet has no xmax: PostgreSQL's way of telling which of the two it was.
    returning = upsert.returning(User, sa.literal_column("xmax = 0", sa.Boolean()))
    user, is_new = (await session.execute(returning, execution_options={"populate_existing": True})).one()
    return user, is_new


def _is_tenant(slug_or_id: str) -> sa.ColumnElement[bool]:
    try:
        return Tenant.id == UUID(slug_or_id)
    except ValueError:
        return Tenant.slug == slug_or_id
