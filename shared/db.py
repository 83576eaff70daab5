"""The engine and its sessions: asyncpg underneath, every wait bounded."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

if TYPE_CHECKING:
    from shared.settings import DatabaseSettings

# The driver gives up a little after the server should have: the server's own error says more.
DRIVER_GRACE = timedelta(seconds=5)


def parse_database_url(url: str) -> URL:
    """Return the URL with asyncpg as its driver.

    `postgresql://` and `postgres://` are what people and platforms write; SQLAlchemy 2.1
    would read the first as psycopg and refuse the second.
    """
    return make_url(url).set(drivername="postgresql+asyncpg")


def create_engine(
    settings: "DatabaseSettings", *, application_name: str, planner: Mapping[str, str] | None = None
) -> AsyncEngine:
    """Return an engine whose every wait has an end: pool, connect, statement, lock, idle transaction.

    Args:
        settings: Where PostgreSQL is and how long to wait for it.
        application_name: Shown in `pg_stat_activity`.
        planner: Settings of PostgreSQL's planner, for statements that need their plans to be of one kind.
    """
    return create_async_engine(
        parse_database_url(settings.url.get_secret_value()),
        pool_size=settings.pool_size,
        max_overflow=settings.pool_overflow,
        pool_timeout=settings.pool_timeout.total_seconds(),
        pool_pre_ping=True,
        # A parameter may hold what a person wrote; logs and tracebacks are not the place for it.
        hide_parameters=True,
        connect_args={
            "timeout": settings.connect_timeout.total_seconds(),
            "command_timeout": (settings.statement_timeout + DRIVER_GRACE).total_seconds(),
            "prepared_statement_cache_size": settings.statement_cache_size,
            "statement_cache_size": settings.statement_cache_size,
            "server_settings": {
                "application_name": application_name,
                "statement_timeout": _milliseconds(settings.statement_timeout),
                "lock_timeout": _milliseconds(settings.lock_timeout),
                "idle_in_transaction_session_timeout": _milliseconds(settings.statement_timeout * 2),
                # Plans of our short statements never pay for just-in-time compilation.
                "jit": "off",
                **(planner or {}),
            },
        },
    )


def create_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Return the factory of sessions; loaded objects stay readable after the commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


def _milliseconds(duration: timedelta) -> str:
    return str(round(duration.total_seconds() * 1000))
