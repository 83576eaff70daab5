import asyncio
import os
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from local.postgres import EmbeddedPostgres
from shared.db import create_engine
from shared.models import Base
from shared.schema import MIGRATIONS, current_revision, head_revision, migrate
from tests.fixtures.database import database_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def empty(postgres: EmbeddedPostgres):
    postgres.create_database("empty")
    engine = create_engine(database_settings(postgres.dsn("empty")), application_name="tests")
    yield engine
    await engine.dispose()
    postgres.drop_database("empty")


async def downgrade(engine: AsyncEngine, revision: str) -> None:
    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    async with engine.connect() as connection:
        await connection.run_sync(run)


async def list_tables(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        rows = await connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        return set(rows)


async def test_the_migrations_go_up_down_and_up_again(empty: AsyncEngine):
    await migrate(empty)
    first = await list_tables(empty)
    await downgrade(empty, "base")
    between = await list_tables(empty)
    await migrate(empty)

    assert between == {"alembic_version"}
    assert await list_tables(empty) == first
    assert await current_revision(empty) == head_revision()


async def test_the_migrations_build_what_the_models_describe(engine: AsyncEngine):
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return list(compare_metadata(context, Base.metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_every_check_of_the_models_is_in_the_database(engine: AsyncEngine):
    # Alembic compares no CHECK constraints, so their drift would go unnoticed.
    described = {
        str(constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }

    async with engine.connect() as connection:
        built = set(await connection.scalars(text("SELECT conname FROM pg_constraint WHERE contype = 'c'")))

    assert described
    assert {name for name in built if name.startswith("ck_")} == described


async def test_two_migrations_at_once_wait_for_each_other(empty: AsyncEngine):
    url = empty.url.render_as_string(hide_password=False)
    migrations = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "alembic", "upgrade", "head", cwd=ROOT, env={**os.environ, "DATABASE_URL": url}
        )
        for _ in range(2)
    ]

    assert [await migration.wait() for migration in migrations] == [0, 0]
    assert await current_revision(empty) == head_revision()


async def test_a_foreign_key_of_a_tenants_row_always_includes_the_tenant():
    # The key of a notification is the pair of its user and its event, in that order for the inbox's sake. A delivery
    # is written by the statement that writes its notification, with the same tenant; to check that anew would take a
    # second unique index on the largest table.
    exempt = {("deliveries", "user_notifications")}
    crossing = [
        (table.name, key.name)
        for table in Base.metadata.tables.values()
        for key in table.foreign_key_constraints
        if "tenant_id" in key.referred_table.columns
        and "tenant_id" not in key.column_keys
        and (table.name, key.referred_table.name) not in exempt
    ]

    assert crossing == []
