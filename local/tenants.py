"""`notify tenants`: who shares nothing with the others."""

import re
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from api.profile import MAX_NAME_LENGTH, parse_line
from local.database import CommandFailed, LocalDirectory, open_database, print_table
from shared.ids import new_id
from shared.models import Tenant, User

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

tenants = App(name="tenants", help="The tenants: organisations that share nothing with each other.")


@tenants.command
async def create(
    *,
    slug: Annotated[str, Parameter(help="How tokens name it (`tenant`): small letters, digits and hyphens.")],
    name: Annotated[str, Parameter(help="How people call it.")],
    directory: LocalDirectory = None,
) -> None:
    """Create a tenant and print its id. Its people appear by themselves, with their first token."""
    _check_slug(slug)
    try:
        parse_line(name, max_length=MAX_NAME_LENGTH)
    except ValueError as error:
        message = f"--name {error} of at most {MAX_NAME_LENGTH} characters."
        raise CommandFailed(message) from error
    async with open_database(directory) as session:
        statement = insert(Tenant).values(id=new_id(), slug=slug, name=name.strip())
        tenant_id = await session.scalar(statement.on_conflict_do_nothing(index_elements=["slug"]).returning(Tenant.id))
        if tenant_id is None:
            message = f"There is a tenant `{slug}` already."
            raise CommandFailed(message)
    print(tenant_id)


@tenants.command(name="list")
async def list_tenants(*, directory: LocalDirectory = None) -> None:
    """List all tenants, with how many users each has."""
    users = select(func.count()).where(User.tenant_id == Tenant.id).scalar_subquery()
    async with open_database(directory) as session:
        rows = (await session.execute(select(Tenant, users).order_by(Tenant.slug))).all()
    if not rows:
        print("There are no tenants yet: `notify tenants create` makes one.")
        return
    print_table(
        [
            {
                "SLUG": tenant.slug,
                "NAME": tenant.name,
                "USERS": str(user_count),
                "CREATED": f"{tenant.created_at:%Y-%m-%d}",
                "ID": str(tenant.id),
            }
            for tenant, user_count in rows
        ]
    )


def _check_slug(slug: str) -> None:
    if not SLUG.fullmatch(slug):
        message = "--slug should be 1 to 63 small letters, digits and hyphens, with no hyphen at either end."
        raise CommandFailed(message)
    try:
        UUID(slug)
    except ValueError:
        return
    # A token may name its tenant by slug or by id: one must not look like the other.
    message = "--slug should not look like an id."
    raise CommandFailed(message)
