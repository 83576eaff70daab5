"""How alembic reaches the database: on a connection that is handed in, or by DATABASE_URL."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from shared.db import create_engine
from shared.models import Base
from shared.settings import DatabaseSettings

# Any fixed number: two migrations at once wait for each other instead of colliding.
MIGRATION_LOCK = 7_205_759_403


def run_on(connection: Connection) -> None:
    """Run the migrations on this connection, each in its own transaction."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
    connection.commit()
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.commit()


async def run_by_url() -> None:
    """Run the migrations on the database that DATABASE_URL names."""
    engine = create_engine(DatabaseSettings(), application_name="migrations")
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_on)
    finally:
        await engine.dispose()


def print_sql() -> None:
    """Print the statements instead of running them (`alembic upgrade head --sql`), for review and linting."""
    context.configure(
        dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    print_sql()
elif (connection := context.config.attributes.get("connection")) is not None:
    run_on(connection)
else:
    asyncio.run(run_by_url())
