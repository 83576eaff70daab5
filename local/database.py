"""The database that a command works on: the one DATABASE_URL names, or that of the local system."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from local import tokens
from local.postgres import EmbeddedPostgres
from shared.db import create_engine, create_sessions
from shared.models import Tenant
from shared.roles import BECOME_OPERATOR
from shared.settings import DatabaseSettings, load_settings

DEFAULT_DIRECTORY = Path(".local")
DATABASE = "postgres"
# SQLSTATE, PostgreSQL, appendix A; a role that does not exist is an invalid parameter value of SET ROLE.
UNDEFINED_TABLE = "42P01"
UNDEFINED_ROLE = "22023"
INSUFFICIENT_PRIVILEGE = "42501"

LocalDirectory = Annotated[
    Path | None,
    Parameter(
        name="--directory",
        help="Use the local system that keeps its data here. Otherwise DATABASE_URL says which database; "
        "without it, it is that of the local system in .local.",
    ),
]


class CommandFailed(Exception):
    """A command cannot do what it was asked to; the message says why and what helps."""


@asynccontextmanager
async def open_database(directory: Path | None) -> AsyncIterator[AsyncSession]:
    """Yield a session whose transaction commits when the block ends well.

    Args:
        directory: Where the local system keeps its data, if that is the one to use whatever the environment says.

    Raises:
        CommandFailed: The database cannot be reached, or lacks our tables.
        shared.settings.SettingsInvalid: A setting is wrong.
    """
    if directory is None and "DATABASE_URL" in os.environ:
        settings, hint = load_settings(DatabaseSettings), "Is DATABASE_URL right?"
    else:
        settings, hint = _local_settings(directory or DEFAULT_DIRECTORY)
    try:
        engine = create_engine(settings, application_name="notify")
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    try:
        async with create_sessions(engine).begin() as session:
            await session.execute(BECOME_OPERATOR)
            yield session
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in {UNDEFINED_TABLE, UNDEFINED_ROLE}:
            message = "The database lacks tables that this command needs: run `notify migrate`."
            raise CommandFailed(message) from error
        if state == INSUFFICIENT_PRIVILEGE:
            message = f"The database refused: {error.orig}. Connect as the owner, or as a login that an administrator "
            message += "has let act as an operator: `notify roles grant --operator LOGIN`."
            raise CommandFailed(message) from error
        message = f"The database refused: {error.orig}"
        raise CommandFailed(message) from error
    except OSError as error:
        message = f"The database cannot be reached: {error}. {hint}"
        raise CommandFailed(message) from error
    finally:
        await engine.dispose()


def _local_settings(directory: Path) -> tuple[DatabaseSettings, str]:
    if tokens.find_secret(directory) is None:
        message = (
            f"Set DATABASE_URL: there is no local system in {directory.absolute()} either. "
            "`notify up` or `make run` starts one."
        )
        raise CommandFailed(message)
    url = EmbeddedPostgres(directory / "postgres").dsn(DATABASE)
    return DatabaseSettings.model_validate({"url": url}), f"Is the local system in {directory.absolute()} running?"


async def get_tenant(session: AsyncSession, slug: str) -> Tenant:
    """Return a tenant.

    Raises:
        CommandFailed: There is none of this slug.
    """
    tenant = await session.scalar(select(Tenant).where(Tenant.slug == slug))
    if tenant is None:
        message = f"There is no tenant `{slug}`. `notify tenants list` shows all, `notify tenants create` makes one."
        raise CommandFailed(message)
    return tenant


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows below the names of their columns, each column as wide as it needs to be."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
